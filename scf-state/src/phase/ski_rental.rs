//! Rent until renting has cost as much as buying; learn from what came of it.

use std::time::Duration;

use scf_core::{PhaseChoice, PhaseLoad, PhasePolicy, PhaseRule, PhaseStats};

use super::random::Random;

/// Takes a scope here once its remote accesses have cost about as much time as moving it would, and gives it back
/// once keeping it idle has cost about as much.
///
/// That is the break-even rule of the ski-rental problem (Karlin, Manasse, Rudolph, Sleator: Competitive snoopy
/// caching, Algorithmica 3, 1988), both ways, with the thresholds drawn at random (Karlin, Manasse, McGeoch, Owicki:
/// Competitive randomized algorithms for nonuniform problems, Algorithmica 11, 1994), because whoever knows them
/// could send the calls that they do worst on. Beside it a few rules with other fixed thresholds are followed on paper, from
/// never moving to moving at once and staying for long; when one of them would have paid less by more than a move
/// there and back, it is the one that is followed (Blum, Burch: On-line learning and the metrical task system
/// problem, Machine Learning 39, 2000). Old costs are forgotten as new ones come.
///
/// The costs are those of Puliafito et al., IEEE Computer 55(9), 2022: the remote accesses of a call, a migration,
/// and warm memory per time. Each is measured, so that the size of the state, the way to the store, and the share of
/// calls that write count by what they cost.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct SkiRental {
    /// The gap after which a burst of calls counts as over.
    pub patience: Duration,
    /// What keeping a scope here for a second is worth, in seconds of remote accesses, while all memory is free; it
    /// becomes dearer as memory becomes scarce. Anything that is no number above zero counts as keeping for nothing.
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

impl PhasePolicy for SkiRental {
    fn rule(&self, seed: u64) -> Box<dyn PhaseRule> {
        Box::new(Renter::new(*self, seed))
    }

    fn share(&self, _: &PhaseLoad) -> u32 {
        self.scopes
    }
}

/// Thresholds as shares of what moving costs: rent paid before the scope is taken, idle time paid before it is
/// given back. The first rule's are drawn anew whenever it moves.
const THRESHOLDS: [[f32; 2]; 12] = [
    [0.5, 0.5],
    [f32::INFINITY, 0.0],
    [0.0, 0.1],
    [0.0, 0.5],
    [0.0, 1.5],
    [0.0, f32::INFINITY],
    [0.3, 0.1],
    [0.3, 0.5],
    [0.3, 1.5],
    [1.0, 0.1],
    [1.0, 0.5],
    [1.0, 1.5],
];

/// Costs of so many moves there and back are remembered.
const MEMORY: f32 = 64.0;

/// What a rule would have done so far.
#[derive(Clone, Copy, Debug, Default)]
struct Paper {
    local: bool,
    /// Paid for remote accesses since it was local, in seconds.
    rent: f32,
    /// Paid altogether, in seconds.
    paid: f32,
}

/// What one thing costs now, in seconds.
#[derive(Clone, Copy, Debug)]
struct Prices {
    moving_in: f32,
    moving_out: f32,
    access: f32,
    /// The gap before the call, if the scope was kept through it.
    gap: f32,
    /// The longest gap that a scope is kept through.
    longest: f32,
    is_new_burst: bool,
}

/// The rule of one scope.
#[derive(Debug)]
struct Renter {
    policy: SkiRental,
    random: Random,
    papers: [Paper; THRESHOLDS.len()],
    /// Those of the first rule.
    drawn: [f32; 2],
    leader: usize,
}

impl Renter {
    fn new(policy: SkiRental, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let drawn = [draw(&mut random), draw(&mut random)];
        Self { policy, random, papers: Default::default(), drawn, leader: 0 }
    }

    fn thresholds(&self, rule: usize) -> [f32; 2] {
        let [rent, idle] = if rule == 0 { self.drawn } else { THRESHOLDS[rule] };
        // `max` answers the other operand for a NaN.
        let hysteresis = self.policy.hysteresis.max(1.0) as f32;
        [rent * hysteresis, idle * hysteresis]
    }

    /// What keeping the scope for a second is worth; `None` when it is not to be kept at any price.
    fn warm_cost(&self, stats: &PhaseStats) -> Option<f64> {
        let free = 1.0 - stats.node.memory_pressure.max(0.0);
        (free > 0.0).then(|| self.policy.warm_cost.max(0.0) / free)
    }

    /// Whether the node stays long enough for a move to pay, at the present rate of calls.
    fn stays(&self, stats: &PhaseStats) -> bool {
        let stays = stats.node.stays;
        if stays == Duration::MAX {
            return true;
        }
        let moving = stats.moving_in + stats.moving_out;
        let saved = stats.remote_cost.as_secs_f64() * stays.as_secs_f64() / stats.gap.as_secs_f64().max(1e-9);
        stays > if stats.local { 2 * stats.moving_out } else { moving } && saved > moving.as_secs_f64()
    }

    fn prices(&self, stats: &PhaseStats, warm: f64) -> Prices {
        let second = |time: Duration| time.as_secs_f32();
        let is_new_burst = stats.gap > self.policy.patience;
        let longest = warm as f32 * second(self.policy.patience);
        Prices {
            moving_in: second(stats.moving_in),
            moving_out: second(stats.moving_out),
            access: second(stats.remote_cost),
            gap: if stats.gap == Duration::MAX { 0.0 } else { warm as f32 * second(stats.gap) },
            longest,
            is_new_burst,
        }
    }

    /// Follows every rule through the gap and the call.
    fn follow(&mut self, prices: &Prices) {
        for rule in 0..self.papers.len() {
            let [rent, idle] = self.thresholds(rule);
            let was_local = self.papers[rule].local;
            self.papers[rule].step(prices, rent, idle);
            if rule == 0 && self.papers[0].local != was_local {
                self.drawn[usize::from(was_local)] = draw(&mut self.random);
            }
        }
        let moves = (prices.moving_in + prices.moving_out).max(f32::MIN_POSITIVE);
        if self.papers[self.leader].paid > MEMORY * moves {
            self.papers.iter_mut().for_each(|paper| paper.paid /= 2.0);
        }
        let best = (0..self.papers.len()).min_by(|&a, &b| self.papers[a].paid.total_cmp(&self.papers[b].paid));
        let margin = moves * self.policy.hysteresis.max(1.0) as f32;
        if let Some(best) = best.filter(|&best| self.papers[best].paid + margin < self.papers[self.leader].paid) {
            self.leader = best;
        }
    }
}

impl Paper {
    fn step(&mut self, prices: &Prices, rent: f32, idle: f32) {
        if self.local {
            let kept = (idle * prices.moving_out).min(prices.longest);
            // Of a product of zero and infinity nothing is kept.
            let kept = if kept.is_nan() { prices.longest } else { kept };
            if prices.gap > kept || prices.is_new_burst {
                self.paid += kept.min(prices.gap) + prices.moving_out;
                (self.local, self.rent) = (false, 0.0);
            } else {
                self.paid += prices.gap;
                return;
            }
        } else {
            self.rent = (self.rent - prices.gap).max(0.0);
        }
        self.paid += prices.access;
        if prices.is_new_burst {
            self.rent = 0.0;
            return;
        }
        self.rent += prices.access;
        let needed = rent * prices.moving_in;
        if self.rent > 0.0 && (self.rent >= needed || needed.is_nan()) && rent.is_finite() {
            self.paid += prices.moving_in;
            (self.local, self.rent) = (true, 0.0);
        }
    }
}

impl PhaseRule for Renter {
    fn after_call(&mut self, stats: &PhaseStats) -> PhaseChoice {
        let Some(warm) = self.warm_cost(stats) else { return PhaseChoice::Remote };
        let prices = self.prices(stats, warm);
        self.follow(&prices);
        if !self.papers[self.leader].local || !self.stays(stats) {
            return PhaseChoice::Remote;
        }
        let kept = f64::from(self.thresholds(self.leader)[1]) * stats.moving_out.as_secs_f64() / warm;
        let idle = Duration::try_from_secs_f64(kept).unwrap_or(Duration::MAX);
        PhaseChoice::Local { idle: idle.min(self.policy.patience).min(stats.node.stays) }
    }

    fn adopted(&mut self) -> PhaseChoice {
        for (paper, [rent, _]) in self.papers.iter_mut().zip(THRESHOLDS) {
            (paper.local, paper.rent) = (rent.is_finite(), 0.0);
        }
        PhaseChoice::Local { idle: self.policy.patience }
    }
}

/// A threshold from 0 to 1 of the density e^t / (e - 1), against which no sequence of calls is worse than another.
fn draw(random: &mut Random) -> f32 {
    (1.0 + random.unit() * (std::f64::consts::E - 1.0)).ln() as f32
}

#[cfg(test)]
mod tests {
    use scf_core::{ByteSize, NodeCondition, Timestamp};

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn stats() -> PhaseStats {
        PhaseStats {
            now: Timestamp::default() + Duration::from_secs(100),
            local: false,
            gap: ms(100),
            remote_cost: ms(50),
            moving_in: ms(100),
            moving_out: ms(100),
            size: ByteSize::from_kib(1),
            writes: 1.0,
            request: ms(10),
            node: NodeCondition::default(),
        }
    }

    /// How many calls in a row it takes until the scope is to be local.
    fn calls_until_local(policy: SkiRental, stats: &PhaseStats, seed: u64) -> Option<usize> {
        let mut rule = policy.rule(seed);
        (1..=100).find(|_| rule.after_call(stats) != PhaseChoice::Remote)
    }

    #[test]
    fn takes_a_scope_before_renting_has_cost_more_than_moving() {
        for seed in 0..50 {
            let calls = calls_until_local(SkiRental::default(), &stats(), seed).unwrap();
            assert!(calls <= 2, "seed {seed}: after {calls} calls of 50 ms, where moving takes 100 ms");
            let large = PhaseStats { moving_in: ms(1000), moving_out: ms(1000), ..stats() };
            let calls = calls_until_local(SkiRental::default(), &large, seed).unwrap();
            assert!(calls <= 21, "seed {seed}: {calls}, the gaps between them count too");
        }
        let hesitant = SkiRental { hysteresis: 3.0, ..SkiRental::default() };
        let mean = |policy| (0..200).filter_map(|seed| calls_until_local(policy, &stats(), seed)).sum::<usize>() / 100;
        assert!(mean(hesitant) > mean(SkiRental::default()));
    }

    #[test]
    fn does_not_take_a_scope_for_rare_calls_or_on_a_node_that_leaves_or_is_full() {
        let rare = PhaseStats { gap: ms(4900), remote_cost: ms(40), ..stats() };
        assert_eq!(calls_until_local(SkiRental::default(), &rare, 1), None, "49 ms to keep, 40 ms to save");
        let alone = PhaseStats { gap: ms(5001), ..stats() };
        assert_eq!(calls_until_local(SkiRental::default(), &alone, 1), None, "every call begins a burst");
        let node = |node| calls_until_local(SkiRental::default(), &PhaseStats { node, ..stats() }, 1);
        let leaves = |stays| node(NodeCondition { stays, ..NodeCondition::default() });
        assert_eq!(leaves(ms(399)), None, "four calls save what moving takes");
        assert!(leaves(ms(401)).is_some());
        let pressure = |memory_pressure| node(NodeCondition { memory_pressure, ..NodeCondition::default() });
        assert_eq!((pressure(1.0), pressure(0.999)), (None, None), "a second costs 10 s");
        assert!(pressure(0.5).is_some());
    }

    #[test]
    fn gives_back_when_idling_would_cost_as_much_as_moving() {
        for seed in 0..50 {
            let mut rule = SkiRental { patience: ms(60_000), ..SkiRental::default() }.rule(seed);
            let choice = (0..10).map(|_| rule.after_call(&stats())).last().unwrap();
            let PhaseChoice::Local { idle } = choice else { panic!("{choice:?}") };
            assert!(idle <= ms(15_000), "{idle:?}, where 10 s at 0.01 cost as much as moving");
        }
        let mut rule = SkiRental::default().rule(1);
        let free = SkiRental { warm_cost: 0.0, ..SkiRental::default() };
        let mut for_nothing = free.rule(1);
        for _ in 0..10 {
            rule.after_call(&stats());
            for_nothing.after_call(&stats());
        }
        assert_eq!(for_nothing.after_call(&stats()), PhaseChoice::Local { idle: ms(5000) });
        assert!(matches!(rule.after_call(&stats()), PhaseChoice::Local { idle } if idle <= ms(5000)));
    }
}
