//! Assembles a fabric out of parts.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc, RwLock,
        atomic::{AtomicU32, AtomicU64},
    },
    time::Duration,
};

use scf_core::{
    Autoscaler, Clock, Function, Host, InvocationId, InvocationQueue, IsolateFactory, MilliCpu, Node, NodeId,
    ObjectStore, Resources, Scheduler, SloPolicy, StateStore, Subject, Tenant, Tier, Transport,
};
use tokio::sync::watch;

use super::{Fabric, Inner, Member, tick::Tick};
use crate::{
    claim::{ClaimServer, Guests},
    controller::{Controller, ScalerFor, Terms},
    error::BuildError,
    guest::GuestPolicy,
    hedge::HedgePolicy,
    host::{MemberHost, Pace},
    observe::Observer,
    peer::{self, Peers},
    pull::Puller,
    queue::{DispatchConfig, Dispatcher, QueueServer},
    router::InvokeServer,
    spread::Spread,
    stream::{Lent, StreamServer},
    tenant::Accounts,
    time::Time,
};

/// Collects the parts of a [`Fabric`] and checks them once, in [`FabricBuilder::build`].
#[must_use = "a builder does nothing until build is called"]
#[derive(Default)]
pub struct FabricBuilder {
    nodes: Vec<Node>,
    transport: Option<Arc<dyn Transport>>,
    #[cfg(feature = "nats")]
    nats: Option<Arc<crate::transport::Nats>>,
    scheduler: Option<Arc<dyn Scheduler>>,
    isolates: Vec<Arc<dyn IsolateFactory>>,
    state: Vec<(NodeId, Arc<dyn StateStore>)>,
    slo: Option<Arc<dyn SloPolicy>>,
    scaler_for: Option<ScalerFor>,
    clock: Option<Arc<dyn Clock>>,
    seed: Option<u64>,
    tenants: Vec<Tenant>,
    concurrency: Option<u32>,
    revisions: Option<usize>,
    idle: Option<Duration>,
    hedging: HedgePolicy,
    observer: Observer,
    queue: Option<Arc<dyn InvocationQueue>>,
    dispatch: DispatchConfig,
    objects: Option<Arc<dyn ObjectStore>>,
    puller: Option<Arc<Puller>>,
    guests: GuestPolicy,
}

/// Revisions of a function that are kept.
const REVISIONS: usize = 8;
/// How long without calls before a function is dormant, where no autoscaler says.
const IDLE: Duration = Duration::from_secs(60);

impl FabricBuilder {
    /// Adds a node; the first is where [`Fabric::invoke`] calls from. Default: one node `local` of the tier
    /// [`Tier::Edge`] with the cores of this machine.
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// What carries messages between nodes; needed with more than one node.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Joins the nodes of other processes: `nats` carries the messages, and every node tells the others of itself. The
    /// fabric's nodes are those that it was [built](crate::transport::NatsBuilder::node) with.
    ///
    /// Functions that are deployed here are placed on nodes of other processes too, whose own fabrics own their
    /// resources; there they are made ready by the first claim. What objectives are promised of stays in this process.
    #[cfg(feature = "nats")]
    pub fn join(mut self, nats: Arc<crate::transport::Nats>) -> Self {
        self.transport = Some(Arc::clone(&nats) as Arc<dyn Transport>);
        self.nats = Some(nats);
        self
    }

    /// What decides where functions run; needed.
    pub fn scheduler(mut self, scheduler: Arc<dyn Scheduler>) -> Self {
        self.scheduler = Some(scheduler);
        self
    }

    /// Adds what runs functions, for every node; at least one. Of those that accept a function's code the one
    /// that was added last is used.
    pub fn isolates(mut self, factory: Arc<dyn IsolateFactory>) -> Self {
        self.isolates.insert(0, factory);
        self
    }

    /// The state store of a node; needed on every node that a stateful function may run on.
    pub fn state(mut self, node: NodeId, store: Arc<dyn StateStore>) -> Self {
        self.state.push((node, store));
        self
    }

    /// What keeps asynchronous calls: [`Fabric::enqueue`] accepts into it, and the fabric drains it. Default: none.
    pub fn queue(mut self, queue: Arc<dyn InvocationQueue>) -> Self {
        self.queue = Some(queue);
        self
    }

    /// How the queue is drained. Default: [`DispatchConfig::default`].
    pub const fn dispatch(mut self, config: DispatchConfig) -> Self {
        self.dispatch = config;
        self
    }

    /// What keeps objects: code that functions are deployed of by reference ([`Function::stored`]) is read out of it,
    /// and functions reach it that are granted it. Default: none.
    pub fn objects(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.objects = Some(store);
        self
    }

    /// Leaves the code of functions from here for the nodes of other processes, and takes that of theirs, by its hash:
    /// a node that is chosen pulls it, once. Default: code goes with the first claim, and is not kept.
    pub fn pull(mut self, puller: Arc<Puller>) -> Self {
        self.puller = Some(puller);
        self
    }

    /// Which functions of other processes are made ready here. Default: [`GuestPolicy::own`], those whose code this
    /// process has itself.
    pub fn guests(mut self, policy: GuestPolicy) -> Self {
        self.guests = policy;
        self
    }

    /// Makes an autoscaler per function and node. Default: as many calls at once as the function's limits say.
    pub fn autoscaler(mut self, make: impl Fn(&Function) -> Box<dyn Autoscaler> + Send + Sync + 'static) -> Self {
        self.scaler_for = Some(Arc::new(make));
        self
    }

    /// Who keeps what is promised of functions. Default: nobody, and a function of which something is promised is not
    /// deployed.
    pub fn slo(mut self, policy: Arc<dyn SloPolicy>) -> Self {
        self.slo = Some(policy);
        self
    }

    /// Adds a tenant, or replaces what was added of that name. Default: who is not added has what [`Tenant::new`]
    /// gives.
    pub fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenants.retain(|other| other.name != tenant.name);
        self.tenants.push(tenant);
        self
    }

    /// Calls that run at the same time on one node, over all functions and tenants; others wait, and the tenants
    /// share the room by their weights. A call that another makes on the same node runs in its room. At least 1;
    /// default: as many as the functions' own limits allow.
    pub const fn concurrency(mut self, calls: u32) -> Self {
        self.concurrency = Some(calls);
        self
    }

    /// Revisions that are kept of a function: the live one, those that traffic or aliases point to, and earlier ones
    /// that can be returned to. The oldest without traffic go. At least 2; default 8.
    pub const fn revisions(mut self, revisions: usize) -> Self {
        self.revisions = Some(revisions);
        self
    }

    /// When calls of functions that may be repeated freely are sent to a second node; default
    /// [`HedgePolicy::default`].
    pub const fn hedging(mut self, policy: HedgePolicy) -> Self {
        self.hedging = policy;
        self
    }

    /// How long without calls before a function is dormant and keeps no isolates, where no autoscaler decides.
    /// Default 60 s.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// What counts calls. Default: nothing does.
    #[cfg(feature = "metrics")]
    pub fn metrics(mut self, metrics: crate::Metrics) -> Self {
        self.observer.metrics = Some(metrics);
        self
    }

    /// Where time comes from. Default: the machine's monotonic clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Randomness of decisions, for runs that can be repeated. Default: random.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Checks the parts and starts the fabric. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`BuildError`] naming the part that is missing or does not fit.
    pub fn build(mut self) -> Result<Fabric, BuildError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        if self.nodes.is_empty() {
            self.nodes.push(local());
        }
        let scheduler = self.scheduler.ok_or(BuildError::NoScheduler)?;
        if self.isolates.is_empty() {
            return Err(BuildError::NoIsolates);
        }
        for factory in &self.isolates {
            factory.tenants(&self.tenants);
        }
        if self.nodes.len() > 1 && self.transport.is_none() {
            return Err(BuildError::NoTransport { nodes: self.nodes.len() });
        }
        let mut positions = HashMap::new();
        for (position, node) in self.nodes.iter().enumerate() {
            if positions.insert(node.id.clone(), position).is_some() {
                return Err(BuildError::DuplicateNode { node: node.id.clone() });
            }
        }
        let mut stores: Vec<Option<Arc<dyn StateStore>>> = vec![None; self.nodes.len()];
        for (node, store) in self.state {
            let Some(&position) = positions.get(&node) else {
                return Err(BuildError::UnknownNode { part: "a state store", node });
            };
            stores[position] = Some(store);
        }
        let clock = Time::new(self.clock);
        let terms = Terms {
            clock: clock.clone(),
            factories: self.isolates.into(),
            scaler_for: self.scaler_for,
            concurrency: self.concurrency.unwrap_or(u32::MAX),
            idle: self.idle.unwrap_or(IDLE),
            observer: self.observer.clone(),
        };
        let nodes = self.nodes.len();
        let accounts = Accounts::new(self.tenants, nodes);
        let inner = Arc::new_cyclic(|fabric| {
            let member = |(position, (node, store)): (usize, (Node, Option<Arc<dyn StateStore>>))| {
                let (node, clock, fabric) = (Arc::new(node), Arc::clone(clock.clock()), fabric.clone());
                let controller = Controller::new(Arc::clone(&node), position, store, terms.clone());
                let host = |pace: &Arc<Pace>| -> Arc<dyn Host> {
                    let (node, clock, fabric) = (Arc::clone(&node), Arc::clone(&clock), fabric.clone());
                    Arc::new(MemberHost { node, position, pace: Arc::clone(pace), clock, fabric })
                };
                Member::new(Arc::clone(&node), controller, host)
            };
            Inner {
                clock: clock.clone(),
                transport: self.transport.clone(),
                scheduler,
                slo: self.slo,
                promised: Arc::default(),
                members: self.nodes.into_iter().zip(stores).enumerate().map(member).collect(),
                positions,
                peers: Peers::after(nodes),
                #[cfg(feature = "nats")]
                roster: std::sync::Mutex::default(),
                guests: Guests::new(self.guests),
                puller: self.puller,
                epoch: AtomicU32::new(1),
                probed: watch::Sender::new(0),
                accounts,
                objects: self.objects,
                #[cfg(feature = "metrics")]
                metrics: self.observer.metrics.clone(),
                revisions: self.revisions.unwrap_or(REVISIONS).max(2),
                functions: RwLock::default(),
                near: Spread::default(),
                workflows: RwLock::default(),
                hedging: self.hedging,
                lent: Lent::default(),
                dispatcher: self.queue.map(|queue| Dispatcher::new(queue, self.dispatch)),
                seed: AtomicU64::new(self.seed.unwrap_or_else(random)),
                ids: InvocationId::new((u128::from(random()) << 64) | u128::from(random())),
                made: Default::default(),
            }
        });
        if let Some(transport) = &inner.transport {
            for (member, Member { node, .. }) in inner.members.iter().enumerate() {
                let server = InvokeServer { inner: Arc::downgrade(&inner), member };
                let mut attached = transport.attach(&node.id, Subject::Invoke, Arc::new(server));
                let streams = StreamServer { inner: Arc::downgrade(&inner) };
                attached = attached.and_then(|()| transport.attach(&node.id, Subject::Stream, Arc::new(streams)));
                if peer::CAN_JOIN {
                    let claims = ClaimServer { inner: Arc::downgrade(&inner), member };
                    attached = attached.and_then(|()| transport.attach(&node.id, Subject::Claim, Arc::new(claims)));
                }
                if peer::CAN_JOIN && inner.dispatcher.is_some() {
                    let queue = QueueServer { inner: Arc::downgrade(&inner) };
                    attached = attached.and_then(|()| transport.attach(&node.id, Subject::Queue, Arc::new(queue)));
                }
                attached.map_err(|source| BuildError::Transport { node: node.id.clone(), source })?;
            }
        }
        #[cfg_attr(not(feature = "nats"), expect(unused_mut, reason = "membership is added to it"))]
        let mut tick = Tick::start(&runtime, &inner);
        #[cfg(feature = "nats")]
        if let Some(nats) = self.nats {
            tick.add(runtime.spawn(super::join::Membership::new(&inner, nats).run()));
        }
        Ok(Fabric { inner, _tick: Arc::new(tick) })
    }
}

/// This machine as a node.
fn local() -> Node {
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
    let id = NodeId::new("local").expect("the literal is a name");
    let node = Node::new(id, Tier::Edge);
    let memory = node.resources.memory;
    node.resources(Resources { cpu: MilliCpu::from_cores(cores), memory })
}

/// 64 bits from the operating system, by way of the keys that the standard library draws for its maps.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl fmt::Debug for FabricBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.id.as_str()).collect();
        f.debug_struct("FabricBuilder").field("nodes", &nodes).field("isolates", &self.isolates).finish_non_exhaustive()
    }
}
