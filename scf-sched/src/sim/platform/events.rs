//! What happens on a simulated platform.

use std::{collections::VecDeque, sync::Arc};

use scf_core::Timestamp;
use smallvec::SmallVec;

use super::{
    Arrivals, Cluster, Data, FunctionSpec, Report,
    cluster::{ClusterError, DISK},
};
use crate::{
    Decision, Demand, Estimator, Input, Policy, ProfileKey, Request, Source,
    fleet::Claim,
    policy,
    sim::{Disturbance, Engine, Event, FlowDue, FlowId, Flows, Locality, Profiles, Rng, network::LinkKind},
};

/// Kinds of entities that have streams of random numbers.
pub(crate) mod stream {
    pub(crate) const ORDER: u64 = 1;
    pub(crate) const ARRIVAL: u64 = 2;
    pub(crate) const EXECUTION: u64 = 3;
    pub(crate) const STARTUP: u64 = 4;
    pub(crate) const WORKLOAD: u64 = 5;
    pub(crate) const DISTURBANCE: u64 = 6;
    pub(crate) const DECISION: u64 = 7;
}

/// How a platform behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Of all random numbers.
    pub seed: u64,
    /// The run ends when so many requests are done.
    pub invocations: u64,
    /// The run ends at this time at the latest, in seconds.
    pub until: f64,
    /// A replica that may be taken away is, once no request of its function was done for so long, in seconds.
    pub idle: f64,
    /// How often that is looked at, in seconds.
    pub idle_check: f64,
    /// The share of an image that is pulled where another image is already: the rest are layers that both have.
    pub fresh_layers: f64,
    /// What links give of their bandwidth.
    pub goodput: f64,
    /// Whether a node runs as many requests at once as it has cores, the others waiting in order; otherwise one for every
    /// replica.
    pub slots: bool,
    /// Seconds after which a node that does not answer is taken for gone and its replicas are placed again.
    pub suspicion: f64,
    /// Whether a policy is told which image a replica needs. A policy that reckons with the time of one call should not
    /// be: a replica serves thousands, and its image is pulled once.
    pub tells_images: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            invocations: u64::MAX,
            until: f64::INFINITY,
            idle: 300.0,
            idle_check: 30.0,
            fresh_layers: 0.1,
            goodput: 0.97,
            slots: false,
            suspicion: 10.0,
            tells_images: true,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Deploy(u32),
    Begin(u32),
    Arrive(u32),
    Flow(FlowDue),
    /// What a run waited for is done, if it is still the same run.
    Step(u32, u32),
    /// The same of a replica that starts.
    Start(u32, u32),
    IdleCheck,
    Disturb(u32),
    Suspect(u32),
    /// A battery is empty, if nothing has changed since.
    Empty(u32, u32),
}

impl Event for Happening {
    fn digest(&self) -> u64 {
        let (kind, a, b) = match *self {
            Self::Deploy(function) => (1, function, 0),
            Self::Begin(function) => (2, function, 0),
            Self::Arrive(function) => (3, function, 0),
            Self::Flow(due) => return due.digest() ^ 4 << 60,
            Self::Step(run, serial) => (5, run, serial),
            Self::Start(replica, serial) => (6, replica, serial),
            Self::IdleCheck => (7, 0, 0),
            Self::Disturb(which) => (8, which, 0),
            Self::Suspect(node) => (9, node, 0),
            Self::Empty(node, serial) => (10, node, serial),
        };
        kind << 60 | u64::from(a) << 28 ^ u64::from(b)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Nothing: the place is free.
    Gone,
    Pulling,
    Starting,
    Loading,
    Ready,
}

#[derive(Debug)]
struct Replica {
    function: u32,
    node: u32,
    stage: Stage,
    serial: u32,
    flow: Option<FlowId>,
    asked: Timestamp,
    cold: bool,
    claim: Option<Claim>,
    /// Runs that are not over; the place is used again when there are none.
    runs: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Gone,
    Reading,
    /// For a slot of the node.
    Waiting,
    Executing,
    Writing,
}

#[derive(Debug)]
struct Run {
    replica: u32,
    replica_serial: u32,
    function: u32,
    phase: Phase,
    serial: u32,
    flow: Option<FlowId>,
    request: Waiting,
    started: Timestamp,
    executed: f64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    received: Timestamp,
    work: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Conceived,
    Starting,
    Running,
    Suspended,
}

#[derive(Debug)]
struct Function {
    life: Life,
    waiting: VecDeque<Waiting>,
    /// Replicas that have nothing to do, with their serials, in the order in which they became free.
    free: VecDeque<(u32, u32)>,
    last_done: Timestamp,
    arrivals: Rng,
    executions: Rng,
    startups: Rng,
    next_in_trace: usize,
}

#[derive(Clone, Copy, Debug)]
enum Tag {
    Run(u32),
    Replica(u32),
}

#[derive(Debug, Default)]
struct Slots {
    waiting: VecDeque<(u32, u32)>,
}

#[derive(Debug)]
struct Battery {
    joules: f64,
    since: Timestamp,
    idle_watts: f64,
    busy_watts: f64,
    serial: u32,
}

/// Events taken from the engine between two looks at whether the run is over.
const STRETCH: usize = 4096;

/// A platform in virtual time. Model of Rausch, Rashed, Dustdar (FGCS 114, 2021): replicas serve one request after
/// the other, read what they need from where it is kept, execute, and write; images are pulled from a registry by nodes
/// that do not have them; replicas of functions that may be scaled to zero are taken away when idle and placed anew
/// by the policy when a request comes. Beyond that model: nodes fail and come back, places are cut off, hosts move,
/// batteries run out, requests follow traces, nodes may have as many slots as cores.
#[derive(Debug)]
pub struct Platform {
    config: Config,
    engine: Engine<Happening>,
    cluster: Cluster,
    flows: Flows<Tag>,
    specs: Vec<FunctionSpec>,
    functions: Vec<Function>,
    replicas: Vec<Replica>,
    free_replicas: Vec<u32>,
    runs: Vec<Run>,
    free_runs: Vec<u32>,
    slots: Vec<Slots>,
    batteries: Vec<Option<Battery>>,
    disturbances: Vec<Disturbance>,
    /// Functions of which a replica could not be placed, tried again when room appears.
    unplaced: VecDeque<u32>,
    policy: Box<dyn Policy>,
    learner: Option<Arc<dyn Estimator>>,
    /// By function: what a replica needs, and what it reads and writes.
    demands: Vec<(Demand, SmallVec<[Input; 2]>)>,
    decision: Decision,
    report: Report,
}

impl Platform {
    /// A platform on a cluster that runs these functions, placed by `policy` and disturbed by what is listed, at the times
    /// there. `learner` is told of every execution.
    ///
    /// # Errors
    /// [`ClusterError`] when a function asks for more than any node can have.
    pub fn new(
        mut cluster: Cluster,
        specs: Vec<FunctionSpec>,
        disturbances: Vec<(f64, Disturbance)>,
        policy: Box<dyn Policy>,
        learner: Option<Arc<dyn Estimator>>,
        config: Config,
    ) -> Result<Self, ClusterError> {
        let mut engine = Engine::new();
        let seed = config.seed;
        let mut demands = Vec::with_capacity(specs.len());
        for spec in &specs {
            let mut demand = cluster.demand(spec)?;
            if !config.tells_images {
                demand.artefact = None;
            }
            demands.push((demand, inputs(&cluster, spec)));
        }
        let functions = specs.iter().enumerate().map(|(id, spec)| {
            engine.after_s(spec.deployed, Happening::Deploy(id as u32));
            let stream = |kind| Rng::of(seed, kind, id as u64);
            Function {
                life: Life::Conceived,
                waiting: VecDeque::new(),
                free: VecDeque::new(),
                last_done: Timestamp::default(),
                arrivals: stream(stream::ARRIVAL),
                executions: stream(stream::EXECUTION),
                startups: stream(stream::STARTUP),
                next_in_trace: 0,
            }
        });
        let functions = functions.collect();
        engine.after_s(config.idle_check, Happening::IdleCheck);
        for (which, (at, _)) in disturbances.iter().enumerate() {
            engine.after_s(*at, Happening::Disturb(which as u32));
        }
        let flows = Flows::new(cluster.topology.links().iter().map(|link| link.bandwidth), config.goodput);
        let nodes = cluster.nodes.len();
        Ok(Self {
            report: Report::new(policy.name()),
            cluster,
            slots: (0..nodes).map(|_| Slots::default()).collect(),
            batteries: (0..nodes).map(|_| None).collect(),
            disturbances: disturbances.into_iter().map(|(_, what)| what).collect(),
            replicas: Vec::new(),
            free_replicas: Vec::new(),
            runs: Vec::new(),
            free_runs: Vec::new(),
            unplaced: VecDeque::new(),
            config,
            engine,
            flows,
            specs,
            functions,
            policy,
            learner,
            demands,
            decision: Decision::new(),
        })
    }

    /// Gives a node a battery: it draws `idle_watts`, and `busy_watts` more for every request it executes, and is gone when
    /// the battery is empty.
    pub fn set_battery(&mut self, node: usize, joules: f64, idle_watts: f64, busy_watts: f64) {
        let since = self.engine.now();
        self.batteries[node] = Some(Battery { joules, since, idle_watts, busy_watts, serial: 0 });
        self.drain_battery(node);
    }

    /// Runs to the end. `progress` is told the number of requests done, every few thousand events.
    pub fn run(mut self, mut progress: impl FnMut(u64)) -> Report {
        loop {
            for _ in 0..STRETCH {
                let done = self.report.invocations() >= self.config.invocations;
                let late = self.engine.now().nanos() as f64 > self.config.until * 1e9;
                let Some(happening) = (if done || late { None } else { self.engine.next() }) else {
                    return self.finish();
                };
                self.happen(happening);
                self.schedule_flows();
            }
            progress(self.report.invocations());
        }
    }

    fn finish(mut self) -> Report {
        let carried = |kind| {
            let links = self.cluster.topology.links().iter().enumerate().filter(move |(_, link)| link.kind == kind);
            links.map(|(link, _)| self.flows.carried(link)).sum::<f64>()
        };
        self.report.uplink_bytes = carried(LinkKind::Uplink);
        self.report.downlink_bytes = carried(LinkKind::Downlink);
        self.report.virtual_s = self.engine.now().nanos() as f64 / 1e9;
        self.report.log = *self.engine.log();
        self.report.waiting = self.functions.iter().map(|function| function.waiting.len() as u64).sum();
        self.report
    }

    fn schedule_flows(&mut self) {
        for (at, due) in self.flows.due() {
            self.engine.at(at, Happening::Flow(due));
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deploy(function) => {
                self.replica(function);
                if !matches!(self.specs[function as usize].arrivals, Arrivals::Triggered) {
                    self.engine.after_s(self.specs[function as usize].requested, Happening::Begin(function));
                }
            }
            Happening::Begin(function) => match &self.specs[function as usize].arrivals {
                Arrivals::Every(_) => self.arrive(function),
                Arrivals::Trace(rows) => {
                    if let Some((at, _)) = rows.first() {
                        self.engine.after_s(*at, Happening::Arrive(function));
                    }
                }
                Arrivals::Triggered => {}
            },
            Happening::Arrive(function) => self.arrive(function),
            Happening::Flow(due) => match self.flows.finish(self.engine.now(), due) {
                Some(Tag::Run(run)) => self.moved(run),
                Some(Tag::Replica(replica)) => self.start_step(replica),
                None => {}
            },
            Happening::Step(run, serial) => {
                if self.runs[run as usize].serial == serial {
                    match self.runs[run as usize].phase {
                        Phase::Reading | Phase::Writing => self.moved(run),
                        Phase::Executing => self.executed(run),
                        Phase::Waiting | Phase::Gone => {}
                    }
                }
            }
            Happening::Start(replica, serial) => {
                if self.replicas[replica as usize].serial == serial {
                    self.start_step(replica);
                }
            }
            Happening::IdleCheck => self.idle_check(),
            Happening::Disturb(which) => self.disturb(which as usize),
            Happening::Suspect(node) => self.suspect(node as usize),
            Happening::Empty(node, serial) => {
                if self.batteries[node as usize].as_ref().is_some_and(|battery| battery.serial == serial) {
                    self.node_down(node as usize);
                }
            }
        }
    }

    fn arrive(&mut self, function: u32) {
        let id = function as usize;
        let mut work = 1.0;
        match &self.specs[id].arrivals {
            Arrivals::Every(between) => {
                let wait = between.draw(&mut self.functions[id].arrivals);
                self.engine.after_s(wait, Happening::Arrive(function));
            }
            Arrivals::Trace(rows) => {
                let at = self.functions[id].next_in_trace;
                self.functions[id].next_in_trace += 1;
                work = rows[at].1;
                if let Some((next, _)) = rows.get(at + 1) {
                    self.engine.after_s(next - rows[at].0, Happening::Arrive(function));
                }
            }
            Arrivals::Triggered => {}
        }
        self.receive(function, work);
    }

    fn receive(&mut self, function: u32, work: f32) {
        let state = &mut self.functions[function as usize];
        state.waiting.push_back(Waiting { received: self.engine.now(), work });
        if state.life == Life::Suspended {
            state.life = Life::Starting;
            self.replica(function);
        }
        self.serve(function);
    }

    /// Gives waiting requests to free replicas.
    fn serve(&mut self, function: u32) {
        loop {
            let state = &mut self.functions[function as usize];
            if state.waiting.is_empty() {
                return;
            }
            let Some((replica, serial)) = state.free.pop_front() else { return };
            let of = &self.replicas[replica as usize];
            if of.serial != serial || of.stage != Stage::Ready {
                continue;
            }
            let request = state.waiting.pop_front().expect("it was found not to be empty");
            let started = self.engine.now();
            let run = Run {
                replica,
                replica_serial: serial,
                function,
                phase: Phase::Reading,
                serial: 0,
                flow: None,
                request,
                started,
                executed: 0.0,
            };
            let run = if let Some(at) = self.free_runs.pop() {
                let serial = self.runs[at as usize].serial;
                self.runs[at as usize] = Run { serial, ..run };
                at
            } else {
                self.runs.push(run);
                self.runs.len() as u32 - 1
            };
            self.replicas[replica as usize].runs += 1;
            let node = self.replicas[replica as usize].node;
            match self.specs[function as usize].reads {
                Some(Data { host, bytes }) => self.move_for_run(run, host, node as usize, bytes),
                None => self.moved(run),
            }
        }
    }

    /// Carries data for a run, after which [`moved`](Self::moved) goes on.
    fn move_for_run(&mut self, run: u32, from: usize, to: usize, bytes: f64) {
        if from == to {
            let serial = self.runs[run as usize].serial;
            self.engine.after_s(bytes / DISK, Happening::Step(run, serial));
        } else if let Some(flow) = self.carry(from, to, bytes, Tag::Run(run)) {
            self.runs[run as usize].flow = Some(flow);
        } else {
            // Nothing leads there: the replica cannot serve, the request waits for another.
            self.abandon(run);
        }
    }

    fn carry(&mut self, from: usize, to: usize, bytes: f64, tag: Tag) -> Option<FlowId> {
        let route = self.cluster.topology.route(from, to)?;
        if route.is_empty() {
            return None;
        }
        self.flows.book(&route, bytes);
        // A connection is there after one and a half round trips; its bytes follow as long as they take. Both are one flow
        // here, longer by what it would have sent meanwhile.
        let latency = self.cluster.topology.latency(from, to);
        let extra = if latency > 0.0 { 3.0 * latency * self.cluster.topology.bandwidth(from, to) } else { 0.0 };
        Some(self.flows.start(self.engine.now(), &route, bytes + extra, tag))
    }

    /// A run's data has been read or written.
    fn moved(&mut self, run: u32) {
        self.runs[run as usize].flow = None;
        match self.runs[run as usize].phase {
            Phase::Reading => self.want_slot(run),
            Phase::Writing => self.done(run),
            Phase::Waiting | Phase::Executing | Phase::Gone => {}
        }
    }

    fn node_of(&self, run: u32) -> usize {
        self.replicas[self.runs[run as usize].replica as usize].node as usize
    }

    fn want_slot(&mut self, run: u32) {
        let node = self.node_of(run);
        let cores = self.cluster.topology.hosts()[node].cpu_milli.div_ceil(1000);
        if self.config.slots && self.cluster.nodes[node].running >= cores {
            self.runs[run as usize].phase = Phase::Waiting;
            let serial = self.runs[run as usize].serial;
            self.slots[node].waiting.push_back((run, serial));
        } else {
            self.execute(run, node);
        }
    }

    fn execute(&mut self, run: u32, node: usize) {
        self.running(node, 1);
        let function = self.runs[run as usize].function as usize;
        let spec = &self.specs[function];
        let device = self.cluster.nodes[node].device;
        let profile = device.and_then(|device| self.cluster.profiles.exec(device, spec.profile));
        let rng = &mut self.functions[function].executions;
        // Where nothing is known of it, it takes the time that the slowest known device has at most.
        let seconds = profile.map_or(UNKNOWN_EXECUTION, |profile| profile.draw(rng));
        let seconds = seconds * f64::from(self.runs[run as usize].request.work);
        let state = &mut self.runs[run as usize];
        state.phase = Phase::Executing;
        state.executed = seconds;
        let serial = state.serial;
        self.engine.after_s(seconds, Happening::Step(run, serial));
    }

    /// A request begins or ends to execute on a node; the fleet is told how busy that is.
    fn running(&mut self, node: usize, change: i32) {
        self.drain_battery(node);
        let state = &mut self.cluster.nodes[node];
        state.running = state.running.saturating_add_signed(change);
        if self.config.slots {
            let waiting = self.slots[node].waiting.len() as u32;
            let cores = self.cluster.topology.hosts()[node].cpu_milli.div_ceil(1000);
            let ahead = (state.running + waiting).saturating_sub(cores.saturating_sub(1));
            let wait = ahead as f32 * state.mean / cores as f32;
            self.cluster.fleet.set_load(state.ix, state.running + waiting, wait);
        }
        self.drain_battery(node);
    }

    fn free_slot(&mut self, node: usize) {
        self.running(node, -1);
        while let Some((next, serial)) = self.slots[node].waiting.pop_front() {
            if self.runs[next as usize].serial == serial && self.runs[next as usize].phase == Phase::Waiting {
                self.execute(next, node);
                return;
            }
        }
    }

    fn executed(&mut self, run: u32) {
        let node = self.node_of(run);
        self.free_slot(node);
        let function = self.runs[run as usize].function as usize;
        let (executed, work) = (self.runs[run as usize].executed, f64::from(self.runs[run as usize].request.work));
        self.cluster.nodes[node].executed(executed);
        if let Some(learner) = &self.learner {
            let function = self.demands[function].0.function;
            let key = ProfileKey { function, input: 0, class: self.cluster.class(node) };
            learner.observed(key, (executed / work) as f32);
        }
        let (took, ix) = (executed as f32, self.cluster.nodes[node].ix);
        let queued = self.cluster.nodes[node].running;
        self.policy
            .note(&self.cluster.fleet, &policy::Event::Finished { node: ix, now: self.engine.now(), took, queued });
        self.runs[run as usize].phase = Phase::Writing;
        match self.specs[function].writes {
            Some(Data { host, bytes }) => self.move_for_run(run, node, host, bytes),
            None => self.done(run),
        }
    }

    fn done(&mut self, run: u32) {
        let now = self.engine.now();
        let node = self.node_of(run);
        let Run { replica, replica_serial, function, request, started, executed, .. } = self.runs[run as usize];
        self.end_run(run);
        let spec = &self.specs[function as usize];
        let cloud = self.cluster.topology.hosts()[node].locality == Locality::Cloud;
        let took = now.since(started).as_secs_f64();
        let waited = started.since(request.received).as_secs_f64();
        self.report.invocation(now, spec, cloud, waited, took, executed);
        self.functions[function as usize].last_done = now;
        let triggers = spec.triggers;
        self.functions[function as usize].free.push_back((replica, replica_serial));
        self.serve(function);
        if let Some(next) = triggers {
            self.receive(next as u32, 1.0);
        }
    }

    fn end_run(&mut self, run: u32) {
        let state = &mut self.runs[run as usize];
        state.phase = Phase::Gone;
        state.serial = state.serial.wrapping_add(1);
        let replica = state.replica;
        self.free_runs.push(run);
        let of = &mut self.replicas[replica as usize];
        of.runs -= 1;
        if of.stage == Stage::Gone && of.runs == 0 {
            self.free_replicas.push(replica);
        }
    }

    /// Takes a run back: its request waits again, at the front.
    fn abandon(&mut self, run: u32) {
        let Run { function, request, phase, flow, .. } = self.runs[run as usize];
        let node = self.node_of(run);
        if let Some(flow) = flow {
            let _tag = self.flows.cancel(self.engine.now(), flow);
            self.runs[run as usize].flow = None;
        }
        if phase == Phase::Executing {
            self.running(node, -1);
        }
        self.end_run(run);
        self.report.retries += 1;
        self.functions[function as usize].waiting.push_front(request);
    }

    /// Asks the policy for a node and claims it.
    fn place(&mut self, function: usize) -> Option<Claim> {
        let (demand, inputs) = &self.demands[function];
        let now = self.engine.now();
        let seed = Rng::of(self.config.seed, stream::DECISION, self.report.decisions).bits();
        let request = Request { inputs, ..Request::new(demand, seed, now) };
        self.decision.clear();
        self.policy.decide(&self.cluster.fleet, &request, &mut self.decision);
        for choice in &self.decision.choices {
            let node = choice.node;
            match self.cluster.fleet.claim(node, demand.need) {
                Ok(claim) => {
                    self.policy.note(&self.cluster.fleet, &policy::Event::Claimed { node, now });
                    return Some(claim);
                }
                Err(_) => self.policy.note(&self.cluster.fleet, &policy::Event::Conflicted { node, now }),
            }
        }
        None
    }

    /// Places a new replica of a function and begins to start it.
    fn replica(&mut self, function: u32) {
        let id = function as usize;
        if self.functions[id].life == Life::Conceived {
            self.functions[id].life = Life::Starting;
        }
        self.report.decisions += 1;
        let Some(claim) = self.place(id) else {
            self.report.unplaced += 1;
            self.unplaced.push_back(function);
            return;
        };
        let node = self.cluster.host(claim.node());
        if let Some(learner) = &self.learner {
            let function = self.demands[id].0.function;
            learner.placed(ProfileKey { function, input: 0, class: self.cluster.class(node) });
        }
        let spec = &self.specs[id];
        let state = &mut self.cluster.nodes[node];
        let cold = !state.images.contains(&spec.image);
        let others = !state.images.is_empty();
        if cold {
            state.images.push(spec.image);
            let ix = state.ix;
            if let Some(image) = self.cluster.image(spec.image) {
                self.cluster.fleet.set_holder(image, ix, true);
            }
            self.report.pulls += 1;
        }
        let now = self.engine.now();
        let replica = Replica {
            function,
            node: node as u32,
            stage: Stage::Pulling,
            serial: 0,
            flow: None,
            asked: now,
            cold,
            claim: Some(claim),
            runs: 0,
        };
        let at = if let Some(at) = self.free_replicas.pop() {
            let serial = self.replicas[at as usize].serial;
            self.replicas[at as usize] = Replica { serial, ..replica };
            at
        } else {
            self.replicas.push(replica);
            self.replicas.len() as u32 - 1
        };
        let bytes = self.cluster.image_bytes(node, &self.specs[id]);
        let bytes = if others { bytes * self.config.fresh_layers } else { bytes };
        let pulled = match self.cluster.topology.registry() {
            Some(registry) if cold && bytes > 0.0 => self.carry(registry, node, bytes, Tag::Replica(at)),
            _ => None,
        };
        match pulled {
            Some(flow) => self.replicas[at as usize].flow = Some(flow),
            None => self.start_step(at),
        }
    }

    /// A starting replica has done one thing; the next.
    fn start_step(&mut self, replica: u32) {
        let at = replica as usize;
        self.replicas[at].flow = None;
        let Replica { function, node, stage, serial, cold, .. } = self.replicas[at];
        let (id, node) = (function as usize, node as usize);
        match stage {
            Stage::Pulling => {
                self.replicas[at].stage = Stage::Starting;
                let spec = &self.specs[id];
                let device = self.cluster.nodes[node].device;
                let fit = device.and_then(|device| self.cluster.profiles.startup(device, spec.profile, !cold));
                let drawn = fit.map_or(0.0, |fit| fit.draw(&mut self.functions[id].startups));
                let pull = if cold { Profiles::pull_in_startup(self.cluster.image_bytes(node, spec)) } else { 0.0 };
                self.engine.after_s((drawn - pull).max(0.0), Happening::Start(replica, serial));
            }
            Stage::Starting => {
                self.replicas[at].stage = Stage::Loading;
                match self.specs[id].model {
                    Some(Data { host, bytes }) if host != node => {
                        match self.carry(host, node, bytes, Tag::Replica(replica)) {
                            Some(flow) => self.replicas[at].flow = Some(flow),
                            None => self.start_step(replica),
                        }
                    }
                    Some(Data { bytes, .. }) => self.engine.after_s(bytes / DISK, Happening::Start(replica, serial)),
                    None => self.start_step(replica),
                }
            }
            Stage::Loading => {
                self.replicas[at].stage = Stage::Ready;
                let took = self.engine.now().since(self.replicas[at].asked).as_secs_f64();
                self.report.start(took);
                self.functions[id].life = Life::Running;
                self.functions[id].free.push_back((replica, serial));
                self.serve(function);
            }
            Stage::Ready | Stage::Gone => {}
        }
    }

    /// Takes a replica away; what it is executing goes on.
    fn remove(&mut self, replica: u32) {
        let at = replica as usize;
        if let Some(flow) = self.replicas[at].flow.take() {
            let _tag = self.flows.cancel(self.engine.now(), flow);
        }
        self.replicas[at].stage = Stage::Gone;
        self.replicas[at].serial = self.replicas[at].serial.wrapping_add(1);
        if self.replicas[at].runs == 0 {
            self.free_replicas.push(replica);
        }
        if let Some(claim) = self.replicas[at].claim.take() {
            self.cluster.fleet.release(claim);
        }
        self.retry_unplaced();
    }

    fn retry_unplaced(&mut self) {
        for _ in 0..self.unplaced.len() {
            let Some(function) = self.unplaced.pop_front() else { return };
            self.replica(function);
        }
    }

    fn idle_check(&mut self) {
        self.engine.after_s(self.config.idle_check, Happening::IdleCheck);
        let now = self.engine.now();
        for replica in 0..self.replicas.len() as u32 {
            let Replica { function, stage, .. } = self.replicas[replica as usize];
            if stage != Stage::Ready || !self.specs[function as usize].scale_to_zero {
                continue;
            }
            let state = &self.functions[function as usize];
            if now.since(state.last_done).as_secs_f64() >= self.config.idle {
                self.functions[function as usize].life = Life::Suspended;
                self.remove(replica);
            }
        }
    }

    fn disturb(&mut self, which: usize) {
        let now = self.engine.now();
        match self.disturbances[which] {
            Disturbance::Leave { node } => self.node_down(node),
            Disturbance::Join { node } => {
                self.cluster.nodes[node].up = true;
                // It is the same host as before: the fleet has taken all its names.
                let _taken = self.cluster.rejoin(node);
                self.retry_unplaced();
            }
            Disturbance::Cut { zone } | Disturbance::Heal { zone } => {
                let cut = matches!(self.disturbances[which], Disturbance::Cut { .. });
                for (link, full) in self.cluster.topology.zone_links(zone) {
                    let bandwidth = if cut { 0.0 } else { full };
                    self.cluster.topology.set_bandwidth(link, bandwidth);
                    self.flows.set_bandwidth(now, link, bandwidth);
                }
                let _measured = self.cluster.measure();
            }
            Disturbance::Move { node, zone } => self.move_host(node, zone),
        }
    }

    /// A host goes elsewhere with its replicas: it comes back under a new epoch with its own account of what it runs.
    fn move_host(&mut self, host: usize, zone: u16) {
        self.cluster.topology.move_host(host, zone);
        if !self.cluster.nodes[host].up {
            return;
        }
        let on = self.replicas.iter().enumerate().filter(|(_, replica)| replica.node as usize == host);
        let on: Vec<usize> = on.filter(|(_, replica)| replica.claim.is_some()).map(|(at, _)| at).collect();
        let running = on.iter().filter_map(|at| self.replicas[*at].claim.as_ref());
        let running: Vec<(u64, crate::fleet::Need)> = running.map(|claim| (claim.token(), claim.need())).collect();
        if let Ok(claims) = self.cluster.moved(host, &running) {
            for (at, claim) in on.into_iter().zip(claims) {
                self.replicas[at].claim = Some(claim);
            }
        }
    }

    fn node_down(&mut self, node: usize) {
        if !self.cluster.nodes[node].up {
            return;
        }
        self.cluster.nodes[node].up = false;
        self.cluster.fleet.set_health(self.cluster.nodes[node].ix, self.cluster.nodes[node].health());
        self.report.failures += 1;
        self.engine.after_s(self.config.suspicion, Happening::Suspect(node as u32));
        // What it was doing is lost at once; that is found out later.
        for run in 0..self.runs.len() as u32 {
            if self.runs[run as usize].phase != Phase::Gone && self.node_of(run) == node {
                self.abandon(run);
            }
        }
        self.slots[node].waiting.clear();
        for replica in &mut self.replicas {
            if replica.node as usize == node && replica.stage != Stage::Gone {
                // It serves nobody; its place and room are given back when the failure is found out.
                replica.serial = replica.serial.wrapping_add(1);
                if let Some(flow) = replica.flow.take() {
                    let _tag = self.flows.cancel(self.engine.now(), flow);
                }
            }
        }
        for image in std::mem::take(&mut self.cluster.nodes[node].images) {
            if let Some(image) = self.cluster.image(image) {
                self.cluster.fleet.set_holder(image, self.cluster.nodes[node].ix, false);
            }
        }
    }

    /// A node that did not answer is taken for gone: its replicas are placed anew.
    fn suspect(&mut self, node: usize) {
        let lost: Vec<u32> = (0..self.replicas.len() as u32)
            .filter(|at| {
                self.replicas[*at as usize].node as usize == node && self.replicas[*at as usize].stage != Stage::Gone
            })
            .collect();
        for replica in lost {
            let function = self.replicas[replica as usize].function;
            self.remove(replica);
            self.replica(function);
        }
    }

    /// Takes off what a node has used since the last change and says when it will be empty.
    fn drain_battery(&mut self, node: usize) {
        let now = self.engine.now();
        let running = f64::from(self.cluster.nodes[node].running);
        let Some(battery) = &mut self.batteries[node] else { return };
        let watts = battery.idle_watts + running * battery.busy_watts;
        battery.joules = (battery.joules - watts * now.since(battery.since).as_secs_f64()).max(0.0);
        battery.since = now;
        battery.serial += 1;
        if watts > 0.0 {
            self.engine.after_s(battery.joules / watts, Happening::Empty(node as u32, battery.serial));
        }
    }
}

/// What a function reads and writes, as a policy is told: by where it lies.
fn inputs(cluster: &Cluster, spec: &FunctionSpec) -> SmallVec<[Input; 2]> {
    let mut inputs: SmallVec<[Input; 2]> = SmallVec::new();
    let mut add = |data: Option<Data>, is_read: bool| {
        let Some(Data { host, bytes }) = data else { return };
        let source = Source::Node(cluster.node(host).ix);
        let at = inputs.iter().position(|input| input.source == source).unwrap_or_else(|| {
            inputs.push(Input { source, read: 0.0, written: 0.0, within: None });
            inputs.len() - 1
        });
        let part = if is_read { &mut inputs[at].read } else { &mut inputs[at].written };
        *part += bytes as f32;
    };
    add(spec.reads.or(spec.model), true);
    add(spec.writes, false);
    inputs
}

/// Seconds of an execution on a device of which nothing is known.
const UNKNOWN_EXECUTION: f64 = 200.0;
