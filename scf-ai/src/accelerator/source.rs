//! What is loaded onto an accelerator.

use std::{collections::HashMap, fmt, sync::Arc};

use scf_core::{BlockGraph, Bytes, ModelError, ModelName, Name};
use serde::{Deserialize, Serialize};

use crate::{Device, DigitsCnn, EfficientNetLite, Llama, MiniLm, Sampling, fixed};

/// A model's file and how it is read.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "three parts are all that a model is")]
pub struct ModelSource {
    /// The name that its graph gets.
    pub model: ModelName,
    /// The network whose weights these are.
    pub network: Network,
    /// The file, which may be a mapped one ([`Bytes::from_owner`]).
    pub weights: Bytes,
}

/// The networks that accelerators load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Network {
    /// Image classification, out of safetensors.
    EfficientNetLite(EfficientNetLite),
    /// Sentence embeddings, out of safetensors.
    MiniLm {
        /// Tokens of the longest text.
        tokens: usize,
    },
    /// Digits of 8x8 pixels, out of safetensors.
    DigitsCnn,
    /// A language model out of a GGUF file, on the processor; gives the likeliest token after those that it takes.
    Llama {
        /// Positions of the longest sequence.
        context: usize,
    },
    /// One that the program which computes has a loader for ([`Loaders::with`]).
    Other(Name),
}

type Loader = dyn Fn(&ModelName, Bytes, Device) -> Result<BlockGraph, ModelError> + Send + Sync;

/// How networks are made of files: those of this crate, and an integrator's own by name. Clones are cheap.
#[derive(Clone, Default)]
#[must_use]
pub struct Loaders(HashMap<Name, Arc<Loader>>);

impl Loaders {
    /// Those of this crate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads [`Network::Other`] of `name` with `load`, which is given the model's name, the file and what it is to
    /// compute on.
    pub fn with(
        mut self,
        name: Name,
        load: impl Fn(&ModelName, Bytes, Device) -> Result<BlockGraph, ModelError> + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(name, Arc::new(load));
        self
    }

    /// The graph of `source` on `device`, under the source's name.
    pub(super) fn load(&self, source: &ModelSource, device: Device) -> Result<BlockGraph, ModelError> {
        let ModelSource { model, network, weights } = source;
        let mut graph = match network {
            Network::EfficientNetLite(variant) => variant.load(weights, device)?,
            Network::MiniLm { tokens } => MiniLm::new(*tokens).load(weights, device)?,
            Network::DigitsCnn => DigitsCnn::load(model.clone(), weights, device)?,
            Network::Llama { context } => {
                if device != Device::Cpu {
                    return Err(fixed::failed("embedding")("llama networks compute on the processor alone"));
                }
                Llama::open(weights.clone(), *context)?.graph(model.clone(), Sampling::greedy())?
            }
            Network::Other(name) => {
                let loader = self.0.get(name).ok_or_else(|| {
                    fixed::failed(name.as_str())("there is no loader of this name: give one to Loaders::with")
                })?;
                loader(model, weights.clone(), device)?
            }
        };
        graph.model = model.clone();
        Ok(graph)
    }
}

impl fmt::Debug for Loaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
