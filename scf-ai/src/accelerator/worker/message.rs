//! What a host and a worker say to each other.

use scf_core::{Activation, BlockCost, ByteSize, DType, MAX_RANK, ModelName, TensorSpec, WireForm};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::memory::SharedMemory;
use crate::{accelerator::Network, device::Device, wire};

/// Of what both sides say; another version is another program.
pub(super) const VERSION: u16 = 1;
/// Inputs of one message.
pub(super) const MAX_INPUTS: usize = 256;
/// Bytes of what a block or a loader reports.
pub(super) const MAX_PROBLEM: usize = 240;

/// What a host asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// To open a device. With the memory for tensors, of which the first half is the host's to write.
    Open { version: u16, device: Device },
    /// To load a model. With its file, sealed.
    Load { id: u32, model: ModelName, network: Network },
    /// To let go of a model.
    Unload { id: u32 },
    /// What the blocks from `from` to before `to` give for another input than the usual.
    Shape { id: u32, from: u16, to: u16, input: Spec },
    /// To run the blocks from `from` to before `to` for each input.
    Run { id: u32, from: u16, to: u16, past_exits: bool, inputs: Vec<Slot> },
}

impl Ask {
    /// What is asked, for errors.
    pub(super) const fn verb(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open its device",
            Self::Load { .. } => "load a model",
            Self::Unload { .. } => "let go of a model",
            Self::Shape { .. } => "say what blocks give",
            Self::Run { .. } => "run blocks",
        }
    }
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Opened(Opened),
    Loaded(Described),
    Unloaded,
    Shape(Spec),
    Ran {
        outputs: Vec<Output>,
        /// Nanoseconds of each block.
        blocks: Vec<u64>,
        /// Nanoseconds of CPU time, all in all.
        cpu: u64,
    },
    /// The outputs do not fit into its half of the memory.
    NoRoom {
        needs: u64,
    },
    /// It cannot be done, for this reason.
    Failed(String),
}

/// What a worker computes on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) version: u16,
    pub(super) device: Device,
    pub(super) name: String,
    pub(super) driver: Option<String>,
    /// Bytes of the device's memory that nobody has yet, where the driver says so.
    pub(super) free: Option<u64>,
}

/// A chain of blocks without their weights.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Described {
    pub(super) input: Spec,
    pub(super) blocks: Vec<BlockInfo>,
}

impl Described {
    /// What the first block takes and what each gives; none where there is no block, or what is said of one cannot be.
    pub(super) fn edges(&self) -> Option<Vec<TensorSpec>> {
        let known = |block: &BlockInfo| block.forms().is_some_and(|forms| !forms.is_empty());
        if self.blocks.is_empty() || self.blocks.len() > usize::from(u16::MAX) || !self.blocks.iter().all(known) {
            return None;
        }
        std::iter::once(&self.input).chain(self.blocks.iter().map(|block| &block.gives)).map(Spec::restore).collect()
    }
}

/// A block without its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlockInfo {
    pub(super) name: String,
    pub(super) gives: Spec,
    pub(super) flops: u64,
    pub(super) weights: u64,
    /// The codes of the forms in which its output may travel.
    pub(super) forms: Vec<u8>,
}

impl BlockInfo {
    pub(super) const fn cost(&self) -> BlockCost {
        BlockCost { flops: self.flops, weights: ByteSize::from_bytes(self.weights) }
    }

    pub(super) fn forms(&self) -> Option<Vec<WireForm>> {
        self.forms.iter().map(|&code| wire::named(code)).collect()
    }
}

/// What came of one input.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Output {
    Continue(Slot),
    Exit(Slot, f32),
    Stream(Slot),
    Failed(String),
}

/// A shape and an element type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spec {
    dtype: DType,
    shape: Vec<u32>,
}

impl Spec {
    /// None where a dimension is beyond 32 bits, or there are too many.
    pub(super) fn new(of: &TensorSpec) -> Option<Self> {
        let shape = of.shape.iter().map(|&d| u32::try_from(d).ok()).collect::<Option<Vec<_>>>()?;
        (shape.len() <= MAX_RANK).then_some(Self { dtype: of.dtype, shape })
    }

    pub(super) fn restore(&self) -> Option<TensorSpec> {
        if self.shape.len() > MAX_RANK {
            return None;
        }
        let shape: Vec<usize> = self.shape.iter().map(|&d| d as usize).collect();
        Some(TensorSpec::new(self.dtype, &shape))
    }
}

/// A tensor in the shared memory: its elements as they are, row-major and little-endian.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) at: u64,
    pub(super) spec: Spec,
    hash: u64,
}

/// Why a tensor cannot be put into the shared memory or taken out of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum SlotError {
    /// It has no room there; it would take so many bytes.
    NoRoom(usize),
    /// It is no tensor, for this part.
    Invalid(&'static str),
}

impl Slot {
    /// Puts `activation` into `memory` at `at`, and says where the next may be put: before `end`.
    pub(super) fn put(
        activation: &Activation,
        memory: &SharedMemory,
        at: usize,
        end: usize,
    ) -> Result<(Self, usize), SlotError> {
        if activation.quantisation.is_some() {
            return Err(SlotError::Invalid("quantisation"));
        }
        let spec = Spec::new(&activation.spec).ok_or(SlotError::Invalid("shape"))?;
        let bytes = activation.bytes().map_err(|_| SlotError::Invalid("device"))?;
        let next = at + bytes.len().next_multiple_of(ALIGNMENT);
        if next > end || !memory.write(at, &bytes) {
            return Err(SlotError::NoRoom(bytes.len()));
        }
        Ok((Self { at: at as u64, spec, hash: hash(&bytes) }, next))
    }

    /// A copy of the tensor, held against its shape and its hash, where it lies in `from` to `to`.
    pub(super) fn take(&self, memory: &SharedMemory, from: usize, to: usize) -> Result<Activation, SlotError> {
        let spec = self.spec.restore().ok_or(SlotError::Invalid("shape"))?;
        let length = spec.size().and_then(|size| usize::try_from(size.bytes()).ok());
        let length = length.ok_or(SlotError::Invalid("shape"))?;
        let at = usize::try_from(self.at).ok().filter(|at| (from..=to).contains(at) && length <= to - at);
        let bytes = at.and_then(|at| memory.read(at, length)).ok_or(SlotError::Invalid("place"))?;
        if hash(&bytes) != self.hash {
            return Err(SlotError::Invalid("hash"));
        }
        Activation::new(spec, bytes).map_err(|_| SlotError::Invalid("length"))
    }
}

/// Tensors begin at multiples of it: a line of the processor's cache.
pub(super) const ALIGNMENT: usize = 64;

/// Tells what arrived from what was sent; no secret protects it, since a worker may as well compute something else.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    XxHash3_128::oneshot(bytes) as u64
}
