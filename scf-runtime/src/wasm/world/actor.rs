//! `scf:function/actor`: timers and calls that come about with the state of the call.

use std::{sync::Arc, time::Duration};

use scf_core::{
    Due, FunctionName, KeyValueError, KeyValueLimits, Payload, QueuedCall, StateError, StateSession, WallTime,
};

use super::{
    World,
    bindings::scf::function0_1_0::actor::{self, ActorError},
    function::CALLS,
    state::OwnState,
};
use crate::timer::timer;

/// What a guest is told: an error of the interface, unless the host is at fault.
type Told<T> = wasmtime::Result<Result<T, ActorError>>;

/// Something to be kept until the call commits.
struct Kept {
    state: Arc<OwnState>,
    name: String,
    payload: Payload,
}

impl Kept {
    async fn act<F>(self, deed: F) -> Result<(), ActorError>
    where
        F: FnOnce(&dyn StateSession, &str, Payload) -> Result<(), StateError> + Send + 'static,
    {
        let Self { state, name, payload } = self;
        let size = KeyValueLimits::size_of(&name, &payload.bytes);
        state.act(size, move |session| deed(session, &name, payload)).await.map_err(failed)
    }
}

impl World {
    fn keep(&self, name: String, payload: Vec<u8>) -> Result<Kept, ActorError> {
        KeyValueLimits::default().check_key(&name).map_err(failed)?;
        if payload.len() as u64 > self.plan.payload.bytes() {
            return Err(ActorError::Limit);
        }
        let state = self.state.clone().ok_or(ActorError::Stateless)?;
        Ok(Kept { state, name, payload: Payload::new(payload) })
    }

    async fn set(&mut self, name: String, due: Due, period: Option<Duration>, payload: Vec<u8>) -> Told<()> {
        let call = self.call()?.without_state();
        let kept = match self.keep(name, payload) {
            Ok(kept) => kept,
            Err(error) => return Ok(Err(error)),
        };
        let deed = move |session: &dyn StateSession, name: &str, payload| {
            let timer = timer(&call, session, name, due).payload(payload);
            session.enqueue(if let Some(period) = period { timer.every(period) } else { timer })
        };
        Ok(kept.act(deed).await)
    }
}

impl actor::Host for World {
    async fn set_timer(&mut self, name: String, due: actor::Due, payload: Vec<u8>) -> Told<()> {
        self.set(name, when(due), None, payload).await
    }

    async fn set_reminder(&mut self, name: String, first: actor::Due, period_ms: u64, payload: Vec<u8>) -> Told<()> {
        self.set(name, when(first), Some(Duration::from_millis(period_ms)), payload).await
    }

    async fn cancel_timer(&mut self, name: String) -> Told<()> {
        match self.keep(name, Vec::new()) {
            Ok(kept) => Ok(kept.act(|session, name, _| session.cancel_timer(name)).await),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn enqueue(
        &mut self,
        function: String,
        key: Option<String>,
        due: actor::Due,
        payload: Vec<u8>,
    ) -> Told<String> {
        let call = self.call()?;
        let (id, tenant, trace) = (call.id.child(self.steps), call.tenant.clone(), call.trace.clone());
        let granted = |name: &FunctionName| *name == call.function || self.plan.grants.functions.contains(name);
        let Some(callee) = FunctionName::new(&function).ok().filter(granted) else {
            return Ok(Err(ActorError::Denied));
        };
        if self.steps == CALLS {
            return Ok(Err(ActorError::Limit));
        }
        let kept = match self.keep(key.clone().unwrap_or(function), payload) {
            Ok(kept) => kept,
            Err(error) => return Ok(Err(error)),
        };
        self.steps += 1;
        let deed = move |session: &dyn StateSession, _: &str, payload| {
            let mut call = QueuedCall::new(id, callee, payload).tenant(tenant).due(when(due));
            (call.key, call.trace) = (key, trace);
            session.enqueue(call)
        };
        Ok(kept.act(deed).await.map(|()| id.to_string()))
    }

    async fn put_until(&mut self, key: String, value: Vec<u8>, expires_ms: u64) -> Told<()> {
        if let Err(error) = KeyValueLimits::default().check_value(&value) {
            return Ok(Err(failed(error)));
        }
        let expires = WallTime::from_millis(expires_ms);
        match self.keep(key, value) {
            Ok(kept) => Ok(kept.act(move |session, key, value| session.put_until(key, value.bytes, expires)).await),
            Err(error) => Ok(Err(error)),
        }
    }
}

fn when(due: actor::Due) -> Due {
    match due {
        actor::Due::Now => Due::Now,
        actor::Due::AfterMs(wait) => Due::After(Duration::from_millis(wait)),
        actor::Due::AtMs(wall) => Due::At(WallTime::from_millis(wall)),
    }
}

fn failed(error: KeyValueError) -> ActorError {
    match error {
        KeyValueError::Full { .. } | KeyValueError::Key { .. } | KeyValueError::Value { .. } => ActorError::Limit,
        KeyValueError::Store { source } => ActorError::Failed(source.to_string()),
        other => ActorError::Failed(other.to_string()),
    }
}
