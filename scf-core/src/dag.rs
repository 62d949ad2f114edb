//! Networks that are no chain, and how far a run of one has come.

use std::{ops::Range, sync::Arc};

use smallvec::SmallVec;

use crate::{Activation, BlockCost, BlockGraph, BlockSet, Flow, ModelBlock, ModelError, ModelName, TensorSpec};

/// A block and what it takes: a node of a directed acyclic graph.
///
/// Tensors have numbers: 0 is the network's input, `i + 1` what block `i` gives.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "makers of networks write it as a literal")]
pub struct DagNode {
    /// The block.
    pub block: Arc<dyn ModelBlock>,
    /// The numbers of the tensors that it takes, in its order.
    pub inputs: Vec<usize>,
}

/// What is kept of a run between two blocks: which are done, and every tensor that those left still take.
///
/// Of a chain that is the number of blocks done and one tensor. Cloning counts references.
#[derive(Clone, Debug)]
pub struct Frontier {
    done: BlockSet,
    /// By number, ascending.
    tensors: SmallVec<[(usize, Activation); 2]>,
}

impl Frontier {
    /// The blocks that have run.
    #[must_use]
    pub const fn done(&self) -> &BlockSet {
        &self.done
    }

    /// The tensors that blocks still take, each once, by ascending number; at the end the result.
    #[must_use]
    pub fn tensors(&self) -> &[(usize, Activation)] {
        &self.tensors
    }

    /// The only tensor that is left; `None` where there are several.
    #[must_use]
    pub fn into_only(self) -> Option<Activation> {
        let [(_, only)] = <[_; 1]>::try_from(self.tensors.into_vec()).ok()?;
        Some(only)
    }
}

impl BlockGraph {
    /// A directed acyclic graph of blocks in an order in which they can run. The last one's output is the network's.
    ///
    /// # Errors
    /// [`ModelError::NoBlocks`]; [`ModelError::Wiring`] naming a block that takes nothing or what comes behind it, or
    /// whose output nobody takes; what a block's [`output_of`](ModelBlock::output_of) reports.
    pub fn dag(model: ModelName, input: TensorSpec, nodes: Vec<DagNode>) -> Result<Self, ModelError> {
        let last = nodes.len();
        let mut tensors = vec![input.clone()];
        let mut taken = vec![false; last];
        for (i, DagNode { block, inputs }) in nodes.iter().enumerate() {
            if inputs.is_empty() || inputs.iter().any(|&tensor| tensor > i) {
                return Err(wiring(&**block, "it takes nothing, or a tensor that comes behind it"));
            }
            inputs.iter().for_each(|&tensor| taken[tensor] = true);
            let specs: SmallVec<[&TensorSpec; 4]> = inputs.iter().map(|&tensor| &tensors[tensor]).collect();
            let output = block.output_of(&specs)?;
            drop(specs);
            tensors.push(output);
        }
        if let Some(unused) = taken.iter().position(|&taken| !taken) {
            let problem = "no block takes its output";
            return Err(wiring(&*nodes[unused.saturating_sub(1)].block, problem));
        }
        let (blocks, inputs) = nodes.into_iter().map(|node| (node.block, SmallVec::from_vec(node.inputs))).unzip();
        Self::assemble(model, input, blocks, inputs, tensors)
    }

    /// Whether every block takes what the one before it gives and nothing else.
    #[must_use]
    pub const fn is_chain(&self) -> bool {
        self.chain
    }

    /// The numbers of the tensors that `block` takes (see [`DagNode`]).
    #[must_use]
    pub fn inputs(&self, block: usize) -> &[usize] {
        &self.inputs[block]
    }

    /// What running `block` comes to.
    #[must_use]
    pub fn cost(&self, block: usize) -> BlockCost {
        self.blocks[block].cost(&self.edges[self.inputs[block][0]])
    }

    /// The numbers of the tensors that the blocks not in `done` take from outside of themselves, ascending: what
    /// travels at that cut, each once. When all are done, the result.
    #[must_use]
    pub fn alive(&self, done: &BlockSet) -> SmallVec<[usize; 4]> {
        let blocks = self.blocks.len();
        let count = done.len();
        if self.chain || count == blocks {
            return std::iter::once(count).collect();
        }
        let mut alive = SmallVec::new();
        for inputs in (0..blocks).filter(|&block| !done.contains(block)).map(|block| &self.inputs[block]) {
            alive.extend(inputs.iter().copied().filter(|&tensor| tensor == 0 || done.contains(tensor - 1)));
        }
        alive.sort_unstable();
        alive.dedup();
        alive
    }

    /// Whether every block that gives something to one of `done` is in `done` too.
    #[must_use]
    pub fn is_cut(&self, done: &BlockSet) -> bool {
        let made = |&tensor: &usize| tensor == 0 || done.contains(tensor - 1);
        (0..self.blocks.len()).filter(|&block| done.contains(block)).all(|block| self.inputs[block].iter().all(made))
    }

    /// The start of a run.
    #[must_use]
    pub fn begin(&self, input: Activation) -> Frontier {
        Frontier { done: BlockSet::new(), tensors: std::iter::once((0, input)).collect() }
    }

    /// A run that was begun elsewhere, whose blocks `done` have run and which goes on with `tensors`.
    ///
    /// # Errors
    /// [`ModelError::Cut`] when `done` is not what can have run, or `tensors` are not [those](BlockGraph::alive) that
    /// are alive behind it.
    pub fn resume(&self, done: BlockSet, mut tensors: Vec<(usize, Activation)>) -> Result<Frontier, ModelError> {
        let cut = |problem| ModelError::Cut { model: self.model.clone(), problem };
        if !self.is_cut(&done) {
            return Err(cut("a block is done that takes what is not"));
        }
        tensors.sort_unstable_by_key(|(tensor, _)| *tensor);
        if !tensors.iter().map(|(tensor, _)| *tensor).eq(self.alive(&done)) {
            return Err(cut("the tensors are not those that are left"));
        }
        if tensors.iter().any(|(tensor, activation)| activation.spec != self.edges[*tensor]) {
            return Err(cut("a tensor is not of its specification"));
        }
        Ok(Frontier { done, tensors: tensors.into() })
    }

    /// Runs `block`, which must not be done and whose inputs must be there, and moves `frontier` behind it. Gives the
    /// answer where the run ends with this block, although there are others: an early exit, or a part of an answer
    /// that goes on. After an error the frontier cannot be used any more.
    ///
    /// # Errors
    /// The block's error; [`ModelError::Cut`] when it cannot run now; [`ModelError::Exit`] when it answers with what
    /// cannot be the model's answer.
    pub fn advance(&self, frontier: &mut Frontier, block: usize) -> Result<Option<Activation>, ModelError> {
        self.moved(frontier, block, Past::Unsure)
    }

    /// Like [`BlockGraph::advance`], for a run that would be late if it went on: the nearest exit ends it
    /// ([`ModelBlock::hasten`]).
    ///
    /// # Errors
    /// As [`BlockGraph::advance`].
    pub fn hasten(&self, frontier: &mut Frontier, block: usize) -> Result<Option<Activation>, ModelError> {
        self.moved(frontier, block, Past::Nothing)
    }

    fn moved(&self, frontier: &mut Frontier, block: usize, past: Past) -> Result<Option<Activation>, ModelError> {
        match self.turn(frontier, block, past)? {
            Flow::Continue(output) => {
                self.put(frontier, block, output);
                Ok(None)
            }
            answer => Ok(Some(answer.into_activation())),
        }
    }

    /// Runs the blocks of `range` of a network that is no chain, where one tensor goes in and one comes out.
    pub(crate) fn traverse(&self, range: Range<usize>, input: Activation, past: Past) -> Result<Flow, ModelError> {
        let done = BlockSet::first(range.start);
        let tensor = self.alive(&done).first().copied().unwrap_or(0);
        let mut frontier = self.resume(done, vec![(tensor, input)])?;
        for block in range {
            match self.turn(&mut frontier, block, past)? {
                Flow::Continue(output) => self.put(&mut frontier, block, output),
                answer => return Ok(answer),
            }
        }
        let several = ModelError::Cut { model: self.model.clone(), problem: "several tensors are left" };
        frontier.into_only().map(Flow::Continue).ok_or(several)
    }

    /// What `block` gives for its inputs, which are taken out of `frontier` where nobody else takes them.
    fn turn(&self, frontier: &mut Frontier, block: usize, past: Past) -> Result<Flow, ModelError> {
        let cannot = || ModelError::Cut { model: self.model.clone(), problem: "a block cannot run now" };
        if block >= self.blocks.len() || frontier.done.contains(block) {
            return Err(cannot());
        }
        let wanted = |tensor: usize| {
            let others = (tensor..self.blocks.len()).filter(|&other| other != block && !frontier.done.contains(other));
            !self.chain && others.into_iter().any(|other| self.inputs[other].contains(&tensor))
        };
        let kept: SmallVec<[bool; 4]> = frontier.tensors.iter().map(|(tensor, _)| wanted(*tensor)).collect();
        let mut inputs = Vec::with_capacity(self.inputs[block].len());
        for &tensor in &self.inputs[block] {
            let (_, activation) = frontier.tensors.iter().find(|(number, _)| *number == tensor).ok_or_else(cannot)?;
            inputs.push(activation.clone());
        }
        let mut kept = kept.into_iter();
        let inputs_of = &self.inputs[block];
        frontier.tensors.retain(|(tensor, _)| kept.next() == Some(true) || !inputs_of.contains(tensor));
        let made = &*self.blocks[block];
        if inputs.len() > 1 {
            return made.join(inputs).map(Flow::Continue);
        }
        let input = inputs.pop().ok_or_else(cannot)?;
        match past {
            Past::Unsure => self.checked(made, made.step(input)?),
            Past::Nothing => self.checked(made, made.hasten(input)?),
            Past::All => made.forward(input).map(Flow::Continue),
        }
    }

    fn put(&self, frontier: &mut Frontier, block: usize, output: Activation) {
        frontier.done.insert(block);
        let at = frontier.tensors.partition_point(|(tensor, _)| *tensor <= block);
        frontier.tensors.insert(at, (block + 1, output));
    }
}

/// What a run goes past instead of ending there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// Exits that are not sure.
    Unsure,
    /// All exits.
    All,
    /// No exit.
    Nothing,
}

fn wiring(block: &dyn ModelBlock, problem: &'static str) -> ModelError {
    ModelError::Wiring { block: block.name().to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{DType, WireForm};

    /// Adds a number to the sum of its inputs.
    #[derive(Debug)]
    struct Sum(u8);

    impl ModelBlock for Sum {
        fn name(&self) -> &str {
            "sum"
        }
        fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
            Ok(input.clone())
        }
        fn output_of(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, ModelError> {
            Ok(inputs[0].clone())
        }
        fn cost(&self, _: &TensorSpec) -> BlockCost {
            BlockCost::default()
        }
        fn wire_forms(&self) -> &[WireForm] {
            &[WireForm::Exact]
        }
        fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
            self.join(vec![input])
        }
        fn join(&self, inputs: Vec<Activation>) -> Result<Activation, ModelError> {
            let sum = inputs.iter().map(|input| input.bytes().expect("in memory")[0]).sum::<u8>() + self.0;
            Ok(number(sum))
        }
    }

    fn number(value: u8) -> Activation {
        Activation::new(TensorSpec::new(DType::U8, &[1]), Bytes::from(vec![value])).unwrap()
    }

    fn dag(inputs: &[&[usize]]) -> Result<BlockGraph, ModelError> {
        let node = |(i, inputs): (usize, &&[usize])| DagNode {
            block: Arc::new(Sum(1 << i)) as Arc<dyn ModelBlock>,
            inputs: inputs.to_vec(),
        };
        let nodes = inputs.iter().enumerate().map(node).collect();
        BlockGraph::dag(ModelName::new("dag").unwrap(), TensorSpec::new(DType::U8, &[1]), nodes)
    }

    /// A stem whose output two branches and the join behind them take.
    fn diamond() -> BlockGraph {
        dag(&[&[0], &[1], &[1], &[1, 2, 3]]).unwrap()
    }

    fn value(activation: &Activation) -> u8 {
        activation.bytes().unwrap()[0]
    }

    #[test]
    fn a_run_keeps_each_tensor_as_long_as_somebody_takes_it() {
        let graph = diamond();
        let mut frontier = graph.begin(number(10));
        let mut kept = Vec::new();
        for block in [0, 2, 1, 3] {
            assert!(graph.advance(&mut frontier, block).unwrap().is_none());
            let tensors: Vec<usize> = frontier.tensors().iter().map(|(tensor, _)| *tensor).collect();
            assert_eq!(tensors, graph.alive(frontier.done()).to_vec());
            kept.push(tensors);
        }
        assert_eq!(kept, [vec![1], vec![1, 3], vec![1, 2, 3], vec![4]]);
        // 11, 11 + 2, 11 + 4, and all of them + 8.
        assert_eq!(value(&frontier.into_only().unwrap()), 47);
        assert_eq!(value(&graph.run(0..4, number(10)).unwrap()), 47);
    }

    #[test]
    fn a_run_goes_on_from_every_cut_and_from_nothing_else() {
        let graph = diamond();
        let mut cuts = 0;
        for bits in 0..16u8 {
            let done = BlockSet::from_bytes(&[bits], 4).unwrap();
            let order: Vec<usize> = (0..4).filter(|block| done.contains(*block)).collect();
            let mut frontier = graph.begin(number(10));
            let ran = order.iter().try_for_each(|&block| graph.advance(&mut frontier, block).map(drop));
            assert_eq!(ran.is_ok(), graph.is_cut(&done), "{order:?}");
            let Ok(()) = ran else {
                assert!(matches!(graph.resume(done, Vec::new()), Err(ModelError::Cut { .. })));
                continue;
            };
            cuts += 1;
            let mut resumed = graph.resume(done.clone(), frontier.tensors().to_vec()).unwrap();
            for block in (0..4).filter(|block| !done.contains(*block)) {
                graph.advance(&mut resumed, block).unwrap();
            }
            assert_eq!(value(&resumed.into_only().unwrap()), 47);
            let missing = frontier.tensors()[1..].to_vec();
            assert!(matches!(graph.resume(done, missing), Err(ModelError::Cut { .. })));
        }
        assert_eq!(cuts, 6);
    }

    #[test]
    fn a_part_with_one_tensor_on_either_side_runs_alone_and_no_other_does() {
        let graph = diamond();
        assert_eq!(value(&graph.run(1..4, number(11)).unwrap()), 47);
        assert!(matches!(graph.run(0..2, number(10)), Err(ModelError::Cut { .. })));
        assert!(matches!(graph.step(2..4, number(10)), Err(ModelError::Cut { .. })));
    }

    #[test]
    fn what_cannot_be_wired_is_refused_by_the_name_of_the_block() {
        for inputs in [&[&[][..]][..], &[&[1]], &[&[0], &[0]], &[&[0], &[2]]] {
            assert!(matches!(dag(inputs), Err(ModelError::Wiring { .. })), "{inputs:?}");
        }
        assert!(matches!(dag(&[]), Err(ModelError::NoBlocks { .. })));
    }

    #[test]
    fn a_graph_whose_blocks_follow_one_another_is_a_chain() {
        assert!(dag(&[&[0], &[1], &[2]]).unwrap().is_chain());
        assert!(!diamond().is_chain());
    }
}
