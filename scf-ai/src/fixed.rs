//! What blocks with fixed sizes have in common.

use scf_core::{BlockCost, BoxError, ByteSize, ModelError, TensorSpec};

/// The outside of a block that takes one shape.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) name: String,
    takes: TensorSpec,
    gives: TensorSpec,
    pub(crate) cost: BlockCost,
}

impl Fixed {
    /// Of a block that does `sums` multiply-adds with `weights` numbers.
    pub(crate) fn new(name: String, takes: TensorSpec, gives: TensorSpec, sums: usize, weights: usize) -> Self {
        let cost = BlockCost { flops: 2 * sums as u64, weights: ByteSize::from_bytes(4 * weights as u64) };
        Self { name, takes, gives, cost }
    }

    /// What the block gives for `input`.
    pub(crate) fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        if *input == self.takes {
            return Ok(self.gives.clone());
        }
        let takes = format!("{:?}", self.takes);
        Err(ModelError::Shape { block: self.name.clone(), takes, given: input.clone() })
    }

    /// Makes [`ModelError::Block`] of a cause.
    pub(crate) fn failed<E: Into<BoxError>>(&self) -> impl FnOnce(E) -> ModelError {
        failed(&self.name)
    }
}

/// Makes [`ModelError::Block`] of a cause, where the block is not there yet.
pub(crate) fn failed<E: Into<BoxError>>(block: &str) -> impl FnOnce(E) -> ModelError {
    move |source| ModelError::Block { block: block.into(), source: source.into() }
}
