//! Accelerators in processes of their own.
//!
//! A host starts the program of a worker, which calls [`worker_main`], with a socket as its standard input. Over it goes
//! what is asked and answered, one thing at a time (`link`, `message`); tensors lie in memory that both map (`memory`),
//! in the exact form of the wire, and the files of models are handed over sealed, so that nothing large goes through the
//! socket. The host copies what it takes out of that memory and holds it against shapes and hashes before it believes
//! it. A worker that ends, does not answer or says what cannot be costs the call that it had; it is ended, and started
//! again when the next one comes, where each model is loaded again when it is asked for (`process`, `rest`).

mod block;
mod link;
mod memory;
mod message;
mod process;
mod remote;
mod rest;
mod serve;

use std::{
    ffi::OsString,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use scf_core::{BlockGraph, ByteSize, ModelError};

pub use self::serve::worker_main;
use self::{block::RemoteBlock, message::Ask, process::Process, remote::Remote, rest::Deaths};
use super::{
    Accelerator, AcceleratorError, Description, Lease, Loaded, ModelSource, budget::Budget, in_process::weights,
};
use crate::device::Device;

/// The environment variable that tells a program that it is a worker; its value is the device.
const ENTRY: &str = "SCF_ACCELERATOR";
/// Memory that is shared where nothing else is set: 32 MiB for each way.
const SHARED: ByteSize = ByteSize::from_mib(64);
/// How long an answer is waited for where nothing else is set.
const PATIENCE: Duration = Duration::from_secs(60);

/// An accelerator in a process of its own, which this program starts, outlives and starts again. Clones are the same
/// one. The process ends with the last model that it has, and with the last clone; the next load starts it again.
///
/// It does one thing at a time: calls wait for those before them, each at most for the patience that is set. For several
/// at once start several.
#[derive(Clone, Debug)]
pub struct Worker(Arc<Host>);

/// How a worker is started: made by [`Worker::of`].
#[derive(Clone, Debug)]
#[must_use]
pub struct WorkerSettings(Settings);

#[derive(Clone, Debug)]
struct Settings {
    program: PathBuf,
    arguments: Vec<OsString>,
    device: Device,
    memory: ByteSize,
    shared: usize,
    patience: Duration,
}

impl Worker {
    /// A worker for `device` whose `program` calls [`worker_main`]: `scf-accelerator`, which is built with the feature
    /// of the device (`scf-ai/with-cuda cargo build --release -p scf-ai --bin scf-accelerator --features cuda`), or an
    /// integrator's own.
    pub fn of(program: impl Into<PathBuf>, device: Device) -> WorkerSettings {
        WorkerSettings(Settings {
            program: program.into(),
            arguments: Vec::new(),
            device,
            memory: ByteSize::from_bytes(u64::MAX),
            shared: SHARED.bytes() as usize,
            patience: PATIENCE,
        })
    }

    /// The process that runs now, for tests that end it.
    #[cfg(test)]
    pub(super) fn process(&self) -> Option<u32> {
        self.0.state().process.as_ref().map(Process::id)
    }
}

impl WorkerSettings {
    /// What the program is given as arguments; default none.
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.0.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// Memory of the device for models; default, and at most, what its driver, or the system for a processor, says is
    /// free when the worker is started.
    pub const fn memory(mut self, memory: ByteSize) -> Self {
        self.0.memory = memory;
        self
    }

    /// Memory that is shared with the worker for tensors, half of it for each way; default 64 MiB. What does not fit
    /// together goes in pieces; one tensor that does not fit is refused.
    pub const fn shared(mut self, memory: ByteSize) -> Self {
        self.0.shared = memory.bytes() as usize / 2 / message::ALIGNMENT * 2 * message::ALIGNMENT;
        self
    }

    /// How long an answer is waited for before the worker is ended: longer than the slowest load and the slowest run;
    /// default 60 s.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.0.patience = patience;
        self
    }

    /// Starts the worker and asks what it computes on: whether the device is there. Waits for it, so call it on a thread
    /// that may block.
    ///
    /// # Errors
    /// [`AcceleratorError::Absent`] naming feature and driver when the program was built without the device or the
    /// device is not there, [`AcceleratorError::NotStarted`] when the program is not there or no worker, and how it
    /// failed otherwise.
    pub fn start(self) -> Result<Worker, AcceleratorError> {
        let settings = self.0;
        let (process, opened) = Process::start(&settings)?;
        let total = opened.free.map_or(settings.memory, |free| settings.memory.min(ByteSize::from_bytes(free)));
        Ok(Worker(Arc::new(Host {
            budget: Budget::new(settings.device, total),
            settings,
            name: opened.name,
            driver: opened.driver,
            state: Mutex::new(State { process: Some(process), deaths: Deaths::default(), next: 0 }),
            gone: Mutex::default(),
        })))
    }
}

impl Accelerator for Worker {
    fn describe(&self) -> Description {
        let Host { settings, budget, name, driver, .. } = &*self.0;
        let (total, free) = (budget.total(), budget.free());
        Description { device: settings.device, name: name.clone(), driver: driver.clone(), total, free }
    }

    fn reserve(&self, need: ByteSize) -> Result<Lease, AcceleratorError> {
        self.0.budget.lease(need)
    }

    fn load(&self, lease: Lease, model: &ModelSource) -> Result<Loaded, AcceleratorError> {
        let (host, device, leased) = (&self.0, self.0.settings.device, lease.size());
        host.budget.check(&lease)?;
        let over = |takes| AcceleratorError::OverLease { model: model.model.clone(), device, takes, leased };
        let size = ByteSize::from_bytes(model.weights.len() as u64);
        if size > leased {
            return Err(over(size));
        }
        let remote = Arc::new(Remote::load(host, lease, model)?);
        let failed =
            |error: ModelError| AcceleratorError::Load { model: model.model.clone(), device, source: error.into() };
        let graph = BlockGraph::chain(model.model.clone(), remote.input().clone(), RemoteBlock::all(&remote));
        let graph = graph.map_err(failed)?;
        let takes = weights(&graph);
        if takes > leased {
            return Err(over(takes));
        }
        Ok(Loaded::new(graph, remote, device))
    }
}

/// A worker as it is kept.
#[derive(Debug)]
struct Host {
    settings: Settings,
    budget: Budget,
    name: String,
    driver: Option<String>,
    state: Mutex<State>,
    /// Models that nobody has any more, until the worker has let go of them.
    gone: Mutex<Vec<(u32, Lease)>>,
}

#[derive(Debug)]
struct State {
    process: Option<Process>,
    deaths: Deaths,
    /// The number of the model that is loaded next.
    next: u32,
}

impl Host {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> MutexGuard<'_, Vec<(u32, Lease)>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `f` while nobody else asks the worker; ends a worker that cannot be asked any more.
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let done = f(&mut state);
        state.bury();
        drop(state);
        self.tidy();
        done
    }

    /// Has the worker let go of `model`, whose memory is free once it has; by whoever asks it now, where somebody does.
    fn let_go(&self, model: u32, lease: Lease) {
        self.gone().push((model, lease));
        self.tidy();
    }

    fn tidy(&self) {
        // Who finds the lock taken leaves it to the one who has it, who comes here once it is free.
        while !self.gone().is_empty() {
            let mut state = match self.state.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let gone = std::mem::take(&mut *self.gone());
            state.unload(&self.settings, &gone);
        }
    }

    /// The worker, started where none runs.
    fn process<'a>(&self, state: &'a mut State) -> Result<&'a mut Process, AcceleratorError> {
        let process = match state.process.take() {
            Some(process) => process,
            None => {
                let now = Instant::now();
                if let Some((deaths, rest)) = state.deaths.rest(now) {
                    return Err(AcceleratorError::Resting { device: self.settings.device, deaths, rest });
                }
                tracing::info!(device = %self.settings.device, program = %self.settings.program.display(), "a worker is started");
                Process::start(&self.settings).inspect_err(|_| state.deaths.died(now))?.0
            }
        };
        Ok(state.process.insert(process))
    }
}

impl State {
    /// Ends a worker that cannot be asked any more.
    fn bury(&mut self) {
        if self.process.as_ref().is_some_and(|process| !process.is_sound()) {
            self.process = None;
            self.deaths.died(Instant::now());
        }
    }

    /// Has the worker let go of models; it ends with the last.
    fn unload(&mut self, settings: &Settings, gone: &[(u32, Lease)]) {
        for (id, _) in gone {
            let Some(process) = self.process.as_mut() else { return };
            if !process.loaded.remove(id) {
                continue;
            }
            let ask = Ask::Unload { id: *id };
            match process.ask(settings, &ask, None) {
                Ok(message::Answer::Unloaded) => {}
                Ok(_) => drop(process.garbage(settings, ask.verb(), "kind")),
                Err(error) => tracing::warn!(%error, "a worker did not let go of a model"),
            }
            if process.is_sound() && process.loaded.is_empty() {
                self.process = None;
            }
            self.bury();
        }
    }
}

#[cfg(test)]
mod tests;
