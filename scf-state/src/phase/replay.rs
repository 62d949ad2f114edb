//! Traces of calls, what a policy pays for one, and what somebody pays who knows it beforehand.

use std::time::Duration;

use scf_core::{ByteSize, NodeCondition, PhaseChoice, PhasePolicy, PhaseStats, Timestamp};

use super::random::Random;

/// What a call costs remotely, and when it comes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "traces of others are written as literals")]
pub struct TracedCall {
    /// Time since the call before.
    pub gap: Duration,
    /// What its accesses cost while the scope is remote.
    pub access: Duration,
}

/// What is paid beside the accesses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal")]
pub struct TraceCosts {
    /// To take a scope here, and as much to give it back.
    pub migration: Duration,
    /// To keep it here for a second, in seconds.
    pub warm: f64,
}

impl Default for TraceCosts {
    /// Those that Puliafito et al. replay the Azure blob trace with: a migration costs 12 each way, a read 1.0, a write
    /// 5.6, warm memory 6.3e-6 a millisecond; one of their units is 10 ms here.
    fn default() -> Self {
        Self { migration: Duration::from_millis(120), warm: 6.3e-5 }
    }
}

/// Families of traces with the access costs of [`TraceCosts::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceFamily {
    /// Bursts of 40 calls in the mean, half a second apart; pauses from minutes to days (Pareto, 1.2).
    Bursty,
    /// The same with bursts of 4 calls in the mean.
    SparseBursts,
    /// A call every ten minutes in the mean.
    Slow,
    /// Five calls a second.
    Steady,
    /// Bursts and pauses whose costs have no memory and are on average what a move costs: nothing that was seen says
    /// anything of what comes, so nobody who does not know it does well.
    Memoryless,
    /// Bursts that end, and pauses that end, when the break-even rule has just moved.
    Cruel,
}

impl TraceFamily {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Bursty, Self::SparseBursts, Self::Slow, Self::Steady, Self::Memoryless, Self::Cruel];

    /// As one or two words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bursty => "bursty",
            Self::SparseBursts => "sparse bursts",
            Self::Slow => "slow Poisson",
            Self::Steady => "steady fast",
            Self::Memoryless => "memoryless",
            Self::Cruel => "cruel",
        }
    }

    /// A trace of `calls` calls.
    #[must_use]
    pub fn trace(self, calls: usize, seed: u64) -> Vec<TracedCall> {
        let mut random = Random::new(seed);
        let mut trace = Vec::with_capacity(calls);
        while trace.len() < calls {
            match self {
                Self::Slow => trace.push(call(random.exponential(600.0), &mut random)),
                Self::Steady => trace.push(call(random.exponential(0.2), &mut random)),
                Self::Bursty => burst(&mut trace, 40.0, &mut random),
                Self::SparseBursts => burst(&mut trace, 4.0, &mut random),
                Self::Memoryless => memoryless(&mut trace, &mut random),
                Self::Cruel => cruel(&mut trace),
            }
        }
        trace.truncate(calls);
        trace
    }
}

/// Of the calls of the Azure trace 23 % write.
fn call(gap: f64, random: &mut Random) -> TracedCall {
    let access = if random.unit() < 0.23 { 56 } else { 10 };
    TracedCall { gap: Duration::from_secs_f64(gap), access: Duration::from_millis(access) }
}

fn burst(trace: &mut Vec<TracedCall>, mean: f64, random: &mut Random) {
    let length = (random.exponential(mean) as usize).max(1);
    let pause = 200.0 * (1.0 - random.unit()).powf(-1.0 / 1.2);
    trace.push(call(pause, random));
    for _ in 1..length {
        trace.push(call(random.exponential(0.5), random));
    }
}

fn memoryless(trace: &mut Vec<TracedCall>, random: &mut Random) {
    let TraceCosts { migration, warm } = TraceCosts::default();
    let pause = random.exponential(2.0 * migration.as_secs_f64()) / warm;
    let access = Duration::from_millis(10);
    trace.push(TracedCall { gap: Duration::from_secs_f64(pause), access });
    let mut rent = random.exponential(2.0 * migration.as_secs_f64()) - access.as_secs_f64();
    while rent > 0.0 {
        trace.push(TracedCall { gap: Duration::from_millis(500), access });
        rent -= access.as_secs_f64();
    }
}

fn cruel(trace: &mut Vec<TracedCall>) {
    let TraceCosts { migration, warm } = TraceCosts::default();
    let access = Duration::from_millis(10);
    let pause = migration.div_f64(warm) + Duration::from_secs(1);
    trace.push(TracedCall { gap: pause, access });
    for _ in 1..migration.as_millis().div_ceil(access.as_millis()) {
        trace.push(TracedCall { gap: Duration::from_millis(500), access });
    }
}

/// What `policy` pays for the calls of `trace`, from the remote phase on, in seconds.
#[must_use]
pub fn replay(policy: &dyn PhasePolicy, trace: &[TracedCall], costs: &TraceCosts, seed: u64) -> f64 {
    let mut rule = policy.rule(seed);
    let mut choice = PhaseChoice::Remote;
    let (mut now, mut paid) = (Timestamp::default(), 0.0);
    let migration = costs.migration.as_secs_f64();
    for (number, TracedCall { gap, access }) in trace.iter().enumerate() {
        now = now + *gap;
        if let PhaseChoice::Local { idle } = choice {
            if *gap > idle {
                paid += costs.warm * idle.as_secs_f64() + migration;
                choice = PhaseChoice::Remote;
            } else {
                paid += costs.warm * gap.as_secs_f64();
            }
        }
        let local = matches!(choice, PhaseChoice::Local { .. });
        if !local {
            paid += access.as_secs_f64();
        }
        let wanted = rule.after_call(&PhaseStats {
            now,
            local,
            gap: if number == 0 { Duration::MAX } else { *gap },
            remote_cost: *access,
            moving_in: costs.migration,
            moving_out: costs.migration,
            size: ByteSize::from_kib(1),
            writes: 0.23,
            request: Duration::from_millis(10),
            node: NodeCondition::default(),
        });
        if local != matches!(wanted, PhaseChoice::Local { .. }) {
            paid += migration;
        }
        choice = wanted;
    }
    paid
}

/// The least that can be paid for the calls of `trace`, by dynamic programming over the two phases: in seconds.
#[must_use]
pub fn optimum(trace: &[TracedCall], costs: &TraceCosts) -> f64 {
    let migration = costs.migration.as_secs_f64();
    // What the cheapest way has cost that ends in the remote phase, and in the local one.
    let (mut remote, mut local) = (0.0f64, migration);
    for TracedCall { gap, access } in trace {
        // A change pays at the end of a gap or at its beginning, never between.
        local = (local + costs.warm * gap.as_secs_f64()).min(remote + migration);
        remote = remote.min(local + migration);
        let served = remote + access.as_secs_f64();
        (remote, local) = (served.min(local + migration), local.min(served + migration));
    }
    remote.min(local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::{AlwaysLocal, AlwaysRemote, SkiRental};

    fn ratios(family: TraceFamily, policy: &dyn PhasePolicy) -> Vec<f64> {
        let costs = TraceCosts::default();
        let ratio = |seed| {
            let trace = family.trace(4000, seed);
            replay(policy, &trace, &costs, seed) / optimum(&trace, &costs)
        };
        (0..20).map(ratio).collect()
    }

    #[test]
    fn the_optimum_is_what_trying_every_sequence_of_phases_finds() {
        let costs = TraceCosts { migration: Duration::from_millis(30), warm: 0.01 };
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let trace: Vec<_> = (0..8).map(|_| call(random.exponential(3.0), &mut random)).collect();
            // Bit 2i: local during the gap before call i; bit 2i + 1: local when it is served.
            let cheapest = (0..1u32 << 16).map(|way| {
                let mut paid = 0.0;
                let mut was_local = false;
                let mut step = |local: bool, cost: f64| {
                    paid += cost + if local == was_local { 0.0 } else { costs.migration.as_secs_f64() };
                    was_local = local;
                };
                for (i, TracedCall { gap, access }) in trace.iter().enumerate() {
                    let [gap_local, local] = [way >> (2 * i) & 1 == 1, way >> (2 * i + 1) & 1 == 1];
                    step(gap_local, if gap_local { costs.warm * gap.as_secs_f64() } else { 0.0 });
                    step(local, if local { 0.0 } else { access.as_secs_f64() });
                }
                paid
            });
            let cheapest = cheapest.fold(f64::INFINITY, f64::min);
            assert!((cheapest - optimum(&trace, &costs)).abs() < 1e-9, "seed {seed}");
        }
    }

    #[test]
    fn ski_rental_stays_near_the_optimum_on_every_family_and_is_far_better_than_each_static_policy_on_some() {
        let policy =
            SkiRental { patience: Duration::MAX, warm_cost: TraceCosts::default().warm, ..SkiRental::default() };
        let mean = |ratios: &[f64]| ratios.iter().sum::<f64>() / ratios.len() as f64;
        let mut better = [false; 2];
        for family in TraceFamily::ALL {
            let [ski, remote, local] =
                [&policy as &dyn PhasePolicy, &AlwaysRemote, &AlwaysLocal].map(|policy| mean(&ratios(family, policy)));
            println!("{:14} {ski:.2}, always remote {remote:.2}, always local {local:.2}", family.as_str());
            let bound = if family == TraceFamily::Bursty { 1.5 } else { 2.1 };
            assert!(ski <= bound, "{}: {ski}", family.as_str());
            better = [better[0] | (ski < 0.7 * remote), better[1] | (ski < 0.7 * local)];
        }
        assert_eq!(better, [true; 2], "each of the static ones is far worse somewhere");
    }
}
