//! What computes models, in this process or in one of its own.
//!
//! An [`Accelerator`] says what it is, grants memory before anything is loaded into it, and makes [`Loaded`] networks out
//! of [`ModelSource`]s. What is loaded is a [`BlockGraph`] like any other, given to
//! [`SplitModel`](crate::SplitModel), [`ModelServer`](crate::ModelServer) or [`ModelHost`](crate::ModelHost): its
//! blocks run where it was loaded, consecutive ones in one piece, and nowhere else. When the last clone of the graph
//! goes, what it took is free again.
//!
//! | accelerator | where it computes |
//! |---|---|
//! | [`InProcess`] | here: the processor, or with the features `cuda` and `metal` a GPU that candle drives |
//! | `Worker` | in a process that [`worker_main`] serves: this program runs with and without a GPU, and outlives its driver; Linux |

mod budget;
mod error;
mod in_process;
mod source;
mod timed;
#[cfg(target_os = "linux")]
mod worker;

use std::{fmt, ops::Range, sync::Arc};

use scf_core::{Activation, BlockGraph, BlockRunner, ByteSize, ModelError, Ran};

#[cfg(target_os = "linux")]
pub use self::worker::{Worker, WorkerSettings, worker_main};
pub use self::{
    budget::Lease,
    error::AcceleratorError,
    in_process::InProcess,
    source::{Loaders, ModelSource, Network},
};
use crate::device::Device;

/// Something that models are loaded onto and run on: a device and its memory.
///
/// A vendor implements it for a device of its own. All calls may wait for the device: they come from threads that may
/// block.
pub trait Accelerator: fmt::Debug + Send + Sync + 'static {
    /// What it is and what is free of it.
    fn describe(&self) -> Description;

    /// Sets `need` of its memory aside, for weights and what is computed of them. Called before a model is loaded, so
    /// that one that does not fit is refused while nothing else has to make room.
    ///
    /// # Errors
    /// [`AcceleratorError::Memory`] naming the device, what was asked and what is free.
    fn reserve(&self, need: ByteSize) -> Result<Lease, AcceleratorError>;

    /// Loads `model` into the memory of `lease`, which is given back when the last clone of the model's graph goes, or
    /// at once when this fails.
    ///
    /// # Errors
    /// [`AcceleratorError::Load`] when the file is not what it should be, [`AcceleratorError::OverLease`] when it takes
    /// more than was set aside, [`AcceleratorError::ForeignLease`], or what became of the device.
    fn load(&self, lease: Lease, model: &ModelSource) -> Result<Loaded, AcceleratorError>;
}

const _: fn(&dyn Accelerator) = |_| {};

/// What an accelerator is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Its kind and which of the kind it is.
    pub device: Device,
    /// What its maker calls it.
    pub name: String,
    /// The driver that it is reached through, with its version where that is known; none for a processor.
    pub driver: Option<String>,
    /// Its memory for models.
    pub total: ByteSize,
    /// What of it is not leased.
    pub free: ByteSize,
}

/// A model on an accelerator.
#[derive(Clone, Debug)]
pub struct Loaded {
    graph: BlockGraph,
    runner: Arc<dyn BlockRunner>,
    device: Device,
}

impl Loaded {
    /// What an accelerator made: `graph`, whose blocks `runner` runs on `device`. Both keep the lease.
    #[must_use]
    pub fn new(graph: BlockGraph, runner: Arc<dyn BlockRunner>, device: Device) -> Self {
        Self { graph: graph.behind(Arc::clone(&runner)), runner, device }
    }

    /// The network, to be run like any other.
    #[must_use]
    pub const fn graph(&self) -> &BlockGraph {
        &self.graph
    }

    /// The network alone.
    #[must_use]
    pub fn into_graph(self) -> BlockGraph {
        self.graph
    }

    /// What it computes on.
    #[must_use]
    pub const fn device(&self) -> Device {
        self.device
    }

    /// Runs the blocks of `blocks` for each of `batch`, and says what that took: for whoever meters it. Blocks of a
    /// network that is no chain are run by its graph.
    #[must_use]
    pub fn run(&self, blocks: Range<usize>, batch: Vec<Activation>) -> Ran {
        match self.graph.offload(blocks.clone(), batch) {
            Ok(ran) => ran,
            Err(batch) => self.runner.run(blocks, batch),
        }
    }
}

/// What makes a graph of `model` on `accelerator`, with `memory` set aside for it: the loader of a variant of
/// [`ModelServer`](crate::ModelServer), called again whenever the variant made room for others. What is evicted while it
/// still runs has its memory until it has run: the accelerator needs room for that beside what the server may keep.
pub fn loader(
    accelerator: Arc<dyn Accelerator>,
    memory: ByteSize,
    model: ModelSource,
) -> impl Fn() -> Result<BlockGraph, ModelError> + Send + Sync + 'static {
    move || {
        let refused =
            |error: AcceleratorError| ModelError::Refused { model: model.model.clone(), source: error.into() };
        let lease = accelerator.reserve(memory).map_err(refused)?;
        accelerator.load(lease, &model).map(Loaded::into_graph).map_err(refused)
    }
}

#[cfg(test)]
pub(crate) mod tests;
