//! What is measured about a scope.

use std::time::Duration;

use scf_core::{ByteSize, PhaseStats, Timestamp};

/// Weight of the newest value in a mean.
const WEIGHT: f64 = 0.3;

/// Requests that moving a scope here and back takes: acquire, export; import, release.
const REQUESTS_PER_MIGRATION: u32 = 4;

#[derive(Debug, Default)]
pub(super) struct Meter {
    last_call: Option<Timestamp>,
    gap: Option<Duration>,
    spent_remote: Duration,
    remote_cost: Option<Duration>,
    /// One commit at home.
    request: Option<Duration>,
    moved_in: Option<Duration>,
    moved_out: Option<Duration>,
    pub(super) size: ByteSize,
}

impl Meter {
    /// A call ended at `now`; `remote` is what it spent on remote accesses, in the remote phase.
    pub(super) fn call(&mut self, now: Timestamp, remote: Option<Duration>, patience: Duration) {
        let gap = self.last_call.map(|last| now.since(last)).filter(|gap| *gap <= patience);
        self.last_call = Some(now);
        self.gap = gap.map(|gap| mean(self.gap, gap));
        if let Some(remote) = remote {
            self.remote_cost = Some(mean(self.remote_cost, remote));
            if gap.is_some() {
                self.spent_remote += remote;
            }
        }
    }

    /// A commit at home took `took`.
    pub(super) fn committed(&mut self, took: Duration) {
        self.request = Some(mean(self.request, took));
    }

    /// The state came here in `took`.
    pub(super) fn moved_in(&mut self, took: Duration) {
        self.moved_in = Some(took);
        self.spent_remote = Duration::ZERO;
    }

    /// The state went home in `took`.
    pub(super) fn moved_out(&mut self, took: Duration) {
        self.moved_out = Some(took);
        self.spent_remote = Duration::ZERO;
    }

    /// Counts idleness from `now` where no call was seen yet.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.last_call.get_or_insert(now);
    }

    pub(super) fn idle(&self, now: Timestamp) -> Duration {
        self.last_call.map_or(Duration::ZERO, |last| now.since(last))
    }

    pub(super) fn stats(&self, now: Timestamp, local_scopes: u32) -> PhaseStats {
        let migration = match (self.moved_in, self.moved_out) {
            (Some(moved_in), Some(moved_out)) => moved_in + moved_out,
            (Some(one), None) | (None, Some(one)) => 2 * one,
            (None, None) => REQUESTS_PER_MIGRATION * self.request.unwrap_or_default(),
        };
        PhaseStats {
            now,
            last_call: self.last_call.unwrap_or(now),
            gap: self.gap.unwrap_or(Duration::MAX),
            spent_remote: self.spent_remote,
            remote_cost: self.remote_cost.unwrap_or_default(),
            migration,
            size: self.size,
            local_scopes,
        }
    }
}

fn mean(so_far: Option<Duration>, newest: Duration) -> Duration {
    so_far.map_or(newest, |so_far| so_far.mul_f64(1.0 - WEIGHT) + newest.mul_f64(WEIGHT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_calls_of_a_burst_spent_and_not_those_that_came_alone() {
        let (mut meter, second) = (Meter::default(), Duration::from_secs(1));
        let at = |s| Timestamp::default() + s * second;
        let mut call = |s| {
            meter.call(at(s), Some(second / 10), 5 * second);
            meter.stats(at(s), 0)
        };
        assert_eq!((call(0).spent_remote, call(1).spent_remote), (Duration::ZERO, second / 10));
        assert_eq!(call(3).gap, second.mul_f64(1.3));
        let alone = call(60);
        assert_eq!((alone.spent_remote, alone.gap), (second / 5, Duration::MAX));
        assert_eq!(call(61).gap, second);
    }
}
