//! Functions written in the embedding program: trusted, not sandboxed.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use scf_core::{
    Call, Callee, Code, Due, Function, FunctionName, GrantedObjects, InvalidName, InvocationId, InvokeError, Isolate,
    IsolateFactory, LimitKind, Limits, MediaType, Name, ObjectError, ObjectGrant, Outcome, Payload, PrepareError,
    Prepared, QueuedCall, Receipt, Reply, Span, StateError, StateSession, Usage,
};
use thiserror::Error;

use crate::{
    cpu::CpuMeter,
    escape::escape,
    timer::timer,
    upgrade::{Upgrade, UpgradeFuture},
};

/// What a native function returns, boxed: `async move { .. }.boxed()`.
pub type NativeFuture<'a> = BoxFuture<'a, Result<Payload, NativeError>>;

type Entry = dyn for<'a> Fn(&'a NativeCall<'a>, Payload) -> NativeFuture<'a> + Send + Sync;

/// Runs Rust functions of the embedding program that were registered by name.
///
/// They run on the threads of the executor and must not block them. CPU time is metered around each poll;
/// the CPU limit ends a function at its next `.await`, the memory limit is not enforced. A panic ends the
/// call, not the process. Output of the type [`MediaType::OCTETS`] is given out as what the function is
/// deployed to give.
///
/// ```
/// use futures::FutureExt;
/// use scf_core::Payload;
/// use scf_runtime::{NativeError, NativeFactory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let natives = NativeFactory::new()
///     .with_sync("shout", |input| {
///         let text = std::str::from_utf8(&input.bytes).map_err(|_| NativeError::refused("not UTF-8"))?;
///         Ok(Payload::new(text.to_uppercase()))
///     })?
///     .with("tally", |call, _| {
///         async move {
///             let state = call.state()?;
///             let before = state.get("calls").await?.map_or(0, |bytes| bytes.len());
///             state.put("calls", vec![b'|'; before + 1].into());
///             Ok(Payload::new((before + 1).to_string()))
///         }
///         .boxed()
///     })?;
/// # drop(natives);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct NativeFactory {
    entries: HashMap<Name, Arc<Entry>>,
    upgrades: HashMap<Name, Arc<Upgrade>>,
}

impl NativeFactory {
    /// Without functions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `function` as `entry`, in place of an earlier one.
    ///
    /// # Errors
    /// [`InvalidName`] when `entry` is no [`Name`].
    pub fn with<F>(mut self, entry: &str, function: F) -> Result<Self, InvalidName>
    where
        F: for<'a> Fn(&'a NativeCall<'a>, Payload) -> NativeFuture<'a> + Send + Sync + 'static,
    {
        self.entries.insert(Name::new(entry)?, Arc::new(function));
        Ok(self)
    }

    /// Has `hook` bring state that an earlier revision wrote to the `layout` that `entry` works on. Before the first
    /// call of each key that has an earlier layout it is given the key's state and the layout that this has, 0 where
    /// none was ever noted: the state of a revision without a hook, or none at all. What it changes is committed
    /// with that call, once. State of a later layout is not touched and the call fails.
    ///
    /// # Errors
    /// [`InvalidName`] when `entry` is no [`Name`].
    pub fn with_upgrade<F>(mut self, entry: &str, layout: u32, hook: F) -> Result<Self, InvalidName>
    where
        F: for<'a> Fn(&'a dyn StateSession, u32) -> UpgradeFuture<'a> + Send + Sync + 'static,
    {
        self.upgrades.insert(Name::new(entry)?, Arc::new(Upgrade::new(layout, hook)));
        Ok(self)
    }

    /// Registers `function`, which waits for nothing and takes microseconds, as `entry`.
    ///
    /// # Errors
    /// [`InvalidName`] when `entry` is no [`Name`].
    pub fn with_sync<F>(self, entry: &str, function: F) -> Result<Self, InvalidName>
    where
        F: Fn(Payload) -> Result<Payload, NativeError> + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        self.with(entry, move |_, input| {
            let function = Arc::clone(&function);
            Box::pin(async move { function(input) })
        })
    }
}

impl fmt::Debug for NativeFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeFactory").field("entries", &self.entries.keys()).finish()
    }
}

#[async_trait]
impl IsolateFactory for NativeFactory {
    fn name(&self) -> &'static str {
        "native"
    }

    fn accepts(&self, code: &Code) -> bool {
        matches!(code, Code::Native { .. })
    }

    async fn prepare(&self, function: &Function) -> Result<Arc<dyn Prepared>, PrepareError> {
        let Code::Native { entry } = &function.code else {
            let (function, kind) = (function.name.clone(), function.code.kind());
            return Err(PrepareError::NoFactory { function, kind, hint: "this factory runs native code" });
        };
        let Some(run) = self.entries.get(entry) else {
            let (function, kind) = (function.name.clone(), function.code.kind());
            return Err(PrepareError::NotRegistered { function, kind, name: entry.to_string() });
        };
        let function = Registered {
            name: function.name.clone(),
            output: function.output.clone(),
            limits: function.limits,
            objects: function.grants.objects,
            run: Arc::clone(run),
            upgrade: self.upgrades.get(entry).cloned(),
        };
        Ok(Arc::new(NativePrepared(Arc::new(function))))
    }
}

struct Registered {
    name: FunctionName,
    output: MediaType,
    limits: Limits,
    objects: ObjectGrant,
    run: Arc<Entry>,
    upgrade: Option<Arc<Upgrade>>,
}

impl Registered {
    /// Runs the function, on state of its layout.
    fn start<'a>(&'a self, call: &'a NativeCall<'a>, input: Payload) -> NativeFuture<'a> {
        match (&self.upgrade, call.call.state.as_deref()) {
            (Some(upgrade), Some(state)) => Box::pin(async move {
                upgrade.run(state).await?;
                (self.run)(call, input).await
            }),
            _ => (self.run)(call, input),
        }
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct NativePrepared(Arc<Registered>);

#[async_trait]
impl Prepared for NativePrepared {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        Ok(Box::new(NativeIsolate { function: Arc::clone(&self.0), pinned: None }))
    }

    async fn pin(&self) -> Result<Option<Box<dyn Isolate>>, InvokeError> {
        let pinned = Some(Pinned { memory: Arc::default(), has_served: false });
        Ok(Some(Box::new(NativeIsolate { function: Arc::clone(&self.0), pinned })))
    }
}

#[derive(Debug)]
struct NativeIsolate {
    function: Arc<Registered>,
    pinned: Option<Pinned>,
}

/// What outlives a call of a key whose state is local.
#[derive(Debug)]
struct Pinned {
    memory: Memory,
    has_served: bool,
}

type Memory = Arc<Mutex<Option<Box<dyn Any + Send>>>>;

#[async_trait]
impl Isolate for NativeIsolate {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let function = &*self.function;
        let memory = self.pinned.as_ref().map(|pinned| Arc::clone(&pinned.memory));
        let objects = function.objects;
        let native = NativeCall { call, objects, step: AtomicU64::new(0), record: Mutex::default(), memory };
        let meter = CpuMeter::telling(&call.meter);
        let outcome = meter.run(caught(function, &meter, &native, input)).await;
        let cpu = meter.used();
        call.host.pace(cpu).await;
        let mut payload = outcome.map_err(|error| error.into_invoke(function, call))?;
        if payload.size() > function.limits.payload {
            return Err(InvokeError::Limit { function: function.name.clone(), limit: LimitKind::Output });
        }
        if payload.media == MediaType::OCTETS {
            payload.media = function.output.clone();
        }
        let (spans, calls) = native.record.into_inner().unwrap_or_else(PoisonError::into_inner);
        let reused = self.pinned.as_mut().is_some_and(|pinned| std::mem::replace(&mut pinned.has_served, true));
        Ok(Reply { spans, calls, reused, ..Reply::new(payload, Usage { cpu, ..Usage::default() }) })
    }
}

/// Runs the function; a panic becomes an error, as does going over the CPU limit.
async fn caught<'a>(
    function: &'a Registered,
    meter: &CpuMeter,
    call: &'a NativeCall<'a>,
    input: Payload,
) -> Result<Payload, Failure> {
    let mut input = Some(input);
    let mut running: Option<NativeFuture<'a>> = None;
    poll_fn(|cx| {
        // The function itself may panic before it makes a future.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let running = running.get_or_insert_with(|| function.start(call, input.take().unwrap_or_default()));
            running.as_mut().poll(cx)
        }));
        match polled {
            Ok(Poll::Ready(result)) => Poll::Ready(result.map_err(Failure::Function)),
            Ok(Poll::Pending) if meter.running() > function.limits.cpu => {
                Poll::Ready(Err(Failure::Limit(LimitKind::Cpu)))
            }
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(Failure::Panic(panic))),
        }
    })
    .await
}

enum Failure {
    Function(NativeError),
    Limit(LimitKind),
    Panic(Box<dyn Any + Send>),
}

impl Failure {
    fn into_invoke(self, function: &Registered, call: &Call) -> InvokeError {
        let name = function.name.clone();
        match self {
            Self::Function(NativeError::Refused { message }) => {
                InvokeError::Refused { function: name, message: escape(&message) }
            }
            Self::Function(error @ (NativeError::Stateless | NativeError::Layout { .. })) => {
                InvokeError::Trapped { function: name, message: error.to_string() }
            }
            Self::Function(NativeError::Objects { problem }) => {
                InvokeError::Trapped { function: name, message: escape(&problem) }
            }
            Self::Function(NativeError::State(source)) => {
                InvokeError::State { function: name, key: call.key.clone().unwrap_or_default(), source }
            }
            Self::Function(NativeError::Callee(error)) => error,
            Self::Limit(limit) => InvokeError::Limit { function: name, limit },
            Self::Panic(panic) => {
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                InvokeError::Trapped { function: name, message: escape(text.unwrap_or("panic")) }
            }
        }
    }
}

/// Why a native function gives no payload.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NativeError {
    /// It cannot work with what it was given.
    #[error("{message}")]
    Refused {
        /// What its caller is told.
        message: String,
    },
    /// It asked for state and was deployed without any.
    #[error("the function is deployed as stateless and asks for state")]
    Stateless,
    /// The state of its key was written by a later revision.
    #[error("the state has layout {found}, the function works on {known}")]
    Layout {
        /// What the state has.
        found: u32,
        /// What the function works on.
        known: u32,
    },
    /// Its state could not be read.
    #[error("the function's state")]
    State(#[from] StateError),
    /// An object was not to be had.
    #[error("{problem}")]
    Objects {
        /// The [`ObjectError`], as text.
        problem: String,
    },
    /// A function that it called failed.
    #[error("a function that it called")]
    Callee(#[from] InvokeError),
}

impl From<ObjectError> for NativeError {
    fn from(error: ObjectError) -> Self {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Self::Objects { problem: format!("{error}{source}") }
    }
}

impl NativeError {
    /// The function cannot work with what it was given.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into() }
    }
}

/// One call as a native function sees it.
#[derive(Debug)]
pub struct NativeCall<'a> {
    call: &'a Call,
    objects: ObjectGrant,
    step: AtomicU64,
    record: Mutex<(Vec<Span>, Vec<Receipt>)>,
    memory: Option<Memory>,
}

impl NativeCall<'_> {
    /// The call: its id, key, deadline and host.
    #[must_use]
    pub const fn call(&self) -> &Call {
        self.call
    }

    /// The state of the call's key; what is written is committed after the call.
    ///
    /// # Errors
    /// [`NativeError::Stateless`].
    pub fn state(&self) -> Result<&dyn StateSession, NativeError> {
        self.call.state.as_deref().ok_or(NativeError::Stateless)
    }

    /// The fabric's object store, as much of it as the function is granted: put, get, ranges and streams, and the
    /// references of the call's tenant.
    ///
    /// # Errors
    /// [`NativeError::Objects`] when the function is deployed without [`Grants::objects`](scf_core::Grants::objects).
    pub fn objects(&self) -> Result<GrantedObjects, NativeError> {
        let store = self.call.host.objects().filter(|_| self.objects != ObjectGrant::None);
        let store = store.ok_or(ObjectError::Denied { what: "read" })?;
        Ok(GrantedObjects::new(store, self.objects, &self.call.tenant, self.call.output.clone()))
    }

    /// Takes what the call before left with [`NativeCall::keep`]: there while the state of the call's key is local on
    /// this node and nothing but calls of this function changed it, where the function is deployed with
    /// [`Reuse::Pinned`](scf_core::Reuse::Pinned). What is kept beside the state must follow from it.
    #[must_use]
    pub fn kept<T: Any + Send>(&self) -> Option<Box<T>> {
        self.memory.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()?.downcast().ok()
    }

    /// Leaves `value` for the next call of the same key, if its memory is kept.
    pub fn keep<T: Any + Send>(&self, value: Box<T>) {
        if let Some(memory) = &self.memory {
            *memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        }
    }

    /// Sets a timer of the call's key: a call of this function with this key and `payload`, in place of an earlier timer
    /// of that `name`. It is set when this call commits, or not at all.
    ///
    /// # Errors
    /// [`NativeError::Stateless`], [`NativeError::State`]. The call fails when its commit finds no room for the timer.
    pub fn set_timer(&self, name: &str, due: Due, payload: impl Into<Payload>) -> Result<(), NativeError> {
        let timer = self.timer(name, due)?.payload(payload);
        Ok(self.state()?.enqueue(timer)?)
    }

    /// Sets a timer that comes again every `period` until it is called off or set anew. What was missed while
    /// nothing ran comes once.
    ///
    /// # Errors
    /// As [`NativeCall::set_timer`].
    pub fn set_reminder(
        &self,
        name: &str,
        first: Due,
        period: Duration,
        payload: impl Into<Payload>,
    ) -> Result<(), NativeError> {
        let timer = self.timer(name, first)?.payload(payload).every(period);
        Ok(self.state()?.enqueue(timer)?)
    }

    /// Calls a timer of the call's key off when the call commits; nothing when there is none of that name.
    ///
    /// # Errors
    /// As [`NativeCall::set_timer`].
    pub fn cancel_timer(&self, name: &str) -> Result<(), NativeError> {
        Ok(self.state()?.cancel_timer(name)?)
    }

    /// Accepts a call that nobody waits for when this call commits, or not at all. `make` is given its id, which a retry
    /// repeats.
    ///
    /// # Errors
    /// As [`NativeCall::set_timer`].
    pub fn enqueue(&self, make: impl FnOnce(InvocationId) -> QueuedCall) -> Result<(), NativeError> {
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        Ok(self.state()?.enqueue(make(self.call.id.child(step)))?)
    }

    fn timer(&self, name: &str, due: Due) -> Result<QueuedCall, NativeError> {
        Ok(timer(self.call, self.state()?, name, due))
    }

    /// Calls another function, or this one on another node. Its bill becomes part of this call's.
    ///
    /// A retry of this call repeats the ids of the calls it makes in the order in which it makes them: make
    /// them in the same order, then each takes effect once.
    ///
    /// # Errors
    /// [`NativeError::Callee`].
    pub async fn invoke(&self, callee: Callee) -> Result<Payload, NativeError> {
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        let Outcome { payload, receipt } = self.call.host.invoke(self.call, step, callee).await?;
        self.record.lock().unwrap_or_else(PoisonError::into_inner).1.push(receipt);
        Ok(payload)
    }

    /// Reports a part of the call that took so long; it appears in the receipt.
    pub fn span(&self, name: &'static str, took: Duration) {
        let span = Span { name: name.into(), took };
        self.record.lock().unwrap_or_else(PoisonError::into_inner).0.push(span);
    }
}
