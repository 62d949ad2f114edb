//! A jailed process at work on one call.

use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::process::WaitIdStatus;
use scf_core::{
    Call, FunctionName, InvokeError, Isolate, LimitKind, Limits, MediaType, Payload, Prepared, Reply, Reuse, Span,
    Usage,
};

use super::{
    System,
    child::Child,
    exchange::{self, Answer, Fault},
    plan::Plan,
    watch::Watch,
};
use crate::escape::escape;

/// How long a process that has hung up may take to end by itself.
const GRACE: Duration = Duration::from_millis(100);
/// When there may be room for a process again: about the time of a call.
const RETRY: Duration = Duration::from_millis(10);

/// A function whose program starts, and its processes that wait for calls.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) system: Arc<System>,
    pub(super) function: FunctionName,
    pub(super) output: MediaType,
    pub(super) limits: Limits,
    pub(super) reuse: Reuse,
    pub(super) plan: Arc<Plan>,
    pub(super) idle: Mutex<Vec<Child>>,
}

/// How a call or a start ended otherwise than with what was asked for.
#[derive(Debug)]
pub(super) enum Ending {
    Limit(LimitKind),
    Refused(String),
    Crashed(String),
    /// No room for another process.
    Full,
    Host(String),
}

impl Runner {
    /// A process that waits for calls and may serve one, if there is any.
    fn take_idle(&self) -> Option<Child> {
        loop {
            let child = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if self.may_serve(&child) && !child.has_something_to_say() {
                child.process.pause(false);
                return Some(child);
            }
        }
    }

    /// Whether a process may serve another call.
    fn may_serve(&self, child: &Child) -> bool {
        match self.reuse {
            Reuse::Warm { max_calls, max_age, .. } => child.calls < max_calls && child.started.elapsed() < max_age,
            _ => child.calls == 0,
        }
    }

    /// Keeps a process that has done a call well, if the function wants that.
    fn give_back(&self, child: Child) {
        let Reuse::Warm { max_idle, .. } = self.reuse else { return };
        if self.may_serve(&child) {
            child.process.pause(true);
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < max_idle as usize {
                idle.push(child);
            }
        }
    }

    /// Keeps a process that has served nothing.
    pub(super) fn keep_one(&self, child: Child) {
        child.process.pause(true);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }

    /// Ends one process that waits for calls; whether there was one.
    pub(super) fn evict(&self) -> bool {
        let child = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        child.is_some()
    }

    /// A process that has said that it is ready, within the limits of a call.
    pub(super) async fn ready(&self) -> Result<Child, Ending> {
        let mut child = self.start().await?;
        let mut watch = Watch::first(&child.process, &self.limits, Arc::default());
        let Child { connection, output, process, .. } = &mut child;
        let started = tokio::select! {
            biased;
            started = exchange::ready(connection) => started.map_err(Some),
            limit = watch.run(process) => return Err(Ending::Limit(limit)),
            () = forever(output.drain()) => Err(None),
        };
        match started {
            Ok(()) => Ok(child),
            Err(fault) => Err(self.explain(fault, &mut child, &mut watch).await),
        }
    }

    async fn start(&self) -> Result<Child, Ending> {
        let slot = self.system.slot().await.ok_or(Ending::Full)?;
        self.system.start(&self.function, &self.limits, &self.plan, slot).await.map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            Ending::Host(format!("{error}: {source}"))
        })
    }

    /// Gives one call to a process.
    async fn serve(&self, child: &mut Child, watch: &mut Watch, call: &Call, input: &Bytes) -> Result<Answer, Ending> {
        let is_new = child.calls == 0 && !watch.was_ready();
        child.calls += 1;
        child.output.begin();
        let Child { connection, output, process, ready_at, .. } = child;
        let ready_at = is_new.then_some(ready_at);
        let limit = self.limits.payload.bytes();
        let answer = tokio::select! {
            biased;
            answer = exchange::call(connection, ready_at, (call.id, call.attempt), input, limit) => answer.map_err(Some),
            over = watch.run(process) => return Err(Ending::Limit(over)),
            () = forever(output.drain()) => Err(None),
        };
        child.output.finish();
        match answer {
            Ok(answer) => Ok(answer),
            Err(fault) => Err(self.explain(fault, child, watch).await),
        }
    }

    /// What became of a process that gave no answer.
    async fn explain(&self, fault: Option<Fault>, child: &mut Child, watch: &mut Watch) -> Ending {
        match fault {
            Some(Fault::TooLarge) => return Ending::Limit(LimitKind::Output),
            Some(Fault::Protocol(problem)) => return Ending::Crashed(problem.into()),
            Some(Fault::HungUp) | None => {}
        }
        let Child { output, process, .. } = &mut *child;
        let ended = tokio::select! {
            biased;
            ended = process.ended() => Some(ended),
            limit = watch.run(process) => return Ending::Limit(limit),
            () = tokio::time::sleep(GRACE) => None,
            () = forever(output.drain()) => None,
        };
        child.output.finish();
        let said = child.output.tail();
        let status = match ended {
            Some(Ok(status)) => status,
            Some(Err(error)) => return Ending::Host(format!("the process cannot be watched: {error}")),
            None => return Ending::Crashed(with_text("hung up and went on".into(), &said)),
        };
        if child.process.ran_out_of_memory() || says_out_of_memory(&said) {
            return Ending::Limit(LimitKind::Memory);
        }
        if watch.cpu(&child.process) >= self.limits.cpu {
            return Ending::Limit(LimitKind::Cpu);
        }
        Ending::Crashed(with_text(describe(&status), &said))
    }

    fn error(&self, ending: Ending, call: &Call) -> InvokeError {
        let function = self.function.clone();
        match ending {
            Ending::Limit(limit) => InvokeError::Limit { function, limit },
            Ending::Refused(message) => InvokeError::Refused { function, message: escape(&message) },
            Ending::Crashed(message) => InvokeError::Trapped { function, message: escape(&message) },
            Ending::Full => InvokeError::Overloaded { function, node: call.host.node().id.clone(), retry_after: RETRY },
            Ending::Host(message) => InvokeError::Host { function, message: escape(&message) },
        }
    }
}

/// Reads what a process prints for as long as something else goes on.
async fn forever<T>(drain: impl Future<Output = T>) {
    drain.await;
    pending::<()>().await;
}

/// How a process ended.
fn describe(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (_, Some(signal)) => {
            let name = match signal {
                4 => " (illegal instruction)",
                6 => " (abort)",
                7 => " (bus error)",
                8 => " (arithmetic)",
                9 => " (kill)",
                11 => " (segmentation fault)",
                _ => "",
            };
            format!("ended by signal {signal}{name}")
        }
        _ => "ended".into(),
    }
}

fn with_text(what: String, said: &str) -> String {
    if said.is_empty() { what } else { format!("{what}: {said}") }
}

/// Whether a program that ended says that an allocation was refused: Rust, C++, Python. It can lie, about itself.
fn says_out_of_memory(said: &str) -> bool {
    ["memory allocation of ", "std::bad_alloc", "MemoryError", "Cannot allocate memory"]
        .iter()
        .any(|text| said.contains(text))
}

#[derive(Debug)]
pub(super) struct ProcessPrepared(pub(super) Arc<Runner>);

#[async_trait]
impl Prepared for ProcessPrepared {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        Ok(Box::new(ProcessIsolate { runner: Arc::clone(&self.0), child: self.0.take_idle() }))
    }

    async fn keep(&self, isolates: u32) -> Result<u32, InvokeError> {
        let runner = &*self.0;
        let wanted = match runner.reuse {
            Reuse::Warm { max_idle, .. } => isolates.min(max_idle),
            _ => isolates,
        };
        let kept = || runner.idle.lock().unwrap_or_else(PoisonError::into_inner).len();
        while kept() > wanted as usize {
            runner.evict();
        }
        while kept() < wanted as usize {
            let child = match runner.ready().await {
                Ok(child) => child,
                // What there is room for is kept.
                Err(Ending::Full) => break,
                Err(ending) => {
                    let message = escape(&format!("{ending:?}"));
                    return Err(InvokeError::Host { function: runner.function.clone(), message });
                }
            };
            runner.keep_one(child);
        }
        Ok(u32::try_from(kept()).unwrap_or(u32::MAX))
    }
}

/// Starts its process when it is called, where none waits, so that the start is metered and limited with the
/// call.
#[derive(Debug)]
struct ProcessIsolate {
    runner: Arc<Runner>,
    child: Option<Child>,
}

#[async_trait]
impl Isolate for ProcessIsolate {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let runner = &*self.runner;
        let begun = Instant::now();
        let (taken, meter) = (self.child.take(), Arc::clone(&call.meter));
        let reused = taken.as_ref().is_some_and(|child| child.calls > 0);
        // Declared in this order, so that a call that is given up is metered before its process is ended.
        let (mut child, mut watch);
        match taken {
            Some(waiting) => {
                child = waiting;
                watch = Watch::later(&child.process, &runner.limits, meter);
            }
            None => {
                child = runner.start().await.map_err(|ending| runner.error(ending, call))?;
                watch = Watch::first(&child.process, &runner.limits, meter);
            }
        }
        let answer = runner.serve(&mut child, &mut watch, call, &input.bytes).await;
        let (cpu, memory) = watch.finish(&child.process);
        let init = child.ready_at.take().map(|at| Span { name: "init".into(), took: at.duration_since(begun) });
        match &answer {
            Ok(answer) if answer.is_clean() => runner.give_back(child),
            // Ends the process; the slot is free for others while this call waits.
            _ => drop(child),
        }
        call.host.pace(cpu).await;
        let answer = answer.and_then(|answer| match answer {
            Answer::Output { bytes, .. } => Ok(bytes),
            Answer::Refused { text, .. } => Err(Ending::Refused(text)),
        });
        let bytes = answer.map_err(|ending| runner.error(ending, call))?;
        let usage = Usage { cpu, memory, ..Usage::default() };
        let payload = Payload::new(bytes).with_media(runner.output.clone());
        Ok(Reply { reused, spans: init.into_iter().collect(), ..Reply::new(payload, usage) })
    }
}

impl Drop for ProcessIsolate {
    fn drop(&mut self) {
        // Taken out and not used after all.
        if let Some(child) = self.child.take() {
            self.runner.keep_one(child);
        }
    }
}
