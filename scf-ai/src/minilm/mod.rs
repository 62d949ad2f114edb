//! MiniLM-L6: sentence embeddings, as 8 blocks.
//!
//! The network is a BERT encoder (Devlin et al., "BERT", NAACL 2019, section 3) of 6 layers, distilled as in Wang et
//! al., "MiniLM", NeurIPS 2020, and trained for sentences as in Reimers and Gurevych, "Sentence-BERT", EMNLP 2019:
//! the mean over the tokens, scaled to length 1.

mod block;
mod composed;
mod encoder;
mod text;

use std::{num::NonZeroUsize, sync::Arc};

use rayon::{ThreadPool, ThreadPoolBuilder};
use scf_core::{BlockGraph, DType, ModelBlock, ModelError, ModelName, TensorSpec};

pub use self::text::{SentenceTokenizer, TokenizerError};
use self::{
    block::{Block, Body, Embedding},
    composed::Composed,
    encoder::Encoder,
};
use crate::{
    device::Device,
    fixed::{self, Fixed},
    kernel::{Format, Isa},
    weights::WeightFile,
};

/// Width of a token between the blocks.
const HIDDEN: usize = 384;
/// Heads of an attention, each `HIDDEN / HEADS` wide.
const HEADS: usize = 12;
/// Width between the two products of a layer's second half.
const WIDE: usize = 1536;
/// Encoder layers.
const LAYERS: usize = 6;
/// Entries of the vocabulary.
const VOCABULARY: usize = 30_522;
/// Positions that were trained.
const POSITIONS: usize = 512;
/// Added to a variance before its root is taken.
const EPSILON: f32 = 1e-12;

/// How MiniLM-L6 is loaded.
///
/// The blocks are `embedding`, `encoder0` to `encoder5` and `pool`. The graph takes one text, `f32` `[1, tokens]`: the
/// ids of its tokens, which 32-bit floats hold exactly, then zeros, which is the id of `[PAD]`;
/// [`SentenceTokenizer::encode`] makes it. It gives `f32` `[1, 384]`, of length 1: the cosine of two texts is the
/// product of their embeddings. Between the blocks travels `f32` `[1, tokens, 384]`, in which padding is a row of
/// equal numbers: no row of a token is, and it stays so in eight bits. Padding costs no time.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct MiniLm {
    tokens: usize,
    threads: NonZeroUsize,
    precision: Precision,
}

/// How the weights of matrix products are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Precision {
    Float,
    /// Eight bits, one scale per output.
    Int8,
}

/// Matrix products of one layer, `[columns in][columns out]` each, and its two normalisations; each with its bias.
struct Layer {
    /// Queries, keys and values beside each other; queries scaled by the root of a head's width.
    qkv: (Vec<f32>, Vec<f32>),
    mix: (Vec<f32>, Vec<f32>),
    up: (Vec<f32>, Vec<f32>),
    down: (Vec<f32>, Vec<f32>),
    norms: [(Vec<f32>, Vec<f32>); 2],
}

impl MiniLm {
    /// For texts of up to `tokens` tokens, of which the first and the last are marks; one thread per inference.
    pub const fn new(tokens: usize) -> Self {
        Self { tokens, threads: NonZeroUsize::MIN, precision: Precision::Float }
    }

    /// Lets an inference on the CPU use `threads` threads that the model keeps: for short waits where cores idle.
    /// One thread per inference, which is what is set, answers more per second. CPU time that
    /// [`ModelHost`](crate::ModelHost) reports is of the calling thread only.
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Rounds the weights of the encoders' matrix products to eight bits, one scale per output, and calls the model
    /// `minilm-l6-int8`: a second variant of the task, of 58 MB instead of 90, which agrees with people nearly as well
    /// (`cargo bench -p scf-ai --bench cpu` measures all of it). For the CPU.
    pub const fn int8(mut self) -> Self {
        self.precision = Precision::Int8;
        self
    }

    /// Loads the weights from the bytes of a safetensors file onto `device`.
    ///
    /// The file has, as `f16` or `f32`, the weights under the names that Hugging Face's `BertModel` gives them:
    /// `embeddings.word_embeddings.weight` `[30522, 384]`, `encoder.layer.0.attention.self.query.weight`
    /// `[384, 384]` and so on. They are packed once for the instruction set of this processor.
    ///
    /// # Errors
    /// [`ModelError::Weight`] naming the weight that is missing or has another shape, or the positions when the text
    /// is longer than they were trained for; [`ModelError::Device`] when the device is not there, its threads cannot be
    /// started, or it is not the CPU and weights are to be of eight bits.
    pub fn load(self, weights: &[u8], device: Device) -> Result<BlockGraph, ModelError> {
        let file = WeightFile::open(weights)?;
        let opened = device.open()?;
        let isa = if matches!(opened, candle_core::Device::Cpu) { Some(Isa::detect()) } else { None };
        if isa.is_none() && self.precision == Precision::Int8 {
            let hint = "weights of eight bits are for the CPU: load it without `int8`";
            return Err(ModelError::Device { device: device.as_str(), hint });
        }
        self.graph(&file, &opened, isa)
    }

    /// Loads the network with the fused kernels of `isa`, or out of candle's operations where there is none.
    fn graph(
        self,
        file: &WeightFile<'_>,
        device: &candle_core::Device,
        isa: Option<Isa>,
    ) -> Result<BlockGraph, ModelError> {
        if !(2..=POSITIONS).contains(&self.tokens) {
            return Err(ModelError::Weight {
                weight: "embeddings.position_embeddings.weight".into(),
                problem: format!("is for 2 to {POSITIONS} tokens, not {}", self.tokens),
            });
        }
        let pool = self.pool()?;
        let ids = TensorSpec::new(DType::F32, &[1, self.tokens]);
        let hidden = TensorSpec::new(DType::F32, &[1, self.tokens, HIDDEN]);
        let embedding = Body::Embedding(Box::new(embedding(file, self.tokens)?));
        let weights = (VOCABULARY + self.tokens + 2) * HIDDEN;
        let sums = 4 * self.tokens * HIDDEN;
        let first = Fixed::new("embedding".into(), ids.clone(), hidden.clone(), sums, weights);
        let first = Block::new(first, device.clone(), embedding);
        let mut blocks: Vec<Arc<dyn ModelBlock>> = vec![Arc::new(first)];
        let products = (4 * HIDDEN + 2 * WIDE) * HIDDEN;
        let weights = products + 4 * HIDDEN + WIDE + 5 * HIDDEN;
        let sums = self.tokens * (weights + 2 * self.tokens * HIDDEN);
        // In numbers of four bytes.
        let weights = match self.precision {
            Precision::Float => weights,
            Precision::Int8 => weights - products + products / Format::BLOCK * Format::Q8_0.size() / 4,
        };
        for i in 0..LAYERS {
            let name = format!("encoder{i}");
            let layer = layer(file, i)?;
            let body = match isa {
                Some(isa) => Body::Encoder(Box::new(Encoder::new(isa, self.precision, layer, pool.clone()))),
                None => Body::Composed(Composed::new(device, layer).map_err(fixed::failed(&name))?),
            };
            let fixed = Fixed::new(name, hidden.clone(), hidden.clone(), sums, weights);
            blocks.push(Arc::new(Block::new(fixed, device.clone(), body)));
        }
        let gives = TensorSpec::new(DType::F32, &[1, HIDDEN]);
        let pool = Fixed::new("pool".into(), hidden, gives, self.tokens * HIDDEN, 0);
        blocks.push(Arc::new(Block::new(pool, device.clone(), Body::Pool)));
        let name = match self.precision {
            Precision::Float => "minilm-l6",
            Precision::Int8 => "minilm-l6-int8",
        };
        BlockGraph::chain(ModelName::new(name).expect("a valid name"), ids, blocks)
    }

    fn pool(self) -> Result<Option<Arc<ThreadPool>>, ModelError> {
        if self.threads == NonZeroUsize::MIN {
            return Ok(None);
        }
        let builder = ThreadPoolBuilder::new().num_threads(self.threads.get()).thread_name(|i| format!("minilm-{i}"));
        builder.build().map(|pool| Some(Arc::new(pool))).map_err(|error| {
            tracing::warn!(%error, threads = self.threads, "no threads for a model");
            ModelError::Device { device: "cpu", hint: "the threads of the model could not be started: ask for fewer" }
        })
    }
}

/// A torch linear layer, `[out, in]`, as `[in][out]`, and its bias; each times `scale`.
fn linear(
    file: &WeightFile<'_>,
    name: &str,
    (from, to): (usize, usize),
    scale: f32,
) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
    let w = file.get(&format!("{name}.weight"), &[to, from])?;
    let b = file.get(&format!("{name}.bias"), &[to])?;
    let turned = (0..from).flat_map(|i| w.iter().skip(i).step_by(from).map(move |w| w * scale)).collect();
    Ok((turned, b.into_iter().map(|b| b * scale).collect()))
}

fn norm(file: &WeightFile<'_>, name: &str) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
    Ok((file.get(&format!("{name}.weight"), &[HIDDEN])?, file.get(&format!("{name}.bias"), &[HIDDEN])?))
}

fn embedding(file: &WeightFile<'_>, tokens: usize) -> Result<Embedding, ModelError> {
    let words = file.get("embeddings.word_embeddings.weight", &[VOCABULARY, HIDDEN])?;
    let mut positions = file.get("embeddings.position_embeddings.weight", &[POSITIONS, HIDDEN])?;
    positions.truncate(tokens * HIDDEN);
    // One text is all of the first kind.
    let kinds = file.get("embeddings.token_type_embeddings.weight", &[2, HIDDEN])?;
    for position in positions.chunks_exact_mut(HIDDEN) {
        position.iter_mut().zip(&kinds).for_each(|(p, k)| *p += k);
    }
    let (gain, bias) = norm(file, "embeddings.LayerNorm")?;
    Ok(Embedding::new(words, positions, gain, bias))
}

fn layer(file: &WeightFile<'_>, index: usize) -> Result<Layer, ModelError> {
    let name = |part: &str| format!("encoder.layer.{index}.{part}");
    let scale = ((HIDDEN / HEADS) as f32).sqrt().recip();
    let parts = [("query", scale), ("key", 1.0), ("value", 1.0)]
        .map(|(part, scale)| linear(file, &name(&format!("attention.self.{part}")), (HIDDEN, HIDDEN), scale));
    let [query, key, value] = parts;
    let (query, key, value) = (query?, key?, value?);
    let mut qkv = (Vec::with_capacity(3 * HIDDEN * HIDDEN), [query.1, key.1, value.1].concat());
    for row in 0..HIDDEN {
        for w in [&query.0, &key.0, &value.0] {
            qkv.0.extend_from_slice(&w[row * HIDDEN..][..HIDDEN]);
        }
    }
    Ok(Layer {
        qkv,
        mix: linear(file, &name("attention.output.dense"), (HIDDEN, HIDDEN), 1.0)?,
        up: linear(file, &name("intermediate.dense"), (HIDDEN, WIDE), 1.0)?,
        down: linear(file, &name("output.dense"), (WIDE, HIDDEN), 1.0)?,
        norms: [norm(file, &name("attention.output.LayerNorm"))?, norm(file, &name("output.LayerNorm"))?],
    })
}

#[cfg(test)]
mod tests;
