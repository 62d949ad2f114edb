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
