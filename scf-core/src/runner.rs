//! Blocks that run in one piece.

use std::{fmt::Debug, ops::Range, sync::Arc, time::Duration};

use crate::{Activation, BlockGraph, Flow, ModelError, Usage};

/// Runs consecutive blocks of a chain in one piece: an accelerator, to which every way costs and on which what lies
/// between the blocks stays.
///
/// [`BlockGraph::behind`] gives one to a graph. Whoever runs the graph then reaches it, batches included; blocks that
/// are run one by one go there one by one.
pub trait BlockRunner: Debug + Send + Sync + 'static {
    /// Runs the blocks of `blocks` for each of `inputs`, up to the first block that answers it early or fails on it.
    /// Called by [`BlockGraph::offload`] on a thread that may compute; must not wait for anything but its device.
    fn run(&self, blocks: Range<usize>, inputs: Vec<Activation>) -> Ran;
}

/// What a [`BlockRunner`] did.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "runners of integrators write it as a literal")]
pub struct Ran {
    /// Of each input, in their order, what [`BlockGraph::step`] gives for it, up to rounding.
    pub flows: Vec<Result<Flow, ModelError>>,
    /// How long each block held the device for all inputs, in the order of the blocks; blocks that no input reached
    /// are left out. Planners learn from it.
    pub blocks: Vec<Duration>,
    /// What it used beside the calling thread's CPU time: the device's time, and the CPU time of others.
    pub usage: Usage,
}

impl BlockGraph {
    /// The same network, whose consecutive blocks `runner` runs in one piece. Of a network that is no chain the blocks
    /// are still run one by one.
    #[must_use]
    pub fn behind(self, runner: Arc<dyn BlockRunner>) -> Self {
        Self { runner: Some(runner), ..self }
    }

    /// Has the graph's runner run the blocks of `blocks` for each of `inputs`. Called by whoever bills or learns from
    /// what a run took; [`BlockGraph::step`] and [`BlockGraph::step_batch`] do the same and tell the answers alone.
    ///
    /// # Errors
    /// The inputs, where the graph has no runner, is no chain, or there is no block to run.
    pub fn offload(&self, blocks: Range<usize>, inputs: Vec<Activation>) -> Result<Ran, Vec<Activation>> {
        match self.runner_of(&blocks) {
            Some(runner) => Ok(self.asked(&**runner, blocks, inputs)),
            None => Err(inputs),
        }
    }

    /// Who runs `blocks` in one piece.
    pub(crate) fn runner_of(&self, blocks: &Range<usize>) -> Option<&Arc<dyn BlockRunner>> {
        self.runner.as_ref().filter(|_| self.chain && !blocks.is_empty())
    }

    /// What `runner` says, held against what it was asked: as many answers as inputs.
    pub(crate) fn asked(&self, runner: &dyn BlockRunner, blocks: Range<usize>, inputs: Vec<Activation>) -> Ran {
        let (asked, last) = (inputs.len(), blocks.end - 1);
        let Ran { flows, blocks, usage } = runner.run(blocks, inputs);
        let block = &*self.blocks[last];
        let mut flows: Vec<_> = flows.into_iter().map(|flow| self.checked(block, flow?)).take(asked).collect();
        flows.resize_with(asked, || {
            let problem = "fewer answers than its batch had inputs";
            Err(ModelError::Exit { block: block.name().to_owned(), problem })
        });
        Ran { flows, blocks, usage }
    }
}
