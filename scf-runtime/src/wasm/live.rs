//! An instance of a component, and what the host keeps about its guest.

use std::{fmt, future::poll_fn, mem, pin::pin, sync::Arc, time::Duration};

use scf_core::{Call, LimitKind, Meter, Payload, Receipt, Timestamp, Usage};
use wasmtime::{PoolConcurrencyLimitError, Store, StoreContextMut, UpdateDeadline, component::Func};
use wasmtime_wasi::{WasiCtxView, WasiView};

#[cfg(feature = "services")]
use super::world::Context;
use super::{
    account::Account,
    limits::{HANDLES, HOST_MEMORY, Ledger},
    program::{Export, NearProgram, Output, Program},
    run::Run,
    ticker::{SLOW, TICK},
    world::{Files, World},
};
use crate::spread::here;

/// What an instance is to do.
pub(super) enum Task {
    /// Be instantiated, outside of any call.
    Start,
    /// Serve a call with this input.
    Call(Payload),
    /// Serve an HTTP request.
    #[cfg(feature = "wasi-http")]
    Request(scf_core::Attachment),
}

/// The export of an instance.
enum Entry {
    Function(Func),
    #[cfg(feature = "wasi-http")]
    Handler(Box<wasmtime_wasi_http::p2::bindings::Proxy>),
}

/// An instance, or what will be one, with all that belongs to it.
///
/// Boxed, and with what it is to do and what came of it inside: it goes from hand to hand several times in a call.
pub(super) struct Live {
    pub(super) store: Store<Guest>,
    pub(super) run: Arc<Run>,
    /// Told what the call uses.
    told: Arc<Meter>,
    program: NearProgram,
    /// The export, once the component is instantiated.
    entry: Option<Entry>,
    task: Task,
    /// On which of the cores the call was made that it works for.
    part: usize,
    /// What came of the task, until it is taken.
    output: Option<wasmtime::Result<Output>>,
    /// Calls that it served.
    pub(super) calls: u32,
    /// Whether it had served one before the one that it serves now.
    pub(super) reused: bool,
    /// When the first of them began.
    pub(super) began: Option<Timestamp>,
}

impl Live {
    /// A fresh instance for `call`, on behalf of `account`.
    pub(super) fn fresh(program: &NearProgram, account: &Arc<Account>, call: &Call) -> Box<Self> {
        let run = Arc::<Run>::default();
        run.begin(true);
        let world = program.world.imports_anything().then(|| Box::new(World::new(&program.world, Some(call), &run)));
        Self::new(program, account, run, Arc::clone(&call.meter), world)
    }

    /// An instance that no call is there for yet.
    pub(super) fn unused(program: &NearProgram) -> Box<Self> {
        let run = Arc::default();
        let world = program.world.imports_anything().then(|| Box::new(World::new(&program.world, None, &run)));
        Self::new(program, &program.account, run, Arc::default(), world)
    }

    fn new(
        program: &NearProgram,
        account: &Arc<Account>,
        run: Arc<Run>,
        told: Arc<Meter>,
        world: Option<Box<World>>,
    ) -> Box<Self> {
        let limits = &program.limits;
        let guest = Guest {
            ledger: Ledger::new(limits.memory, program.machine.memory, Arc::clone(account)),
            run: Arc::clone(&run),
            booked: 0,
            program: Arc::clone(program),
            is_over_cpu: false,
            world,
        };
        let mut store = Store::new(&program.machine.engine, guest);
        store.limiter(|guest| &mut guest.ledger);
        store.epoch_deadline_callback(interrupt);
        store.set_max_component_handles(HANDLES);
        let (program, task) = (Arc::clone(program), Task::Start);
        let (entry, part, output, calls, reused, began) = (None, here(), None, 0, false, None);
        let mut live = Box::new(Self { store, run, told, program, entry, task, part, output, calls, reused, began });
        live.arm();
        live
    }

    /// Makes it ready for another call, on behalf of `account`; not if that has no memory left for it.
    pub(super) fn begin(&mut self, account: &Arc<Account>, call: &Call) -> bool {
        let guest = self.store.data_mut();
        if !guest.ledger.charge_to(account) {
            return false;
        }
        self.run.begin(self.calls == 0);
        self.told = Arc::clone(&call.meter);
        guest.booked = 0;
        if let Some(world) = &mut guest.world {
            world.renew(call);
        }
        self.arm();
        true
    }

    /// Starts to count what the call may use.
    fn arm(&mut self) {
        self.store.set_epoch_deadline(1);
        let program = &self.store.data().program;
        let fuel = program.machine.fuel;
        // What a guest passes to the host in one go, its output included.
        let output = usize::try_from(program.limits.payload.bytes()).unwrap_or(usize::MAX);
        self.store.set_hostcall_fuel(output.saturating_add(HOST_MEMORY));
        if let Some(fuel) = fuel {
            self.store.set_fuel(fuel).expect("the engine counts fuel where the machine says so");
        }
    }

    /// Gives it something to do for a call that was made on `part` of the cores.
    pub(super) fn assign(&mut self, task: Task, part: usize) {
        (self.task, self.part, self.reused) = (task, part, self.calls > 0);
    }

    /// What it was to do.
    pub(super) fn take_task(&mut self) -> Task {
        mem::replace(&mut self.task, Task::Start)
    }

    /// Instantiates the component if need be, does the task, and meters both.
    pub(super) async fn work(self: Box<Self>) -> Box<Self> {
        let mut live = self;
        let Self { store, run, told, program, entry, task, part, output, calls, .. } = &mut *live;
        let done = {
            // Pinned here, since it would be copied by each that takes it.
            let mut work = pin!(perform(program, store, entry, task));
            poll_fn(|cx| run.poll(told, &program.machine.ticker, *part, work.as_mut(), cx)).await
        };
        if done.is_ok() && !matches!(task, Task::Start) {
            *calls += 1;
        }
        *output = Some(done);
        live
    }

    /// Whether there was no room for its instance.
    pub(super) fn had_no_room(&self) -> bool {
        self.output
            .as_ref()
            .and_then(|output| output.as_ref().err())
            .is_some_and(|error| error.is::<PoolConcurrencyLimitError>())
    }

    /// Whether the task ended early.
    #[cfg(feature = "wasi-http")]
    pub(super) const fn has_failed(&self) -> bool {
        !matches!(self.output, Some(Ok(_)))
    }

    /// What came of the task.
    pub(super) fn take_output(&mut self) -> wasmtime::Result<Output> {
        self.task = Task::Start;
        self.output.take().unwrap_or_else(|| Err(wasmtime::format_err!("it has done nothing yet")))
    }

    /// Does `work` in the store outside of any call, metered, limited and in turn with others like one.
    #[cfg(feature = "snapshot")]
    pub(super) async fn alone<R>(
        &mut self,
        program: &Program,
        work: impl AsyncFnOnce(&mut Store<Guest>) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        let Self { store, run, told, part, .. } = self;
        let mut work = pin!(work(store));
        poll_fn(|cx| run.poll(told, &program.machine.ticker, *part, work.as_mut(), cx)).await
    }

    /// Whether the guest has something open that the host keeps.
    #[cfg(feature = "snapshot")]
    pub(super) fn has_open(&mut self) -> bool {
        self.store.data_mut().world.as_mut().is_some_and(|world| world.has_open())
    }

    pub(super) fn usage(&self) -> Usage {
        let guest = self.store.data();
        let fuel = guest.program.machine.fuel.map(|given| given - self.store.get_fuel().unwrap_or(0));
        Usage { cpu: self.run.used(), memory: guest.ledger.memory(), fuel, ..Usage::default() }
    }

    pub(super) fn guest(&self) -> &Guest {
        self.store.data()
    }

    pub(super) fn refused(&self) -> Option<LimitKind> {
        self.store.data().ledger.refused()
    }

    /// The bills of the calls that the guest made.
    pub(super) fn take_receipts(&mut self) -> Vec<Receipt> {
        self.store.data_mut().world.as_mut().map(|world| world.take_receipts()).unwrap_or_default()
    }
}

/// Does a task in an instance, which is made if it is not there.
async fn perform(
    program: &Program,
    store: &mut Store<Guest>,
    entry: &mut Option<Entry>,
    task: &Task,
) -> wasmtime::Result<Output> {
    match &program.export {
        Export::Function(callable) => {
            let params = match task {
                Task::Call(input) => match program.read(callable, input) {
                    Ok(params) => Some((params, input)),
                    // Of a call that is refused nothing is instantiated.
                    Err(refusal) => return Ok(Err(refusal)),
                },
                _ => None,
            };
            let function = match entry {
                Some(Entry::Function(function)) => *function,
                _ => {
                    // Boxed, since it is large and calls of a kept instance carry its place around.
                    let instance = Box::pin(program.pre.instantiate_async(&mut *store)).await?;
                    let function = instance.get_func(&mut *store, callable.index);
                    let function = function.expect("the export was looked up when the function was deployed");
                    *entry = Some(Entry::Function(function));
                    function
                }
            };
            match params {
                Some((params, input)) => {
                    let called = pin!(program.run(callable, store, function, params, input));
                    called.await
                }
                None => Ok(Ok(Payload::default())),
            }
        }
        #[cfg(feature = "wasi-http")]
        Export::Handler(pre) => {
            if entry.is_none() {
                let proxy = Box::pin(pre.instantiate_async(&mut *store)).await?;
                *entry = Some(Entry::Handler(Box::new(proxy)));
            }
            if let (Task::Request(request), Some(Entry::Handler(proxy))) = (task, entry) {
                Box::pin(super::http::handle(store, proxy, request)).await?;
            }
            Ok(Ok(Payload::default()))
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("calls", &self.calls).field("began", &self.began).finish_non_exhaustive()
    }
}

/// What the host keeps about the guest of one call.
pub(super) struct Guest {
    pub(super) ledger: Ledger,
    run: Arc<Run>,
    /// CPU time of the call that was booked on the tenant's account, in nanoseconds.
    booked: u64,
    program: NearProgram,
    pub(super) is_over_cpu: bool,
    /// There if the component imports anything.
    world: Option<Box<World>>,
}

/// Called when a guest sees a tick: ends it if it used what it may use, lets others run if it used a tick.
fn interrupt(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    let guest = store.data_mut();
    guest.run.charge_host(guest.program.machine.ticker.share_of_cost());
    let used = guest.run.running();
    let left = guest.program.limits.cpu.saturating_sub(used);
    guest.is_over_cpu = left.is_zero();
    Ok(if guest.is_over_cpu {
        UpdateDeadline::Interrupt
    } else if used < TICK {
        if left < SLOW {
            guest.program.machine.ticker.tick_within(left);
        }
        UpdateDeadline::Continue(1)
    } else {
        guest.program.machine.ticker.runs_long();
        let cpu = book(guest, used);
        let turn = guest.run.turn(&guest.program.machine.share, guest.ledger.account());
        let program = Arc::clone(&guest.program);
        UpdateDeadline::YieldCustom(
            1,
            Box::pin(async move {
                turn.next(cpu).await;
                // It goes on now, and ends when its budget does.
                program.machine.ticker.tick_within(left.min(TICK));
            }),
        )
    })
}

/// What the tenant's account has not been told of `used`, in nanoseconds.
fn book(guest: &mut Guest, used: Duration) -> u64 {
    let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
    used - mem::replace(&mut guest.booked, used)
}

impl Guest {
    /// What host functions work on.
    pub(super) fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("only components that import something are linked to anything")
    }

    /// What `scf:function/context` tells.
    #[cfg(feature = "services")]
    pub(super) fn context(&mut self) -> Context<'_> {
        let Self { world, run, .. } = self;
        let world = world.as_ref().expect("only components that import something are linked to anything");
        world.context(run)
    }

    /// What host functions of `wasi:filesystem` work on.
    pub(super) fn files(&mut self) -> Files<'_> {
        let Self { world, run, .. } = self;
        let world = world.as_mut().expect("only components that import something are linked to anything");
        world.files(run)
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.world().wasi()
    }
}
