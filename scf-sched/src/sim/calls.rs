//! Calls that are placed one by one, on as many nodes as memory holds.

use scf_core::Timestamp;

use super::{Distribution, Engine, Event, EventLog, Rng, Summary};
use crate::{
    Decision, Demand, Policy, Request,
    fleet::{Claim, Fleet, NodeIx},
    policy,
};

/// A function that is called.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "written by literal in models")]
pub struct CallKind {
    /// What a call takes of a node while it runs.
    pub demand: Demand,
    /// Seconds on a node without slowdown.
    pub takes: Distribution,
    /// Bytes from the caller.
    pub payload: f32,
    /// Bytes back.
    pub reply: f32,
    /// How often it is called compared to the others.
    pub weight: f64,
}

/// Where calls come from.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "written by literal in models")]
pub struct Origin {
    /// Nodes that call, each as often as the others.
    pub nodes: Vec<NodeIx>,
    /// Calls per second of all of them together; Poisson.
    pub rate: f64,
}

/// What came of a run of [`Calls`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CallsReport {
    /// Calls that ended.
    pub done: u64,
    /// Calls for which no node was found.
    pub refused: u64,
    /// Nodes that were looked at.
    pub evaluated: u64,
    /// Choices that could not be claimed.
    pub conflicts: u64,
    /// Seconds from the call to the reply.
    pub took: Summary,
    /// Most calls that ran at the same time.
    pub most_running: usize,
    /// Virtual time at the end, in seconds.
    pub virtual_s: f64,
    /// Of all events.
    pub log: EventLog,
}

#[derive(Clone, Copy)]
enum Happening {
    /// By origin.
    Call(u32),
    /// By place among the running.
    Done(u32),
}

impl Event for Happening {
    fn digest(&self) -> u64 {
        match *self {
            Self::Call(origin) => 1 << 32 | u64::from(origin),
            Self::Done(place) => 2 << 32 | u64::from(place),
        }
    }
}

struct Running {
    claim: Option<Claim>,
    called: Timestamp,
    took: f32,
    /// The time that the reply travels.
    back: f32,
}

/// Calls from many origins, each placed by a policy when it comes, claimed from a [`Fleet`] and given back when it ends.
/// There is no queue: a call that fits nowhere is refused. Memory: the fleet, and 48 bytes for each call that runs.
#[derive(Debug)]
pub struct Calls<'a, P> {
    fleet: &'a Fleet,
    policy: P,
    kinds: Vec<CallKind>,
    origins: Vec<(Origin, Rng)>,
    seed: u64,
}

impl<'a, P: Policy> Calls<'a, P> {
    /// Calls of these functions from these origins.
    #[must_use]
    pub fn new(fleet: &'a Fleet, policy: P, kinds: Vec<CallKind>, origins: Vec<Origin>, seed: u64) -> Self {
        let origins = origins.into_iter().enumerate();
        let origins = origins.map(|(id, origin)| (origin, Rng::of(seed, super::platform::stream::ARRIVAL, id as u64)));
        Self { fleet, policy, kinds, origins: origins.collect(), seed }
    }

    /// Makes `calls` calls and waits for their ends. `progress` is told how many were made, every 65,536.
    pub fn run(mut self, calls: u64, mut progress: impl FnMut(u64)) -> CallsReport {
        let mut engine = Engine::new();
        let mut report = CallsReport::default();
        let mut running: Vec<Running> = Vec::new();
        let mut free: Vec<u32> = Vec::new();
        let mut decision = Decision::new();
        let mut executions = Rng::of(self.seed, super::platform::stream::EXECUTION, 0);
        let weights: f64 = self.kinds.iter().map(|kind| kind.weight).sum();
        for (id, (origin, rng)) in self.origins.iter_mut().enumerate() {
            engine.after_s(rng.exponential(1.0 / origin.rate), Happening::Call(id as u32));
        }
        let mut made = 0;
        while let Some(happening) = engine.next() {
            let now = engine.now();
            match happening {
                Happening::Call(id) => {
                    if made == calls {
                        continue;
                    }
                    made += 1;
                    if made % 65_536 == 0 {
                        progress(made);
                    }
                    let (origin, rng) = &mut self.origins[id as usize];
                    let from = origin.nodes[rng.below(origin.nodes.len())];
                    let mut drawn = rng.unit() * weights;
                    let kind = self.kinds.iter().find(|kind| {
                        drawn -= kind.weight;
                        drawn < 0.0
                    });
                    let seed = rng.bits();
                    engine.after_s(rng.exponential(1.0 / origin.rate), Happening::Call(id));
                    let Some(kind) = kind.or(self.kinds.last()) else { continue };
                    let request = Request {
                        from: Some(from),
                        payload: kind.payload,
                        reply: kind.reply,
                        work: 1.0,
                        ..Request::new(&kind.demand, seed, now)
                    };
                    decision.clear();
                    self.policy.decide(self.fleet, &request, &mut decision);
                    report.evaluated += u64::from(decision.evaluated);
                    let claim = decision.choices.iter().find_map(|choice| {
                        let claim = self.fleet.claim(choice.node, kind.demand.need).ok();
                        report.conflicts += u64::from(claim.is_none());
                        claim
                    });
                    let Some(claim) = claim else {
                        report.refused += 1;
                        continue;
                    };
                    let node = claim.node();
                    self.policy.note(self.fleet, &policy::Event::Claimed { node, now });
                    let slowdown = self.fleet.look(node).map_or(1.0, |hot| self.fleet.class(hot.class()).slowdown);
                    let took = kind.takes.draw(&mut executions) as f32 * slowdown;
                    let there = self.fleet.way(from, node).map_or(0.0, |way| way.time_for(kind.payload));
                    let back = self.fleet.way(node, from).map_or(0.0, |way| way.time_for(kind.reply));
                    let call = Running { claim: Some(claim), called: now, took, back };
                    let place = if let Some(place) = free.pop() {
                        running[place as usize] = call;
                        place
                    } else {
                        running.push(call);
                        running.len() as u32 - 1
                    };
                    engine.after_s(f64::from(there + took), Happening::Done(place));
                }
                Happening::Done(place) => {
                    let call = &mut running[place as usize];
                    let Some(claim) = call.claim.take() else { continue };
                    let node = claim.node();
                    self.fleet.release(claim);
                    free.push(place);
                    report.done += 1;
                    report.took.add(now.since(call.called).as_secs_f64() + f64::from(call.back));
                    let took = call.took;
                    self.policy.note(self.fleet, &policy::Event::Finished { node, now, took, queued: 0 });
                }
            }
        }
        report.most_running = running.len();
        report.virtual_s = engine.now().nanos() as f64 / 1e9;
        report.log = *engine.log();
        report
    }
}
