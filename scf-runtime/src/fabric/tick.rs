//! What a fabric does by time: probes the network, maintains state, scales functions.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use scf_core::{NodeId, Path};
use tokio::{runtime::Handle, task::JoinHandle};

use super::Inner;
use crate::queue::drain;

const MAINTAIN_EVERY: Duration = Duration::from_millis(50);
/// How often the autoscaler of a function is asked, and how late a function becomes dormant.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often who keeps promises is asked what is to be done.
const ENFORCE_EVERY: Duration = Duration::from_millis(100);
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// A way counts as changed when its latency or bandwidth is this many times what placements rest on.
const CHANGED: f64 = 2.0;

/// The background tasks of a fabric; they end when it is dropped.
#[derive(Debug)]
pub(super) struct Tick(Vec<JoinHandle<()>>);

impl Tick {
    pub(super) fn start(runtime: &Handle, inner: &Arc<Inner>) -> Self {
        let mut tasks = Vec::new();
        for position in 0..inner.members.len() {
            tasks.push(runtime.spawn(look_after(Arc::downgrade(inner), position)));
            if inner.members[position].controller.state().is_some() {
                tasks.push(runtime.spawn(maintain(Arc::downgrade(inner), position)));
            }
            if inner.transport.is_some() {
                tasks.push(runtime.spawn(probe(Arc::downgrade(inner), position)));
            }
        }
        if inner.dispatcher.is_some() {
            tasks.push(runtime.spawn(drain(Arc::downgrade(inner))));
        }
        if inner.slo.is_some() {
            tasks.push(runtime.spawn(enforce(Arc::downgrade(inner))));
        }
        Self(tasks)
    }

    /// Ends `task` with the others.
    #[cfg(feature = "nats")]
    pub(super) fn add(&mut self, task: JoinHandle<()>) {
        self.0.push(task);
    }
}

impl Drop for Tick {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Looks after the functions of a node that are not dormant; costs nothing while all of them are.
async fn look_after(fabric: Weak<Inner>, position: usize) {
    loop {
        let Some(inner) = fabric.upgrade() else { return };
        let controller = &inner.members[position].controller;
        if controller.is_awake() {
            controller.look_after().await;
            let clock = inner.clock.clone();
            drop(inner);
            clock.sleep(LOOK_EVERY).await;
        } else {
            let woken = controller.woken();
            drop(inner);
            woken.notified().await;
        }
    }
}

/// Does what is to be done about promises; costs nothing while nothing is promised.
async fn enforce(fabric: Weak<Inner>) {
    loop {
        let Some(inner) = fabric.upgrade() else { return };
        if inner.enforce() {
            let clock = inner.clock.clone();
            drop(inner);
            clock.sleep(ENFORCE_EVERY).await;
        } else {
            let promised = Arc::clone(&inner.promised);
            drop(inner);
            promised.notified().await;
        }
    }
}

async fn maintain(fabric: Weak<Inner>, position: usize) {
    loop {
        let Some(inner) = fabric.upgrade() else { return };
        if let Some(store) = inner.members[position].controller.state() {
            store.maintain().await;
        }
        let clock = inner.clock.clone();
        drop(inner);
        clock.sleep(MAINTAIN_EVERY).await;
    }
}

async fn probe(fabric: Weak<Inner>, position: usize) {
    let mut rested_on: HashMap<NodeId, Option<Path>> = HashMap::new();
    let mut first = true;
    loop {
        let Some(inner) = fabric.upgrade() else { return };
        let Some(transport) = inner.transport.clone() else { return };
        let here = inner.members[position].node.id.clone();
        transport.probe(&here).await;
        if std::mem::take(&mut first) {
            inner.probed.send_modify(|probed| *probed += 1);
        }
        let mut changed = false;
        let peers = inner.peers.all();
        let members = inner.members.iter().map(|member| &member.node.id).filter(|id| **id != here);
        for id in members.chain(peers.iter().map(|peer| &peer.id)) {
            let now = transport.path(&here, id);
            let before = rested_on.get(id).copied().flatten();
            if differs(before, now) {
                changed = true;
                rested_on.insert(id.clone(), now);
            }
        }
        if changed {
            inner.epoch.fetch_add(1, Relaxed);
        }
        let clock = inner.clock.clone();
        drop((inner, transport));
        clock.sleep(PROBE_EVERY).await;
    }
}

/// Whether placements that rest on `before` have to be decided anew.
pub(super) fn differs(before: Option<Path>, now: Option<Path>) -> bool {
    let apart = |a: f64, b: f64| a.max(b) > CHANGED * a.min(b).max(f64::MIN_POSITIVE);
    match (before, now) {
        (None, None) => false,
        (Some(a), Some(b)) => {
            apart(a.latency.as_secs_f64(), b.latency.as_secs_f64())
                || apart(a.bandwidth.bits_per_s() as f64, b.bandwidth.bits_per_s() as f64)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use scf_core::{Bandwidth, Timestamp};

    use super::*;

    #[test]
    fn placements_rest_on_a_way_until_it_is_cut_or_twice_as_slow() {
        let path = |ms, mbit| {
            let (latency, bandwidth) = (Duration::from_millis(ms), Bandwidth::from_mbit_per_s(mbit));
            Some(Path { latency, bandwidth, measured: Timestamp::default() })
        };
        assert!(!differs(path(25, 20), path(30, 15)));
        assert!(differs(path(25, 20), path(25, 1)));
        assert!(differs(path(25, 20), None));
        assert!(differs(None, path(25, 20)));
        assert!(!differs(None, None));
    }
}
