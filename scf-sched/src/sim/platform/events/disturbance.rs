//! What disturbs a platform: nodes that go and come back, places that are cut off, hosts that move, empty batteries.

use scf_core::Timestamp;

use super::{Happening, Phase, Platform, Stage};
use crate::{fleet::Need, sim::Disturbance};

#[derive(Debug)]
pub(super) struct Battery {
    pub(super) joules: f64,
    pub(super) since: Timestamp,
    pub(super) idle_watts: f64,
    pub(super) busy_watts: f64,
    pub(super) serial: u32,
}

impl Platform {
    /// Gives a node a battery: it draws `idle_watts`, and `busy_watts` more for every request it executes, and is gone when
    /// the battery is empty.
    pub fn set_battery(&mut self, node: usize, joules: f64, idle_watts: f64, busy_watts: f64) {
        let since = self.engine.now();
        self.batteries[node] = Some(Battery { joules, since, idle_watts, busy_watts, serial: 0 });
        self.drain_battery(node);
    }

    pub(super) fn disturb(&mut self, which: usize) {
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
        let running: Vec<(u64, Need)> = running.map(|claim| (claim.token(), claim.need())).collect();
        if let Ok(claims) = self.cluster.moved(host, &running) {
            for (at, claim) in on.into_iter().zip(claims) {
                self.replicas[at].claim = Some(claim);
            }
        }
    }

    pub(super) fn node_down(&mut self, node: usize) {
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
    pub(super) fn suspect(&mut self, node: usize) {
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
    pub(super) fn drain_battery(&mut self, node: usize) {
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
