//! One call, from its admission to its receipt.

use std::{future::poll_fn, mem::take, pin::pin, sync::Arc, task::Poll, time::Duration};

use scf_core::{
    Attached, Begun, Call, Commit, Function, Host, Invocation, InvokeError, Isolate, LimitKind, MediaType, Opened,
    Payload, Phase, Receipt, Reply, Reuse, Scope, StateError, Statefulness, Streams, Usage,
};

use tracing::Instrument;

use super::{Applicant, Controller, Ready, admission::Permit, pins::Place, stored, within::within};
use crate::{cpu::has_just_ended, observe, tab::Tab, tenant::Account};

/// How often a stateful call is run again because its state moved on meanwhile.
const CONFLICT_RETRIES: u32 = 8;

impl Controller {
    /// Runs a call here and books it. Takes the `invocation` once the call is admitted; what the call came to is in
    /// `bill` where it gave a payload.
    pub(crate) async fn run(
        &self,
        applicant: Applicant<'_>,
        invocation: &mut Option<Invocation>,
        host: &Arc<dyn Host>,
        bill: &mut Option<Receipt>,
    ) -> Result<Payload, InvokeError> {
        let pages = applicant.ready.books.pages(applicant.part, applicant.account);
        let mut tab = Tab::open(pages, &self.node, &*self.clock);
        let tenant = &applicant.account.tenant.name;
        let span = observe::span(given(invocation), applicant.ready.revision, tenant, &self.node.id);
        let observed = self.observer.begin(&span, applicant.ready, tenant);
        let result = {
            // Pinned here, like what it waits for itself, so that nothing that waits for it copies it.
            let served = pin!(self.serve(applicant, invocation, host, &mut tab, bill));
            if span.is_disabled() { served.await } else { served.instrument(span.clone()).await }
        };
        let receipt = match (&result, &*bill) {
            (Ok(_), Some(receipt)) => Ok(receipt),
            (Ok(_), None) => unreachable!("serve gives a payload and its bill"),
            (Err(error), _) => Err(error),
        };
        match &result {
            // It was not let in; the node that it goes to instead books it.
            Err(InvokeError::Unreachable { node, .. }) if invocation.is_some() && *node == self.node.id => tab.void(),
            _ => tab.close(receipt),
        }
        observed.finish(receipt);
        result
    }

    async fn serve(
        &self,
        applicant: Applicant<'_>,
        invocation: &mut Option<Invocation>,
        host: &Arc<dyn Host>,
        tab: &mut Tab<'_>,
        bill: &mut Option<Receipt>,
    ) -> Result<Payload, InvokeError> {
        let Applicant { ready, account, accepted, .. } = applicant;
        let function = &*ready.function;
        let name = &function.name;
        check_input(function, given(invocation))?;
        let patience = applicant.patience.min(function.limits.wall);
        let deadline = accepted + patience;
        if !ready.life.is_ready() {
            self.wake(ready, accepted);
        }
        // A key with a slot of its own asks for none.
        let pinned = self.pinned(ready, given(invocation).key.as_deref())?;
        let permit = match pinned {
            Some(_) => None,
            None => match self.gate.admit_now(&applicant) {
                Some(_) if self.gate.turns_away(&applicant) => return Err(self.gate.elsewhere(ready)),
                Some(permit) => Some(permit),
                None => Some(self.gate.admit(Applicant { patience, ..applicant }).await?),
            },
        };
        // Who did not wait was admitted when it was accepted.
        let has_waited = permit.as_ref().is_some_and(Permit::has_waited);
        let admitted = if has_waited { self.clock.now() } else { accepted };
        let trace = observe::trace_of(given(invocation), &self.node.id);
        // Taken apart at once: what is not needed is not kept for as long as the call runs.
        let Invocation { id, function: called, payload: input, key, attempt, attachment, .. } =
            invocation.take().expect("only this takes it");
        let bytes_in = input.size();
        let mut call = Call::new(id, called, account.tenant.name.clone(), deadline, Arc::clone(host));
        call.revision = ready.revision;
        (call.key, call.attempt, call.trace, call.attachment) = (key, attempt, trace, attachment);

        let too_late = || InvokeError::Limit { function: name.clone(), limit: LimitKind::Wall };
        let (mut held, mut started) = (None, admitted);
        if !ready.devices.is_empty() {
            tab.runs(admitted, &call.meter);
            let acquired = self.devices.acquire(&ready.devices, &*self.clock, &call.meter);
            let acquired = within(&*self.clock, deadline.since(admitted), acquired);
            held = Some(Box::pin(acquired).await.ok_or_else(too_late)?);
            started = self.clock.now();
        }
        let left = deadline.since(started);
        // The first call of a function that was dormant says when its isolate is there.
        let is_begun = function.state == Statefulness::Stateless && ready.life.is_ready();
        if !is_begun {
            tab.runs(admitted, &call.meter);
        }
        let mut result = match function.state {
            Statefulness::Stateless if is_begun => {
                let mut input = Some(input);
                let begun = poll_fn(|cx| {
                    let input = input.take().unwrap_or_default();
                    Poll::Ready(ready.prepared.begin(&call, input, cx))
                });
                match begun.await {
                    Begun::Done(reply) => Some(reply),
                    Begun::Waits(run) => {
                        tab.runs(admitted, &call.meter);
                        Box::pin(within(&*self.clock, left, run)).await
                    }
                }
            }
            Statefulness::Stateless => within(&*self.clock, left, Box::pin(self.attempt(ready, &call, input))).await,
            _ => within(&*self.clock, left, Box::pin(self.run_stateful(ready, &mut call, &input))).await,
        };
        drop(held);
        let finished = if has_just_ended(&call.meter) { self.clock.marked() } else { self.clock.now() };
        ready.slots.held.service.observe(finished.since(admitted));
        if ready.scaler.is_some() {
            ready.slots.held.ended.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        ready.touch(finished);
        self.settle_pin(ready, &call, account, permit, result.as_ref().is_some_and(Result::is_ok));
        drop(pinned);
        if function.reuse == Reuse::Pinned && !self.gate.is_open() {
            self.unpin_all(ready);
        }
        // Not moved: it is large, and all that is in it goes to different places.
        let Some(Ok(reply)) = &mut result else {
            tab.runs(admitted, &call.meter);
            return Err(result.and_then(Result::err).unwrap_or_else(too_late));
        };
        // What changes state was held to it before that was committed.
        if function.state == Statefulness::Stateless && reply.payload.size() > function.limits.payload {
            tab.runs(admitted, &call.meter);
            return Err(InvokeError::Limit { function: call.function, limit: LimitKind::Output });
        }
        let (streamed_in, streamed_out) = call.attachment.attached().map(Attached::carried).unwrap_or_default();
        let (usage, beside) = (all_of(&reply.usage, &call.meter.usage()), call.meter.host());
        let receipt = bill.insert(Receipt::new(call.function, call.tenant, self.node.id.clone()));
        receipt.revision = ready.revision;
        receipt.queued = started.since(accepted);
        receipt.wall = finished.since(accepted);
        receipt.usage = usage;
        receipt.spent = self.node.spent(usage.cpu);
        receipt.host = beside;
        receipt.cold = !reply.reused;
        receipt.bytes_in = bytes_in + streamed_in;
        receipt.bytes_out = reply.payload.size() + streamed_out;
        receipt.spans = take(&mut reply.spans);
        receipt.calls = take(&mut reply.calls);
        // A function that is not declared to give a type says of each payload what it is.
        let Payload { bytes, media } = take(&mut reply.payload);
        let media = if function.output == MediaType::OCTETS { media } else { function.output.clone() };
        Ok(Payload { bytes, media })
    }

    /// Gives the slot of a call to its key, if that is to have one, and takes it from a key whose state has left.
    fn settle_pin(
        &self,
        ready: &Arc<Ready>,
        call: &Call,
        account: &Arc<Account>,
        permit: Option<Permit<'_>>,
        is_done: bool,
    ) {
        let (Reuse::Pinned, Some(key)) = (ready.function.reuse, &call.key) else { return };
        match permit {
            Some(permit) if is_done && !permit.is_nested() && self.gives_seat(ready, key, account, permit.part()) => {
                permit.retain();
            }
            Some(permit) => drop(permit),
            None => {
                let scope = Scope { function: ready.function.name.clone(), key: key.clone() };
                if self.state().is_some_and(|store| store.phase(&scope) == Phase::Remote) {
                    self.unpin(ready, |pinned| pinned == key);
                }
            }
        }
    }

    /// Runs a call once, in an isolate of its own, and notes that the function has one.
    async fn attempt(&self, ready: &Arc<Ready>, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let mut isolate = ready.prepared.instantiate().await?;
        self.attempt_in(ready, &mut *isolate, call, input).await
    }

    /// Runs a call once in the isolate of its key, whose state is local.
    async fn attempt_pinned(
        &self,
        ready: &Arc<Ready>,
        place: Place,
        call: &Call,
        input: Payload,
    ) -> Result<Reply, InvokeError> {
        let key = call.key.as_deref().unwrap_or_default();
        let kept = match ready.pins.take(key, place) {
            Some(kept) => Some(kept),
            None => ready.prepared.pin().await?,
        };
        let Some(mut isolate) = kept else { return self.attempt(ready, call, input).await };
        let reply = self.attempt_in(ready, &mut *isolate, call, input).await?;
        ready.pins.put(key, place, isolate, ready.most_pins());
        Ok(reply)
    }

    async fn attempt_in(
        &self,
        ready: &Arc<Ready>,
        isolate: &mut dyn Isolate,
        call: &Call,
        input: Payload,
    ) -> Result<Reply, InvokeError> {
        if !ready.life.is_ready() {
            self.started(ready);
        }
        let reply = isolate.invoke(call, input).await?;
        if reply.payload.size() > ready.function.limits.payload {
            return Err(InvokeError::Limit { function: call.function.clone(), limit: LimitKind::Output });
        }
        Ok(reply)
    }

    /// Runs a stateful call until its changes are committed; the reply waits for that (output gate).
    async fn run_stateful(&self, ready: &Arc<Ready>, call: &mut Call, input: &Payload) -> Result<Reply, InvokeError> {
        let function = &ready.function.name;
        let store = self.state.as_ref().expect("deploy refuses a stateful function where there is no store");
        let scope = Scope { function: function.clone(), key: call.key.clone().unwrap_or_default() };
        let failed = |source| {
            let source = Box::new(source);
            InvokeError::State { function: function.clone(), key: scope.key.clone(), source }
        };
        let mut tries = 0;
        loop {
            let session = match store.open(&scope, call.id).await.map_err(failed)? {
                Opened::Session(session) => session,
                // No isolate was made.
                Opened::Done(result) => {
                    return Ok(Reply { payload: stored::read(&result), reused: true, ..Reply::default() });
                }
                other => {
                    let message = format!("the state store answered {other:?}");
                    return Err(InvokeError::Host { function: function.clone(), message });
                }
            };
            let place = Place::of(&*session).filter(|_| ready.function.reuse == Reuse::Pinned);
            call.output = session.output();
            call.state = Some(session);
            let mut reply = match place {
                Some(place) => self.attempt_pinned(ready, place, call, input.clone()).await?,
                None => self.attempt(ready, call, input.clone()).await?,
            };
            let session = call.state.take().expect("isolates hold the call by shared reference");
            let commit = session.commit(stored::store(&reply.payload, &ready.function.output)).await;
            if place.is_some() && !matches!(commit, Ok(Commit::Applied { .. })) {
                // Its isolate has seen what did not come about.
                ready.pins.discard(&scope.key);
            }
            match commit {
                Ok(Commit::Duplicate { result }) => reply.payload = stored::read(&result),
                Ok(_) => {}
                Err(StateError::Conflict { .. }) if tries < CONFLICT_RETRIES => {
                    tries += 1;
                    call.attempt = call.attempt.saturating_add(1);
                    continue;
                }
                Err(source) => return Err(failed(source)),
            }
            return Ok(reply);
        }
    }
}

/// The invocation of a call that was not admitted yet.
fn given(invocation: &Option<Invocation>) -> &Invocation {
    invocation.as_ref().expect("it is taken when the call is admitted")
}

/// Refuses what the function does not take, before it costs a slot.
fn check_input(function: &Function, invocation: &Invocation) -> Result<(), InvokeError> {
    let name = || function.name.clone();
    let media = &invocation.payload.media;
    if !function.input.takes(media) {
        return Err(InvokeError::Media {
            function: name(),
            takes: function.input.to_string(),
            given: media.to_string(),
        });
    }
    if invocation.payload.size() > function.limits.payload {
        return Err(InvokeError::Limit { function: name(), limit: LimitKind::Input });
    }
    if function.state != Statefulness::Stateless && invocation.attachment.get::<Streams>().is_some() {
        let message = "it keeps state, and what it sent could not be taken back when its commit fails".to_owned();
        return Err(InvokeError::Refused { function: name(), message });
    }
    if function.state == Statefulness::PerKey && invocation.key.is_none() {
        return Err(InvokeError::NoKey { function: name() });
    }
    Ok(())
}

/// What the last isolate of a call says and what all of them told, of a call that was run again.
fn all_of(reply: &Usage, told: &Usage) -> Usage {
    let longest = |a: Duration, b: Duration| a.max(b);
    Usage {
        cpu: longest(reply.cpu, told.cpu),
        memory: reply.memory.max(told.memory),
        accelerator: longest(reply.accelerator, told.accelerator),
        fuel: reply.fuel.max(told.fuel),
    }
}
