//! Rent until renting has cost as much as buying.

use std::time::Duration;

use scf_core::{PhasePolicy, PhaseStats};

/// Takes a scope here once its remote accesses have cost as much time as moving it would, and gives it back
/// once keeping it idle has cost as much.
///
/// That is the break-even rule of the ski-rental problem (Karlin, Manasse, Rudolph, Sleator: Competitive snoopy
/// caching, Algorithmica 3, 1988), both ways: without knowing the calls to come it never pays more than about
/// three times what one pays who knows them, the best that is possible between two states (Borodin, Linial,
/// Saks, JACM 39(4), 1992), and about as much in long bursts. The costs are those of Puliafito et al., IEEE Computer 55(9), 2022: an access of a remote
/// call, a migration, and warm memory per time. The number of local scopes is capped, because past its
/// optimum dedicating resources to some starves the rest.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct SkiRental {
    /// The gap after which a burst of calls counts as over.
    pub patience: Duration,
    /// What keeping a scope here for a second is worth, in seconds of remote accesses. Anything that is no
    /// number above zero counts as keeping for nothing.
    pub warm_cost: f64,
    /// Scopes that are local on this node at most.
    pub scopes: u32,
    /// How many times over the break-even a change of phase must pay; anything that is no number above 1
    /// counts as 1.
    pub hysteresis: f64,
}

impl Default for SkiRental {
    /// Patience of 5 s, a warm cost of 0.01, 64 scopes, no hysteresis.
    fn default() -> Self {
        Self { patience: Duration::from_secs(5), warm_cost: 0.01, scopes: 64, hysteresis: 1.0 }
    }
}

impl SkiRental {
    /// What must have been paid before a change pays, in seconds.
    fn break_even(&self, stats: &PhaseStats) -> f64 {
        // `max` answers the other operand for a NaN.
        self.hysteresis.max(1.0) * stats.migration.as_secs_f64()
    }

    fn cost_of_keeping(&self, time: Duration) -> f64 {
        self.warm_cost.max(0.0) * time.as_secs_f64()
    }
}

impl PhasePolicy for SkiRental {
    fn go_local(&self, stats: &PhaseStats) -> bool {
        stats.local_scopes < self.scopes
            && !stats.spent_remote.is_zero()
            && stats.now.since(stats.last_call) <= self.patience
            && stats.spent_remote.as_secs_f64() >= self.break_even(stats)
            // Otherwise even staying for ever would not pay.
            && self.cost_of_keeping(stats.gap) < stats.remote_cost.as_secs_f64()
    }

    fn go_remote(&self, stats: &PhaseStats) -> bool {
        let idle = stats.now.since(stats.last_call);
        stats.local_scopes > self.scopes || idle > self.patience || self.cost_of_keeping(idle) > self.break_even(stats)
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

#[cfg(test)]
mod tests {
    use scf_core::{ByteSize, Timestamp};

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn stats() -> PhaseStats {
        PhaseStats {
            now: Timestamp::default() + Duration::from_secs(100),
            last_call: Timestamp::default() + Duration::from_secs(100),
            gap: ms(100),
            spent_remote: ms(400),
            remote_cost: ms(50),
            migration: ms(200),
            size: ByteSize::from_kib(1),
            local_scopes: 3,
        }
    }

    #[test]
    fn buys_when_renting_has_cost_as_much_and_not_before() {
        let policy = SkiRental::default();
        assert!(policy.go_local(&PhaseStats { spent_remote: ms(200), ..stats() }));
        assert!(!policy.go_local(&PhaseStats { spent_remote: ms(199), ..stats() }));
        assert!(!SkiRental { hysteresis: 2.0, ..policy }.go_local(&PhaseStats { spent_remote: ms(399), ..stats() }));
    }

    #[test]
    fn does_not_buy_above_the_cap_or_for_rare_calls() {
        let policy = SkiRental { scopes: 3, ..SkiRental::default() };
        assert!(!policy.go_local(&stats()));
        assert!(policy.go_remote(&PhaseStats { local_scopes: 4, ..stats() }), "a lowered cap empties");
        let rare = PhaseStats { gap: Duration::from_secs(5), ..stats() };
        assert!(!SkiRental::default().go_local(&rare), "5 s at 0.01 cost as much as the access of 50 ms saves");
        assert!(SkiRental { warm_cost: 0.009, ..SkiRental::default() }.go_local(&rare));
        assert!(!SkiRental::default().go_local(&PhaseStats { gap: Duration::MAX, ..stats() }));
    }

    #[test]
    fn gives_back_when_idling_has_cost_as_much_or_the_burst_is_over() {
        let idle = |idle: u64| PhaseStats { now: stats().last_call + ms(idle), ..stats() };
        let policy = SkiRental { patience: Duration::from_secs(60), ..SkiRental::default() };
        assert!(!policy.go_remote(&idle(20_000)));
        assert!(policy.go_remote(&idle(20_001)));
        assert!(!SkiRental { warm_cost: 0.0, ..policy }.go_remote(&idle(60_000)));
        assert!(SkiRental { warm_cost: 0.0, ..policy }.go_remote(&idle(60_001)));
    }

    /// A thousand calls of 50 ms remote cost each, in bursts; migration 200 ms, warm cost 0.01.
    #[test]
    fn pays_at_most_about_three_times_what_one_pays_who_knows_the_calls_to_come() {
        let policy = SkiRental { patience: Duration::from_secs(60), ..SkiRental::default() };
        let bursts = |of: u64, idle| (0..1000).map(|i| if i % of == of - 1 { idle } else { 200 }).collect::<Vec<u64>>();
        for (name, gaps, bound) in [
            ("steady", vec![100; 1000], 1.3),
            ("bursts of 40", bursts(40, 120_000), 2.1),
            ("bursts of 5, the worst case", bursts(5, 25_000), 3.05),
            ("rare", vec![90_000; 1000], 1.01),
        ] {
            let (mut stats, mut local, mut paid) = (PhaseStats { spent_remote: ms(0), ..stats() }, false, 0.0);
            let (mut best_remote, mut best_local) = (0.0f64, 0.2f64);
            for gap in gaps {
                if !local {
                    paid += 0.05;
                    stats.spent_remote += ms(50);
                    if policy.go_local(&stats) {
                        (local, paid) = (true, paid + 0.1);
                    }
                }
                // The gap, in which the policy is asked every 50 ms.
                let mut passed = 0;
                while local && passed < gap {
                    let step = 50.min(gap - passed);
                    passed += step;
                    paid += step as f64 * 1e-5;
                    if policy.go_remote(&PhaseStats { now: stats.last_call + ms(passed), ..stats }) {
                        (local, paid) = (false, paid + 0.1);
                        stats.spent_remote = ms(0);
                    }
                }
                // The optimum by dynamic programming over the two phases.
                let (remote, here) = (best_remote + 0.05, best_local + gap as f64 * 1e-5);
                let served_here = best_local;
                best_remote = remote.min(served_here + 0.1);
                best_local = here.min(remote + 0.1 + gap as f64 * 1e-5);
                stats.gap = ms(gap.min(60_000));
                stats.last_call = stats.last_call + ms(gap);
                stats.now = stats.last_call;
            }
            let ratio = paid / best_remote.min(best_local);
            println!("{name}: {ratio:.2}");
            assert!(ratio < bound, "{name}: {ratio}");
        }
    }
}
