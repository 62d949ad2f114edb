//! What runs functions: the factory that prepares code and the isolates it makes.

use std::{
    fmt::{self, Debug, Formatter},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use thiserror::Error;

use crate::{
    Attachment, BoxError, ByteSize, Code, Function, FunctionName, InvocationId, InvokeError, Meter, Node, NodeId,
    ObjectStore, Outcome, OutputGate, Path, Payload, Receipt, Revision, Span, StateSession, Tenant, TenantName,
    Timestamp, TraceContext, Usage,
};

/// Makes isolates of one kind of [`Code`].
///
/// The controller holds one per kind and node. Implementations: WebAssembly components, native Rust
/// functions, model blocks, whatever an integrator adds.
#[async_trait]
pub trait IsolateFactory: Debug + Send + Sync + 'static {
    /// The kind, for messages: `wasm`, `native`.
    fn name(&self) -> &'static str;

    /// Whether this factory runs `code`. Called once per deployment; must not look inside large code.
    fn accepts(&self, code: &Code) -> bool;

    /// The largest code that it takes: larger code of an object is not read for it. Default 64 MiB.
    fn code_limit(&self) -> ByteSize {
        ByteSize::from_mib(64)
    }

    /// Tells of the tenants that a fabric was given, whose memory and weight hold for its isolates. Called once, when
    /// the fabric is built. What the factory itself was told of a tenant before goes first; one that keeps no account
    /// of tenants need not listen.
    fn tenants(&self, tenants: &[Tenant]) {
        let _ = tenants;
    }

    /// Compiles or loads, links and checks `function`, so that isolates of it start in microseconds.
    ///
    /// Called once per deployment and node, before any call; may take long and may run again after a failure.
    ///
    /// # Errors
    /// [`PrepareError`] with the function's name; the function is then not deployed.
    async fn prepare(&self, function: &Function) -> Result<Arc<dyn Prepared>, PrepareError>;
}

/// A function that is ready to have isolates made of it.
#[async_trait]
pub trait Prepared: Debug + Send + Sync + 'static {
    /// A fresh isolate. Called once per invocation, on its way: microseconds.
    ///
    /// # Errors
    /// [`InvokeError::Overloaded`] when no slot is free, [`InvokeError::Host`] otherwise.
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError>;

    /// Runs one call in an isolate of its own, as far as it goes without waiting, and drops that after it:
    /// [`Prepared::instantiate`], then [`Isolate::invoke`], which is what it does unless an implementation can do
    /// both with fewer allocations. Called instead of the two once a function is ready, by the task of `cx`.
    fn begin<'a>(&'a self, call: &'a Call, input: Payload, cx: &mut Context<'_>) -> Begun<'a> {
        Begun::poll(Box::pin(async move { self.instantiate().await?.invoke(call, input).await }), cx)
    }

    /// Keeps `isolates` isolates that have started but served no call, for a function that reuses them
    /// ([`Reuse::Warm`](crate::Reuse::Warm)); fewer are retired down to it. Called by the controller when it
    /// scales, zero when the function becomes dormant. Gives how many are kept; an implementation that starts
    /// isolates in microseconds need not keep any.
    ///
    /// # Errors
    /// As [`Prepared::instantiate`].
    async fn keep(&self, isolates: u32) -> Result<u32, InvokeError> {
        let _ = isolates;
        Ok(0)
    }

    /// A fresh isolate that keeps its memory from call to call, for the calls of one key while its state is local
    /// ([`Reuse::Pinned`](crate::Reuse::Pinned)). `None`, the default: isolates of this kind keep nothing.
    ///
    /// # Errors
    /// As [`Prepared::instantiate`].
    async fn pin(&self) -> Result<Option<Box<dyn Isolate>>, InvokeError> {
        Ok(None)
    }
}

/// A call that was begun: most are short, and over when they are begun.
#[expect(clippy::exhaustive_enums, reason = "a call is over or it is not")]
pub enum Begun<'a> {
    /// It is over.
    Done(Result<Reply, InvokeError>),
    /// It waits for something; its future goes on as that of [`Isolate::invoke`].
    Waits(Pin<Box<dyn Future<Output = Result<Reply, InvokeError>> + Send + 'a>>),
}

impl<'a> Begun<'a> {
    /// What `call` is after its first poll.
    pub fn poll<F>(mut call: Pin<Box<F>>, cx: &mut Context<'_>) -> Self
    where
        F: Future<Output = Result<Reply, InvokeError>> + Send + 'a,
    {
        match call.as_mut().poll(cx) {
            Poll::Ready(result) => Self::Done(result),
            Poll::Pending => Self::Waits(call),
        }
    }
}

impl Debug for Begun<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(result) => f.debug_tuple("Done").field(result).finish(),
            Self::Waits(_) => f.write_str("Waits"),
        }
    }
}

/// One sandboxed instance of a function; serves one call at a time.
#[async_trait]
pub trait Isolate: Debug + Send {
    /// Runs the call. The host drops the future at the call's deadline, and drops the isolate after it:
    /// an isolate whose call was not finished is never used again.
    ///
    /// The isolate enforces the function's memory and CPU limits itself, must not block its thread, and
    /// reports the CPU time it used, both in the reply and, as it arises, through [`Call::meter`], from which a
    /// call that fails or is dropped is billed, and [`Host::pace`].
    ///
    /// # Errors
    /// [`InvokeError`] saying who failed: the guest, a limit, the host, a callee.
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError>;
}

const _: fn(&dyn IsolateFactory, &dyn Prepared, &dyn Isolate) = |_, _, _| {};

/// What an isolate gives back.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "isolates of integrators write it as a literal")]
pub struct Reply {
    /// The function's output.
    pub payload: Payload,
    /// What it used.
    pub usage: Usage,
    /// Whether the isolate had served a call before.
    pub reused: bool,
    /// Parts worth reporting; mostly none.
    pub spans: Vec<Span>,
    /// Bills of the calls that it made.
    pub calls: Vec<Receipt>,
}

impl Reply {
    /// A reply that used `usage` and has nothing else to report.
    #[must_use]
    pub const fn new(payload: Payload, usage: Usage) -> Self {
        Self { payload, usage, reused: false, spans: Vec::new(), calls: Vec::new() }
    }
}

/// One call as an isolate sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Call {
    /// The logical call; equal across retries.
    pub id: InvocationId,
    /// What is called.
    pub function: FunctionName,
    /// Which revision of it.
    pub revision: Revision,
    /// On whose behalf.
    pub tenant: TenantName,
    /// Whose state it works on.
    pub key: Option<String>,
    /// When the host gives up waiting.
    pub deadline: Timestamp,
    /// Which attempt at the logical call it is, counted from 1: deliveries out of a queue, tries on another node after
    /// one stopped answering, runs after the state had moved on. Two attempts that do not know of each other may have
    /// the same.
    pub attempt: u32,
    /// The trace that it belongs to, behind the span of this call: what goes out on its behalf carries it on.
    pub trace: Option<TraceContext>,
    /// Told what the isolate uses, as it arises.
    pub meter: Arc<Meter>,
    /// The node it runs on and what that offers.
    pub host: Arc<dyn Host>,
    /// The state of function and key; none for a stateless function. Committed by the host after the call.
    pub state: Option<Box<dyn StateSession>>,
    /// Streams that go with it; mostly none.
    pub attachment: Attachment,
    /// What is waited for before anything is sent to others on behalf of the call; mostly nothing.
    pub output: Option<Arc<dyn OutputGate>>,
}

impl Call {
    /// The first attempt at a call of the first revision, without key, state and trace.
    #[must_use]
    #[inline]
    pub fn new(
        id: InvocationId,
        function: FunctionName,
        tenant: TenantName,
        deadline: Timestamp,
        host: Arc<dyn Host>,
    ) -> Self {
        let (revision, meter, attachment) = (Revision::new(1), Arc::default(), Attachment::NONE);
        let (attempt, trace, key, state, output) = (1, None, None, None, None);
        Self { id, function, revision, tenant, key, deadline, attempt, trace, meter, host, state, attachment, output }
    }

    /// The same call without its state and its streams, for what acts on its behalf and does not commit it.
    #[must_use]
    pub fn without_state(&self) -> Self {
        Self {
            id: self.id,
            function: self.function.clone(),
            revision: self.revision,
            tenant: self.tenant.clone(),
            key: self.key.clone(),
            deadline: self.deadline,
            attempt: self.attempt,
            trace: self.trace.clone(),
            meter: Arc::clone(&self.meter),
            host: Arc::clone(&self.host),
            state: None,
            attachment: Attachment::NONE,
            output: self.output.clone(),
        }
    }
}

/// What a node offers to the isolates that run on it.
#[async_trait]
pub trait Host: Debug + Send + Sync + 'static {
    /// The node.
    fn node(&self) -> &Arc<Node>;

    /// The time, on the clock that deadlines are of.
    fn now(&self) -> Timestamp;

    /// The nodes that `function` may run on and that are believed to be reachable, this one included.
    fn hosts_of(&self, function: &FunctionName) -> Vec<Arc<Node>>;

    /// The nodes that `function` may run on, this one included, whether or not there is a way to each. Default: those of
    /// [`Host::hosts_of`].
    fn members_of(&self, function: &FunctionName) -> Vec<Arc<Node>> {
        self.hosts_of(function)
    }

    /// A number that changes whenever [`Host::members_of`] would answer otherwise, read before that is asked: who asks
    /// often keeps the answer as long as the number stays. Default: none, the answer may change at any time.
    fn members_version(&self) -> Option<u64> {
        None
    }

    /// The way from node `from` to node `to` as last measured; `None` where none is known or it is cut.
    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path>;

    /// Accounts for `cpu` just used on this CPU and returns what it comes to on this node. On an emulated
    /// slower node it returns only after the difference has passed; on a real one at once.
    async fn pace(&self, cpu: Duration) -> Duration;

    /// Whether [`Host::pace`] does anything at all: an isolate need not call it where not. Default: it does.
    fn paces(&self) -> bool {
        true
    }

    /// What keeps objects, as it is: an isolate hands out what its function is granted
    /// ([`GrantedObjects`](crate::GrantedObjects)). Default: nothing does.
    fn objects(&self) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    /// Calls another function, or this one again on another node, on behalf of `call`.
    ///
    /// `step` makes the callee's invocation id: the same step of a retried call has the same id.
    ///
    /// # Errors
    /// Whatever the callee failed with, or why it was not reached.
    async fn invoke(&self, call: &Call, step: u64, callee: Callee) -> Result<Outcome, InvokeError>;
}

const _: fn(&dyn Host) = |_| {};

/// What an isolate calls.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "isolates of integrators write it as a literal")]
pub struct Callee {
    /// The function.
    pub function: FunctionName,
    /// The node it must run on; otherwise the scheduler decides.
    pub node: Option<NodeId>,
    /// Whose state it works on.
    pub key: Option<String>,
    /// What it is given.
    pub payload: Payload,
}

/// Why a function could not be made ready.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// No factory of the fabric runs this kind of code.
    #[error("function {function}: nothing here runs {kind} code: {hint}")]
    NoFactory {
        /// The function.
        function: FunctionName,
        /// [`Code::kind`].
        kind: &'static str,
        /// What to enable or register.
        hint: &'static str,
    },
    /// The code refers to something that was not registered.
    #[error("function {function}: {kind} {name:?} is not registered")]
    NotRegistered {
        /// The function.
        function: FunctionName,
        /// [`Code::kind`].
        kind: &'static str,
        /// The name that was looked up.
        name: String,
    },
    /// The code is not well formed or does not compile.
    #[error("function {function}: the code is not valid")]
    InvalidCode {
        /// The function.
        function: FunctionName,
        /// What the compiler says.
        #[source]
        source: BoxError,
    },
    /// The code imports what it was not granted.
    #[error("function {function}: import {import:?} is not provided")]
    Import {
        /// The function.
        function: FunctionName,
        /// The import.
        import: String,
    },
    /// The code uses a feature that this build or its profile leaves out.
    #[error("function {function}: the code uses {feature}, which this runtime does not run")]
    Unsupported {
        /// The function.
        function: FunctionName,
        /// The feature, as WebAssembly or WASI names it.
        feature: String,
    },
    /// The code needs what its manifest does not grant, or the node does not have what it grants.
    #[error("function {function}: grant {grant}: {problem}")]
    Grant {
        /// The function.
        function: FunctionName,
        /// The field of [`Grants`](crate::Grants), and the entry in it.
        grant: String,
        /// What is wrong.
        problem: String,
    },
    /// A signed artefact is not one that this node accepts.
    #[error("function {function}: the artefact is refused: {problem}")]
    Artefact {
        /// The function.
        function: FunctionName,
        /// What is wrong: signature, key, engine, CPU.
        problem: String,
    },
    /// The export is missing or has a type that cannot be called.
    #[error("function {function}: export {export:?}: {problem}")]
    Export {
        /// The function.
        function: FunctionName,
        /// The export.
        export: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The code is larger than this node takes.
    #[error("function {function}: code of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// The function.
        function: FunctionName,
        /// Size of the code in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The host could not do it now.
    #[error("function {function}: the host could not prepare it")]
    Host {
        /// The function.
        function: FunctionName,
        /// Why.
        #[source]
        source: BoxError,
    },
}
