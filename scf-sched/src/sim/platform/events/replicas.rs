//! Replicas of functions: placed, started, taken away.

use scf_core::Timestamp;

use super::{Happening, Life, Platform, Tag, stream};
use crate::{
    ProfileKey, Request,
    fleet::Claim,
    policy,
    sim::{
        FlowId, Profiles, Rng,
        platform::{Data, cluster::DISK},
    },
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    /// Nothing: the place is free.
    Gone,
    Pulling,
    Starting,
    Loading,
    Ready,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) function: u32,
    pub(super) node: u32,
    pub(super) stage: Stage,
    pub(super) serial: u32,
    pub(super) flow: Option<FlowId>,
    pub(super) asked: Timestamp,
    pub(super) cold: bool,
    pub(super) claim: Option<Claim>,
    /// Runs that are not over; the place is used again when there are none.
    pub(super) runs: u32,
}

impl Platform {
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
    pub(super) fn replica(&mut self, function: u32) {
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
    pub(super) fn start_step(&mut self, replica: u32) {
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
    pub(super) fn remove(&mut self, replica: u32) {
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

    pub(super) fn retry_unplaced(&mut self) {
        for _ in 0..self.unplaced.len() {
            let Some(function) = self.unplaced.pop_front() else { return };
            self.replica(function);
        }
    }

    pub(super) fn idle_check(&mut self) {
        // When nothing else is to come, the run is over.
        if self.engine.pending() > 0 {
            self.engine.after_s(self.config.idle_check, Happening::IdleCheck);
        }
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
}
