//! Networks as blocks, and what answers for whole models.

use std::{fmt::Debug, sync::Arc};

use smallvec::SmallVec;

use crate::{Activation, BlockRunner, ByteSize, DType, ModelError, ModelName, TensorSpec, dag::Past};

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

    /// What it gives for several inputs, in the order in which the graph names them. Called when a graph is assembled.
    /// By default it takes one; a block that takes several overrides this and [`ModelBlock::join`].
    ///
    /// # Errors
    /// As [`ModelBlock::output`]; [`ModelError::Inputs`] when it does not take so many.
    fn output_of(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, ModelError> {
        match inputs {
            [input] => self.output(input),
            _ => Err(ModelError::Inputs { block: self.name().to_owned(), given: inputs.len() }),
        }
    }

    /// What running it for `input`, the first where there are several, comes to. Called by planners until measurements replace it.
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

    /// Like [`ModelBlock::step`], where the rest of the run would be late: an early-exit head overrides it to answer
    /// whether it is sure or not, and says with the answer how sure it is. Called by the split runtime when what is
    /// predicted for the blocks that are left is longer than the time until the call's deadline. By default it is no
    /// different.
    ///
    /// # Errors
    /// [`ModelError`].
    fn hasten(&self, input: Activation) -> Result<Flow, ModelError> {
        self.step(input)
    }

    /// Runs it on several inputs that belong together, in the order in which the graph names them. Called by the split
    /// runtime where a network is no chain, like [`ModelBlock::forward`]. By default it takes one.
    ///
    /// # Errors
    /// [`ModelError`]; [`ModelError::Inputs`] when it does not take so many.
    fn join(&self, mut inputs: Vec<Activation>) -> Result<Activation, ModelError> {
        match (inputs.len(), inputs.pop()) {
            (1, Some(input)) => self.forward(input),
            (given, _) => Err(ModelError::Inputs { block: self.name().to_owned(), given }),
        }
    }

    /// Runs it for several inputs at once and gives for each, in their order, what [`ModelBlock::step`] gives for it,
    /// up to rounding; an input that fails does not touch the others. Called by servers that batch. By default one
    /// after the other; a block that reads its weights once for all of them, or fills a device that one input does
    /// not, overrides it.
    fn step_batch(&self, inputs: Vec<Activation>) -> Vec<Result<Flow, ModelError>> {
        inputs.into_iter().map(|input| self.step(input)).collect()
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
    /// Half-precision floats (IEEE 754 binary16).
    F16,
    /// One byte per element, one affine map per row of the last dimension: of a sequence, one per token.
    Int8Rows,
    /// Four bits per element, one affine map per index of the last dimension: of a picture, one per channel.
    Int4,
}

/// Bytes of one affine map beside the elements: its lowest value and its step, as floats.
const AFFINE: usize = 8;

impl WireForm {
    /// The form as one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Int8 => "int8",
            Self::F16 => "f16",
            Self::Int8Rows => "int8-rows",
            Self::Int4 => "int4",
        }
    }

    /// Size of `spec` in this form, the message's header left out; `None` when it does not fit into a `usize`.
    #[must_use]
    pub fn size(self, spec: &TensorSpec) -> Option<ByteSize> {
        match self {
            Self::Exact => spec.size(),
            Self::Int8 => TensorSpec { shape: spec.shape.clone(), dtype: DType::I8 }.size(),
            Self::F16 => TensorSpec { shape: spec.shape.clone(), dtype: DType::F16 }.size(),
            Self::Int8Rows | Self::Int4 => {
                let (elements, last) = (spec.elements()?, spec.shape.last().copied().unwrap_or(1));
                let (packed, maps) = match self {
                    Self::Int4 => (elements.div_ceil(2), last),
                    _ => (elements, elements.checked_div(last).unwrap_or(0)),
                };
                let bytes = maps.checked_mul(AFFINE)?.checked_add(packed)?;
                Some(ByteSize::from_bytes(bytes as u64))
            }
        }
    }
}

/// A network as blocks in an order in which they run: one behind the other ([`BlockGraph::chain`]), or each behind
/// those whose outputs it takes ([`BlockGraph::dag`]). Every place between two blocks, before the first and after the
/// last is a possible split point.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BlockGraph {
    /// The model's name.
    pub model: ModelName,
    /// What the first block takes.
    pub input: TensorSpec,
    pub(crate) blocks: Arc<[Arc<dyn ModelBlock>]>,
    pub(crate) edges: Arc<[TensorSpec]>,
    /// Of each block the numbers of the tensors that it takes.
    pub(crate) inputs: Arc<[SmallVec<[usize; 2]>]>,
    pub(crate) chain: bool,
    pub(crate) runner: Option<Arc<dyn BlockRunner>>,
}

impl BlockGraph {
    /// A chain of `blocks` that takes `input`.
    ///
    /// # Errors
    /// [`ModelError::NoBlocks`], or [`ModelError::Shape`] naming the block that does not take what the one
    /// before it gives.
    pub fn chain(model: ModelName, input: TensorSpec, blocks: Vec<Arc<dyn ModelBlock>>) -> Result<Self, ModelError> {
        let mut edges = vec![input.clone()];
        for block in &blocks {
            let output = block.output(&edges[edges.len() - 1])?;
            edges.push(output);
        }
        let inputs = (0..blocks.len()).map(|tensor| std::iter::once(tensor).collect()).collect();
        Self::assemble(model, input, blocks, inputs, edges)
    }

    /// Of blocks that take what they are given.
    pub(crate) fn assemble(
        model: ModelName,
        input: TensorSpec,
        blocks: Vec<Arc<dyn ModelBlock>>,
        inputs: Vec<SmallVec<[usize; 2]>>,
        edges: Vec<TensorSpec>,
    ) -> Result<Self, ModelError> {
        if blocks.is_empty() {
            return Err(ModelError::NoBlocks { model });
        }
        let chain = inputs.iter().enumerate().all(|(block, inputs)| inputs[..] == [block]);
        Ok(Self {
            model,
            input,
            blocks: blocks.into(),
            edges: edges.into(),
            inputs: inputs.into(),
            chain,
            runner: None,
        })
    }

    /// The blocks in the order in which they run.
    #[must_use]
    pub fn blocks(&self) -> &[Arc<dyn ModelBlock>] {
        &self.blocks
    }

    /// The network's input and what each block gives, the last its output: one more than there are blocks. In a chain
    /// that is what travels at each split point.
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

    /// Runs the blocks of `range` up to the first that answers early. Of a network that is no chain, the part that
    /// begins and ends where one tensor is alive; others take a [`Frontier`](crate::Frontier).
    ///
    /// # Errors
    /// The first block's error; [`ModelError::Exit`] when a block answers with what cannot be the model's answer;
    /// [`ModelError::Cut`] where several tensors are alive.
    pub fn step(&self, range: std::ops::Range<usize>, mut input: Activation) -> Result<Flow, ModelError> {
        if !self.chain {
            return self.traverse(range, input, Past::Unsure);
        }
        if let Some(runner) = self.runner_of(&range) {
            return self.asked(&**runner, range, vec![input]).flows.remove(0);
        }
        for block in &self.blocks[range] {
            input = match self.checked(&**block, block.step(input)?)? {
                Flow::Continue(output) => output,
                answer => return Ok(answer),
            };
        }
        Ok(Flow::Continue(input))
    }

    /// Runs the blocks of `range` for several inputs at once, each up to the first block that answers it early or
    /// fails on it, and gives for each, in their order, what [`BlockGraph::step`] gives for it up to rounding.
    #[must_use]
    pub fn step_batch(&self, range: std::ops::Range<usize>, inputs: Vec<Activation>) -> Vec<Result<Flow, ModelError>> {
        if !self.chain {
            return inputs.into_iter().map(|input| self.step(range.clone(), input)).collect();
        }
        if let Some(runner) = self.runner_of(&range) {
            return self.asked(&**runner, range, inputs).flows;
        }
        let mut ended = Vec::with_capacity(inputs.len());
        let mut going: Vec<(usize, Activation)> = inputs.into_iter().enumerate().collect();
        for block in &self.blocks[range] {
            let (places, inputs): (Vec<usize>, Vec<Activation>) = going.into_iter().unzip();
            going = Vec::with_capacity(places.len());
            let mut flows = block.step_batch(inputs).into_iter();
            for place in places {
                let flow = flows.next().unwrap_or_else(|| {
                    let problem = "fewer answers than its batch had inputs";
                    Err(ModelError::Exit { block: block.name().to_owned(), problem })
                });
                match flow.and_then(|flow| self.checked(&**block, flow)) {
                    Ok(Flow::Continue(output)) => going.push((place, output)),
                    outcome => ended.push((place, outcome)),
                }
            }
        }
        ended.extend(going.into_iter().map(|(place, output)| (place, Ok(Flow::Continue(output)))));
        ended.sort_unstable_by_key(|(place, _)| *place);
        ended.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Runs the blocks of `range` on what comes next in a sequence, each with its own of `memory`, up to the first
    /// that answers early. After an error the memories are of different lengths, and the sequence cannot go on with
    /// them.
    ///
    /// # Errors
    /// As [`BlockGraph::step`]; [`ModelError::Memory`] when there are not as many memories as blocks;
    /// [`ModelError::Cut`] for a network that is no chain.
    pub fn follow(
        &self,
        range: std::ops::Range<usize>,
        mut input: Activation,
        memory: &mut [BlockMemory],
    ) -> Result<Flow, ModelError> {
        if !self.chain {
            return Err(ModelError::Cut { model: self.model.clone(), problem: "only chains follow a sequence" });
        }
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
    pub(crate) fn checked(&self, block: &dyn ModelBlock, flow: Flow) -> Result<Flow, ModelError> {
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

    /// Runs the blocks of `range`, one after the other, past every early exit; of a network that is no chain, what
    /// [`BlockGraph::step`] runs.
    ///
    /// # Errors
    /// The first block's error; [`ModelError::Cut`] where several tensors are alive.
    pub fn run(&self, range: std::ops::Range<usize>, input: Activation) -> Result<Activation, ModelError> {
        if !self.chain {
            return self.traverse(range, input, Past::All).map(Flow::into_activation);
        }
        self.blocks[range].iter().try_fold(input, |activation, block| block.forward(activation))
    }
}
