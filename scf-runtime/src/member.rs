//! A node of the fabric that this process runs.

use std::{
    array,
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use scf_core::{Function, FunctionName, Health, Host, Node, Resources, Revision};

use crate::{controller::Controller, host::Pace, spread::PARTS};

/// One node: its controller, what it offers to isolates, and what functions have claimed of it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: Arc<Node>,
    pub(crate) controller: Controller,
    /// How fast its hosts say that it computes.
    pub(crate) pace: Arc<Pace>,
    /// The same, counted apart for each core.
    hosts: [Arc<dyn Host>; PARTS],
    claims: Mutex<Claims>,
}

#[derive(Debug)]
struct Claims {
    free: Resources,
    /// Whether its operator lets it take calls.
    health: Health,
    version: u64,
    holders: HashSet<(FunctionName, Revision)>,
}

impl Member {
    pub(crate) fn new(node: Arc<Node>, controller: Controller, host: impl FnMut(&Arc<Pace>) -> Arc<dyn Host>) -> Self {
        let claims = Claims { free: node.resources, health: Health::Ready, version: 0, holders: HashSet::new() };
        let mut host = host;
        let pace = Arc::new(Pace::new(node.slowdown));
        let hosts = array::from_fn(|_| host(&pace));
        Self { node, controller, pace, hosts, claims: Mutex::new(claims) }
    }

    /// What it offers to isolates that run on `part` of the cores.
    pub(crate) fn host(&self, part: usize) -> &Arc<dyn Host> {
        &self.hosts[part % PARTS]
    }

    /// What nobody has claimed for anything but this revision of `function`, whether the node takes calls, and the
    /// version of both.
    pub(crate) fn free_for(&self, function: &Function, revision: Revision) -> (Resources, Health, u64) {
        let needs = &function.needs.resources;
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = claims.free;
        if claims.holders.contains(&(function.name.clone(), revision)) {
            free.cpu = scf_core::MilliCpu::new(free.cpu.milli().saturating_add(needs.cpu.milli()));
            free.memory += needs.memory;
        }
        (free, claims.health, claims.version)
    }

    /// What nobody has claimed, whether the node takes calls, and the version of both.
    #[cfg(feature = "nats")]
    pub(crate) fn status(&self) -> (Resources, Health, u64) {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        (claims.free, claims.health, claims.version)
    }

    pub(crate) fn health(&self) -> Health {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).health
    }

    /// Says whether it takes calls; refused once it has left, which [`Health::Unreachable`] stands for. Claims that rest
    /// on what was true before are refused from then on.
    pub(crate) fn set_health(&self, health: Health) -> bool {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.health == Health::Unreachable {
            return false;
        }
        claims.health = health;
        claims.version += 1;
        true
    }

    /// Claims what `function` needs if nothing changed since `version`; a revision claims a node once.
    pub(crate) fn claim(&self, function: &Function, revision: Revision, version: u64) -> bool {
        let (needs, holder) = (function.needs.resources, (function.name.clone(), revision));
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.health != Health::Ready {
            return false;
        }
        if needs == Resources::default() || claims.holders.contains(&holder) {
            return true;
        }
        if claims.version != version || !claims.free.fits(&needs) {
            return false;
        }
        claims.free.cpu = claims.free.cpu.saturating_sub(needs.cpu);
        claims.free.memory = claims.free.memory.saturating_sub(needs.memory);
        claims.version += 1;
        claims.holders.insert(holder);
        true
    }

    /// Gives back what the revision claimed, if it did.
    pub(crate) fn unclaim(&self, function: &Function, revision: Revision) {
        let (needs, holder) = (function.needs.resources, (function.name.clone(), revision));
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.holders.remove(&holder) {
            claims.free.cpu = scf_core::MilliCpu::new(claims.free.cpu.milli() + needs.cpu.milli());
            claims.free.memory += needs.memory;
            claims.version += 1;
        }
    }
}
