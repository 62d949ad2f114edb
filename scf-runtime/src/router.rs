//! Brings a call to the node that runs it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{
    ByteSize, Envelope, Function, Handler, Invocation, InvokeError, LimitKind, NodeId, Outcome, PlacementRequest,
    ScheduleError, StateError, Subject, Timestamp, TransportError,
};

use crate::{
    controller::within,
    fabric::{Inner, Member},
    ledger::Ledger,
    wire,
};

/// How often a proposal of the scheduler may lose its claim before the call fails.
const CLAIM_ATTEMPTS: u32 = 4;
/// What a remote answer may take longer than the call itself: the way there and back.
const TRAVEL: Duration = Duration::from_secs(5);

/// A deployed function as the router knows it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) function: Arc<Function>,
    pub(crate) ledger: Arc<Ledger>,
    /// Per calling node where its calls go: position plus one in the low half, the network's epoch at
    /// which that was decided in the high half; 0 before the first decision.
    sticky: Box<[AtomicU64]>,
}

impl Route {
    pub(crate) fn new(function: Arc<Function>, nodes: usize) -> Self {
        Self { function, ledger: Arc::default(), sticky: (0..nodes).map(|_| AtomicU64::new(0)).collect() }
    }

    fn placed(&self, from: usize, epoch: u32) -> Option<usize> {
        let word = self.sticky[from].load(Relaxed);
        let fresh = word != 0 && (word >> 32) as u32 == epoch;
        fresh.then(|| (word as u32 - 1) as usize)
    }

    fn place(&self, from: usize, epoch: u32, to: usize) {
        self.sticky[from].store((u64::from(epoch) << 32) | (to as u64 + 1), Relaxed);
    }

    fn forget(&self, from: usize) {
        self.sticky[from].store(0, Relaxed);
    }
}

/// A try that did not succeed.
struct Failed {
    to: usize,
    error: InvokeError,
}

impl Inner {
    /// Brings `invocation`, made on member `from`, to a node and its outcome back.
    ///
    /// Without a target the scheduler decides. A node that cannot be reached or is overloaded is left out
    /// and the others are asked; state that another node owns is worked on there. All tries have the
    /// same invocation id, so that an effect on state happens once.
    pub(crate) async fn route(self: &Arc<Self>, from: usize, invocation: Invocation) -> Result<Outcome, InvokeError> {
        let Some(route) = self.find(&invocation.function) else {
            return Err(InvokeError::NotFound { function: invocation.function });
        };
        let patience = invocation.patience.unwrap_or(route.function.limits.wall).min(route.function.limits.wall);
        if let Some(target) = &invocation.target {
            let Some(&to) = self.positions.get(target) else {
                return Err(InvokeError::Unreachable { function: invocation.function, node: target.clone() });
            };
            return self.carry(&route, from, to, invocation, patience).await;
        }
        let deadline = self.clock.now() + patience;
        let to = match route.placed(from, self.epoch.load(Relaxed)) {
            Some(to) => to,
            None => self.decide(&route, from, &invocation, &[])?,
        };
        match self.carry(&route, from, to, invocation.clone(), patience).await {
            Err(error) if error.is_retryable() => {
                self.route_anew(&route, from, invocation, deadline, Failed { to, error }).await
            }
            result => result,
        }
    }

    /// Tries the nodes that are left until one answers or the caller's patience is over.
    async fn route_anew(
        self: &Arc<Self>,
        route: &Route,
        from: usize,
        invocation: Invocation,
        deadline: Timestamp,
        mut failed: Failed,
    ) -> Result<Outcome, InvokeError> {
        let mut left_out: Vec<usize> = Vec::new();
        loop {
            let Failed { to: tried, error } = failed;
            left_out.push(tried);
            let to = match &error {
                // Of a node that the call itself called, the call has said all there is to say.
                InvokeError::Unreachable { node, .. } | InvokeError::Overloaded { node, .. }
                    if *node == self.members[tried].node.id =>
                {
                    route.forget(from);
                    self.decide(route, from, &invocation, &left_out).ok()
                }
                InvokeError::State { source: StateError::Held { owner, .. }, .. } => {
                    let owner = self.positions.get(owner).copied();
                    owner.filter(|&owner| route.function.needs.allow(&self.members[owner].node))
                }
                _ => None,
            };
            let left = deadline.since(self.clock.now());
            let Some(to) = to.filter(|to| !left_out.contains(to) && !left.is_zero()) else { return Err(error) };
            match self.carry(route, from, to, invocation.clone(), left).await {
                Err(error) if error.is_retryable() => failed = Failed { to, error },
                result => return result,
            }
        }
    }

    /// Asks the scheduler and claims what it proposes.
    fn decide(
        &self,
        route: &Route,
        from: usize,
        invocation: &Invocation,
        left_out: &[usize],
    ) -> Result<usize, InvokeError> {
        let function = &route.function;
        let epoch = self.epoch.load(Relaxed);
        let unplaceable = |source| InvokeError::Unplaceable { function: function.name.clone(), source };
        for _ in 0..CLAIM_ATTEMPTS {
            let view = self.view(&function.name, left_out);
            let request = PlacementRequest {
                function,
                from: &self.members[from].node.id,
                payload: invocation.payload.size(),
                data: &[],
                work: Duration::ZERO,
                seed: self.next_seed(),
            };
            let placement = self.scheduler.schedule(&request, &view).map_err(unplaceable)?;
            let Some(&to) = self.positions.get(&placement.node) else { continue };
            if self.members[to].claim(function, placement.version) {
                route.place(from, epoch, to);
                tracing::debug!(
                    faas.name = %function.name, from = %self.members[from].node.id, node = %placement.node, "scf.schedule"
                );
                return Ok(to);
            }
        }
        Err(unplaceable(ScheduleError::Contended { attempts: CLAIM_ATTEMPTS }))
    }

    /// Runs the call on member `to`: directly when that is the caller, as a message otherwise.
    async fn carry(
        self: &Arc<Self>,
        route: &Route,
        from: usize,
        to: usize,
        invocation: Invocation,
        patience: Duration,
    ) -> Result<Outcome, InvokeError> {
        let member = &self.members[to];
        if from == to {
            return member.controller.run(invocation, patience, &member.host).await;
        }
        let function = &route.function.name;
        let origin = &self.members[from].node.id;
        let unreachable = |node: &NodeId| InvokeError::Unreachable { function: function.clone(), node: node.clone() };
        let Some(transport) = &self.transport else { return Err(unreachable(&member.node.id)) };
        let mut invocation = invocation;
        if let Some(attached) = std::mem::take(&mut invocation.attachment).attached() {
            let late = || InvokeError::Limit { function: function.clone(), limit: LimitKind::Wall };
            let packed = within(&*self.clock, patience, attached.pack(route.function.limits.payload)).await;
            invocation.payload = packed.ok_or_else(late)??;
        }
        let request = wire::request(&invocation, patience);
        let sent = request.size();
        let answer = transport.request(origin, &member.node.id, Subject::Invoke, request, patience + TRAVEL).await;
        let answer = answer.map_err(|error| match error {
            TransportError::Overloaded { node } => {
                let retry_after = Duration::from_millis(100);
                InvokeError::Overloaded { function: function.clone(), node, retry_after }
            }
            _ => unreachable(&member.node.id),
        })?;
        let links = transport.hops(origin, &member.node.id).unwrap_or(1) as u64;
        let on_wire = ByteSize::from_bytes((sent + answer.size()).bytes() * links);
        route.ledger.book_wire(on_wire);
        let mut outcome = wire::read_answer(answer, function)?;
        outcome.receipt.on_wire += on_wire;
        Ok(outcome)
    }
}

/// Answers invocations that other nodes send to a member.
#[derive(Debug)]
pub(crate) struct InvokeServer {
    pub(crate) inner: std::sync::Weak<Inner>,
    pub(crate) member: usize,
}

#[async_trait]
impl Handler for InvokeServer {
    async fn handle(&self, from: &NodeId, request: Envelope) -> Envelope {
        let Some(inner) = self.inner.upgrade() else { return Envelope::default() };
        let Some((invocation, patience)) = wire::read_request(request) else {
            tracing::warn!(%from, "dropped a message that is no invocation");
            return Envelope::default();
        };
        let Member { controller, host, .. } = &inner.members[self.member];
        wire::answer(controller.run(invocation, patience, host).await)
    }
}
