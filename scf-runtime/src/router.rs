//! Brings a call to the node that runs it.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{
    Attached, ByteSize, Envelope, FunctionName, Handler, Host, Invocation, InvokeError, LimitKind, NodeId, Outcome,
    Payload, Placement, PlacementRequest, Receipt, Repeat, Revision, ScheduleError, StateError, Streams, Subject,
    Timestamp, TransportError,
};

use crate::{
    claim::Claimed,
    controller::{Applicant, Controller, Ready, within},
    deployment::nowhere,
    fabric::Inner,
    overhead::Overhead,
    promise::Try,
    route::{Found, Route},
    spread::{Shared, here},
    stream::{Carriage, Loan, Way},
    tenant::Account,
    wire::{self, Decided},
};

/// How often a proposal of the scheduler may lose its claim before the call fails.
pub(crate) const CLAIM_ATTEMPTS: u32 = 4;
/// What a remote answer may take longer than the call itself: the way there and back.
const TRAVEL: Duration = Duration::from_secs(5);

/// A call on its way: which revision it goes to, who pays for it, where it was made.
#[derive(Clone, Copy)]
pub(crate) struct Trip<'a> {
    pub(crate) route: &'a Arc<Route>,
    pub(crate) account: &'a Arc<Account>,
    /// The cores that it was made on.
    part: usize,
    from: usize,
    /// Made by a call that runs on the node that it is made from.
    is_nested: bool,
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
    /// same invocation id and go to the same revision, so that an effect on state happens once.
    pub(crate) fn route(
        self: &Arc<Self>,
        from: usize,
        invocation: Invocation,
        is_nested: bool,
    ) -> impl Future<Output = Result<Outcome, InvokeError>> + Send + use<'_> {
        // What the futures inside work on stays where it is, in this one: the call's way through them moves nothing.
        let mut invocation = Some(invocation);
        async move {
            let mut overhead = Overhead::default();
            let mut receipt = None;
            let payload = {
                let Overhead { meter, payer } = &mut overhead;
                let brought = pin!(self.brought(from, &mut invocation, is_nested, payer, &mut receipt));
                meter.run(brought).await?
            };
            // Where it is, and moved when all else is done: it is large.
            if let Some(receipt) = &mut receipt {
                receipt.host += overhead.meter.used();
            }
            drop(overhead);
            Ok(Outcome { payload, receipt: receipt.expect("a call that gave a payload has its bill") })
        }
    }

    async fn brought(
        self: &Arc<Self>,
        from: usize,
        invocation: &mut Option<Invocation>,
        is_nested: bool,
        payer: &mut Option<Found>,
        bill: &mut Option<Receipt>,
    ) -> Result<Payload, InvokeError> {
        let given = invocation.as_ref().expect("the router was given an invocation");
        let found = &*payer.insert(self.find(given, None)?);
        let (route, account) = (found.route(), found.account());
        let trip = Trip { route, account, part: found.part, from, is_nested };
        let result = match self.only_here(trip, given) {
            Some((ready, patience)) => {
                // The call's meter has just begun.
                let accepted = self.clock.marked();
                let applicant = Applicant { ready, account, part: found.part, accepted, patience, is_nested };
                let member = &self.members[from];
                member.controller.run(applicant, invocation, member.host(found.part), bill).await
            }
            // Boxed, like what else is rare here: the future of every call has room for all that it may do.
            None => {
                let invocation = invocation.take().expect("it was there above");
                Box::pin(self.bring(trip, invocation)).await.map(|Outcome { payload, receipt }| {
                    *bill = Some(receipt);
                    payload
                })
            }
        };
        if let Err(InvokeError::Unplaceable { function, .. }) = &result
            && *function == route.function.name
        {
            route.books.book_unplaced(account);
        }
        result
    }

    /// The account that `invocation` names to pay for it, if it does.
    fn payer(&self, part: usize, invocation: &Invocation) -> Result<Option<Shared<Account>>, InvokeError> {
        let account = |tenant| {
            self.accounts.near(part, tenant).map_err(|too_many| InvokeError::Host {
                function: invocation.function.clone(),
                message: format!("tenant {tenant} is not known, and there are {} others", too_many.tenants),
            })
        };
        invocation.tenant.as_ref().map(account).transpose()
    }

    /// Of a call that can go nowhere else than to the node that it is made from, where it went before: what runs it
    /// and how long its caller waits.
    fn only_here<'a>(&self, trip: Trip<'a>, invocation: &Invocation) -> Option<(&'a Arc<Ready>, Duration)> {
        let Trip { route, from, .. } = trip;
        let is_watched = self.policy_for(route).is_some();
        let is_only = self.members.len() == 1 && self.peers.is_empty() && invocation.target.is_none() && !is_watched;
        let is_placed = is_only && route.placed(from, self.epoch.load(Relaxed)) == Some(from);
        let ready = route.ready[from].as_ref().filter(|_| is_placed)?;
        Some((ready, patience(invocation, route)))
    }

    async fn bring(self: &Arc<Self>, trip: Trip<'_>, invocation: Invocation) -> Result<Outcome, InvokeError> {
        let Trip { route, from, .. } = trip;
        let now = self.clock.now();
        let patience = patience(&invocation, route);
        if let Some(target) = &invocation.target {
            let Some(to) = self.position(target) else {
                return Err(InvokeError::Unreachable { function: invocation.function, node: target.clone() });
            };
            let is_claimed = self.is_member(to) || route.is_abroad(to);
            if !is_claimed {
                self.claim_target(route, to, target).await?;
            }
            return self.carry(trip, to, invocation, now, patience).await;
        }
        let to = match route.placed(from, self.epoch.load(Relaxed)) {
            Some(to) => to,
            None => self.decide(trip, &invocation, &[]).await?,
        };
        match self.carry_hedged(trip, to, &invocation, now, patience).await {
            Err(error) if may_repeat(&invocation, &error) => {
                Box::pin(self.bring_anew(trip, invocation, now + patience, Failed { to, error })).await
            }
            result => result,
        }
    }

    /// Tries the nodes that are left until one answers or the caller's patience is over.
    async fn bring_anew(
        self: &Arc<Self>,
        trip: Trip<'_>,
        mut invocation: Invocation,
        deadline: Timestamp,
        mut failed: Failed,
    ) -> Result<Outcome, InvokeError> {
        let Trip { route, from, .. } = trip;
        let mut left_out: Vec<usize> = Vec::new();
        loop {
            let Failed { to: tried, error } = failed;
            left_out.push(tried);
            // Who does not answer may have run it; who has no room has not.
            if matches!(error, InvokeError::Unreachable { .. }) {
                invocation.attempt = invocation.attempt.saturating_add(1);
            }
            let to = match &error {
                // Of a node that the call itself called, the call has said all there is to say.
                InvokeError::Unreachable { node, .. } | InvokeError::Overloaded { node, .. }
                    if self.id_at(tried).as_ref() == Some(node) =>
                {
                    // An overloaded node is where the calls go again when it has room; where another is found
                    // instead, that takes its place.
                    if matches!(error, InvokeError::Unreachable { .. }) {
                        route.forget(from);
                    }
                    let others = self.members.len() + self.peers.all().len() > left_out.len();
                    if others { self.decide(trip, &invocation, &left_out).await.ok() } else { None }
                }
                InvokeError::State { source, .. } => {
                    let owner = match &**source {
                        StateError::Held { owner, .. } => self.positions.get(owner).copied(),
                        _ => None,
                    };
                    owner.filter(|&owner| route.function.needs.allow(&self.members[owner].node))
                }
                _ => None,
            };
            let now = self.clock.now();
            let left = deadline.since(now);
            let Some(to) = to.filter(|to| !left_out.contains(to) && !left.is_zero()) else { return Err(error) };
            match self.carry(trip, to, invocation.clone(), now, left).await {
                Err(error) if may_repeat(&invocation, &error) => failed = Failed { to, error },
                result => return result,
            }
        }
    }

    /// Asks the scheduler and claims what it proposes; the calls from here go there from now on.
    async fn decide(&self, trip: Trip<'_>, invocation: &Invocation, left_out: &[usize]) -> Result<usize, InvokeError> {
        let (to, epoch) = self.propose_and_claim(trip, invocation, left_out).await?;
        trip.route.place(trip.from, epoch, to);
        Ok(to)
    }

    /// Asks the scheduler and claims what it proposes; gives the network's epoch at which that was.
    pub(crate) async fn propose_and_claim(
        &self,
        trip: Trip<'_>,
        invocation: &Invocation,
        left_out: &[usize],
    ) -> Result<(usize, u32), InvokeError> {
        let Trip { route, from, .. } = trip;
        let (function, mut left_out) = (&route.function, left_out.to_vec());
        // Read before the nodes are: what changes after that changes the epoch too, and this placement does not stick.
        let epoch = self.epoch.load(Acquire);
        let unplaceable = |source| InvokeError::Unplaceable { function: function.name.clone(), source };
        let mut refused = None;
        for _ in 0..CLAIM_ATTEMPTS {
            let avoided = self.avoided(route, from, invocation.payload.size());
            let request = self.request(route, from, invocation.payload.size());
            let placement = self.propose(route, &request, &left_out, &avoided);
            // Who would have been chosen and why not says more than that nobody is left.
            let placement = placement.map_err(|error| unplaceable(refused.take().unwrap_or(error)))?;
            let Some(to) = self.position(&placement.node) else { continue };
            let claimed = match self.members.get(to) {
                Some(member) if member.claim(function, route.revision, placement.version) => Claimed::Won,
                Some(_) => Claimed::Lost,
                None => self.claim_abroad(route, to, placement.version).await,
            };
            if matches!(claimed, Claimed::Refused { .. } | Claimed::Unanswered) {
                left_out.push(to);
            }
            if let Claimed::Refused { why } = &claimed {
                refused = Some(ScheduleError::Refused { node: placement.node.clone(), why: why.clone() });
            }
            if claimed == Claimed::Won {
                if !route.serves() {
                    // A call that was on its way when the revision lost its traffic holds nothing for it.
                    match self.members.get(to) {
                        Some(member) => member.unclaim(function, route.revision),
                        None => self.release_abroad(route),
                    }
                }
                tracing::debug!(
                    faas.name = %function.name, from = %self.members[from].node.id, node = %placement.node, "scf.schedule"
                );
                return Ok((to, epoch));
            }
        }
        Err(unplaceable(ScheduleError::Contended { attempts: CLAIM_ATTEMPTS }))
    }

    /// What the scheduler is asked for a call of `payload`, made on member `from`.
    pub(crate) fn request<'a>(&'a self, route: &'a Route, from: usize, payload: ByteSize) -> PlacementRequest<'a> {
        PlacementRequest {
            function: &route.function,
            from: &self.members[from].node.id,
            payload,
            data: &route.function.data,
            work: Duration::ZERO,
            seed: self.next_seed(),
        }
    }

    /// What the scheduler proposes now, the nodes of `avoided` last: the first of its lists without which there is
    /// one, see [`Inner::avoided`].
    pub(crate) fn propose(
        &self,
        route: &Route,
        request: &PlacementRequest<'_>,
        left_out: &[usize],
        avoided: &[Vec<usize>],
    ) -> Result<Placement, ScheduleError> {
        let without =
            |avoided: &[usize]| self.scheduler.schedule(request, &self.view(route, &[left_out, avoided].concat()));
        // Where nothing is left, a node that misses what is promised is better than none.
        let kept = avoided.iter().find_map(|avoided| without(avoided).ok());
        kept.map_or_else(|| without(&[]), Ok)
    }

    /// Runs the call on member `to`, watched where something is promised of its function.
    pub(crate) async fn carry(
        self: &Arc<Self>,
        trip: Trip<'_>,
        to: usize,
        invocation: Invocation,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Outcome, InvokeError> {
        let Trip { route, from, .. } = trip;
        let Some(policy) = self.policy_for(route).filter(|_| self.is_member(to)) else {
            return self.carry_to(trip, to, invocation, now, patience).await;
        };
        let input = invocation.payload.size();
        let this = Try { policy, route, from, to, input, begun: now };
        Box::pin(self.watched(this, self.carry_to(trip, to, invocation, now, patience))).await
    }

    /// Runs the call on member `to`: directly when that is the caller, as a message otherwise.
    async fn carry_to(
        self: &Arc<Self>,
        trip: Trip<'_>,
        to: usize,
        invocation: Invocation,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Outcome, InvokeError> {
        let Trip { route, account, part, from, is_nested } = trip;
        if from == to {
            let member = &self.members[to];
            let Some(ready) = &route.ready[to] else {
                return Err(InvokeError::NotFound { function: invocation.function });
            };
            let applicant = Applicant { ready, account, part, accepted: now, patience, is_nested };
            return run(&member.controller, applicant, invocation, member.host(part)).await;
        }
        Box::pin(self.send(trip, to, invocation, patience)).await
    }

    /// Sends the call to member `to` and waits for the answer.
    async fn send(
        &self,
        trip: Trip<'_>,
        to: usize,
        invocation: Invocation,
        patience: Duration,
    ) -> Result<Outcome, InvokeError> {
        let Trip { route, account, from, .. } = trip;
        let function = &route.function.name;
        let Some(node) = self.id_at(to) else { return Err(InvokeError::NotFound { function: function.clone() }) };
        let origin = &self.members[from].node.id;
        let unreachable = |node: &NodeId| InvokeError::Unreachable { function: function.clone(), node: node.clone() };
        let Some(transport) = &self.transport else { return Err(unreachable(&node)) };
        let mut invocation = invocation;
        let attachment = std::mem::take(&mut invocation.attachment);
        let loan = match attachment.get::<Streams>() {
            Some(streams) => Some(self.lent.lend(self.new_id(), &node, streams).ok_or_else(|| {
                let message = "its streams were taken before, or too many are on other nodes".to_owned();
                InvokeError::Host { function: function.clone(), message }
            })?),
            None => None,
        };
        if let Some(attached) = attachment.attached().filter(|_| loan.is_none()) {
            let late = || InvokeError::Limit { function: function.clone(), limit: LimitKind::Wall };
            let packed = within(&*self.clock, patience, attached.pack(route.function.limits.payload)).await;
            invocation.payload = packed.ok_or_else(late)??;
        }
        let decided = match self.is_member(to) {
            true => Decided::Revision(route.revision),
            false => Decided::Definition(route.definition(self.puller.is_some()).0),
        };
        let request = wire::request(&invocation, decided, patience, loan.as_ref().map(Loan::lending));
        let sent = request.size();
        let answer = transport.request(origin, &node, Subject::Invoke, request, patience + TRAVEL).await;
        let answer = answer.map_err(|error| match error {
            TransportError::Overloaded { node } => {
                let retry_after = Duration::from_millis(100);
                InvokeError::Overloaded { function: function.clone(), node, retry_after }
            }
            TransportError::Interrupted { node } | TransportError::TimedOut { node, .. }
                if route.function.repeat == Repeat::Never =>
            {
                InvokeError::Interrupted { function: function.clone(), node }
            }
            _ => unreachable(&node),
        })?;
        let links = transport.hops(origin, &node).unwrap_or(1) as u64;
        let streamed = loan.as_ref().map(Loan::on_wire).unwrap_or_default();
        let on_wire = ByteSize::from_bytes((sent + answer.size() + streamed).bytes() * links);
        route.books.book_wire(account, on_wire);
        let mut outcome = wire::read_answer(answer, function).map_err(|error| match error {
            // A node that was started anew does not know what it was asked to keep: nothing ran there.
            InvokeError::NotFound { function } if !self.is_member(to) && function == route.function.name => {
                route.forget_at(to);
                unreachable(&node)
            }
            error => error,
        })?;
        outcome.receipt.on_wire += on_wire;
        Ok(outcome)
    }
}

/// Runs a call on a node and joins what it gave with its bill.
async fn run(
    controller: &Controller,
    applicant: Applicant<'_>,
    invocation: Invocation,
    host: &Arc<dyn Host>,
) -> Result<Outcome, InvokeError> {
    let (mut invocation, mut bill) = (Some(invocation), None);
    let payload = controller.run(applicant, &mut invocation, host, &mut bill).await?;
    Ok(Outcome { payload, receipt: bill.expect("a call that gave a payload has its bill") })
}

/// Whether a call that failed with `error` is tried anywhere else.
fn may_repeat(invocation: &Invocation, error: &InvokeError) -> bool {
    error.is_retryable() && !invocation.attachment.attached().is_some_and(Attached::is_begun)
}

/// How long the caller of `invocation` waits.
fn patience(invocation: &Invocation, route: &Route) -> Duration {
    let wall = route.function.limits.wall;
    invocation.patience.unwrap_or(wall).min(wall)
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
        let Some((invocation, decided, patience, streams)) = wire::read_request(request) else {
            tracing::warn!(%from, "dropped a message that is no invocation");
            return Envelope::default();
        };
        let mut overhead = Overhead::default();
        let Overhead { meter, payer } = &mut overhead;
        let answered = async {
            let carriage = streams.map(|lending| Carriage::new(&invocation.function, lending));
            let invocation = carriage.iter().fold(invocation, |invocation, carriage| carriage.load(invocation));
            let run = inner.answer(self.member, invocation, decided, patience, payer);
            let mut result = match carriage.zip(inner.transport.as_deref()) {
                None => run.await,
                Some((carriage, transport)) => {
                    let (clock, here) = (&*inner.clock, &inner.members[self.member].node.id);
                    let way = Way { transport, clock, here, there: from, until: clock.now() + patience + TRAVEL };
                    Box::pin(carriage.run(way, run)).await
                }
            };
            if let Ok(outcome) = &mut result {
                outcome.receipt.host += meter.running();
            }
            wire::answer(result)
        };
        meter.run(answered).await
    }
}

impl Inner {
    /// Runs a call that another node sent to `member` and decided to be one of `decided`.
    async fn answer(
        &self,
        member: usize,
        invocation: Invocation,
        decided: Decided,
        patience: Duration,
        payer: &mut Option<Found>,
    ) -> Result<Outcome, InvokeError> {
        let revision = match decided {
            Decided::Revision(revision) => revision,
            Decided::Definition(digest) => match self.guest(&digest) {
                Some(route) if route.function.name == invocation.function => route.revision,
                _ => return Err(InvokeError::NotFound { function: invocation.function }),
            },
        };
        // Where the revision went while the call was on its way, the call goes where it would go now.
        let found = &*payer.insert(self.find(&invocation, Some(revision))?);
        let (route, account, part) = (found.route(), found.account(), found.part);
        let Some(ready) = &route.ready[member] else {
            return Err(InvokeError::NotFound { function: invocation.function });
        };
        let accepted = self.clock.now();
        let applicant = Applicant { ready, account, part, accepted, patience, is_nested: false };
        let member = &self.members[member];
        run(&member.controller, applicant, invocation, member.host(part)).await
    }

    /// Where `invocation` goes and who pays: to `decided`, as long as that is kept.
    fn find(&self, invocation: &Invocation, decided: Option<Revision>) -> Result<Found, InvokeError> {
        let (part, function) = (here(), &invocation.function);
        let deployment = self.near(part, function).filter(|deployment| !deployment.revisions().is_empty());
        let deployment = deployment.ok_or_else(|| InvokeError::NotFound { function: function.clone() })?;
        let decided = decided.and_then(|revision| deployment.position_of(revision));
        let chosen = decided.or_else(|| deployment.position(&invocation.qualifier, invocation.id));
        let at = chosen.ok_or_else(|| nowhere(function, invocation.qualifier.clone()))?;
        Ok(Found::new(part, deployment, at, self.payer(part, invocation)?))
    }

    /// One revision of a function, if it is kept.
    pub(crate) fn find_revision(&self, function: &FunctionName, revision: Revision) -> Option<Arc<Route>> {
        self.deployed(function, |deployment| deployment.revision(revision).cloned())?
    }
}
