//! What answers for whole models.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{Activation, ModelError, ModelName, TensorSpec, Usage};

/// What a hosted model takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "model hosts of integrators write it as a literal")]
pub struct ModelInfo {
    /// What it takes.
    pub input: TensorSpec,
    /// What it gives.
    pub output: TensorSpec,
}

/// What a model answered.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "model hosts of integrators write it as a literal")]
pub struct Inferred {
    /// The output.
    pub output: Activation,
    /// What computing it used; billed to whoever asked.
    pub usage: Usage,
}

/// Answers for whole models: what the runtime gives to guests and native functions that ask for inference.
///
/// The runtime never names the crate behind it.
#[async_trait]
pub trait Inference: Debug + Send + Sync + 'static {
    /// The models that can be asked, by name.
    fn models(&self) -> Vec<ModelName>;

    /// What a model takes and gives; `None` where it is not hosted here.
    fn describe(&self, model: &ModelName) -> Option<ModelInfo>;

    /// Runs a whole model here.
    ///
    /// # Errors
    /// [`ModelError::NotFound`] for an unknown name, otherwise what its blocks report.
    async fn run(&self, model: &ModelName, input: Activation) -> Result<Inferred, ModelError>;
}

const _: fn(&dyn Inference) = |_| {};
