//! What is measured about a scope.

use std::time::Duration;

use scf_core::{ByteSize, NodeCondition, PhaseStats, Timestamp};

/// Weight of the newest value in a mean.
const WEIGHT: f64 = 0.3;
/// Weight of the newest gap in the mean by which scopes are compared with each other.
const SLOW: f64 = 0.05;

/// Requests that moving a scope takes, each way: acquire and export, import and release.
const REQUESTS_PER_MOVE: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct Meter {
    last_call: Option<Timestamp>,
    gap: Option<Duration>,
    /// Mean gap over some twenty calls.
    pace: Option<Duration>,
    remote_cost: Option<Duration>,
    /// One request to the home.
    request: Option<Duration>,
    moved_in: Option<Duration>,
    moved_out: Option<Duration>,
    writes: f64,
    pub(super) size: ByteSize,
}

impl Meter {
    /// A call ended at `now`; `remote` is what it spent on remote accesses, in the remote phase.
    pub(super) fn call(&mut self, now: Timestamp, remote: Option<Duration>, wrote: bool) {
        self.gap = self.last_call.map(|last| now.since(last));
        self.last_call = Some(now);
        if let Some(gap) = self.gap {
            self.pace = Some(mean(self.pace, gap, SLOW));
        }
        if let Some(remote) = remote {
            self.remote_cost = Some(mean(self.remote_cost, remote, WEIGHT));
        }
        self.writes += WEIGHT * (f64::from(u8::from(wrote)) - self.writes);
    }

    /// A request to the home took `took`.
    pub(super) fn requested(&mut self, took: Duration) {
        self.request = Some(mean(self.request, took, WEIGHT));
    }

    /// The state came here in `took`.
    pub(super) fn moved_in(&mut self, took: Duration) {
        self.moved_in = Some(took);
    }

    /// The state went home in `took`.
    pub(super) fn moved_out(&mut self, took: Duration) {
        self.moved_out = Some(took);
    }

    /// Counts idleness from `now` where no call was seen yet.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.last_call.get_or_insert(now);
    }

    pub(super) fn idle(&self, now: Timestamp) -> Duration {
        self.last_call.map_or(Duration::ZERO, |last| now.since(last))
    }

    /// The mean gap between calls; that since the last call, once it is longer.
    pub(super) fn pace(&self, now: Timestamp) -> Duration {
        self.pace.map_or(Duration::MAX, |pace| pace.max(self.idle(now)))
    }

    /// After a call that ended now; `local` is where it ran, `remote` what it spent on remote accesses.
    pub(super) fn stats(&self, local: bool, remote: Option<Duration>, node: NodeCondition) -> PhaseStats {
        let request = self.request.unwrap_or_default();
        // What was never written need not be brought back.
        let out = if self.writes > 0.0 { REQUESTS_PER_MOVE } else { 1 } * request;
        let (moving_in, moving_out) = match (self.moved_in, self.moved_out) {
            (Some(moved_in), moved_out) => (moved_in, moved_out.unwrap_or_else(|| moved_in.max(out))),
            (None, moved_out) => (REQUESTS_PER_MOVE * request, moved_out.unwrap_or(out)),
        };
        PhaseStats {
            now: self.last_call.unwrap_or_default(),
            local,
            gap: self.gap.unwrap_or(Duration::MAX),
            remote_cost: remote.or(self.remote_cost).unwrap_or_default(),
            moving_in,
            moving_out,
            size: self.size,
            writes: self.writes,
            request,
            node,
        }
    }
}

fn mean(so_far: Option<Duration>, newest: Duration, weight: f64) -> Duration {
    so_far.map_or(newest, |so_far| so_far.mul_f64(1.0 - weight) + newest.mul_f64(weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn tells_of_a_call_what_it_spent_and_of_a_local_one_what_it_would_have() {
        let mut meter = Meter::default();
        let at = |s| Timestamp::default() + s * SECOND;
        let stats =
            |meter: &Meter, remote: Option<Duration>| meter.stats(remote.is_none(), remote, NodeCondition::default());
        meter.call(at(1), Some(SECOND / 10), true);
        let first = stats(&meter, Some(SECOND / 10));
        assert_eq!((first.gap, first.remote_cost, first.local), (Duration::MAX, SECOND / 10, false));
        meter.call(at(3), None, false);
        let second = stats(&meter, None);
        assert_eq!((second.gap, second.remote_cost, second.local), (2 * SECOND, SECOND / 10, true));
        assert!(second.writes > 0.0 && second.writes < first.writes);
        assert_eq!((meter.pace(at(3)), meter.pace(at(9))), (2 * SECOND, 6 * SECOND));
    }

    #[test]
    fn estimates_a_move_by_requests_until_one_was_measured() {
        let mut meter = Meter::default();
        meter.requested(SECOND);
        let moving = |meter: &Meter| {
            let stats = meter.stats(false, None, NodeCondition::default());
            (stats.moving_in, stats.moving_out)
        };
        assert_eq!(moving(&meter), (2 * SECOND, SECOND), "nothing was written");
        meter.call(Timestamp::default(), None, true);
        assert_eq!(moving(&meter), (2 * SECOND, 2 * SECOND));
        meter.moved_in(5 * SECOND);
        assert_eq!(moving(&meter), (5 * SECOND, 5 * SECOND));
        meter.moved_out(SECOND);
        assert_eq!(moving(&meter), (5 * SECOND, SECOND));
    }
}
