//! A component at work on one call.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use scf_core::{Begun, Call, InvokeError, LimitKind, Payload, Reply, Timestamp};
use wasmtime::PoolConcurrencyLimitError;

use super::{
    account::Account,
    live::{Live, Task},
    program::{NearProgram, Output, Program},
    ticker::{SLOW, TICK},
    warm::Warm,
};
use crate::spread::{Apart, Each};

/// When the pool may have room again: about the time of a call.
const RETRY: Duration = Duration::from_millis(10);

/// What the isolates of a function share.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) program: Arc<Program>,
    /// The same, counted apart for each core.
    near: Each<NearProgram>,
    /// Instances that are kept, where the function asks for it. They hold the program, so it does not hold them.
    pub(super) warm: Option<Arc<Warm>>,
}

/// What a call came to, of what its guest answered and the limit that it met.
pub(super) fn payload_of(
    program: &Program,
    output: Output,
    refused: Option<LimitKind>,
) -> Result<Payload, InvokeError> {
    match output {
        Ok(payload) if payload.size() > program.limits.payload => Err(program.limit(LimitKind::Output)),
        Ok(payload) => Ok(payload),
        Err(refusal) => match refused {
            Some(limit) => Err(program.limit(limit)),
            None => Err(program.refuse(refusal)),
        },
    }
}

/// Boxes what `make` makes without moving it there: a future is as large as all that it may come to hold, and empty when
/// it is made.
fn in_place<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let place = Box::new_uninit();
    Box::into_pin(Box::write(place, make()))
}

impl Made {
    /// What isolates of `program` share, with the instances of it that are kept.
    pub(super) fn new(program: Program, warm: Option<Arc<Warm>>) -> Self {
        Self { program: Arc::new(program), near: Each::default(), warm }
    }

    /// The program, for `part` of the cores.
    pub(super) fn near(&self, part: usize) -> &NearProgram {
        self.near.at(part, || Arc::new(Apart(Arc::clone(&self.program))))
    }

    /// Begins a call that was made on `part` of the cores, with one future for it where it may be over at once.
    pub(super) fn begin<'a>(&'a self, part: usize, call: &'a Call, input: Payload, cx: &mut Context<'_>) -> Begun<'a> {
        if self.program.was_long.load(Relaxed) || self.is_handler() || call.state.is_some() || call.host.paces() {
            return Begun::poll(Box::pin(self.serve(part, call, input)), cx);
        }
        self.hurry(false);
        let mut work = match self.instance(part, call, Task::Call(input)) {
            Ok(live) => in_place(|| live.work()),
            Err(error) => return Begun::Done(Err(error)),
        };
        match work.as_mut().poll(cx) {
            Poll::Ready(live) if !live.had_no_room() => Begun::Done(self.reply(live, call)),
            Poll::Ready(live) => Begun::Waits(Box::pin(async move {
                let ended = self.end(part, call, live).await?;
                self.reply(ended, call)
            })),
            Poll::Pending => Begun::Waits(Box::pin(async move {
                let live = self.go_on(work, Duration::ZERO, call).await;
                let ended = self.end(part, call, live).await?;
                self.reply(ended, call)
            })),
        }
    }

    /// Whether the component handles HTTP requests.
    fn is_handler(&self) -> bool {
        #[cfg(feature = "wasi-http")]
        if let super::program::Export::Handler(_) = self.program.export {
            return true;
        }
        false
    }

    /// Serves a call that was made on `part` of the cores.
    pub(super) async fn serve(&self, part: usize, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        #[cfg(feature = "wasi-http")]
        if self.is_handler() {
            return Box::pin(super::http::serve(self, part, call, &input)).await;
        }
        let task = Task::Call(input);
        let ended = match &call.state {
            #[cfg(feature = "services")]
            // Boxed, so that calls without state do not carry its place around.
            Some(session) => Box::pin(self.run_stateful(part, call, &**session, task)).await?,
            _ => self.run(part, call, task).await?,
        };
        let cpu = ended.usage().cpu;
        let reply = self.reply(ended, call);
        if call.host.paces() {
            // The instance is free for others while this call waits.
            call.host.pace(cpu).await;
        }
        reply
    }

    /// What a call came to, and its instance kept for others where it may be.
    fn reply(&self, mut live: Box<Live>, call: &Call) -> Result<Reply, InvokeError> {
        let (usage, refused, reused, calls) = (live.usage(), live.refused(), live.reused, live.take_receipts());
        let output = self.settle(live, call, refused.is_none());
        let payload = payload_of(&self.program, output?, refused)?;
        Ok(Reply { reused, calls, ..Reply::new(payload, usage) })
    }

    /// Does `task` for `call` in an instance that was kept, if there is one, or a fresh one.
    pub(super) async fn run(&self, part: usize, call: &Call, task: Task) -> Result<Box<Live>, InvokeError> {
        let live = self.work(self.instance(part, call, task)?, call).await;
        self.end(part, call, live).await
    }

    /// An instance that was kept, if there is one, or a fresh one, to do `task` for `call`.
    fn instance(&self, part: usize, call: &Call, task: Task) -> Result<Box<Live>, InvokeError> {
        let Self { program, warm, .. } = self;
        let near = self.near(part);
        let other = program.other_account(call);
        let account = other.as_ref().unwrap_or(&program.account);
        let mut live = match warm {
            Some(warm) => self.kept(warm, near, call, account)?,
            None => Live::fresh(near, account, call),
        };
        live.assign(task, part);
        Ok(live)
    }

    /// Has what `live` was to do done in another instance for as long as there is no room, and one can be had.
    async fn end(&self, part: usize, call: &Call, mut live: Box<Live>) -> Result<Box<Live>, InvokeError> {
        while live.had_no_room() {
            // One of its own may have become idle meanwhile.
            let is_kept = self.warm.as_ref().is_some_and(|warm| warm.idle() > 0);
            if !is_kept && !self.program.machine.idle.evict() {
                break;
            }
            let task = live.take_task();
            live = self.work(self.instance(part, call, task)?, call).await;
        }
        Ok(live)
    }

    /// As [`Made::run`], for a call of which the guest reaches the state.
    #[cfg(feature = "services")]
    pub(super) async fn run_stateful(
        &self,
        part: usize,
        call: &Call,
        session: &dyn scf_core::StateSession,
        task: Task,
    ) -> Result<Box<Live>, InvokeError> {
        let (mut desk, guests) = super::world::Desk::open(call);
        let run = std::pin::pin!(self.run(part, &guests, task));
        let (ended, failed) = desk.answer(session, run).await;
        let Some(source) = failed else { return ended };
        let key = call.key.clone().unwrap_or_default();
        Err(InvokeError::State { function: self.program.function.clone(), key, source: Box::new(source) })
    }

    /// Works on the executor, and beside it once the call runs long.
    pub(super) async fn work(&self, live: Box<Live>, call: &Call) -> Box<Live> {
        self.hurry(self.program.was_long.load(Relaxed));
        self.go_on(in_place(|| live.work()), call.meter.cpu(), call).await
    }

    /// Has the ticks come early where the call ends early, or probably runs long.
    fn hurry(&self, is_long: bool) {
        if is_long || self.program.limits.cpu < 2 * SLOW {
            self.program.machine.ticker.hurry();
        }
    }

    /// Goes on with work that the call had used `before` for when it began.
    async fn go_on<F>(&self, work: Pin<Box<F>>, before: Duration, call: &Call) -> Box<Live>
    where
        F: Future<Output = Box<Live>> + Send + 'static,
    {
        let program = &self.program;
        let was_long = program.was_long.load(Relaxed);
        let is_long = || match call.meter.cpu() - before {
            Duration::ZERO => was_long,
            used if used >= TICK => {
                program.was_long.store(true, Relaxed);
                true
            }
            _ => false,
        };
        let live = program.machine.lane.run(work, is_long, &call.meter).await;
        if was_long && live.run.used() < TICK {
            program.was_long.store(false, Relaxed);
        }
        live
    }

    /// Keeps the instance of a call that went well, if it may be kept, and says what came of the call.
    pub(super) fn settle(&self, mut live: Box<Live>, call: &Call, may_keep: bool) -> Result<Output, InvokeError> {
        call.meter.saw_memory(live.guest().ledger.memory());
        match live.take_output() {
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
    pub(super) fn failed(&self, error: &wasmtime::Error, live: &Live, call: &Call) -> InvokeError {
        if error.is::<PoolConcurrencyLimitError>() {
            let (function, node) = (self.program.function.clone(), call.host.node().id.clone());
            return InvokeError::Overloaded { function, node, retry_after: RETRY };
        }
        self.program.explain(error, live)
    }

    /// An instance that was kept, or a fresh one.
    fn kept(
        &self,
        warm: &Warm,
        near: &NearProgram,
        call: &Call,
        account: &Arc<Account>,
    ) -> Result<Box<Live>, InvokeError> {
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
    fn put_back(&self, warm: &Warm, mut live: Box<Live>) {
        // Between calls it is its owner's.
        if live.store.data_mut().ledger.charge_to(&self.program.account) {
            warm.give(live);
        }
    }
}
