//! What happens on a simulated platform.

mod calls;
mod config;
mod disturbance;
mod happening;
mod replicas;

pub use config::Config;

use std::{collections::VecDeque, sync::Arc};

use scf_core::Timestamp;
use smallvec::SmallVec;

use self::{
    calls::{Phase, Run, Waiting},
    disturbance::Battery,
    happening::Happening,
    replicas::{Replica, Stage},
};
use super::{Arrivals, Cluster, Data, FunctionSpec, Report, cluster::ClusterError};
use crate::{
    Decision, Demand, Estimator, Input, Policy, Source,
    sim::{Disturbance, Engine, Flows, Rng, network::LinkKind},
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

    /// Runs to the end. `progress` is told the number of requests done, every few thousand events.
    pub fn run(self, progress: impl FnMut(u64)) -> Report {
        self.run_to_end(progress).0
    }

    /// The same, and gives the cluster as it was left.
    pub fn run_to_end(mut self, mut progress: impl FnMut(u64)) -> (Report, Cluster) {
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

    fn finish(mut self) -> (Report, Cluster) {
        let carried = |kind| {
            let links = self.cluster.topology.links().iter().enumerate().filter(move |(_, link)| link.kind == kind);
            links.map(|(link, _)| self.flows.carried(link)).sum::<f64>()
        };
        self.report.uplink_bytes = carried(LinkKind::Uplink);
        self.report.downlink_bytes = carried(LinkKind::Downlink);
        self.report.virtual_s = self.engine.now().nanos() as f64 / 1e9;
        self.report.log = *self.engine.log();
        self.report.waiting = self.functions.iter().map(|function| function.waiting.len() as u64).sum();
        (self.report, self.cluster)
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
