//! One call, its outcome and its bill.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Attachment, ByteSize, FunctionName, InvocationId, NodeId, Payload, Qualifier, Revision, Spent, TenantName,
    TraceContext,
};

/// One call of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Invocation {
    /// The logical call; equal across retries.
    pub id: InvocationId,
    /// What is called.
    pub function: FunctionName,
    /// Which revision of it.
    pub qualifier: Qualifier,
    /// On whose behalf; none: the function's own tenant. Taken from a credential, never from a payload.
    pub tenant: Option<TenantName>,
    /// Whose state it works on; required by a stateful function, ignored by others.
    pub key: Option<String>,
    /// What it is given.
    pub payload: Payload,
    /// How long the caller waits; the function's own limit where that is shorter.
    pub patience: Option<Duration>,
    /// The node it must run on; otherwise the scheduler decides.
    pub target: Option<NodeId>,
    /// Which attempt at the call it is, counted from 1, as far as whoever makes it knows.
    pub attempt: u32,
    /// The trace that it belongs to, if somebody keeps one.
    pub trace: Option<TraceContext>,
    /// Streams that go with it inside this process; mostly none.
    #[serde(skip)]
    pub attachment: Attachment,
}

impl Invocation {
    /// The first attempt at a call of `function` with `payload`, without key, patience or target.
    #[must_use]
    pub fn new(id: InvocationId, function: FunctionName, payload: impl Into<Payload>) -> Self {
        Self {
            id,
            function,
            qualifier: Qualifier::Live,
            tenant: None,
            key: None,
            payload: payload.into(),
            patience: None,
            target: None,
            attempt: 1,
            trace: None,
            attachment: Attachment::NONE,
        }
    }

    /// Which revision is called; default where the live traffic goes.
    #[must_use]
    pub fn qualifier(mut self, qualifier: Qualifier) -> Self {
        self.qualifier = qualifier;
        self
    }

    /// On whose behalf it is made and who is billed; default the function's own tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: TenantName) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// Whose state it works on; default nobody's.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// How long the caller waits; default as long as the function may take.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The node it must run on; default where the scheduler places it.
    #[must_use]
    pub fn on(mut self, node: NodeId) -> Self {
        self.target = Some(node);
        self
    }

    /// Which attempt at the call it is, for those who try again themselves; default 1, the first.
    #[must_use]
    pub const fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The trace that it belongs to; default none.
    #[must_use]
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Streams that go with it inside this process; default none.
    #[must_use]
    pub fn attach(mut self, attachment: Attachment) -> Self {
        self.attachment = attachment;
        self
    }
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that an outcome is")]
pub struct Outcome {
    /// What the function gave.
    pub payload: Payload,
    /// What it cost.
    pub receipt: Receipt,
}

/// What an isolate used during one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "isolates of integrators write it as a literal")]
pub struct Usage {
    /// CPU time on this CPU, not stretched by an emulated node's slowdown.
    pub cpu: Duration,
    /// Highest memory of the isolate, where it is known.
    pub memory: ByteSize,
    /// Time for which it held accelerators and other attached devices, added up over them.
    pub accelerator: Duration,
    /// Instructions executed, where the isolate counts them.
    pub fuel: Option<u64>,
}

/// A named part of a call, as the isolate reports it: a model block, a phase of a state access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "isolates of integrators write it as a literal")]
pub struct Span {
    /// What was done.
    pub name: Cow<'static, str>,
    /// How long it took on this node.
    pub took: Duration,
}

/// The bill of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Receipt {
    /// What was called.
    pub function: FunctionName,
    /// Which revision of it.
    pub revision: Revision,
    /// Who is billed.
    pub tenant: TenantName,
    /// Where it ran.
    pub node: NodeId,
    /// Whether an isolate was made for it, as opposed to one that had served a call before.
    pub cold: bool,
    /// From acceptance on that node to the start of the isolate.
    pub queued: Duration,
    /// From acceptance on that node to the reply.
    pub wall: Duration,
    /// What the isolate used.
    pub usage: Usage,
    /// CPU time of the host for it: admission, hand-over, commit, the bill.
    pub host: Duration,
    /// Size of the input.
    pub bytes_in: ByteSize,
    /// Size of the output.
    pub bytes_out: ByteSize,
    /// Bytes that the request and the reply put on links, each link that they crossed counted; nothing when it
    /// ran where it was called.
    pub on_wire: ByteSize,
    /// What the CPU time of the isolate came to by the rates of the node.
    pub spent: Spent,
    /// Whether it was sent to a second node as well because it took long; what that used is on the function's bill.
    pub hedged: bool,
    /// Parts of the call that the isolate reports.
    pub spans: Vec<Span>,
    /// The bills of the calls that it made.
    pub calls: Vec<Self>,
}

impl Receipt {
    /// A bill with nothing on it.
    #[must_use]
    #[inline]
    pub const fn new(function: FunctionName, tenant: TenantName, node: NodeId) -> Self {
        Self {
            function,
            revision: Revision::new(1),
            tenant,
            node,
            cold: true,
            queued: Duration::ZERO,
            wall: Duration::ZERO,
            usage: Usage { cpu: Duration::ZERO, memory: ByteSize::ZERO, accelerator: Duration::ZERO, fuel: None },
            host: Duration::ZERO,
            bytes_in: ByteSize::ZERO,
            bytes_out: ByteSize::ZERO,
            on_wire: ByteSize::ZERO,
            spent: Spent::NOTHING,
            hedged: false,
            spans: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// CPU time of this call and all that it made.
    #[must_use]
    pub fn total_cpu(&self) -> Duration {
        self.usage.cpu + self.calls.iter().map(Self::total_cpu).sum::<Duration>()
    }

    /// What this call and all that it made came to.
    #[must_use]
    pub fn total_spent(&self) -> Spent {
        self.calls.iter().map(Self::total_spent).fold(self.spent, |a, b| a + b)
    }

    /// Bytes on links of this call and all that it made.
    #[must_use]
    pub fn total_on_wire(&self) -> ByteSize {
        self.calls.iter().map(Self::total_on_wire).fold(self.on_wire, |a, b| a + b)
    }
}
