//! A component at work on one call.

use std::{
    fmt, mem,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{
    Call, FunctionName, InvokeError, Isolate, LimitKind, Limits, MediaType, Payload, Prepared, Reply, Reuse,
    TenantName, Timestamp, Usage,
};
use wasmtime::{
    PoolConcurrencyLimitError, Store, StoreContextMut, Trap, UpdateDeadline,
    component::{ComponentExportIndex, Func, InstancePre, ResourceTableError},
};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::{
    account::Account,
    engine::Machine,
    limits::{HANDLES, HOST_MEMORY, Ledger},
    share::Turn,
    signature::Signature,
    ticker::TICK,
    warm::Warm,
    wasi::Wasi,
};
use crate::{cpu::CpuMeter, escape::escape};

/// When the pool may have room again: about the time of a call.
const RETRY: Duration = Duration::from_millis(10);

/// A function, linked and ready.
pub(super) struct Program {
    pub(super) machine: Arc<Machine>,
    pub(super) function: FunctionName,
    /// Whose function it is, and the account that is charged for what is kept of it between calls.
    pub(super) tenant: TenantName,
    pub(super) account: Arc<Account>,
    pub(super) output: MediaType,
    pub(super) limits: Limits,
    pub(super) pre: InstancePre<Guest>,
    pub(super) export: ComponentExportIndex,
    pub(super) signature: Signature,
    pub(super) imports_wasi: bool,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("function", &self.function).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct WasmPrepared(Arc<Made>);

/// What the isolates of a function share.
#[derive(Debug)]
struct Made {
    program: Arc<Program>,
    /// Instances that are kept, where the function asks for it. They hold the program, so it does not hold them.
    warm: Option<Arc<Warm>>,
}

impl WasmPrepared {
    pub(super) fn new(program: Program, reuse: Reuse) -> Self {
        let warm = Warm::new(reuse);
        if let Some(warm) = &warm {
            program.machine.idle.add(warm);
        }
        Self(Arc::new(Made { program: Arc::new(program), warm }))
    }
}

#[async_trait]
impl Prepared for WasmPrepared {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        Ok(Box::new(WasmIsolate(Arc::clone(&self.0))))
    }

    async fn keep(&self, isolates: u32) -> Result<u32, InvokeError> {
        let Made { program, warm } = &*self.0;
        let Some(warm) = warm else { return Ok(0) };
        let wanted = warm.max_idle().min(isolates as usize);
        warm.retire(wanted);
        // Calls may take what is made here meanwhile: no more are made than were missing.
        for _ in warm.idle()..wanted {
            let mut live = program.fresh(&program.account);
            match live.start(program).await {
                Ok(()) => warm.give(live),
                Err(error) if error.is::<PoolConcurrencyLimitError>() => break,
                Err(error) => return Err(program.explain(&error, &live)),
            }
        }
        Ok(u32::try_from(warm.idle()).unwrap_or(u32::MAX))
    }
}

/// Takes or makes its instance when it is called, so that what the component's start functions use is metered and
/// limited with the call.
#[derive(Debug)]
struct WasmIsolate(Arc<Made>);

#[async_trait]
impl Isolate for WasmIsolate {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let Made { program, warm } = &*self.0;
        let other = program.other_account(call);
        let account = other.as_ref().unwrap_or(&program.account);
        let mut live = match warm {
            Some(warm) => program.kept(warm, call, account)?,
            None => program.fresh(account),
        };
        let reused = live.calls > 0;
        let mut output = live.call(program, &input.bytes).await;
        while output.as_ref().is_err_and(|error| error.is::<PoolConcurrencyLimitError>())
            && program.machine.idle.evict()
        {
            live = program.fresh(account);
            output = live.call(program, &input.bytes).await;
        }
        let usage = live.usage();
        let refused = live.refused();
        let output = match output {
            Ok(output) => {
                if let Some(warm) = warm.as_deref().filter(|_| refused.is_none()) {
                    program.put_back(warm, live);
                }
                Ok(output)
            }
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                let (function, node) = (program.function.clone(), call.host.node().id.clone());
                Err(InvokeError::Overloaded { function, node, retry_after: RETRY })
            }
            // An instance that did not come to its end is not used again.
            Err(error) => Err(program.explain(&error, &live)),
        };
        // The instance is free for others while this call waits.
        call.host.pace(usage.cpu).await;
        let payload = match output? {
            Ok(bytes) if bytes.len() as u64 > program.limits.payload.bytes() => Err(program.limit(LimitKind::Output))?,
            Ok(bytes) => Payload::new(bytes).with_media(program.output.clone()),
            Err(message) => match refused {
                Some(limit) => Err(program.limit(limit))?,
                None => {
                    let function = program.function.clone();
                    return Err(InvokeError::Refused { function, message: escape(&message) });
                }
            },
        };
        Ok(Reply { reused, ..Reply::new(payload, usage) })
    }
}

/// What a guest gave: bytes, or a text that says why not.
type Output = Result<Vec<u8>, String>;

impl Program {
    /// An instance for `call`: one that was kept, if there is one, or a fresh one.
    fn kept(self: &Arc<Self>, warm: &Warm, call: &Call, account: &Arc<Account>) -> Result<Live, InvokeError> {
        let now = call.host.now();
        let Some(mut live) = warm.take(now) else {
            let mut live = self.fresh(account);
            live.began = Some(now);
            return Ok(live);
        };
        live.began.get_or_insert(now);
        if live.begin(account) {
            return Ok(live);
        }
        // The instance itself has done nothing wrong.
        warm.give(live);
        Err(self.limit(LimitKind::TenantMemory))
    }

    /// The account of the call's tenant, where that is not the function's.
    fn other_account(&self, call: &Call) -> Option<Arc<Account>> {
        (call.tenant != self.tenant).then(|| self.machine.accounts.of(&call.tenant))
    }

    fn fresh(self: &Arc<Self>, account: &Arc<Account>) -> Live {
        let run = Arc::<Run>::default();
        let guest = Guest {
            ledger: Ledger::new(self.limits.memory, self.machine.memory, Arc::clone(account)),
            run: Arc::clone(&run),
            booked: 0,
            program: Arc::clone(self),
            is_over_cpu: false,
            wasi: self.imports_wasi.then(|| Box::new(Wasi::new(&self.function))),
        };
        let mut store = Store::new(&self.machine.engine, guest);
        store.limiter(|guest| &mut guest.ledger);
        store.epoch_deadline_callback(interrupt);
        store.set_max_component_handles(HANDLES);
        // What a guest passes to the host in one go, its output included.
        let output = usize::try_from(self.limits.payload.bytes()).unwrap_or(usize::MAX);
        store.set_hostcall_fuel(output.saturating_add(HOST_MEMORY));
        let mut live = Live { store, run, entry: None, calls: 0, began: None };
        live.arm();
        live
    }

    /// Keeps an instance that served its call well.
    fn put_back(&self, warm: &Warm, mut live: Live) {
        // Between calls it is its owner's.
        if live.store.data_mut().ledger.charge_to(&self.account) {
            live.rest();
            warm.give(live);
        }
    }

    async fn run(&self, store: &mut Store<Guest>, entry: Func, input: &[u8]) -> wasmtime::Result<Output> {
        match self.signature {
            Signature::Plain => {
                let function = entry.typed::<(&[u8],), (Vec<u8>,)>(&store)?;
                let (output,) = function.call_async(store, (input,)).await?;
                Ok(Ok(output))
            }
            Signature::Fallible => {
                let function = entry.typed::<(&[u8],), (Output,)>(&store)?;
                let (output,) = function.call_async(store, (input,)).await?;
                Ok(output)
            }
        }
    }

    /// What to tell the caller about a call that ended early.
    fn explain(&self, error: &wasmtime::Error, live: &Live) -> InvokeError {
        let guest = live.store.data();
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

    fn limit(&self, limit: LimitKind) -> InvokeError {
        InvokeError::Limit { function: self.function.clone(), limit }
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

/// What the executor and the guest of one call both know.
#[derive(Debug, Default)]
pub(super) struct Run {
    meter: CpuMeter,
    /// There once the call runs long.
    turn: OnceLock<Turn>,
}

/// An instance, or what will be one, with all that belongs to it.
pub(super) struct Live {
    store: Store<Guest>,
    run: Arc<Run>,
    /// The function, once the component is instantiated.
    entry: Option<Func>,
    /// Calls that it served.
    pub(super) calls: u32,
    /// When the first of them began.
    pub(super) began: Option<Timestamp>,
}

impl Live {
    /// Makes it ready for another call, on behalf of `account`; not if that has no memory left for it.
    fn begin(&mut self, account: &Arc<Account>) -> bool {
        let guest = self.store.data_mut();
        if !guest.ledger.charge_to(account) {
            return false;
        }
        self.run = Arc::default();
        guest.run = Arc::clone(&self.run);
        guest.booked = 0;
        if let Some(wasi) = &guest.wasi {
            wasi.begin();
        }
        self.arm();
        true
    }

    /// Leaves the core to others until the next call.
    fn rest(&mut self) {
        if self.run.turn.get().is_some() {
            self.run = Arc::default();
            self.store.data_mut().run = Arc::clone(&self.run);
        }
    }

    /// Starts to count what the call may use.
    fn arm(&mut self) {
        self.store.set_epoch_deadline(1);
        if let Some(fuel) = self.store.data().program.machine.fuel {
            self.store.set_fuel(fuel).expect("the engine counts fuel where the machine says so");
        }
    }

    /// Instantiates the component, outside of any call.
    async fn start(&mut self, program: &Program) -> wasmtime::Result<()> {
        self.work(program, None).await.map(drop)
    }

    async fn call(&mut self, program: &Program, input: &[u8]) -> wasmtime::Result<Output> {
        let output = self.work(program, Some(input)).await?;
        self.calls += 1;
        Ok(output)
    }

    /// Instantiates the component if need be, calls the function if there is an input, and meters both.
    async fn work(&mut self, program: &Program, input: Option<&[u8]>) -> wasmtime::Result<Output> {
        let Self { store, run, entry, .. } = self;
        // Pinned here and by reference below, since it would be copied by each that takes it.
        let work = pin!(async {
            let function = match entry {
                Some(function) => *function,
                None => {
                    // Boxed, since it is large and calls of a kept instance carry its place around.
                    let instance = Box::pin(program.pre.instantiate_async(&mut *store)).await?;
                    let function = instance.get_func(&mut *store, program.export);
                    *entry.insert(function.expect("the export was looked up when the function was deployed"))
                }
            };
            match input {
                Some(input) => program.run(store, function, input).await,
                None => Ok(Ok(Vec::new())),
            }
        });
        let paused = || {
            if let Some(turn) = run.turn.get() {
                turn.pause();
            }
        };
        let work = pin!(program.machine.ticker.during(work, paused));
        run.meter.run(work).await
    }

    fn usage(&self) -> Usage {
        let guest = self.store.data();
        let fuel = guest.program.machine.fuel.map(|given| given - self.store.get_fuel().unwrap_or(0));
        Usage { cpu: self.run.meter.used(), memory: guest.ledger.memory(), fuel, ..Usage::default() }
    }

    fn refused(&self) -> Option<LimitKind> {
        self.store.data().ledger.refused()
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("calls", &self.calls).field("began", &self.began).finish_non_exhaustive()
    }
}

/// What the host keeps about the guest of one call.
pub(super) struct Guest {
    ledger: Ledger,
    run: Arc<Run>,
    /// CPU time of the call that was booked on the tenant's account, in nanoseconds.
    booked: u64,
    program: Arc<Program>,
    is_over_cpu: bool,
    /// There if the component imports it.
    wasi: Option<Box<Wasi>>,
}

/// Called when a guest sees a tick: ends it if it used what it may use, lets others run if it used a tick.
fn interrupt(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    let guest = store.data_mut();
    let used = guest.run.meter.running();
    guest.is_over_cpu = used >= guest.program.limits.cpu;
    Ok(if guest.is_over_cpu {
        UpdateDeadline::Interrupt
    } else if used < TICK {
        UpdateDeadline::Continue(1)
    } else {
        guest.program.machine.ticker.runs_long();
        let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        let run = Arc::clone(&guest.run);
        let cpu = used - mem::replace(&mut guest.booked, used);
        run.turn.get_or_init(|| Turn::new(&guest.program.machine.share, guest.ledger.account()));
        UpdateDeadline::YieldCustom(
            1,
            Box::pin(async move {
                if let Some(turn) = run.turn.get() {
                    turn.next(cpu).await;
                }
            }),
        )
    })
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.as_mut().expect("only components that import WASI are linked to it");
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}
