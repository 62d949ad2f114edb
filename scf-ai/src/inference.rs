//! Whole models by name.

use std::collections::HashMap;

use async_trait::async_trait;
use scf_core::{Activation, BlockGraph, Inference, ModelError, ModelName};

/// Runs whole models here, each inference on a thread that may compute.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ModelHost {
    models: HashMap<ModelName, BlockGraph>,
}

impl ModelHost {
    /// A host without models.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hosts `graph` under its own name, in place of an earlier one of that name.
    pub fn with(mut self, graph: BlockGraph) -> Self {
        self.models.insert(graph.model.clone(), graph);
        self
    }
}

#[async_trait]
impl Inference for ModelHost {
    fn models(&self) -> Vec<ModelName> {
        let mut names: Vec<ModelName> = self.models.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    async fn run(&self, model: &ModelName, input: Activation) -> Result<Activation, ModelError> {
        let Some(graph) = self.models.get(model).cloned() else {
            return Err(ModelError::NotFound { model: model.clone() });
        };
        let blocks = graph.blocks().len();
        let last = graph.blocks()[blocks - 1].name().to_owned();
        let run = tokio::task::spawn_blocking(move || graph.run(0..blocks, input)).await;
        run.unwrap_or_else(|stopped| Err(ModelError::Block { block: last, source: stopped.into() }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use scf_core::{DType, TensorSpec};

    use super::*;
    use crate::{Device, efficientnet_lite0};

    #[tokio::test]
    async fn runs_the_model_of_a_name_and_says_which_it_has() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/assets/efficientnet-lite0.safetensors");
        let graph = efficientnet_lite0(&std::fs::read(path).unwrap(), Device::Cpu).unwrap();
        let host = ModelHost::new().with(graph.clone());
        assert_eq!(host.models(), std::slice::from_ref(&graph.model));
        let zeros = vec![0u8; graph.input.size().unwrap().bytes() as usize];
        let input = Activation::new(graph.input.clone(), zeros.into()).unwrap();
        let logits = host.run(&graph.model, input.clone()).await.unwrap();
        let expected = graph.run(0..graph.blocks().len(), input.clone()).unwrap();
        assert_eq!(logits.bytes().unwrap(), expected.bytes().unwrap());

        let unknown = ModelName::new("other").unwrap();
        let error = host.run(&unknown, input).await.unwrap_err();
        assert!(matches!(error, ModelError::NotFound { model } if model == unknown));
        let flat = Activation::new(TensorSpec::new(DType::F32, &[1]), vec![0u8; 4].into()).unwrap();
        assert!(matches!(host.run(&graph.model, flat).await.unwrap_err(), ModelError::Shape { .. }));
    }
}
