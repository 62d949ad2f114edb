//! Functions written in the embedding program: trusted, not sandboxed.

mod call;

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use scf_core::{
    Call, Code, Function, FunctionName, InvalidName, InvokeError, Isolate, IsolateFactory, LimitKind, Limits,
    MediaType, Name, ObjectError, ObjectGrant, Payload, PrepareError, Prepared, Reply, StateError, StateSession, Usage,
};
use thiserror::Error;

use self::call::Memory;
pub use self::call::NativeCall;
use crate::{
    budget::Budget,
    cpu::CpuMeter,
    escape::escape,
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
            budget: Budget::of(function),
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
    budget: Budget,
    objects: ObjectGrant,
    run: Arc<Entry>,
    upgrade: Option<Arc<Upgrade>>,
}

impl Registered {
    /// Runs the function, on state of its layout.
    fn start<'a>(&'a self, call: &'a NativeCall<'a>, input: Payload) -> NativeFuture<'a> {
        match (&self.upgrade, call.call().state.as_deref()) {
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

#[async_trait]
impl Isolate for NativeIsolate {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let function = &*self.function;
        let memory = self.pinned.as_ref().map(|pinned| Arc::clone(&pinned.memory));
        let meter = CpuMeter::default();
        let has_served = self.pinned.as_ref().is_some_and(|pinned| pinned.has_served);
        let native = NativeCall::new(call, function, &meter, !has_served, memory);
        let outcome = meter.run_telling(&call.meter, caught(function, &meter, &native, input)).await;
        let cpu = meter.used();
        call.host.pace(cpu).await;
        let mut payload = outcome.map_err(|error| error.into_invoke(function, call))?;
        if payload.size() > function.limits.payload {
            return Err(InvokeError::Limit { function: function.name.clone(), limit: LimitKind::Output });
        }
        if payload.media == MediaType::OCTETS {
            payload.media = function.output.clone();
        }
        let (spans, calls) = native.into_record();
        if let Some(pinned) = &mut self.pinned {
            pinned.has_served = true;
        }
        Ok(Reply { spans, calls, reused: has_served, ..Reply::new(payload, Usage { cpu, ..Usage::default() }) })
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
                let key = call.key.clone().unwrap_or_default();
                InvokeError::State { function: name, key, source: Box::new(source) }
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
