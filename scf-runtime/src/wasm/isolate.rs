//! A component at work on one call.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{
    Call, InvokeError, Isolate, LimitKind, MediaType, Payload, Prepared, Receipt, Reply, Reuse, Timestamp, Usage,
};
use wasmtime::PoolConcurrencyLimitError;

use super::{
    account::Account,
    live::{Live, Task},
    program::{NearProgram, Output, Program},
    ticker::{SLOW, TICK},
    warm::Warm,
};
use crate::spread::{Apart, Each, Shared, here};

/// When the pool may have room again: about the time of a call.
const RETRY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct WasmPrepared {
    made: Arc<Made>,
    /// The same, counted apart for each core.
    near: Each<Shared<Made>>,
}

/// What the isolates of a function share.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) program: Arc<Program>,
    /// The same, counted apart for each core.
    near: Each<NearProgram>,
    /// Instances that are kept, where the function asks for it. They hold the program, so it does not hold them.
    warm: Option<Arc<Warm>>,
}

impl WasmPrepared {
    pub(super) fn new(program: Program, reuse: Reuse) -> Self {
        let warm = Warm::new(reuse);
        if let Some(warm) = &warm {
            program.machine.idle.add(warm);
        }
        let made = Arc::new(Made { program: Arc::new(program), near: Each::default(), warm });
        Self { made, near: Each::default() }
    }
}

#[async_trait]
impl Prepared for WasmPrepared {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        let part = here();
        let made = self.near.at(part, || Arc::new(Apart(Arc::clone(&self.made))));
        Ok(Box::new(WasmIsolate { made: Arc::clone(made), part }))
    }

    async fn pin(&self) -> Result<Option<Box<dyn Isolate>>, InvokeError> {
        #[cfg(feature = "wasi-http")]
        if let super::program::Export::Handler(_) = self.made.program.export {
            return Ok(None);
        }
        let part = here();
        let made = self.near.at(part, || Arc::new(Apart(Arc::clone(&self.made))));
        Ok(Some(Box::new(Pinned { isolate: WasmIsolate { made: Arc::clone(made), part }, live: None })))
    }

    async fn keep(&self, isolates: u32) -> Result<u32, InvokeError> {
        let Made { program, warm, .. } = &*self.made;
        let Some(warm) = warm else { return Ok(0) };
        let wanted = warm.max_idle().min(isolates as usize);
        warm.retire(wanted);
        // Calls may take what is made here meanwhile: no more are made than were missing.
        for _ in warm.idle()..wanted {
            let mut live = Live::unused(self.made.near(here()));
            match live.work(program, &Task::Start).await {
                Ok(_) => warm.give(live),
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
struct WasmIsolate {
    made: Shared<Made>,
    /// The cores that it was made on.
    part: usize,
}

#[async_trait]
impl Isolate for WasmIsolate {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let (made, part) = (&**self.made, self.part);
        let program = &made.program;
        #[cfg(feature = "wasi-http")]
        if let super::program::Export::Handler(_) = program.export {
            return super::http::serve(made, part, call, &input).await;
        }
        let media = input.media.clone();
        let mut ended = made.run(part, call, Task::Call(input)).await?;
        let Ended { usage, refused, reused, .. } = ended;
        let calls = std::mem::take(&mut ended.calls);
        let output = made.settle(ended, call, refused.is_none());
        // The instance is free for others while this call waits.
        call.host.pace(usage.cpu).await;
        let payload = output_of(program, output?, refused, &media)?;
        Ok(Reply { reused, calls, ..Reply::new(payload, usage) })
    }
}

fn output_of(
    program: &Program,
    output: Output,
    refused: Option<LimitKind>,
    media: &MediaType,
) -> Result<Payload, InvokeError> {
    match output {
        Ok(payload) if payload.size() > program.limits.payload => Err(program.limit(LimitKind::Output)),
        Ok(payload) => Ok(payload),
        Err(refusal) => match refused {
            Some(limit) => Err(program.limit(limit)),
            None => Err(program.refuse(refusal, media)),
        },
    }
}

/// Keeps its instance from call to call, for the calls of one key.
#[derive(Debug)]
struct Pinned {
    isolate: WasmIsolate,
    live: Option<Live>,
}

#[async_trait]
impl Isolate for Pinned {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let made = &**self.isolate.made;
        let program = &made.program;
        let near = made.near(self.isolate.part);
        let other = program.other_account(call);
        let account = other.as_ref().unwrap_or(&program.account);
        let media = input.media.clone();
        let live = match self.live.take() {
            Some(mut live) => {
                if !live.begin(account, call) {
                    return Err(program.limit(LimitKind::TenantMemory));
                }
                live
            }
            None => Live::fresh(near, account, call),
        };
        let ended = made.run_in(near, live, call, Task::Call(input), || Live::fresh(near, account, call)).await;
        let Ended { usage, refused, reused, mut live, output, calls } = ended;
        call.host.pace(usage.cpu).await;
        match output {
            Ok(output) => {
                let payload = output_of(program, output, refused, &media)?;
                // Between calls its memory is the function's owner's.
                if live.store.data_mut().ledger.charge_to(&program.account) {
                    live.rest();
                    self.live = Some(live);
                }
                Ok(Reply { reused, calls, ..Reply::new(payload, usage) })
            }
            Err(error) => Err(made.failed(&error, &live, call)),
        }
    }
}

/// A call that came to its end in its instance.
pub(super) struct Ended {
    live: Live,
    output: wasmtime::Result<Output>,
    pub(super) usage: Usage,
    /// The limit of memory or tables that was met.
    pub(super) refused: Option<LimitKind>,
    pub(super) reused: bool,
    /// The bills of the calls that it made.
    pub(super) calls: Vec<Receipt>,
}

impl Ended {
    fn new(mut live: Live, output: wasmtime::Result<Output>, reused: bool, call: &Call) -> Self {
        let (usage, refused, calls) = (live.usage(), live.refused(), live.take_receipts());
        call.meter.saw_memory(usage.memory);
        Self { live, output, usage, refused, reused, calls }
    }

    /// Whether the call ended early.
    #[cfg(feature = "wasi-http")]
    pub(super) const fn has_failed(&self) -> bool {
        self.output.is_err()
    }
}

impl Made {
    /// The program, for `part` of the cores.
    fn near(&self, part: usize) -> &NearProgram {
        self.near.at(part, || Arc::new(Apart(Arc::clone(&self.program))))
    }

    /// Does `task` for `call` in an instance that was kept, if there is one, or a fresh one.
    pub(super) async fn run(&self, part: usize, call: &Call, task: Task) -> Result<Ended, InvokeError> {
        let Self { program, warm, .. } = self;
        let near = self.near(part);
        let other = program.other_account(call);
        let account = other.as_ref().unwrap_or(&program.account);
        let live = match warm {
            Some(warm) => self.kept(warm, near, call, account)?,
            None => Live::fresh(near, account, call),
        };
        let mut reused = live.calls > 0;
        let (mut live, mut task, mut output) = self.work(near, live, task).await;
        while output.as_ref().is_err_and(|error| error.is::<PoolConcurrencyLimitError>()) {
            let next = match warm {
                // One of its own may have become idle meanwhile.
                Some(warm) if warm.idle() > 0 => self.kept(warm, near, call, account)?,
                _ if program.machine.idle.evict() => Live::fresh(near, account, call),
                _ => break,
            };
            reused = next.calls > 0;
            (live, task, output) = self.work(near, next, task).await;
        }
        Ok(Ended::new(live, output, reused, call))
    }

    /// Does `task` for `call` in `live`, or in what `fresh` makes where the pool has no room for that.
    async fn run_in(&self, near: &NearProgram, live: Live, call: &Call, task: Task, fresh: impl Fn() -> Live) -> Ended {
        let reused = live.calls > 0;
        let (mut live, mut task, mut output) = self.work(near, live, task).await;
        while output.as_ref().is_err_and(|error| error.is::<PoolConcurrencyLimitError>())
            && self.program.machine.idle.evict()
        {
            (live, task, output) = self.work(near, fresh(), task).await;
        }
        Ended::new(live, output, reused, call)
    }

    /// Works on the executor, and beside it once the call runs long.
    async fn work(&self, near: &NearProgram, mut live: Live, task: Task) -> (Live, Task, wasmtime::Result<Output>) {
        let program = &self.program;
        let run = Arc::clone(&live.run);
        let work = Box::pin({
            let program = Arc::clone(near);
            async move {
                let output = live.work(&program, &task).await;
                (live, task, output)
            }
        });
        if program.was_long.load(Relaxed) || program.limits.cpu < 2 * SLOW {
            program.machine.ticker.hurry();
        }
        let is_long = || match run.meter.used() {
            Duration::ZERO => program.was_long.load(Relaxed),
            used if used >= TICK => {
                program.was_long.store(true, Relaxed);
                true
            }
            _ => false,
        };
        let ended = program.machine.lane.run(work, is_long).await;
        if run.meter.used() < TICK && program.was_long.load(Relaxed) {
            program.was_long.store(false, Relaxed);
        }
        ended
    }

    /// Keeps the instance of a call that went well, if it may be kept, and says what came of the call.
    pub(super) fn settle(&self, ended: Ended, call: &Call, may_keep: bool) -> Result<Output, InvokeError> {
        let Ended { live, output, .. } = ended;
        match output {
            Ok(output) => {
                if let Some(warm) = self.warm.as_deref().filter(|_| may_keep) {
                    self.put_back(warm, live);
                }
                Ok(output)
            }
            // An instance that did not come to its end is not used again.
            Err(error) => Err(self.failed(&error, &live, call)),
        }
    }

    /// Why a call did not come to its end.
    fn failed(&self, error: &wasmtime::Error, live: &Live, call: &Call) -> InvokeError {
        if error.is::<PoolConcurrencyLimitError>() {
            let (function, node) = (self.program.function.clone(), call.host.node().id.clone());
            return InvokeError::Overloaded { function, node, retry_after: RETRY };
        }
        self.program.explain(error, live)
    }

    /// An instance that was kept, or a fresh one.
    fn kept(&self, warm: &Warm, near: &NearProgram, call: &Call, account: &Arc<Account>) -> Result<Live, InvokeError> {
        let now = if warm.ages() { call.host.now() } else { Timestamp::default() };
        let Some(mut live) = warm.take(now) else {
            let mut live = Live::fresh(near, account, call);
            live.began = Some(now);
            return Ok(live);
        };
        live.began.get_or_insert(now);
        if live.begin(account, call) {
            return Ok(live);
        }
        // The instance itself has done nothing wrong.
        warm.give(live);
        Err(self.program.limit(LimitKind::TenantMemory))
    }

    /// Keeps an instance that served its call well.
    fn put_back(&self, warm: &Warm, mut live: Live) {
        // Between calls it is its owner's.
        if live.store.data_mut().ledger.charge_to(&self.program.account) {
            live.rest();
            warm.give(live);
        }
    }
}
