//! A link: what it carries, how long that takes, and what it carried.

use std::time::Duration;

use scf_core::{ByteSize, Link, NodeId, Timestamp};
use thiserror::Error;

/// What a link is like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a link carries or it does not")]
pub enum LinkState {
    /// It carries messages at this latency and rate.
    Shaped(Link),
    /// It carries nothing; what was on it is lost.
    Cut,
}

/// Why a link cannot be as described.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A link joins two nodes.
    #[error("a link from node {node} to itself")]
    Loop {
        /// The node.
        node: NodeId,
    },
    /// A link that carries nothing is described as cut.
    #[error("the link between {a} and {b} has no bandwidth")]
    NoBandwidth {
        /// One end.
        a: NodeId,
        /// The other.
        b: NodeId,
    },
    /// The transport was built without the node.
    #[error("node {node} is not known")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
}

impl LinkState {
    /// Checks a description of the link between `a` and `b`.
    pub(super) fn check(self, a: &NodeId, b: &NodeId) -> Result<Self, LinkError> {
        match self {
            _ if a == b => Err(LinkError::Loop { node: a.clone() }),
            Self::Shaped(link) if link.bandwidth.bits_per_s() == 0 => {
                Err(LinkError::NoBandwidth { a: a.clone(), b: b.clone() })
            }
            state => Ok(state),
        }
    }
}

/// What one direction of a link carried since it was built, lost messages included.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// The sending end.
    pub from: NodeId,
    /// The receiving end.
    pub to: NodeId,
    /// Messages.
    pub messages: u64,
    /// Their bytes, [`Envelope::OVERHEAD`](scf_core::Envelope::OVERHEAD) included.
    pub bytes: ByteSize,
}

/// One direction of a link: sends one message after the other, in the order in which they came.
///
/// Counted in bits, so that a change of rate changes the time of what waits: the bits up to a message's own
/// last one are sent at whatever the rate is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Direction {
    /// Bits accepted since the beginning.
    accepted: u128,
    /// When a known number of bits had been sent.
    anchor: (Timestamp, u128),
    messages: u64,
}

/// A message's place on a [`Direction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    first: u128,
    last: u128,
}

impl Direction {
    /// Appends a message.
    pub(super) fn accept(&mut self, now: Timestamp, size: ByteSize, rate: u64) -> Place {
        if self.time_of(self.accepted, rate) <= now {
            self.anchor = (now, self.accepted);
        }
        let first = self.accepted;
        self.accepted += u128::from(size.bytes()) * 8;
        self.messages += 1;
        Place { first, last: self.accepted }
    }

    /// When the message's first and last bit are sent. For one that was sent before the direction last fell
    /// idle, some time since then.
    pub(super) fn sending(&self, place: Place, rate: u64) -> (Timestamp, Timestamp) {
        (self.time_of(place.first, rate), self.time_of(place.last, rate))
    }

    /// Goes on at another rate: what was not sent yet takes more or less time.
    pub(super) fn change_rate(&mut self, now: Timestamp, before: u64) {
        let elapsed = now.since(self.anchor.0).as_nanos();
        let sent = self.anchor.1 + elapsed * u128::from(before) / NANOS;
        self.anchor = (now, sent.min(self.accepted));
    }

    /// Loses what was not sent yet.
    pub(super) fn lose(&mut self, now: Timestamp) {
        self.anchor = (now, self.accepted);
    }

    pub(super) fn traffic(&self, from: &NodeId, to: &NodeId) -> Traffic {
        let bytes = ByteSize::from_bytes(u64::try_from(self.accepted / 8).unwrap_or(u64::MAX));
        Traffic { from: from.clone(), to: to.clone(), messages: self.messages, bytes }
    }

    fn time_of(&self, bit: u128, rate: u64) -> Timestamp {
        let (at, sent) = self.anchor;
        let nanos = (bit.saturating_sub(sent) * NANOS).div_ceil(u128::from(rate.max(1)));
        at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT: u64 = 1_000_000;

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn messages_wait_for_those_before_them_and_not_for_the_past() {
        let mut direction = Direction::default();
        let kilobyte = ByteSize::from_bytes(1000);
        let first = direction.accept(ms(0), kilobyte, MBIT);
        let second = direction.accept(ms(2), kilobyte, MBIT);
        assert_eq!(direction.sending(first, MBIT), (ms(0), ms(8)));
        assert_eq!(direction.sending(second, MBIT), (ms(8), ms(16)));
        let later = direction.accept(ms(100), kilobyte, MBIT);
        assert_eq!(direction.sending(later, MBIT).1, ms(108));
    }

    #[test]
    fn a_change_of_rate_changes_the_time_of_what_is_left() {
        let mut direction = Direction::default();
        let place = direction.accept(ms(0), ByteSize::from_bytes(1000), MBIT);
        direction.change_rate(ms(4), MBIT);
        assert_eq!(direction.sending(place, MBIT / 10).1, ms(44));
        direction.change_rate(ms(4), MBIT / 10);
        assert_eq!(direction.sending(place, 4 * MBIT).1, ms(5));
    }

    #[test]
    fn what_was_lost_delays_nobody() {
        let mut direction = Direction::default();
        direction.accept(ms(0), ByteSize::from_mib(1), MBIT);
        direction.lose(ms(1));
        let place = direction.accept(ms(2), ByteSize::from_bytes(1000), MBIT);
        assert_eq!(direction.sending(place, MBIT).1, ms(10));
    }
}
