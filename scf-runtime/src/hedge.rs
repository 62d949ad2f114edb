//! When a call that is late is sent to a second node.

use std::time::Duration;

use scf_core::Share;

/// Buckets of latencies for each doubling: a bucket's bounds are 19 % apart.
const PER_DOUBLING: u32 = 4;
/// From a microsecond to three days.
const BUCKETS: usize = 160;
/// So many latencies weigh as much as all before them.
const HALVED_AFTER: u32 = 1024;

/// When calls of functions that may be [repeated freely](scf_core::Repeat::Freely) are sent to a second node: hedged
/// requests, Dean and Barroso, "The Tail at Scale" (2013), section "Within request short-term adaptations".
///
/// A call that has taken longer than most calls of its function take is sent to another node as well, the first answer
/// counts and the other call is given up. Who is late is by definition rare, and a budget bounds how many may be hedged
/// when all nodes become slow at once.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct HedgePolicy {
    quantile: Share,
    budget: Share,
    burst: u32,
    samples: u32,
}

impl Default for HedgePolicy {
    /// The 95th percentile, of at least 20 calls; 5 % more calls, 10 at once.
    fn default() -> Self {
        Self { quantile: Share::from_percent(95.0), budget: Share::from_percent(5.0), burst: 10, samples: 20 }
    }
}

impl HedgePolicy {
    /// The share of a function's calls that take less time than one that is late; default 95 %.
    pub const fn quantile(mut self, quantile: Share) -> Self {
        self.quantile = quantile;
        self
    }

    /// How many more calls a function may cost, as a share of its calls; default 5 %. None: nothing is hedged.
    pub const fn budget(mut self, budget: Share) -> Self {
        self.budget = budget;
        self
    }

    /// How many calls may be hedged at once out of a budget that was not used; default 10.
    pub const fn burst(mut self, calls: u32) -> Self {
        self.burst = calls;
        self
    }

    /// Calls that must have been measured before one counts as late; default 20.
    pub const fn samples(mut self, calls: u32) -> Self {
        self.samples = calls;
        self
    }
}

/// The latencies of a function's calls and what is left of its budget, in one process.
#[derive(Debug)]
pub(crate) struct Hedge {
    counts: [u32; BUCKETS],
    measured: u32,
    /// Hedged calls that may be made now, in millionths.
    budget: u64,
}

const WHOLE: f64 = 1e6;

impl Hedge {
    /// Nothing measured, nothing saved up.
    pub(crate) const fn new() -> Self {
        Self { counts: [0; BUCKETS], measured: 0, budget: 0 }
    }

    /// A call begins, which adds to the budget. After how long it is late; `None` where too little is known.
    pub(crate) fn begins(&mut self, policy: &HedgePolicy) -> Option<Duration> {
        let more = (policy.budget.fraction() * WHOLE) as u64;
        self.budget = (self.budget + more).min((f64::from(policy.burst) * WHOLE) as u64);
        if self.measured < policy.samples.max(1) {
            return None;
        }
        let wanted = (f64::from(self.measured) * policy.quantile.fraction()).ceil() as u32;
        let mut below = 0;
        let bucket = self.counts.iter().position(|count| {
            below += count;
            below >= wanted
        });
        bucket.map(upper)
    }

    /// Whether the budget has a hedged call.
    pub(crate) const fn may_spend(&self) -> bool {
        self.budget >= WHOLE as u64
    }

    /// Takes one hedged call out of the budget, if that has one.
    pub(crate) fn spend(&mut self) -> bool {
        let left = self.budget.checked_sub(WHOLE as u64);
        self.budget = left.unwrap_or(self.budget);
        left.is_some()
    }

    /// A call took so long on a node, or was given up after so long.
    pub(crate) fn took(&mut self, latency: Duration) {
        self.counts[bucket(latency)] += 1;
        self.measured += 1;
        if self.measured >= HALVED_AFTER {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.measured = self.counts.iter().sum();
        }
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = latency.as_secs_f64() * 1e6;
    ((micros.max(1.0).log2() * f64::from(PER_DOUBLING)) as usize).min(BUCKETS - 1)
}

/// The longest latency of a bucket.
fn upper(bucket: usize) -> Duration {
    Duration::from_secs_f64(((bucket + 1) as f64 / f64::from(PER_DOUBLING)).exp2() / 1e6)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn measured(latencies: impl IntoIterator<Item = Duration>) -> Hedge {
        let mut hedge = Hedge::new();
        latencies.into_iter().for_each(|latency| hedge.took(latency));
        hedge
    }

    proptest! {
        #[test]
        fn a_call_is_late_once_it_took_longer_than_the_quantile_and_hardly_later(
            micros in prop::collection::vec(1u64..1_000_000_000, 20..500),
            percent in 1u32..=100,
        ) {
            let mut hedge = measured(micros.iter().map(|micros| Duration::from_micros(*micros)));
            let policy = HedgePolicy::default().quantile(Share::from_percent(f64::from(percent)));
            let late = hedge.begins(&policy).unwrap().as_secs_f64() * 1e6;
            let mut sorted = micros;
            sorted.sort_unstable();
            let rank = (sorted.len() * percent as usize).div_ceil(100);
            let exact = sorted[rank - 1] as f64;
            prop_assert!(late >= exact * 0.999 && late <= exact * 1.2, "{late} for {exact}");
        }

        #[test]
        fn no_more_calls_are_hedged_than_the_budget_allows(calls in 1u32..2000, percent in 0u32..=100, burst in 0u32..20) {
            let policy = HedgePolicy::default().budget(Share::from_percent(f64::from(percent))).burst(burst);
            let mut hedge = measured(std::iter::repeat_n(MS, 20));
            let mut hedged = 0;
            for _ in 0..calls {
                hedge.begins(&policy);
                hedged += u32::from(hedge.spend());
            }
            prop_assert!(u64::from(hedged) * 100 <= u64::from(calls) * u64::from(percent));
        }
    }

    #[test]
    fn what_was_not_used_of_the_budget_is_saved_up_to_the_burst() {
        let mut hedge = Hedge::new();
        let policy = HedgePolicy::default().burst(3);
        for _ in 0..1000 {
            hedge.begins(&policy);
        }
        assert_eq!((0..10).filter(|_| hedge.spend()).count(), 3);
    }

    #[test]
    fn nothing_is_late_before_enough_is_known() {
        let policy = HedgePolicy::default().samples(3);
        assert_eq!(measured([MS; 2]).begins(&policy), None);
        assert!(measured([MS; 3]).begins(&policy).is_some());
    }

    #[test]
    fn what_calls_took_long_ago_counts_for_less() {
        let mut hedge = measured(std::iter::repeat_n(MS, 1000));
        (0..3000).for_each(|_| hedge.took(100 * MS));
        assert!(hedge.begins(&HedgePolicy::default().quantile(Share::from_percent(20.0))).unwrap() > 90 * MS);
    }
}
