//! The addition of a residual block, where it is a block of its own.

use scf_core::{Activation, BlockCost, ModelBlock, ModelError, TensorSpec, WireForm};

use crate::{fixed::Fixed, tensor};

/// Adds two tensors of one shape.
#[derive(Debug)]
pub(super) struct Add {
    fixed: Fixed,
    device: candle_core::Device,
}

impl Add {
    pub(super) fn new(name: String, of: &TensorSpec, device: candle_core::Device) -> Self {
        let mut fixed = Fixed::new(name, of.clone(), of.clone(), 0, 0);
        fixed.cost.flops = of.elements().unwrap_or(0) as u64;
        Self { fixed, device }
    }

    fn takes_two(&self, given: usize) -> ModelError {
        ModelError::Inputs { block: self.fixed.name.clone(), given }
    }
}

impl ModelBlock for Add {
    fn name(&self) -> &str {
        &self.fixed.name
    }

    fn output(&self, _: &TensorSpec) -> Result<TensorSpec, ModelError> {
        Err(self.takes_two(1))
    }

    fn output_of(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, ModelError> {
        let [a, b] = inputs else { return Err(self.takes_two(inputs.len())) };
        self.fixed.output(a)?;
        self.fixed.output(b)
    }

    fn cost(&self, _: &TensorSpec) -> BlockCost {
        self.fixed.cost
    }

    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact, WireForm::Int8]
    }

    fn forward(&self, _: Activation) -> Result<Activation, ModelError> {
        Err(self.takes_two(1))
    }

    fn join(&self, inputs: Vec<Activation>) -> Result<Activation, ModelError> {
        let [a, b] = &inputs[..] else { return Err(self.takes_two(inputs.len())) };
        let gives = self.output_of(&[&a.spec, &b.spec])?;
        let tensor = |of| tensor::tensor(of, &self.device).map_err(self.fixed.failed());
        let sum = (tensor(a)? + tensor(b)?).map_err(self.fixed.failed())?;
        Ok(tensor::activation(gives, sum))
    }
}
