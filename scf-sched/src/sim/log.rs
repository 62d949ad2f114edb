//! What happened, in few bytes.

use scf_core::Timestamp;

/// A hash over every event of a run and its time, in their order: two runs are the same when theirs are.
///
/// FNV-1a's step with 64-bit words (Fowler, Noll, Vo; RFC 9923), rotated so that high bits come down. It finds runs that
/// differ; it is no protection against somebody who wants two to look equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLog {
    hash: u64,
    events: u64,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0 }
    }
}

impl EventLog {
    /// Adds an event.
    pub const fn note(&mut self, at: Timestamp, digest: u64) {
        self.mix(at.nanos());
        self.mix(digest);
        self.events += 1;
    }

    const fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    /// The hash of all events so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(events: &[(u64, u64)]) -> u64 {
        let mut log = EventLog::default();
        for &(at, digest) in events {
            log.note(Timestamp::from_nanos(at), digest);
        }
        log.hash()
    }

    #[test]
    fn order_time_and_content_all_change_the_hash() {
        let one = hash(&[(1, 2), (3, 4)]);
        assert_eq!(one, hash(&[(1, 2), (3, 4)]));
        for other in [&[(3, 4), (1, 2)][..], &[(1, 2), (3, 5)], &[(1, 2), (4, 4)], &[(1, 2)], &[(2, 1), (3, 4)]] {
            assert_ne!(one, hash(other), "{other:?}");
        }
    }
}
