//! The blocks of a model in a worker, for whoever runs them one by one.

use std::sync::Arc;

use scf_core::{Activation, BlockCost, BlockMemory, Flow, ModelBlock, ModelError, TensorSpec, WireForm};

use super::{message::BlockInfo, remote::Remote};

/// One block of a model in a worker.
#[derive(Debug)]
pub(super) struct RemoteBlock {
    remote: Arc<Remote>,
    index: usize,
    forms: Vec<WireForm>,
}

impl RemoteBlock {
    /// Every block of `remote`.
    pub(super) fn all(remote: &Arc<Remote>) -> Vec<Arc<dyn ModelBlock>> {
        let block = |(index, info): (usize, &BlockInfo)| {
            let forms = info.forms().unwrap_or_default();
            Arc::new(Self { remote: Arc::clone(remote), index, forms }) as Arc<dyn ModelBlock>
        };
        remote.blocks().iter().enumerate().map(block).collect()
    }

    fn info(&self) -> &BlockInfo {
        &self.remote.blocks()[self.index]
    }

    fn pass(&self, past_exits: bool, inputs: Vec<Activation>) -> Vec<Result<Flow, ModelError>> {
        self.remote.pass(self.index..self.index + 1, past_exits, inputs).flows
    }

    fn pass_one(&self, past_exits: bool, input: Activation) -> Result<Flow, ModelError> {
        self.pass(past_exits, vec![input]).remove(0)
    }
}

impl ModelBlock for RemoteBlock {
    fn name(&self) -> &str {
        &self.info().name
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        self.remote.gives(&(self.index..self.index + 1), input)
    }

    fn cost(&self, _: &TensorSpec) -> BlockCost {
        self.info().cost()
    }

    fn wire_forms(&self) -> &[WireForm] {
        &self.forms
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        self.pass_one(true, input).map(Flow::into_activation)
    }

    fn step(&self, input: Activation) -> Result<Flow, ModelError> {
        self.pass_one(false, input)
    }

    fn step_batch(&self, inputs: Vec<Activation>) -> Vec<Result<Flow, ModelError>> {
        self.pass(false, inputs)
    }

    /// Refused: what the block would keep stays in the worker, and a part alone is not what the sequence gives.
    fn follow(&self, _: Activation, _: &mut BlockMemory) -> Result<Flow, ModelError> {
        let problem = "a worker keeps nothing between calls: follow sequences in this process".to_owned();
        Err(ModelError::Memory { block: self.name().to_owned(), problem })
    }
}
