//! How a new version of a model takes over.

use std::time::Duration;

use scf_core::{Share, Timestamp};

/// How a new version takes over: by shares of the traffic, each for a while and so many calls, as long as it fares no
/// worse than the one before. Pure; whoever drives it divides the traffic as it says.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct CanaryPolicy {
    shares: Vec<Share>,
    calls: u64,
    dwell: Duration,
    failures: Share,
    accuracy: Share,
}

impl Default for CanaryPolicy {
    /// A tenth of the traffic, then half, each for 50 calls at least; no failures more than the one before by 1 %, no
    /// accuracy less by 5 %.
    fn default() -> Self {
        let shares = vec![Share::from_percent(10.0), Share::from_percent(50.0)];
        let (failures, accuracy) = (Share::from_percent(1.0), Share::from_percent(5.0));
        Self { shares, calls: 50, dwell: Duration::ZERO, failures, accuracy }
    }
}

impl CanaryPolicy {
    /// The shares of the traffic that it is given one after the other before it is given all; default 10 % and 50 %.
    pub fn shares(mut self, shares: impl IntoIterator<Item = Share>) -> Self {
        self.shares = shares.into_iter().collect();
        self
    }

    /// Calls that it answers at a share, and how long it stays there, before it goes on; default 50 and no time.
    pub const fn dwell(mut self, calls: u64, time: Duration) -> Self {
        (self.calls, self.dwell) = (calls, time);
        self
    }

    /// By how much its failures may be more, and its accuracy where labels came less, than those of the version before;
    /// default 1 % and 5 %.
    pub const fn tolerate(mut self, failures: Share, accuracy: Share) -> Self {
        (self.failures, self.accuracy) = (failures, accuracy);
        self
    }
}

/// What calls of a version came to during one share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by whoever counts calls")]
pub struct Fared {
    /// Calls that ended.
    pub calls: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Of these, answers whose right answer became known.
    pub labelled: u64,
    /// Of these, answers that were right.
    pub right: u64,
}

/// A new version that is taking over.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Canary {
    policy: CanaryPolicy,
    stage: usize,
    since: Timestamp,
}

/// What becomes of a new version.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CanaryStep {
    /// It stays at its share.
    Stay,
    /// It is given this share of the traffic; count anew from here.
    Share(Share),
    /// It is given all traffic, and is the one that serves.
    Promote,
    /// The version before is given all traffic again.
    RollBack(Worse),
}

/// Why a new version is taken back.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Worse {
    /// It fails more often, by this.
    Failures(Share),
    /// It is right less often, by this.
    Accuracy(Share),
}

impl Canary {
    /// Begins at `now` with the first share, which is given beside it.
    pub fn begin(policy: CanaryPolicy, now: Timestamp) -> (Self, Share) {
        let first = policy.shares.first().copied().unwrap_or(Share::ALL);
        (Self { policy, stage: 0, since: now }, first)
    }

    /// Decides at `now` after the `new` version and the one `before` fared so at this share. Takes back as soon as the
    /// new one is worse over as many calls as it stays for.
    pub fn decide(&mut self, new: Fared, before: Fared, now: Timestamp) -> CanaryStep {
        if new.calls < self.policy.calls {
            return CanaryStep::Stay;
        }
        if let Some(worse) = self.worse(new, before) {
            return CanaryStep::RollBack(worse);
        }
        if now.since(self.since) < self.policy.dwell {
            return CanaryStep::Stay;
        }
        (self.stage, self.since) = (self.stage + 1, now);
        self.policy.shares.get(self.stage).map_or(CanaryStep::Promote, |share| CanaryStep::Share(*share))
    }

    fn worse(&self, new: Fared, before: Fared) -> Option<Worse> {
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        let failures = share(new.failed, new.calls) - share(before.failed, before.calls);
        if failures > self.policy.failures.fraction() {
            return Some(Worse::Failures(Share::from_fraction(failures)));
        }
        // A few labels say nothing of an accuracy.
        if new.labelled.min(before.labelled) < self.policy.calls {
            return None;
        }
        let accuracy = share(before.right, before.labelled) - share(new.right, new.labelled);
        (accuracy > self.policy.accuracy.fraction()).then(|| Worse::Accuracy(Share::from_fraction(accuracy)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(calls: u64) -> Fared {
        Fared { calls, failed: 0, labelled: calls, right: calls }
    }

    #[test]
    fn a_version_that_fares_as_well_is_given_more_until_it_has_all() {
        let (mut canary, first) = Canary::begin(CanaryPolicy::default(), Timestamp::default());
        assert_eq!(first, Share::from_percent(10.0));
        assert_eq!(canary.decide(good(49), good(500), Timestamp::default()), CanaryStep::Stay);
        let half = CanaryStep::Share(Share::from_percent(50.0));
        assert_eq!(canary.decide(good(50), good(500), Timestamp::default()), half);
        assert_eq!(canary.decide(good(50), good(50), Timestamp::default()), CanaryStep::Promote);
    }

    #[test]
    fn it_stays_for_its_time_even_after_its_calls() {
        let policy = CanaryPolicy::default().dwell(1, Duration::from_secs(10));
        let (mut canary, _) = Canary::begin(policy, Timestamp::from_nanos(5));
        let at = |nanos: u64| Timestamp::from_nanos(5 + nanos);
        assert_eq!(canary.decide(good(9), good(9), at(9_999_999_999)), CanaryStep::Stay);
        assert_ne!(canary.decide(good(9), good(9), at(10_000_000_000)), CanaryStep::Stay);
    }

    #[test]
    fn a_version_that_fails_or_is_wrong_more_often_is_taken_back() {
        let begin = || Canary::begin(CanaryPolicy::default(), Timestamp::default()).0;
        let failing = Fared { failed: 2, ..good(100) };
        let back = CanaryStep::RollBack(Worse::Failures(Share::from_percent(2.0)));
        assert_eq!(begin().decide(failing, good(100), Timestamp::default()), back);
        let wrong = Fared { right: 90, ..good(100) };
        let back = CanaryStep::RollBack(Worse::Accuracy(Share::from_percent(10.0)));
        assert_eq!(begin().decide(wrong, good(100), Timestamp::default()), back);
        let unlabelled = Fared { labelled: 49, right: 0, ..good(100) };
        assert_ne!(begin().decide(unlabelled, good(100), Timestamp::default()), back, "too few labels");
        assert_ne!(begin().decide(wrong, wrong, Timestamp::default()), back, "no worse than the one before");
    }
}
