//! A function of a component, linked and ready.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use scf_core::{Call, FunctionName, InvokeError, LimitKind, Limits, MediaType, Payload, TenantName};
use wasmtime::{
    AsContextMut, Store, Trap,
    component::{Func, InstancePre, ResourceTableError, Val},
};

use super::{
    account::Account,
    checked::Checked,
    engine::Machine,
    live::{Guest, Live},
    shelf::Loaded,
    signature::{Callable, Signature},
    typed::Refusal,
    world::Plan,
};
use crate::{escape::escape, spread::Shared};

/// What all isolates of a function have in common.
pub(super) struct Program {
    pub(super) machine: Arc<Machine>,
    pub(super) function: FunctionName,
    /// Whose function it is, and the account that is charged for what is kept of it between calls.
    pub(super) tenant: TenantName,
    pub(super) account: Arc<Account>,
    pub(super) output: MediaType,
    pub(super) limits: Limits,
    pub(super) pre: InstancePre<Guest>,
    pub(super) export: Export,
    /// What its guests import and are granted.
    pub(super) world: Arc<Plan>,
    /// The machine code, which functions with the same code share.
    #[expect(dead_code, reason = "kept so that the next function with this code finds it")]
    pub(super) loaded: Arc<Loaded>,
    /// Whether the function was found to be what its signature says.
    pub(super) plain: Checked<(Vec<u8>,)>,
    pub(super) fallible: Checked<(Result<Vec<u8>, String>,)>,
    /// Whether the last call that is known of ran long: then the next one probably does.
    pub(super) was_long: AtomicBool,
}

/// A program, counted for some of the cores.
pub(super) type NearProgram = Shared<Program>;

/// What of the component is called.
pub(super) enum Export {
    /// A function.
    Function(Callable),
    /// The interface that handles HTTP requests.
    #[cfg(feature = "wasi-http")]
    Handler(Box<wasmtime_wasi_http::p2::bindings::ProxyPre<Guest>>),
}

/// What came of a call that did not trap.
pub(super) type Output = Result<Payload, Refusal>;

/// Parameters of a call as they are handed over.
pub(super) enum Params {
    /// The payload's bytes.
    Bytes,
    /// Values that were read from it.
    Values(Vec<Val>),
}

impl Program {
    /// The account of the call's tenant, where that is not the function's.
    pub(super) fn other_account(&self, call: &Call) -> Option<Arc<Account>> {
        (call.tenant != self.tenant).then(|| self.machine.accounts.of(&call.tenant))
    }

    /// Bytes that a payload may have.
    fn payload_limit(&self) -> usize {
        usize::try_from(self.limits.payload.bytes()).unwrap_or(usize::MAX)
    }

    /// Reads the parameters of a call of `callable`.
    pub(super) fn read(&self, callable: &Callable, input: &Payload) -> Result<Params, Refusal> {
        if callable.signature == Signature::Typed || input.media == MediaType::VALUES {
            return callable.typed.read(input, self.payload_limit()).map(Params::Values);
        }
        Ok(Params::Bytes)
    }

    /// Calls `function`, which is `callable` of an instance.
    pub(super) async fn run(
        &self,
        callable: &Callable,
        store: &mut Store<Guest>,
        function: Func,
        params: Params,
        input: &Payload,
    ) -> wasmtime::Result<Output> {
        match (params, callable.signature) {
            (Params::Values(values), _) => {
                let (store, limit) = (store.as_context_mut(), self.payload_limit());
                // Boxed, since it is large and calls with bytes carry its place around.
                Box::pin(callable.typed.call(function, store, values, &input.media, limit)).await
            }
            (Params::Bytes, Signature::Plain) => {
                let function = self.plain.typed(function, &*store)?;
                let (output,) = function.call_async(store, (&input.bytes,)).await?;
                Ok(Ok(self.octets(output)))
            }
            (Params::Bytes, _) => {
                let function = self.fallible.typed(function, &*store)?;
                let (output,) = function.call_async(store, (&input.bytes,)).await?;
                Ok(output.map(|bytes| self.octets(bytes)).map_err(Refusal::Said))
            }
        }
    }

    fn octets(&self, bytes: Vec<u8>) -> Payload {
        Payload::new(bytes).with_media(self.output.clone())
    }

    /// What to tell the caller about a call without output that nothing went wrong in.
    pub(super) fn refuse(&self, refusal: Refusal) -> InvokeError {
        let function = self.function.clone();
        match refusal {
            Refusal::Said(message) => InvokeError::Refused { function, message: escape(&message) },
            Refusal::Input { path, problem } => {
                InvokeError::Input { function, path: escape(&path), problem: escape(&problem) }
            }
            Refusal::Media { takes, given } => InvokeError::Media { function, takes: takes.into(), given },
            Refusal::Over(limit) => self.limit(limit),
        }
    }

    /// What to tell the caller about a call that ended early.
    pub(super) fn explain(&self, error: &wasmtime::Error, live: &Live) -> InvokeError {
        let guest = live.guest();
        let trap = error.downcast_ref::<Trap>();
        let limit = match trap {
            _ if guest.is_over_cpu => Some(LimitKind::Cpu),
            Some(Trap::OutOfFuel) => Some(LimitKind::Fuel),
            Some(Trap::StackOverflow) => Some(LimitKind::Stack),
            _ => guest.ledger.refused().or_else(|| of_host_tables(error)),
        };
        if let Some(limit) = limit {
            return self.limit(limit);
        }
        let message = match trap {
            Some(trap) => escape(&trap.to_string()),
            None => escape(&format!("{error:#}")),
        };
        InvokeError::Trapped { function: self.function.clone(), message }
    }

    pub(super) fn limit(&self, limit: LimitKind) -> InvokeError {
        InvokeError::Limit { function: self.function.clone(), limit }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("function", &self.function).finish_non_exhaustive()
    }
}

/// The limit of what the host keeps for a guest that `error` is about, if it is about one.
fn of_host_tables(error: &wasmtime::Error) -> Option<LimitKind> {
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return Some(LimitKind::Handles);
    }
    // wasmtime gives these two no type.
    let cause = error.root_cause().to_string();
    if cause.ends_with("store handle limit exceeded") {
        Some(LimitKind::Handles)
    } else if cause.ends_with("fuel allocated for hostcalls has been exhausted") {
        Some(LimitKind::HostMemory)
    } else {
        None
    }
}
