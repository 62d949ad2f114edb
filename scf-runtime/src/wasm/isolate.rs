//! A component at work on one call.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use scf_core::{
    Call, FunctionName, InvokeError, Isolate, LimitKind, Limits, MediaType, Payload, Prepared, Reply, Usage,
};
use tokio::task;
use wasmtime::{
    PoolConcurrencyLimitError, Store, StoreContextMut, Trap, UpdateDeadline,
    component::{ComponentExportIndex, InstancePre},
};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::{
    engine::Machine,
    limits::Ledger,
    signature::Signature,
    ticker::TICK,
    world::{Plan, World},
};
use crate::{cpu::CpuMeter, escape::escape};

/// When the pool may have room again: about the time of a call.
const RETRY: Duration = Duration::from_millis(10);

/// A function, linked and ready.
pub(super) struct Program {
    pub(super) machine: Arc<Machine>,
    pub(super) function: FunctionName,
    pub(super) output: MediaType,
    pub(super) limits: Limits,
    pub(super) pre: InstancePre<Guest>,
    pub(super) export: ComponentExportIndex,
    pub(super) signature: Signature,
    pub(super) world: Arc<Plan>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("function", &self.function).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct WasmPrepared(pub(super) Arc<Program>);

#[async_trait]
impl Prepared for WasmPrepared {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        Ok(Box::new(WasmIsolate(Arc::clone(&self.0))))
    }
}

/// Makes its instance when it is called, so that what the component's start functions use is metered and
/// limited with the call.
#[derive(Debug)]
struct WasmIsolate(Arc<Program>);

#[async_trait]
impl Isolate for WasmIsolate {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let program = &self.0;
        let meter = Arc::new(CpuMeter::default());
        let mut store = self.0.store(call, Arc::clone(&meter));
        let work = program.run(&mut store, &input.bytes);
        let output = meter.run(program.machine.ticker.during(work)).await;
        let output = output.map_err(|error| program.explain(&error, store.data(), call));
        let (memory, refused_memory) = (store.data().ledger.memory(), store.data().ledger.has_refused());
        let calls = store.data_mut().world.as_mut().map(|world| world.take_receipts()).unwrap_or_default();
        // The slot is free for others while this call waits.
        drop(store);
        let cpu = meter.used();
        call.host.pace(cpu).await;
        let payload = match output? {
            Ok(bytes) if bytes.len() as u64 > program.limits.payload.bytes() => Err(program.limit(LimitKind::Output))?,
            Ok(bytes) => Payload::new(bytes).with_media(program.output.clone()),
            Err(_) if refused_memory => Err(program.limit(LimitKind::Memory))?,
            Err(message) => {
                let function = program.function.clone();
                return Err(InvokeError::Refused { function, message: escape(&message) });
            }
        };
        let usage = Usage { cpu, memory, ..Usage::default() };
        Ok(Reply { calls, ..Reply::new(payload, usage) })
    }
}

/// What a guest gave: bytes, or a text that says why not.
type Output = Result<Vec<u8>, String>;

impl Program {
    fn store(self: &Arc<Self>, call: &Call, meter: Arc<CpuMeter>) -> Store<Guest> {
        let guest = Guest {
            ledger: Ledger::new(self.limits.memory, self.machine.memory),
            meter,
            program: Arc::clone(self),
            is_over_cpu: false,
            world: self.world.imports_anything().then(|| Box::new(World::new(&self.world, Some(call)))),
        };
        let mut store = Store::new(&self.machine.engine, guest);
        store.limiter(|guest| &mut guest.ledger);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(interrupt);
        // What the guest passes to the host in one go is in its memory.
        store.set_hostcall_fuel(usize::try_from(self.limits.memory.bytes()).unwrap_or(usize::MAX));
        store
    }

    async fn run(&self, store: &mut Store<Guest>, input: &[u8]) -> wasmtime::Result<Output> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        match self.signature {
            Signature::Plain => {
                let function = instance.get_typed_func::<(&[u8],), (Vec<u8>,)>(&mut *store, self.export)?;
                let (output,) = function.call_async(store, (input,)).await?;
                Ok(Ok(output))
            }
            Signature::Fallible => {
                let function = instance.get_typed_func::<(&[u8],), (Output,)>(&mut *store, self.export)?;
                let (output,) = function.call_async(store, (input,)).await?;
                Ok(output)
            }
        }
    }

    /// What to tell the caller about a call that ended early.
    fn explain(&self, error: &wasmtime::Error, guest: &Guest, call: &Call) -> InvokeError {
        let function = self.function.clone();
        if error.is::<PoolConcurrencyLimitError>() {
            return InvokeError::Overloaded { function, node: call.host.node().id.clone(), retry_after: RETRY };
        }
        if guest.is_over_cpu {
            return self.limit(LimitKind::Cpu);
        }
        if guest.ledger.has_refused() {
            return self.limit(LimitKind::Memory);
        }
        let message = match error.downcast_ref::<Trap>() {
            Some(trap) => escape(&trap.to_string()),
            None => escape(&format!("{error:#}")),
        };
        InvokeError::Trapped { function, message }
    }

    fn limit(&self, limit: LimitKind) -> InvokeError {
        InvokeError::Limit { function: self.function.clone(), limit }
    }
}

/// What the host keeps about the guest of one call.
pub(super) struct Guest {
    ledger: Ledger,
    meter: Arc<CpuMeter>,
    program: Arc<Program>,
    is_over_cpu: bool,
    /// There if the component imports anything.
    world: Option<Box<World>>,
}

/// Called when a guest sees a tick: ends it if it used what it may use, lets others run if it used a tick.
fn interrupt(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    let guest = store.data_mut();
    let used = guest.meter.running();
    guest.is_over_cpu = used >= guest.program.limits.cpu;
    Ok(if guest.is_over_cpu {
        UpdateDeadline::Interrupt
    } else if used < TICK {
        UpdateDeadline::Continue(1)
    } else {
        guest.program.machine.ticker.runs_long();
        // wasmtime's own yield wakes itself at once and so starves tasks that are only scheduled.
        UpdateDeadline::YieldCustom(1, Box::pin(task::yield_now()))
    })
}

impl Guest {
    /// What host functions work on.
    pub(super) fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("only components that import something are linked to anything")
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.world().wasi()
    }
}
