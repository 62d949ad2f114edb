//! Devices that this process computes on.

use std::{ops::Range, sync::Arc};

use scf_core::{Activation, BlockGraph, BlockRunner, ByteSize, ModelError, Ran, Usage};

use super::{
    Accelerator, AcceleratorError, Description, Lease, Loaded, Loaders, ModelSource,
    budget::Budget,
    timed::{self, Timed},
};
use crate::{device::Device, kernel::Isa};

/// The processor, or a device that candle drives in this process.
///
/// A GPU's driver is linked into the program then: it does not start where that is missing, and ends with the driver.
/// A `Worker` keeps both apart. What is here for CUDA and Metal has not been run on a GPU yet.
#[derive(Clone, Debug)]
pub struct InProcess {
    device: Device,
    candle: candle_core::Device,
    budget: Budget,
    loaders: Loaders,
}

impl InProcess {
    /// The processor, with `memory` for models.
    #[must_use]
    pub fn cpu(memory: ByteSize) -> Self {
        let (device, candle) = (Device::Cpu, candle_core::Device::Cpu);
        Self { device, candle, budget: Budget::new(device, memory), loaders: Loaders::new() }
    }

    /// `device`, with `memory` of it for models.
    ///
    /// # Errors
    /// [`AcceleratorError::Absent`] naming the feature and the driver where it is not built in or not there.
    pub fn open(device: Device, memory: ByteSize) -> Result<Self, AcceleratorError> {
        let candle = device.open().map_err(|error| AcceleratorError::absent(device, error.to_string()))?;
        Ok(Self { device, candle, budget: Budget::new(device, memory), loaders: Loaders::new() })
    }

    /// How networks are made; default those of this crate.
    #[must_use]
    pub fn loaders(mut self, loaders: Loaders) -> Self {
        self.loaders = loaders;
        self
    }
}

impl Accelerator for InProcess {
    fn describe(&self) -> Description {
        let (total, free) = (self.budget.total(), self.budget.free());
        let (name, driver) = described(&self.candle);
        Description { device: self.device, name, driver, total, free }
    }

    fn reserve(&self, need: ByteSize) -> Result<Lease, AcceleratorError> {
        self.budget.lease(need)
    }

    fn load(&self, lease: Lease, model: &ModelSource) -> Result<Loaded, AcceleratorError> {
        self.budget.check(&lease)?;
        let device = self.device;
        let failed =
            |error: ModelError| AcceleratorError::Load { model: model.model.clone(), device, source: error.into() };
        let graph = self.loaders.load(model, device).map_err(failed)?;
        let (takes, leased) = (weights(&graph), lease.size());
        if takes > leased {
            return Err(AcceleratorError::OverLease { model: model.model.clone(), device, takes, leased });
        }
        let runner = Resident { graph: graph.clone(), device: self.candle.clone(), _lease: lease };
        Ok(Loaded::new(graph, Arc::new(runner), device))
    }
}

/// What the weights of `graph` take.
pub(super) fn weights(graph: &BlockGraph) -> ByteSize {
    (0..graph.blocks().len()).fold(ByteSize::ZERO, |sum, block| sum + graph.cost(block).weights)
}

/// What a device is called, and its driver.
pub(super) fn described(device: &candle_core::Device) -> (String, Option<String>) {
    match device {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(cuda) => {
            let name = cuda.cuda_stream().context().name().unwrap_or_else(|error| error.to_string());
            (name, Some("libcuda.so.1".into()))
        }
        candle_core::Device::Metal(_) => ("Apple GPU".into(), Some("Metal.framework".into())),
        _ => (format!("{} {:?}", std::env::consts::ARCH, Isa::detect()).to_lowercase(), None),
    }
}

/// A model in this process.
#[derive(Debug)]
struct Resident {
    graph: BlockGraph,
    device: candle_core::Device,
    _lease: Lease,
}

impl BlockRunner for Resident {
    fn run(&self, blocks: Range<usize>, inputs: Vec<Activation>) -> Ran {
        if !self.graph.is_chain() {
            return Ran { flows: self.graph.step_batch(blocks, inputs), blocks: Vec::new(), usage: Usage::default() };
        }
        let Timed { flows, blocks } = timed::run(&self.graph, &self.device, blocks, inputs);
        let accelerator = if self.device.is_cpu() { Default::default() } else { blocks.iter().sum() };
        Ran { flows, blocks, usage: Usage { accelerator, ..Usage::default() } }
    }
}
