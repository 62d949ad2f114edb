//! A node of the fabric that this process runs.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use scf_core::{Function, FunctionName, Host, Node, Resources};

use crate::controller::Controller;

/// One node: its controller, what it offers to isolates, and what functions have claimed of it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: Arc<Node>,
    pub(crate) controller: Controller,
    pub(crate) host: Arc<dyn Host>,
    claims: Mutex<Claims>,
}

#[derive(Debug)]
struct Claims {
    free: Resources,
    version: u64,
    holders: HashSet<FunctionName>,
}

impl Member {
    pub(crate) fn new(node: Arc<Node>, controller: Controller, host: Arc<dyn Host>) -> Self {
        let claims = Claims { free: node.resources, version: 0, holders: HashSet::new() };
        Self { node, controller, host, claims: Mutex::new(claims) }
    }

    /// What nobody has claimed for a function other than `function`, and the version of that.
    pub(crate) fn free_for(&self, function: &FunctionName, needs: &Resources) -> (Resources, u64) {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = claims.free;
        if claims.holders.contains(function) {
            free.cpu = scf_core::MilliCpu::new(free.cpu.milli().saturating_add(needs.cpu.milli()));
            free.memory += needs.memory;
        }
        (free, claims.version)
    }

    /// Claims what `function` needs if nothing changed since `version`; a function claims a node once.
    pub(crate) fn claim(&self, function: &Function, version: u64) -> bool {
        let needs = function.needs.resources;
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if needs == Resources::default() || claims.holders.contains(&function.name) {
            return true;
        }
        if claims.version != version || !claims.free.fits(&needs) {
            return false;
        }
        claims.free.cpu = claims.free.cpu.saturating_sub(needs.cpu);
        claims.free.memory = claims.free.memory.saturating_sub(needs.memory);
        claims.version += 1;
        claims.holders.insert(function.name.clone());
        true
    }

    /// Gives back what `function` claimed, if it did.
    pub(crate) fn unclaim(&self, function: &Function) {
        let needs = function.needs.resources;
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.holders.remove(&function.name) {
            claims.free.cpu = scf_core::MilliCpu::new(claims.free.cpu.milli() + needs.cpu.milli());
            claims.free.memory += needs.memory;
            claims.version += 1;
        }
    }
}
