//! Blocks that run on other nodes.

use std::sync::Arc;

use crate::{Activation, BlockCost, BlockGraph, BlockSet, ModelBlock, ModelError, TensorSpec, WireForm};

/// What is known of a block without its weights.
#[derive(Debug)]
struct Absent {
    name: String,
    takes: Vec<TensorSpec>,
    gives: TensorSpec,
    cost: BlockCost,
    forms: Vec<WireForm>,
}

impl ModelBlock for Absent {
    fn name(&self) -> &str {
        &self.name
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        self.output_of(&[input])
    }

    fn output_of(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, ModelError> {
        match inputs.iter().zip(&self.takes).find(|(given, takes)| **given != *takes) {
            _ if inputs.len() != self.takes.len() => {
                Err(ModelError::Inputs { block: self.name.clone(), given: inputs.len() })
            }
            Some((given, takes)) => {
                let takes = format!("{takes:?}");
                Err(ModelError::Shape { block: self.name.clone(), takes, given: (*given).clone() })
            }
            None => Ok(self.gives.clone()),
        }
    }

    fn cost(&self, _: &TensorSpec) -> BlockCost {
        self.cost
    }

    fn wire_forms(&self) -> &[WireForm] {
        &self.forms
    }

    fn forward(&self, _: Activation) -> Result<Activation, ModelError> {
        Err(ModelError::Absent { block: self.name.clone() })
    }

    fn join(&self, _: Vec<Activation>) -> Result<Activation, ModelError> {
        Err(ModelError::Absent { block: self.name.clone() })
    }
}

impl BlockGraph {
    /// The same network with `hosted` blocks alone: of the others the names, shapes and costs are kept, which planners
    /// ask for, and no weights. To run one is [`ModelError::Absent`].
    #[must_use]
    pub fn hosting(&self, hosted: &BlockSet) -> Self {
        let block = |(i, block): (usize, &Arc<dyn ModelBlock>)| {
            if hosted.contains(i) {
                return Arc::clone(block);
            }
            Arc::new(Absent {
                name: block.name().to_owned(),
                takes: self.inputs[i].iter().map(|&tensor| self.edges[tensor].clone()).collect(),
                gives: self.edges[i + 1].clone(),
                cost: self.cost(i),
                forms: block.wire_forms().to_vec(),
            }) as Arc<dyn ModelBlock>
        };
        Self { blocks: self.blocks.iter().enumerate().map(block).collect(), runner: None, ..self.clone() }
    }
}
