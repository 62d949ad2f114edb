//! The functions controller of one node: makes functions ready, admits calls, runs them, bills them.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use scf_core::{
    Autoscaler, Call, Clock, Commit, Function, FunctionName, Host, Invocation, InvokeError, IsolateFactory, LimitKind,
    Load, NodeId, Opened, Outcome, Payload, Prepared, Receipt, Reply, Scope, StateError, StateStore, Statefulness,
    TenantName, Timestamp,
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    error::DeployError,
    ledger::Ledger,
    spread::{Apart, Spread},
};

/// How often the autoscaler of a function is asked at most.
const SCALE_INTERVAL: Duration = Duration::from_millis(100);
/// How often a stateful call is run again because its state moved on meanwhile.
const CONFLICT_RETRIES: u32 = 8;

/// Makes the autoscaler of a function when it is deployed to a node.
pub(crate) type ScalerFor = Arc<dyn Fn(&Function) -> Box<dyn Autoscaler> + Send + Sync>;

/// Runs the functions that are deployed to one node.
pub(crate) struct Controller {
    node: NodeId,
    clock: Arc<dyn Clock>,
    factories: Arc<[Arc<dyn IsolateFactory>]>,
    state: Option<Arc<dyn StateStore>>,
    scaler_for: Option<ScalerFor>,
    functions: RwLock<HashMap<FunctionName, Arc<Ready>>>,
    /// The same, for calls to read; changed while `functions` is locked.
    near: Spread<FunctionName, Ready>,
}

/// A function that is ready to be called on this node.
pub(crate) struct Ready {
    function: Arc<Function>,
    prepared: Arc<dyn Prepared>,
    ledger: Arc<Ledger>,
    slots: Apart<Semaphore>,
    running: Apart<AtomicU32>,
    waiting: AtomicU32,
    scaler: Option<Mutex<Scaler>>,
}

struct Scaler {
    policy: Box<dyn Autoscaler>,
    asked: Timestamp,
    current: u32,
}

impl Controller {
    pub(crate) fn new(
        node: NodeId,
        clock: Arc<dyn Clock>,
        factories: Arc<[Arc<dyn IsolateFactory>]>,
        state: Option<Arc<dyn StateStore>>,
        scaler_for: Option<ScalerFor>,
    ) -> Self {
        Self { node, clock, factories, state, scaler_for, functions: RwLock::default(), near: Spread::default() }
    }

    /// The node's state store.
    pub(crate) fn state(&self) -> Option<&Arc<dyn StateStore>> {
        self.state.as_ref()
    }

    /// Makes `function` ready without letting calls at it.
    pub(crate) async fn prepare(
        &self,
        function: &Arc<Function>,
        ledger: &Arc<Ledger>,
    ) -> Result<Arc<Ready>, DeployError> {
        let name = function.name.clone();
        if function.state == Statefulness::PerKey && self.state.is_none() {
            return Err(DeployError::NoState { function: name, node: self.node.clone() });
        }
        let failed = |source| DeployError::Prepare { node: self.node.clone(), source };
        let factory = self.factories.iter().find(|factory| factory.accepts(&function.code)).ok_or_else(|| {
            failed(scf_core::PrepareError::NoFactory {
                function: name.clone(),
                kind: function.code.kind(),
                hint: "give a factory that accepts it to FabricBuilder::isolates",
            })
        })?;
        let prepared = factory.prepare(function).await.map_err(failed)?;
        let scaler = self.scaler_for.as_ref().map(|make| {
            let current = function.limits.concurrency;
            Mutex::new(Scaler { policy: make(function), asked: Timestamp::default(), current })
        });
        let slots = Apart(Semaphore::new(function.limits.concurrency as usize));
        let (running, waiting) = (Apart(AtomicU32::new(0)), AtomicU32::new(0));
        let (function, ledger) = (Arc::clone(function), Arc::clone(ledger));
        Ok(Arc::new(Ready { function, prepared, ledger, slots, running, waiting, scaler }))
    }

    /// Lets calls at a function, in place of an earlier one of that name.
    pub(crate) fn install(&self, ready: Arc<Ready>) {
        let name = ready.function.name.clone();
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        self.near.insert(&name, &ready);
        functions.insert(name, ready);
    }

    /// Takes `function` off; calls that run are finished.
    pub(crate) fn undeploy(&self, function: &FunctionName) {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        self.near.remove(function);
        functions.remove(function);
    }

    /// Calls running or waiting on this node.
    pub(crate) fn load(&self) -> u32 {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.values().map(|ready| ready.running.load(Relaxed) + ready.waiting.load(Relaxed)).sum()
    }

    /// Runs a call here.
    pub(crate) async fn run(
        &self,
        invocation: Invocation,
        patience: Duration,
        host: &Arc<dyn Host>,
    ) -> Result<Outcome, InvokeError> {
        let accepted = self.clock.now();
        let Some(ready) = self.near.get(&invocation.function) else {
            return Err(InvokeError::NotFound { function: invocation.function });
        };
        let result = self.serve(&ready, invocation, accepted, patience, host).await;
        match &result {
            Ok(outcome) => ready.ledger.book(&outcome.receipt),
            Err(_) => ready.ledger.book_failure(),
        }
        result
    }

    async fn serve(
        &self,
        ready: &Ready,
        invocation: Invocation,
        accepted: Timestamp,
        patience: Duration,
        host: &Arc<dyn Host>,
    ) -> Result<Outcome, InvokeError> {
        let Ready { function, .. } = ready;
        let name = &function.name;
        let too_late = || InvokeError::Limit { function: name.clone(), limit: LimitKind::Wall };
        let media = &invocation.payload.media;
        if !function.input.takes(media) {
            let (takes, given) = (function.input.to_string(), media.to_string());
            return Err(InvokeError::Media { function: name.clone(), takes, given });
        }
        if invocation.payload.size() > function.limits.payload {
            return Err(InvokeError::Limit { function: name.clone(), limit: LimitKind::Input });
        }
        let bytes_in = invocation.payload.size();
        let tenant = invocation.tenant.clone().unwrap_or_else(|| function.tenant.clone());
        let patience = patience.min(function.limits.wall);
        let slot = ready.admit(&self.clock, &self.node, accepted, patience).await?;
        let started = self.clock.now();
        let deadline = accepted + patience;
        let left = deadline.since(started);
        let running = Running::new(&ready.running);
        let reply = match function.state {
            Statefulness::Stateless => {
                let call = Call::new(invocation.id, name.clone(), tenant.clone(), deadline, Arc::clone(host));
                // Pinned here, so that what waits for it does not copy it.
                let run = pin!(async { ready.prepared.instantiate().await?.invoke(&call, invocation.payload).await });
                within(&*self.clock, left, run).await.ok_or_else(too_late)??
            }
            _ => {
                let run = Box::pin(self.run_stateful(ready, invocation, tenant.clone(), deadline, host));
                within(&*self.clock, left, run).await.ok_or_else(too_late)??
            }
        };
        drop((slot, running));
        let size = reply.payload.size();
        if size > function.limits.payload {
            return Err(InvokeError::Limit { function: name.clone(), limit: LimitKind::Output });
        }
        let mut receipt = Receipt::new(name.clone(), tenant, self.node.clone());
        receipt.queued = started.since(accepted);
        receipt.wall = self.clock.now().since(accepted);
        receipt.usage = reply.usage;
        receipt.cold = !reply.reused;
        receipt.bytes_in = bytes_in;
        receipt.bytes_out = size;
        receipt.spans = reply.spans;
        receipt.calls = reply.calls;
        let payload = Payload { bytes: reply.payload.bytes, media: function.output.clone() };
        Ok(Outcome { payload, receipt })
    }

    /// Runs a stateful call until its changes are committed; the reply waits for that (output gate).
    async fn run_stateful(
        &self,
        ready: &Ready,
        invocation: Invocation,
        tenant: TenantName,
        deadline: Timestamp,
        host: &Arc<dyn Host>,
    ) -> Result<Reply, InvokeError> {
        let function = &ready.function.name;
        let Some(key) = invocation.key else { return Err(InvokeError::NoKey { function: function.clone() }) };
        let store = self.state.as_ref().expect("deploy refuses a stateful function where there is no store");
        let scope = Scope { function: function.clone(), key };
        let failed = |source| InvokeError::State { function: function.clone(), key: scope.key.clone(), source };
        let mut tries = 0;
        loop {
            let session = match store.open(&scope, invocation.id).await.map_err(failed)? {
                Opened::Session(session) => session,
                Opened::Done(result) => return Ok(Reply { payload: result.into(), ..Reply::default() }),
                other => {
                    let message = format!("the state store answered {other:?}");
                    return Err(InvokeError::Host { function: function.clone(), message });
                }
            };
            let mut call = Call::new(invocation.id, function.clone(), tenant.clone(), deadline, Arc::clone(host));
            call.key = Some(scope.key.clone());
            call.state = Some(session);
            let mut isolate = ready.prepared.instantiate().await?;
            let mut reply = isolate.invoke(&call, invocation.payload.clone()).await?;
            let session = call.state.take().expect("isolates hold the call by shared reference");
            match session.commit(reply.payload.bytes.clone()).await {
                Ok(Commit::Duplicate { result }) => reply.payload.bytes = result,
                Ok(_) => {}
                Err(StateError::Conflict { .. }) if tries < CONFLICT_RETRIES => {
                    tries += 1;
                    continue;
                }
                Err(source) => return Err(failed(source)),
            }
            return Ok(reply);
        }
    }
}

impl Ready {
    /// Waits for a free slot, in a bounded queue and not beyond `patience`.
    async fn admit(
        &self,
        clock: &Arc<dyn Clock>,
        node: &NodeId,
        now: Timestamp,
        patience: Duration,
    ) -> Result<SemaphorePermit<'_>, InvokeError> {
        self.scale(now);
        if let Ok(slot) = self.slots.try_acquire() {
            return Ok(slot);
        }
        let waiting = Running::new(&self.waiting);
        if waiting.before >= self.function.limits.queue {
            let function = self.function.name.clone();
            let retry_after = Duration::from_millis(u64::from(waiting.before.min(1000)));
            return Err(InvokeError::Overloaded { function, node: node.clone(), retry_after });
        }
        match within(&**clock, patience, self.slots.acquire()).await {
            Some(Ok(slot)) => Ok(slot),
            _ => Err(InvokeError::Limit { function: self.function.name.clone(), limit: LimitKind::Wall }),
        }
    }

    /// Asks the autoscaler, if it is time, and makes the number of slots what it says.
    fn scale(&self, now: Timestamp) {
        let Some(scaler) = &self.scaler else { return };
        let Ok(mut scaler) = scaler.try_lock() else { return };
        if scaler.asked != Timestamp::default() && now.since(scaler.asked) < SCALE_INTERVAL {
            return;
        }
        scaler.asked = now;
        let (running, waiting) = (self.running.load(Relaxed), self.waiting.load(Relaxed));
        let current = scaler.current;
        // The call that asks needs a slot itself: a dormant function wakes to one.
        let desired = scaler.policy.desired(&Load { now, running, waiting, current });
        let desired = desired.clamp(1, self.function.limits.concurrency.max(1));
        if desired > current {
            self.slots.add_permits((desired - current) as usize);
            scaler.current = desired;
        } else {
            let gone = self.slots.forget_permits((current - desired) as usize);
            scaler.current = current - u32::try_from(gone).unwrap_or(u32::MAX);
        }
    }
}

/// Counts a call for as long as it lives, also when its future is dropped.
struct Running<'a> {
    counter: &'a AtomicU32,
    before: u32,
}

impl<'a> Running<'a> {
    fn new(counter: &'a AtomicU32) -> Self {
        Self { counter, before: counter.fetch_add(1, Relaxed) }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Relaxed);
    }
}

/// `work`'s output, or `None` once `patience` has passed. Costs no timer when `work` is done at once.
pub(crate) async fn within<F: Future>(clock: &dyn Clock, patience: Duration, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    if let Poll::Ready(output) = futures::poll!(work.as_mut()) {
        return Some(output);
    }
    tokio::select! {
        biased;
        output = work => Some(output),
        () = clock.sleep(patience) => None,
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Controller").field("node", &self.node).field("functions", &functions.keys()).finish()
    }
}
