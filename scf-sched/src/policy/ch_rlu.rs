//! A function's home, and for popular functions a short chain of neighbours.

use std::f32::consts::TAU;

use scf_core::Timestamp;

use super::{Policy, draw::admits, ring::Ring};
use crate::{
    Choice, Decision, Request,
    fleet::{Fleet, FunctionIx, HotView, NodeIx},
    place::Scene,
    random::Random,
};

/// Points of each node on the ring.
const POINTS: usize = 3;
/// Nodes that a function's calls may go to, its home included.
const CHAIN: usize = 4;
/// Standard deviation of what a call is thought to add to the load of a node.
const NOISE: f32 = 0.1;
/// Weight of the last gap in the mean time between a function's calls.
const RECENT: f32 = 0.2;
/// Calls after which it is looked at anew which functions are popular.
const REVIEW: u32 = 64;

/// Consistent hashing with random load updates (Fuerst, Sharma: Locality-aware load-balancing for serverless clusters, HPDC
/// 2022): calls of a function go to its home on a ring; those of a popular one to the first of four nodes whose load per core,
/// and what the call adds at random, is within a bound, and home when none is.
///
/// A node's load is thought to be what the fleet was told plus what was added since, so that calls that come between two
/// reports spread. Functions that are called seldom stay where they are started, whatever the load there.
#[derive(Debug)]
pub struct RandomLoadUpdates {
    bound: f32,
    popular: f32,
    ring: Ring,
    functions: Vec<Arrivals>,
    nodes: Vec<Cached>,
    /// Calls per second from which a function is popular.
    threshold: f32,
    calls: u32,
    rates: Vec<f32>,
}

/// When a function is called.
#[derive(Clone, Copy, Debug, Default)]
struct Arrivals {
    last: Option<Timestamp>,
    /// Mean seconds between calls; 0 before the second one.
    gap: f32,
}

/// What is thought of a node.
#[derive(Clone, Copy, Debug, Default)]
struct Cached {
    queued: u32,
    /// Load per core that was added since that was told.
    added: f32,
}

impl Default for RandomLoadUpdates {
    /// Five calls for every four cores, and a fifth of the functions is popular.
    fn default() -> Self {
        Self::new(1.25, 0.2)
    }
}

impl RandomLoadUpdates {
    /// Forwards calls of the `popular` share of the functions, from 0 to 1, that are called most often, from nodes with more
    /// than `bound` calls per core.
    #[must_use]
    pub const fn new(bound: f32, popular: f32) -> Self {
        Self {
            bound,
            popular: popular.clamp(0.0, 1.0),
            ring: Ring::new(POINTS),
            functions: Vec::new(),
            nodes: Vec::new(),
            threshold: 0.0,
            calls: 0,
            rates: Vec::new(),
        }
    }

    /// Takes note of a call, and gives how many come per second.
    fn called(&mut self, function: FunctionIx, now: Timestamp) -> f32 {
        let at = function.index();
        if at >= self.functions.len() {
            self.functions.resize(at + 1, Arrivals::default());
        }
        let of = &mut self.functions[at];
        if let Some(last) = of.last.replace(now) {
            let gap = now.since(last).as_secs_f32().max(1e-6);
            of.gap = if of.gap == 0.0 { gap } else { of.gap + RECENT * (gap - of.gap) };
        }
        let rate = of.rate(now);
        if self.calls.is_multiple_of(REVIEW) {
            self.review(now);
        }
        self.calls = self.calls.wrapping_add(1);
        rate
    }

    /// Looks how often the least called of the popular functions is called.
    fn review(&mut self, now: Timestamp) {
        self.rates.clear();
        let called = self.functions.iter().filter(|of| of.last.is_some());
        self.rates.extend(called.map(|of| of.rate(now)));
        let popular = (self.popular * self.rates.len() as f32).ceil() as usize;
        self.threshold = match popular.checked_sub(1) {
            Some(last) => *self.rates.select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1,
            None => f32::INFINITY,
        };
    }

    /// What a node's load per core is thought to be.
    fn load(&mut self, node: NodeIx, hot: &HotView) -> f32 {
        let at = node.index();
        if at >= self.nodes.len() {
            self.nodes.resize(at + 1, Cached::default());
        }
        let cached = &mut self.nodes[at];
        if cached.queued != hot.queued() {
            *cached = Cached { queued: hot.queued(), added: 0.0 };
        }
        cached.queued as f32 / cores(hot) + cached.added
    }
}

impl Arrivals {
    /// Calls per second; falls while none come.
    fn rate(&self, now: Timestamp) -> f32 {
        let silent = self.last.map_or(0.0, |last| now.since(last).as_secs_f32());
        if self.gap == 0.0 { 0.0 } else { 1.0 / self.gap.max(silent) }
    }
}

fn cores(hot: &HotView) -> f32 {
    (hot.total().milli() as f32 / 1000.0).max(0.001)
}

/// A number of the standard normal distribution (Box and Muller 1958).
fn normal(random: &mut Random) -> f32 {
    let mut unit = || (random.next() >> 40) as f32 / (1u64 << 24) as f32;
    let radius = (-2.0 * (1.0 - unit()).ln()).sqrt();
    radius * (TAU * unit()).cos()
}

impl Policy for RandomLoadUpdates {
    fn name(&self) -> &'static str {
        "random load updates"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        self.ring.keep_up(fleet);
        let scene = Scene::new(fleet, request);
        for node in self.ring.from(request.demand.function) {
            if decision.choices.len() == CHAIN {
                break;
            }
            if decision.choices.iter().all(|choice| choice.node != node) && admits(&scene, node, decision).is_some() {
                let cost = decision.choices.len() as f32;
                decision.choices.push(Choice { node, cost });
            }
        }
        let rate = self.called(request.demand.function, request.now);
        if rate < self.threshold {
            // The others are for when home is taken meanwhile.
            return;
        }
        let mut random = Random::new(request.seed);
        for at in 0..decision.choices.len() {
            let node = decision.choices[at].node;
            let Some(hot) = fleet.look(node) else { continue };
            let adds = rate / cores(&hot) + NOISE * normal(&mut random);
            if self.load(node, &hot) + adds <= self.bound {
                self.nodes[node.index()].added += adds.max(0.0);
                decision.choices[..=at].rotate_right(1);
                return;
            }
        }
    }
}
