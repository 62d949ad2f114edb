//! The functions controller of one node: makes functions ready, admits calls, runs them, bills them, and lets rest
//! what nobody calls.

mod admission;
mod lifecycle;
mod pins;
mod ready;
mod scaler;
mod serve;
mod stored;
mod within;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use scf_core::{
    Bucket, Code, Function, FunctionName, IsolateFactory, Node, PrepareError, Prepared, StateStore, Statefulness,
};

pub use self::lifecycle::Lifecycle;
pub(crate) use self::{admission::Applicant, ready::Ready, scaler::ScalerFor, within::within};
use self::{admission::Gate, lifecycle::Awake};
use crate::{
    device::{Claim, Devices},
    error::DeployError,
    observe::Observer,
    time::Time,
};

/// Runs the functions that are deployed to one node.
pub(crate) struct Controller {
    node: Arc<Node>,
    clock: Time,
    factories: Arc<[Arc<dyn IsolateFactory>]>,
    state: Option<Arc<dyn StateStore>>,
    scaler_for: Option<ScalerFor>,
    gate: Gate,
    devices: Devices,
    observer: Observer,
    awake: Awake,
    /// Counts what was made ready, so that the queues can tell revisions apart by a number.
    keys: AtomicU64,
}

/// What a fabric's nodes have in common.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) clock: Time,
    pub(crate) factories: Arc<[Arc<dyn IsolateFactory>]>,
    pub(crate) scaler_for: Option<ScalerFor>,
    /// Calls that run at the same time on a node.
    pub(crate) concurrency: u32,
    /// How long without calls before a function is dormant where no autoscaler says.
    pub(crate) idle: Duration,
    pub(crate) observer: Observer,
}

/// A function that was made ready on a node and has no revision yet.
pub(crate) struct Fitted {
    prepared: Arc<dyn Prepared>,
    devices: Claim,
}

impl Controller {
    pub(crate) fn new(node: Arc<Node>, position: usize, state: Option<Arc<dyn StateStore>>, terms: Terms) -> Self {
        let Terms { clock, factories, scaler_for, concurrency, idle, observer } = terms;
        let gate = Gate::new(node.id.clone(), position, Arc::clone(clock.clock()), concurrency);
        let devices = Devices::new(&node);
        Self {
            node,
            clock,
            factories,
            state,
            scaler_for,
            gate,
            devices,
            observer,
            awake: Awake::new(idle),
            keys: AtomicU64::new(0),
        }
    }

    /// The node's state store.
    pub(crate) fn state(&self) -> Option<&Arc<dyn StateStore>> {
        self.state.as_ref()
    }

    /// Calls running or waiting on this node.
    pub(crate) fn load(&self) -> u32 {
        self.gate.load()
    }

    /// What the calls of `function` hold here while they run.
    pub(crate) fn devices_of(&self, function: &Function) -> Result<Claim, DeployError> {
        Claim::of(&function.grants.devices, &self.node).map_err(|lacking| {
            let grant = format!("devices {}", lacking.device);
            self.failed(PrepareError::Grant { function: function.name.clone(), grant, problem: lacking.problem })
        })
    }

    /// Makes `function` ready without letting calls at it.
    pub(crate) async fn prepare(&self, function: &Function) -> Result<Fitted, DeployError> {
        let name: &FunctionName = &function.name;
        if name.as_str() == Bucket::RESERVED {
            return Err(DeployError::Reserved { function: name.clone() });
        }
        if function.state == Statefulness::PerKey && self.state.is_none() {
            return Err(DeployError::NoState { function: name.clone(), node: self.node.id.clone() });
        }
        let devices = self.devices_of(function)?;
        let factory = self.factory_of(name, &function.code)?;
        let prepared = factory.prepare(function).await.map_err(|source| self.failed(source))?;
        Ok(Fitted { prepared, devices })
    }

    /// What runs `code` here.
    pub(crate) fn factory_of(&self, function: &FunctionName, code: &Code) -> Result<&dyn IsolateFactory, DeployError> {
        let factory = self.factories.iter().find(|factory| factory.accepts(code)).ok_or_else(|| {
            self.failed(PrepareError::NoFactory {
                function: function.clone(),
                kind: code.kind(),
                hint: "give a factory that accepts it to FabricBuilder::isolates",
            })
        })?;
        Ok(&**factory)
    }

    fn failed(&self, source: PrepareError) -> DeployError {
        DeployError::Prepare { node: self.node.id.clone(), source }
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("node", &self.node.id).field("gate", &self.gate).finish_non_exhaustive()
    }
}
