//! Calls of functions: from their coming, over reading, executing and writing, to their end.

use scf_core::Timestamp;

use super::{Happening, Life, Platform, Stage, Tag};
use crate::{
    ProfileKey, policy,
    sim::{
        FlowId, Locality,
        platform::{Arrivals, Data, cluster::DISK},
    },
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    Gone,
    Reading,
    /// For a slot of the node.
    Waiting,
    Executing,
    Writing,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) replica: u32,
    pub(super) replica_serial: u32,
    pub(super) function: u32,
    pub(super) phase: Phase,
    pub(super) serial: u32,
    pub(super) flow: Option<FlowId>,
    pub(super) request: Waiting,
    pub(super) started: Timestamp,
    pub(super) executed: f64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) received: Timestamp,
    pub(super) work: f32,
}

/// Seconds of an execution on a device of which nothing is known.
const UNKNOWN_EXECUTION: f64 = 200.0;

impl Platform {
    pub(super) fn arrive(&mut self, function: u32) {
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

    pub(super) fn receive(&mut self, function: u32, work: f32) {
        let state = &mut self.functions[function as usize];
        state.waiting.push_back(Waiting { received: self.engine.now(), work });
        if state.life == Life::Suspended {
            state.life = Life::Starting;
            self.replica(function);
        }
        self.serve(function);
    }

    /// Gives waiting requests to free replicas.
    pub(super) fn serve(&mut self, function: u32) {
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

    pub(super) fn carry(&mut self, from: usize, to: usize, bytes: f64, tag: Tag) -> Option<FlowId> {
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
    pub(super) fn moved(&mut self, run: u32) {
        self.runs[run as usize].flow = None;
        match self.runs[run as usize].phase {
            Phase::Reading => self.want_slot(run),
            Phase::Writing => self.done(run),
            Phase::Waiting | Phase::Executing | Phase::Gone => {}
        }
    }

    pub(super) fn node_of(&self, run: u32) -> usize {
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

    pub(super) fn executed(&mut self, run: u32) {
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
    pub(super) fn abandon(&mut self, run: u32) {
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
}
