//! The blocks of the network as the fabric sees them.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use scf_core::{
    Activation, BlockCost, BlockMemory, BoxError, ByteSize, DType, Flow, ModelBlock, ModelError, TensorSpec, WireForm,
};

use super::{
    config::Config,
    layer::{Layer, RmsNorm, product},
};
use crate::{fixed, kernel::Quantised, tensor};

/// What a block computes.
#[derive(Debug)]
pub(super) enum Body {
    /// From ids to rows.
    Embedding(Arc<Quantised>),
    Layer(Box<Layer>),
    /// From the last row to the logits of the next token.
    Head {
        norm: RmsNorm,
        logits: Arc<Quantised>,
    },
}

/// A block that takes any number of tokens up to the context.
#[derive(Debug)]
pub(super) struct Block {
    name: String,
    config: Config,
    /// Positions of the longest sequence.
    context: usize,
    body: Body,
}

impl Block {
    pub(super) const fn new(name: String, config: Config, context: usize, body: Body) -> Self {
        Self { name, config, context, body }
    }

    /// The tokens that `input` has, where it is what the block takes.
    fn tokens(&self, input: &TensorSpec) -> Option<usize> {
        let tokens = match (&self.body, &input.shape[..]) {
            (Body::Embedding(_), &[1, tokens]) => tokens,
            (Body::Layer(_) | Body::Head { .. }, &[1, tokens, width]) if width == self.config.hidden => tokens,
            _ => return None,
        };
        (input.dtype == DType::F32 && (1..=self.context).contains(&tokens)).then_some(tokens)
    }

    fn run(&self, x: &[f32], memory: &mut BlockMemory) -> Result<Vec<f32>, ModelError> {
        match &self.body {
            Body::Embedding(words) => embed(words, x).map_err(fixed::failed(&self.name)),
            Body::Layer(layer) => layer
                .run(x, memory, self.context)
                .map_err(|problem| ModelError::Memory { block: self.name.clone(), problem }),
            Body::Head { norm, logits } => Ok(product(logits, &norm.run(&x[x.len() - self.config.hidden..]))),
        }
    }
}

impl ModelBlock for Block {
    fn name(&self) -> &str {
        &self.name
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        let Some(tokens) = self.tokens(input) else {
            let inner = if matches!(self.body, Body::Embedding(_)) {
                String::new()
            } else {
                format!(", {}", self.config.hidden)
            };
            let takes = format!("f32 [1, 1 to {}{inner}]", self.context);
            return Err(ModelError::Shape { block: self.name.clone(), takes, given: input.clone() });
        };
        Ok(match self.body {
            Body::Embedding(_) | Body::Layer(_) => TensorSpec::new(DType::F32, &[1, tokens, self.config.hidden]),
            Body::Head { .. } => TensorSpec::new(DType::F32, &[1, self.config.vocabulary]),
        })
    }

    fn cost(&self, input: &TensorSpec) -> BlockCost {
        let tokens = self.tokens(input).unwrap_or(1);
        let (sums, weights) = match &self.body {
            Body::Embedding(words) => (tokens * self.config.hidden, words.size()),
            Body::Layer(layer) => (tokens * (layer.sums() + tokens * self.config.hidden), layer.size()),
            Body::Head { logits, .. } => (logits.rows() * logits.columns(), logits.size()),
        };
        BlockCost { flops: 2 * sums as u64, weights: ByteSize::from_bytes(weights as u64) }
    }

    /// Only as it is: a few elements of a row are thousands of times larger than the others (Sun et al., "Massive
    /// Activations in Large Language Models", COLM 2024, section 2), and one scale for all loses those.
    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact]
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        self.follow(input, &mut BlockMemory::default()).map(Flow::into_activation)
    }

    fn follow(&self, input: Activation, memory: &mut BlockMemory) -> Result<Flow, ModelError> {
        let gives = self.output(&input.spec)?;
        let failed = || fixed::failed::<BoxError>(&self.name);
        let out = tensor::with_floats(&input, |x| self.run(x, memory)).map_err(|error| failed()(error.into()))??;
        let out = Tensor::from_vec(out, &gives.shape[..], &Device::Cpu).map_err(|error| failed()(error.into()))?;
        Ok(Flow::Continue(tensor::activation(gives, out)))
    }
}

/// The rows of the ids.
fn embed(words: &Quantised, ids: &[f32]) -> Result<Vec<f32>, BoxError> {
    let mut out = vec![0.0; ids.len() * words.columns()];
    for (id, out) in ids.iter().zip(out.chunks_exact_mut(words.columns())) {
        if id.fract() != 0.0 || !(0.0..words.rows() as f32).contains(id) {
            return Err(format!("{id} is no id of a token; ids are whole numbers below {}", words.rows()).into());
        }
        words.row(*id as usize, out);
    }
    Ok(out)
}
