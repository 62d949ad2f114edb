//! Whole models by name.

use std::{collections::HashMap, sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use rustix::time::{ClockId, clock_gettime};
use scf_core::{Activation, BlockGraph, Flow, Inference, Inferred, ModelError, ModelInfo, ModelName, Ran, Usage};
use tokio::sync::Semaphore;

/// Runs whole models here, each inference on a thread that may compute, one per core at a time.
///
/// A model is resident: it is loaded once, when its graph is made, and shared by all who ask for it.
#[derive(Clone, Debug)]
#[must_use]
pub struct ModelHost {
    models: HashMap<ModelName, BlockGraph>,
    cores: Arc<Semaphore>,
}

impl Default for ModelHost {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { models: HashMap::new(), cores: Arc::new(Semaphore::new(cores)) }
    }
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

    fn describe(&self, model: &ModelName) -> Option<ModelInfo> {
        let graph = self.models.get(model)?;
        let output = graph.edges().last()?.clone();
        Some(ModelInfo { input: graph.input.clone(), output })
    }

    async fn run(&self, model: &ModelName, input: Activation) -> Result<Inferred, ModelError> {
        let Some(graph) = self.models.get(model).cloned() else {
            return Err(ModelError::NotFound { model: model.clone() });
        };
        let blocks = graph.blocks().len();
        let last = graph.blocks()[blocks - 1].name().to_owned();
        let core = Arc::clone(&self.cores).acquire_owned().await;
        let core = core.map_err(|closed| ModelError::Block { block: last.clone(), source: closed.into() })?;
        let run = tokio::task::spawn_blocking(move || {
            let (mut flows, usage) = metered(&graph, vec![input]);
            drop(core);
            Ok(Inferred { output: flows.remove(0)?.into_activation(), usage })
        });
        run.await.unwrap_or_else(|stopped| Err(ModelError::Block { block: last, source: stopped.into() }))
    }
}

/// Runs the whole of `graph` for each of `inputs` on this thread, or where its runner does; and says what that used.
pub(crate) fn metered(graph: &BlockGraph, inputs: Vec<Activation>) -> (Vec<Result<Flow, ModelError>>, Usage) {
    let before = thread_cpu();
    let blocks = 0..graph.blocks().len();
    let (flows, mut usage) = match graph.offload(blocks.clone(), inputs) {
        Ok(Ran { flows, usage, .. }) => (flows, usage),
        Err(inputs) => (graph.step_batch(blocks, inputs), Usage::default()),
    };
    usage.cpu += thread_cpu().saturating_sub(before);
    (flows, usage)
}

/// CPU time of the calling thread; a model on the CPU runs on the thread that asks for it.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
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
        let info = host.describe(&graph.model).unwrap();
        assert_eq!(info.input, graph.input);
        let Inferred { output: logits, usage } = host.run(&graph.model, input.clone()).await.unwrap();
        assert_eq!(info.output, logits.spec);
        assert!(usage.cpu > Duration::ZERO);
        let expected = graph.run(0..graph.blocks().len(), input.clone()).unwrap();
        assert_eq!(logits.bytes().unwrap(), expected.bytes().unwrap());

        let unknown = ModelName::new("other").unwrap();
        let error = host.run(&unknown, input).await.unwrap_err();
        assert!(matches!(error, ModelError::NotFound { model } if model == unknown));
        let flat = Activation::new(TensorSpec::new(DType::F32, &[1]), vec![0u8; 4].into()).unwrap();
        assert!(matches!(host.run(&graph.model, flat).await.unwrap_err(), ModelError::Shape { .. }));
    }
}
