//! How few slots do, when clients want local state for a part of the time.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use scf::core::{PhaseChoice, PhaseLoad, PhasePolicy, PhaseRule, PhaseStats, Timestamp};

use crate::{
    arm::{Arm, Length, RATE, SCALE, exponential, run},
    random::Random,
};

/// A client wants local state and comes back to not wanting it once in this time, in the mean.
const CYCLE: Duration = Duration::from_secs(4);
/// The share of clients that find no slot for what they want, at most.
pub(crate) const OVERFLOW: f64 = 0.01;

/// What came of a provisioning.
pub(crate) struct Provisioned {
    /// The share of the time for which a client wants local state.
    pub(crate) wanted: f64,
    pub(crate) slots: u32,
    /// Local scopes at most.
    pub(crate) local: u32,
    /// Of the calls of clients that wanted local state, those that did not have it because others had the slots.
    pub(crate) overflow: f64,
    pub(crate) arm: Arm,
}

/// The fewest slots for `clients` that want local state for the share `wanted` of the time, and how many of them may be
/// local so that the others still have enough (Puliafito et al., section "resources").
pub(crate) fn plan(clients: u32, wanted: f64) -> (u32, u32) {
    let (rate, remote) = (RATE * SCALE, 1.0 / 3.0);
    let all = f64::from(clients);
    for slots in 1..=clients {
        let most = f64::from(slots) * (remote - rate * all / f64::from(slots)) / (remote - rate);
        if most < 1.0 {
            continue;
        }
        // Of a binomial distribution, the terms up to `most`.
        let mut term = (1.0 - wanted).powi(clients as i32);
        let none = term;
        let mut below = 0.0;
        for local in 0..most as u32 {
            below += term;
            term *= (all - f64::from(local)) / f64::from(local + 1) * wanted / (1.0 - wanted);
        }
        if (1.0 - below) / (1.0 - none) <= OVERFLOW {
            return (slots, most as u32);
        }
    }
    (clients, clients - 1)
}

/// Runs what [`plan`] says.
pub(crate) async fn provision(
    clients: u32,
    wanted: f64,
    length: Length,
    tick: impl Fn(f64),
) -> Result<Provisioned, Box<dyn Error>> {
    let (slots, local) = plan(clients, wanted);
    let counts = Arc::new(Counts::default());
    let policy = Arc::new(Flips { wanted, local, counts: Arc::clone(&counts) });
    let arm = run(clients as usize, slots, policy, length, 3, tick).await?;
    let (asked, refused) = (counts.asked.load(Relaxed), counts.refused.load(Relaxed));
    Ok(Provisioned { wanted, slots, local, overflow: refused as f64 / asked.max(1) as f64, arm })
}

#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    refused: AtomicU64,
}

/// Clients that want local state, and no longer want it, at random times.
#[derive(Debug)]
struct Flips {
    wanted: f64,
    local: u32,
    counts: Arc<Counts>,
}

impl PhasePolicy for Flips {
    fn rule(&self, seed: u64) -> Box<dyn PhaseRule> {
        let mut random = Random::new(seed);
        let wants = random.unit() < self.wanted;
        let (wanted, counts) = (self.wanted, Arc::clone(&self.counts));
        Box::new(Flip { wanted, counts, random, wants, until: Timestamp::default(), asked: 0 })
    }

    fn share(&self, _: &PhaseLoad) -> u32 {
        self.local
    }
}

struct Flip {
    wanted: f64,
    counts: Arc<Counts>,
    random: Random,
    wants: bool,
    until: Timestamp,
    /// Calls since it wants local state.
    asked: u64,
}

impl std::fmt::Debug for Flip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flip").field("wants", &self.wants).finish_non_exhaustive()
    }
}

impl PhaseRule for Flip {
    fn after_call(&mut self, stats: &PhaseStats) -> PhaseChoice {
        // Calls that were under way when the client began to want it could not have it.
        if self.wants && self.asked > 2 {
            self.counts.asked.fetch_add(1, Relaxed);
            self.counts.refused.fetch_add(u64::from(!stats.local), Relaxed);
        }
        self.asked += u64::from(self.wants);
        while stats.now >= self.until {
            if self.until > Timestamp::default() {
                self.wants = !self.wants;
                self.asked = 0;
            } else {
                self.until = stats.now;
            }
            let share = if self.wants { self.wanted } else { 1.0 - self.wanted };
            self.until =
                self.until + Duration::from_secs_f64(exponential(&mut self.random, share * CYCLE.as_secs_f64()));
        }
        if self.wants { PhaseChoice::Local { idle: Duration::MAX } } else { PhaseChoice::Remote }
    }
}
