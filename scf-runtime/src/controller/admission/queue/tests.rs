//! Fairness in virtual time: a node of some slots, tenants that offer more than it can serve.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;

/// Seeded randomness: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, figure 16).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }
}

/// A call that waits: whose, when it came, how long it will take, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Job {
    tenant: usize,
    arrived: u64,
    takes: u64,
}

/// What a tenant got.
#[derive(Clone, Debug, Default)]
struct Got {
    slot_time: u64,
    served: u64,
    refused: u64,
    waits: Vec<u64>,
}

impl Got {
    fn wait(&mut self, share: f64) -> u64 {
        self.waits.sort_unstable();
        self.waits[((self.waits.len() - 1) as f64 * share) as usize]
    }
}

/// A node in virtual time, in microseconds.
struct Node {
    queue: FairQueue<Job>,
    weights: Vec<u32>,
    waiting: Vec<u32>,
    bound: u32,
    free: usize,
    ends: BinaryHeap<Reverse<u64>>,
    got: Vec<Got>,
}

impl Node {
    fn new(weights: &[u32], slots: usize, bound: u32) -> Self {
        let tenants = weights.len();
        Self {
            queue: FairQueue::default(),
            weights: weights.to_vec(),
            waiting: vec![0; tenants],
            bound,
            free: slots,
            ends: BinaryHeap::new(),
            got: vec![Got::default(); tenants],
        }
    }

    fn offer(&mut self, now: u64, tenant: usize, takes: u64) {
        if self.waiting[tenant] >= self.bound {
            self.got[tenant].refused += 1;
            return;
        }
        self.waiting[tenant] += 1;
        let line = Line { tenant: tenant as u32, weight: self.weights[tenant], function: tenant as u64 };
        let never = Timestamp::from_nanos(u64::MAX);
        let job = Job { tenant, arrived: now, takes };
        self.queue.push(line, Duration::from_micros(takes), never, job);
        self.start(now);
    }

    fn start(&mut self, now: u64) {
        while self.free > 0 {
            let Some(Turn::Run(job)) = self.queue.next(Timestamp::from_nanos(now * 1000), |_| true) else { return };
            self.free -= 1;
            self.waiting[job.tenant] -= 1;
            let got = &mut self.got[job.tenant];
            got.slot_time += job.takes;
            got.served += 1;
            got.waits.push(now - job.arrived);
            self.ends.push(Reverse(now + job.takes));
        }
    }

    /// Ends the calls that are over at `now`.
    fn until(&mut self, now: u64) {
        while let Some(Reverse(end)) = self.ends.peek().copied().filter(|Reverse(end)| *end <= now) {
            self.ends.pop();
            self.free += 1;
            self.start(end);
        }
    }
}

/// Jain's index of fairness: 1 when all are equal, 1/n when one has everything.
fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    sum * sum / (shares.len() as f64 * squares)
}

#[test]
fn backlogged_tenants_share_slot_time_by_weight_whatever_their_calls_take() {
    for (seed, tenants) in [(1, 2), (2, 7), (3, 100)] {
        let mut random = Random(seed);
        let weights: Vec<u32> = (0..tenants).map(|_| random.between(1, 8) as u32).collect();
        // Each has calls of its own length, from 200 µs to 20 ms.
        let mean: Vec<u64> = (0..tenants).map(|_| random.between(400, 10_000)).collect();
        let mut node = Node::new(&weights, 8, 50);
        for now in (0..40_000_000).step_by(1000) {
            node.until(now);
            for (tenant, mean) in mean.iter().enumerate() {
                while node.waiting[tenant] < 40 {
                    let takes = random.between(mean / 2, mean * 2);
                    node.offer(now, tenant, takes);
                }
            }
        }
        let shares: Vec<f64> =
            node.got.iter().zip(&weights).map(|(got, w)| got.slot_time as f64 / f64::from(*w)).collect();
        let index = jain(&shares);
        assert!(index > 0.98, "seed {seed}: Jain index {index} of {tenants} tenants");
    }
}

#[test]
fn a_tenant_with_little_to_do_is_not_held_up_by_one_with_a_hundred_times_as_much() {
    const SLOTS: usize = 16;
    let run = |aggressor: bool| {
        let mut random = Random(11);
        let mut node = Node::new(&[1, 1], SLOTS, 64);
        for now in (0..20_000_000).step_by(50) {
            node.until(now);
            // Calls of about 1 ms. The victim has one in three milliseconds, the aggressor thirty in one.
            if random.between(0, 59) == 0 {
                node.offer(now, 0, random.between(500, 1500));
            }
            for _ in 0..random.between(0, if aggressor { 3 } else { 0 }) {
                node.offer(now, 1, random.between(500, 1500));
            }
        }
        node.got
    };
    let (mut alone, mut beside) = (run(false).swap_remove(0), run(true));
    let aggressor = beside.swap_remove(1);
    let victim = &mut beside[0];
    assert!(aggressor.refused > 10 * victim.served, "the aggressor offers more than there is room for");
    assert_eq!((victim.refused, alone.refused), (0, 0));
    // Every slot is taken when the victim comes: it waits for one to end, and for none of the other's queue.
    let (p99, before) = (victim.wait(0.99), alone.wait(0.99));
    assert!(1000 + p99 <= (1000 + before) * 3 / 2, "p99 of the victim: {before} µs alone, {p99} µs beside");
}

fn line(tenant: u32, function: u64) -> Line {
    Line { tenant, weight: 1, function }
}

const LATER: Timestamp = Timestamp::from_nanos(1_000_000);

#[test]
fn a_call_whose_deadline_is_over_is_handed_out_as_expired_and_not_to_run() {
    let mut queue = FairQueue::default();
    queue.push(line(1, 1), Duration::ZERO, LATER, "late");
    queue.push(line(1, 1), Duration::ZERO, LATER + Duration::from_secs(1), "in time");
    assert_eq!(queue.next(LATER, |_| true), Some(Turn::Expired("late")));
    assert_eq!(queue.next(LATER, |_| true), Some(Turn::Run("in time")));
    assert_eq!(queue.next(LATER, |_| true), None);
}

#[test]
fn a_function_without_room_does_not_hold_up_the_others() {
    let mut queue = FairQueue::default();
    let now = Timestamp::default();
    for (tenant, function, call) in [(1, 1, "a"), (1, 1, "b"), (1, 2, "c"), (2, 1, "d"), (2, 3, "e")] {
        queue.push(line(tenant, function), Duration::from_millis(1), LATER, call);
    }
    let full = |call: &&str| !matches!(*call, "a" | "b" | "d");
    let mut run: Vec<_> = std::iter::from_fn(|| queue.next(now, full)).collect();
    run.sort_unstable_by_key(|turn| format!("{turn:?}"));
    assert_eq!(run, [Turn::Run("c"), Turn::Run("e")]);
    let rest: Vec<_> = std::iter::from_fn(|| queue.next(now, |_| true)).collect();
    assert_eq!(rest.len(), 3, "{rest:?}");
}

#[test]
fn who_gives_up_leaves_nothing_behind() {
    let mut queue = FairQueue::default();
    let places: Vec<_> =
        (0..1000).map(|at| queue.push(line(at % 7, u64::from(at % 3)), Duration::from_millis(2), LATER, at)).collect();
    assert_eq!(queue.weights_with(0, 1), 7);
    for (at, place) in places.iter().enumerate() {
        assert_eq!(queue.remove(*place), Some(at as u32));
        assert_eq!(queue.remove(*place), None);
    }
    assert!(queue.tenants.is_empty() && queue.ring.is_empty());
    assert_eq!((queue.weights, queue.quantum), (0, LEAST_COST));
    assert_eq!(queue.cost_of(1), Duration::ZERO);
}

#[test]
fn what_is_expected_to_take_long_waits_no_longer_than_a_round() {
    let mut queue = FairQueue::default();
    let now = Timestamp::default();
    for at in 0..100 {
        queue.push(line(1, 1), Duration::from_millis(1), LATER, at);
    }
    queue.push(line(2, 2), Duration::from_millis(50), LATER, 1000);
    let order: Vec<_> = std::iter::from_fn(|| queue.next(now, |_| true)).collect();
    let at = order.iter().position(|turn| *turn == Turn::Run(1000)).unwrap();
    assert!(at <= 50, "served after {at} calls of a fiftieth of its length");
}
