//! A call that is made later, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    FunctionName, Invocation, InvocationId, NodeId, Payload, Qualifier, Scope, TenantName, TraceContext, WallTime,
};

/// A call as an [`InvocationQueue`](super::InvocationQueue) keeps it until it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueuedCall {
    /// What its effect happens once under: a call that is accepted again is the same call.
    pub id: InvocationId,
    /// The function.
    pub function: FunctionName,
    /// Which revision of it.
    pub qualifier: Qualifier,
    /// Who pays; `None` for the function's own tenant.
    pub tenant: Option<TenantName>,
    /// The key; calls of one function with the same key are delivered one at a time, in the order in which they
    /// became due.
    pub key: Option<String>,
    /// What the function is given.
    pub payload: Payload,
    /// When it becomes due.
    pub due: Due,
    /// How long after it became due it may still be started; after that it is a dead letter. `None`: the queue's own.
    pub max_age: Option<Duration>,
    /// Whose timer it is, if it is one.
    pub timer: Option<TimerName>,
    /// A reminder: how long after this call became due the next one does. What was missed in the meantime is left
    /// out, so that one call stands for all of it.
    pub every: Option<Duration>,
    /// The node into whose queue it goes once it is due; `None` where it stays in the queue that accepts it.
    pub destination: Option<NodeId>,
    /// The trace that it belongs to, if somebody keeps one.
    pub trace: Option<TraceContext>,
}

impl QueuedCall {
    /// A call that is due at once: the live revision, the function's tenant, no key.
    #[must_use]
    pub fn new(id: InvocationId, function: FunctionName, payload: impl Into<Payload>) -> Self {
        Self {
            id,
            function,
            qualifier: Qualifier::Live,
            tenant: None,
            key: None,
            payload: payload.into(),
            due: Due::Now,
            max_age: None,
            timer: None,
            every: None,
            destination: None,
            trace: None,
        }
    }

    /// A timer of `scope`: a call of its function with its key, in place of an earlier timer of that `name`.
    /// `epoch` is that of the owner who sets it, 0 where nobody owns the scope. `setter` is the call that sets it;
    /// when that is tried again it sets the same timer.
    #[must_use]
    pub fn timer(setter: InvocationId, scope: Scope, name: impl Into<String>, epoch: u64, due: Due) -> Self {
        let (name, key) = (name.into(), scope.key.clone());
        // FNV-1a (Fowler, Noll, Vo), which is the same on every node.
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let id = setter.child(name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step));
        let mut call = Self::new(id, scope.function.clone(), Payload::default()).key(key).due(due);
        call.timer = Some(TimerName { scope, name, epoch });
        call
    }

    /// Which revision; default the live one.
    #[must_use]
    pub fn qualifier(mut self, qualifier: Qualifier) -> Self {
        self.qualifier = qualifier;
        self
    }

    /// Who pays; default the function's tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: TenantName) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// The key; default none.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// What the function is given; default what [`QueuedCall::new`] was given.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Payload>) -> Self {
        self.payload = payload.into();
        self
    }

    /// When it becomes due; default at once.
    #[must_use]
    pub const fn due(mut self, due: Due) -> Self {
        self.due = due;
        self
    }

    /// How long it may wait once it is due; default what the queue is configured for.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Makes it a reminder that comes again `period` after it was due, until its timer is cancelled; at least one
    /// millisecond. Default once.
    #[must_use]
    pub fn every(mut self, period: Duration) -> Self {
        self.every = Some(period.max(Duration::from_millis(1)));
        self
    }

    /// The node of another process whose queue it belongs to: it is kept here until that queue has it. Default the
    /// queue that accepts it.
    #[must_use]
    pub fn destination(mut self, node: NodeId) -> Self {
        self.destination = Some(node);
        self
    }

    /// The trace that it belongs to; default none.
    #[must_use]
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// The state that it works on, of a stateful function.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope { function: self.function.clone(), key: self.key.clone().unwrap_or_default() }
    }

    /// The call as it is made.
    #[must_use]
    pub fn into_invocation(self) -> Invocation {
        let mut invocation = Invocation::new(self.id, self.function, self.payload).qualifier(self.qualifier);
        (invocation.tenant, invocation.key, invocation.trace) = (self.tenant, self.key, self.trace);
        invocation
    }
}

impl From<Invocation> for QueuedCall {
    /// The call of `invocation`, due at once. A target node, an attachment and the caller's patience are not kept:
    /// nobody waits for it.
    fn from(invocation: Invocation) -> Self {
        let mut call = Self::new(invocation.id, invocation.function, invocation.payload);
        (call.qualifier, call.tenant, call.key) = (invocation.qualifier, invocation.tenant, invocation.key);
        call.trace = invocation.trace;
        call
    }
}

/// When a call becomes due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Due {
    /// At once.
    #[default]
    Now,
    /// When so much time has passed since it was accepted. A clock that is set changes nothing about it.
    After(Duration),
    /// When the machine's clock says so; it follows a clock that is set.
    At(WallTime),
}

/// A timer: at most one call waits under a scope's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "three parts are all that names a timer")]
pub struct TimerName {
    /// Whose timer it is.
    pub scope: Scope,
    /// What its owner calls it.
    pub name: String,
    /// The epoch of the owner who set it: a node that was given the scope later knows it for an earlier owner's.
    pub epoch: u64,
}
