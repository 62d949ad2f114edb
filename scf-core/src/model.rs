//! Networks as blocks, and what answers for whole models.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use thiserror::Error;

use crate::{Activation, BoxError, ByteSize, DType, ModelName, ObjectError, ObjectId, TensorSpec, Usage};

/// A coarse block of a network: a stage that is worth a function call, not a single operator.
///
/// A vendor implements it for an accelerator of its own; [`Activation`] keeps the tensor there between
/// consecutive blocks. Implementations pass `conformance::model` (feature `conformance`).
pub trait ModelBlock: Debug + Send + Sync + 'static {
    /// Its name, unique in the model and short: `stem`, `mbconv3`, `head`.
    fn name(&self) -> &str;

    /// What it gives for `input`, without running. Called by planners, once per input shape.
    ///
    /// # Errors
    /// [`ModelError::Shape`] when it does not take `input`.
    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError>;

    /// What running it for `input` comes to. Called by planners until measurements replace it.
    fn cost(&self, input: &TensorSpec) -> BlockCost;

    /// The forms in which its output may travel, best agreement first; the first is the exact one.
    fn wire_forms(&self) -> &[WireForm];

    /// Runs it. Called on a thread that may compute; must not wait for anything but its device.
    ///
    /// # Errors
    /// [`ModelError`].
    fn forward(&self, input: Activation) -> Result<Activation, ModelError>;

    /// Runs it and says whether the run goes on. Called by the split runtime, like [`ModelBlock::forward`]. By
    /// default the run always goes on; an early-exit head overrides it to answer when it is sure enough, and
    /// otherwise gives what `forward` gives.
    ///
    /// # Errors
    /// [`ModelError`].
    fn step(&self, input: Activation) -> Result<Flow, ModelError> {
        self.forward(input).map(Flow::Continue)
    }

    /// Runs it on what comes next in a sequence of which it has seen the parts before, and adds to `memory` what it
    /// keeps of this one. Called by whoever generates, like [`ModelBlock::step`], once per part and in the
    /// sequence's order. With an empty memory it gives what `step` gives, though a block that generates says with
    /// [`Flow::Stream`] that it has not ended. By default a block keeps nothing.
    ///
    /// # Errors
    /// [`ModelError`]; [`ModelError::Memory`] when `memory` is not what it keeps or has no room for more, and is then
    /// as it was.
    fn follow(&self, input: Activation, memory: &mut BlockMemory) -> Result<Flow, ModelError> {
        let _ = memory;
        self.step(input)
    }
}

const _: fn(&dyn ModelBlock) = |_| {};

/// What one block keeps of the sequence it has seen so far: the keys and values of an attention (Pope et al.,
/// "Efficiently Scaling Transformer Inference", MLSys 2023, section 2), the state of a recurrent layer.
///
/// It belongs to the session, not to the block: whoever generates keeps it, and may store it and go on elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "blocks of integrators read and write it")]
pub struct BlockMemory {
    /// Positions of the sequence that the block has seen.
    pub seen: usize,
    /// What it keeps of them, laid out as the block says; bounded by the block's longest sequence.
    pub bytes: Vec<u8>,
}

/// How a run goes on behind a block.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Flow {
    /// With the block's output, in the next block.
    Continue(Activation),
    /// Not at all: an early exit is sure of its answer (BranchyNet: Teerapittayanon et al., ICPR 2016, section
    /// III).
    Exit {
        /// The answer, of the specification of the model's output.
        scores: Activation,
        /// How sure the exit is, 0 to 1.
        confidence: f32,
    },
    /// In the first block again: the last block gives a part of an answer that has not ended, and this part is the
    /// input from which the next one comes (autoregression: Graves, "Generating Sequences With Recurrent Neural
    /// Networks", 2013, section 2). The last part comes as [`Flow::Continue`].
    Stream(Activation),
}

impl Flow {
    /// The activation that goes on, the answer, or the part of it.
    #[must_use]
    pub fn into_activation(self) -> Activation {
        match self {
            Self::Continue(activation) | Self::Stream(activation) => activation,
            Self::Exit { scores, .. } => scores,
        }
    }
}

/// What one run of a block comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "blocks of integrators write it as a literal")]
pub struct BlockCost {
    /// Floating-point operations, a multiply-add counting two.
    pub flops: u64,
    /// Size of its weights.
    pub weights: ByteSize,
}

/// How an activation travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WireForm {
    /// As it is.
    Exact,
    /// One signed byte per element, one affine map per tensor.
    Int8,
}

impl WireForm {
    /// The form as one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Int8 => "int8",
        }
    }

    /// Size of `spec` in this form, the message's header left out; `None` when it does not fit into a `usize`.
    #[must_use]
    pub fn size(self, spec: &TensorSpec) -> Option<ByteSize> {
        match self {
            Self::Exact => spec.size(),
            Self::Int8 => TensorSpec { shape: spec.shape.clone(), dtype: DType::I8 }.size(),
        }
    }
}

/// A network as blocks that follow one another; every place between two blocks, before the first and after
/// the last is a possible split point.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BlockGraph {
    /// The model's name.
    pub model: ModelName,
    /// What the first block takes.
    pub input: TensorSpec,
    blocks: Arc<[Arc<dyn ModelBlock>]>,
    edges: Arc<[TensorSpec]>,
}

impl BlockGraph {
    /// A chain of `blocks` that takes `input`.
    ///
    /// # Errors
    /// [`ModelError::NoBlocks`], or [`ModelError::Shape`] naming the block that does not take what the one
    /// before it gives.
    pub fn chain(model: ModelName, input: TensorSpec, blocks: Vec<Arc<dyn ModelBlock>>) -> Result<Self, ModelError> {
        if blocks.is_empty() {
            return Err(ModelError::NoBlocks { model });
        }
        let mut edges = vec![input.clone()];
        for block in &blocks {
            let output = block.output(&edges[edges.len() - 1])?;
            edges.push(output);
        }
        Ok(Self { model, input, blocks: blocks.into(), edges: edges.into() })
    }

    /// The blocks in the order in which they run.
    #[must_use]
    pub fn blocks(&self) -> &[Arc<dyn ModelBlock>] {
        &self.blocks
    }

    /// What travels at each split point: first the input, last the output, one more than there are blocks.
    #[must_use]
    pub fn edges(&self) -> &[TensorSpec] {
        &self.edges
    }

    /// The forms in which the activation before block `block` may travel; the input only exactly or as the
    /// first block's own forms allow.
    #[must_use]
    pub fn wire_forms(&self, block: usize) -> &[WireForm] {
        let producer = block.saturating_sub(1).min(self.blocks.len() - 1);
        self.blocks[producer].wire_forms()
    }

    /// Runs the blocks of `range` up to the first that answers early.
    ///
    /// # Errors
    /// The first block's error; [`ModelError::Exit`] when a block answers with what cannot be the model's answer.
    pub fn step(&self, range: std::ops::Range<usize>, mut input: Activation) -> Result<Flow, ModelError> {
        for block in &self.blocks[range] {
            input = match self.checked(&**block, block.step(input)?)? {
                Flow::Continue(output) => output,
                answer => return Ok(answer),
            };
        }
        Ok(Flow::Continue(input))
    }

    /// Runs the blocks of `range` on what comes next in a sequence, each with its own of `memory`, up to the first
    /// that answers early. After an error the memories are of different lengths, and the sequence cannot go on with
    /// them.
    ///
    /// # Errors
    /// As [`BlockGraph::step`]; [`ModelError::Memory`] when there are not as many memories as blocks.
    pub fn follow(
        &self,
        range: std::ops::Range<usize>,
        mut input: Activation,
        memory: &mut [BlockMemory],
    ) -> Result<Flow, ModelError> {
        let blocks = &self.blocks[range];
        if blocks.len() != memory.len() {
            let block = blocks.first().map_or_else(String::new, |block| block.name().to_owned());
            let problem = format!("there are {} memories for {} blocks", memory.len(), blocks.len());
            return Err(ModelError::Memory { block, problem });
        }
        for (block, memory) in blocks.iter().zip(memory) {
            input = match self.checked(&**block, block.follow(input, memory)?)? {
                Flow::Continue(output) => output,
                answer => return Ok(answer),
            };
        }
        Ok(Flow::Continue(input))
    }

    /// What `block` gave, if it may be the model's answer where it is one.
    fn checked(&self, block: &dyn ModelBlock, flow: Flow) -> Result<Flow, ModelError> {
        let answer = &self.edges[self.edges.len() - 1];
        let other = |given: &Activation| given.spec != *answer || given.quantisation.is_some();
        let problem = match &flow {
            Flow::Exit { scores, .. } if other(scores) => {
                "scores that are not of the specification of the model's output"
            }
            Flow::Exit { confidence, .. } if !(0.0..=1.0).contains(confidence) => {
                "a confidence that is not between 0 and 1"
            }
            Flow::Stream(part) if other(part) => "a part that is not of the specification of the model's output",
            _ => return Ok(flow),
        };
        Err(ModelError::Exit { block: block.name().to_owned(), problem })
    }

    /// Runs the blocks of `range`, one after the other, past every early exit.
    ///
    /// # Errors
    /// The first block's error.
    pub fn run(&self, range: std::ops::Range<usize>, input: Activation) -> Result<Activation, ModelError> {
        self.blocks[range].iter().try_fold(input, |activation, block| block.forward(activation))
    }
}

/// What a hosted model takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "model hosts of integrators write it as a literal")]
pub struct ModelInfo {
    /// What it takes.
    pub input: TensorSpec,
    /// What it gives.
    pub output: TensorSpec,
}

/// What a model answered.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "model hosts of integrators write it as a literal")]
pub struct Inferred {
    /// The output.
    pub output: Activation,
    /// What computing it used; billed to whoever asked.
    pub usage: Usage,
}

/// Answers for whole models: what the runtime gives to guests and native functions that ask for inference.
///
/// The runtime never names the crate behind it.
#[async_trait]
pub trait Inference: Debug + Send + Sync + 'static {
    /// The models that can be asked, by name.
    fn models(&self) -> Vec<ModelName>;

    /// What a model takes and gives; `None` where it is not hosted here.
    fn describe(&self, model: &ModelName) -> Option<ModelInfo>;

    /// Runs a whole model here.
    ///
    /// # Errors
    /// [`ModelError::NotFound`] for an unknown name, otherwise what its blocks report.
    async fn run(&self, model: &ModelName, input: Activation) -> Result<Inferred, ModelError>;
}

const _: fn(&dyn Inference) = |_| {};

/// Why a model gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A model without blocks.
    #[error("model {model} has no blocks")]
    NoBlocks {
        /// The model.
        model: ModelName,
    },
    /// No model of that name is hosted here.
    #[error("model {model} is not hosted here")]
    NotFound {
        /// The model.
        model: ModelName,
    },
    /// A block was given another shape or element type than it takes.
    #[error("block {block} takes {takes}, not {given:?}")]
    Shape {
        /// The block.
        block: String,
        /// What it takes.
        takes: String,
        /// What it was given.
        given: TensorSpec,
    },
    /// A block answered early with what cannot be the model's answer.
    #[error("block {block} exits with {problem}")]
    Exit {
        /// The block.
        block: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What a block kept of a sequence is not what it keeps, or it keeps as much as it can.
    #[error("memory of block {block}: {problem}")]
    Memory {
        /// The block.
        block: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A field of a model file's description is missing, or says what cannot be.
    #[error("model metadata {key}: {problem}")]
    Metadata {
        /// The field's name in the file.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The model file lacks a weight, or has it in another shape.
    #[error("weight {weight}: {problem}")]
    Weight {
        /// The weight's name in the file.
        weight: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The model file could not be read out of an object store: it is not there, is not what its name says, or is
    /// larger than it may be.
    #[error("model file {object} was not read")]
    Object {
        /// The file.
        object: ObjectId,
        /// Why.
        #[source]
        source: ObjectError,
    },
    /// The device is not there or not built in.
    #[error("device {device} is not available: {hint}")]
    Device {
        /// The device.
        device: &'static str,
        /// The feature to enable, or what to install.
        hint: &'static str,
    },
    /// The block or its device failed.
    #[error("block {block} failed")]
    Block {
        /// The block.
        block: String,
        /// Why.
        #[source]
        source: BoxError,
    },
}
