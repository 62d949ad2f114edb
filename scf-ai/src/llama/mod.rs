//! Language models of the llama architecture, out of GGUF files.
//!
//! Touvron et al., "LLaMA", 2023, section 2.2: a transformer with normalisation before each half, rotated positions and
//! gated feed-forward layers; here with grouped queries. Weights stay as the file has them, in the file's memory.

mod block;
mod config;
mod generation;
mod layer;
mod sample;
mod text;

use std::{collections::HashSet, sync::Arc};

use scf_core::{BlockGraph, ByteSize, Bytes, DType, ModelBlock, ModelError, ModelName, TensorSpec};

use self::{
    block::{Block, Body},
    config::Config,
    layer::{Layer, RmsNorm, matrix},
    sample::Sampler,
};
pub use self::{
    generation::{Generation, GenerationError},
    sample::Sampling,
    text::{Role, TextDecoder, TextTokenizer},
};
use crate::{
    gguf::{GgufFile, weight},
    kernel::Isa,
};

/// A language model of the llama architecture, on the CPU, one thread per inference.
///
/// Its graphs are of the blocks `embedding`, `layer0` to `layer` and the last one's number, `head` and `sampler`. They
/// take `f32` `[1, tokens]`, the ids of any number of tokens up to the context, which 32-bit floats hold exactly, and
/// give `f32` `[1, 1]`, the id of the token that comes next. Between the blocks travels `f32` `[1, tokens, width]`,
/// behind the head the logits. With [`BlockGraph::follow`] the layers keep keys and values, as 16-bit floats, and the
/// sampler streams; [`Generation`] does that for a sequence.
///
/// Files have weights as F32, F16, Q4_0, Q4_1 or Q8_0; each of another type, and each that the network does not use,
/// is an error that names it.
#[derive(Debug)]
pub struct Llama {
    file: GgufFile,
    config: Config,
    context: usize,
    /// All blocks but the sampler.
    blocks: Vec<Arc<dyn ModelBlock>>,
}

impl Llama {
    /// Opens the bytes of a GGUF file, which may be a mapped file ([`Bytes::from_owner`]), for sequences of up to
    /// `context` positions, at most those that were trained. Copies no weights: the network reads them in `file`.
    ///
    /// # Errors
    /// [`ModelError::Metadata`] naming the field and [`ModelError::Weight`] naming the tensor that is missing, damaged
    /// or of a kind that is not computed.
    pub fn open(file: Bytes, context: usize) -> Result<Self, ModelError> {
        let file = GgufFile::open(file)?;
        let isa = Isa::detect();
        let config = Config::read(&file)?;
        let context = context.min(config.context);
        let block = |name: String, body| -> Arc<dyn ModelBlock> { Arc::new(Block::new(name, config, context, body)) };
        let width = (config.vocabulary, config.hidden);
        let words = Arc::new(matrix(&file, isa, "token_embd.weight", width)?);
        // Where there is no matrix of its own the words are used in both directions (Press and Wolf, EACL 2017).
        let logits = match file.shape("output.weight") {
            Some(_) => Arc::new(matrix(&file, isa, "output.weight", width)?),
            None => words.clone(),
        };
        let mut blocks = vec![block("embedding".into(), Body::Embedding(words))];
        for i in 0..config.layers {
            let layer = Layer::read(&file, isa, i, config)?;
            blocks.push(block(format!("layer{i}"), Body::Layer(Box::new(layer))));
        }
        let norm = RmsNorm::read(&file, "output_norm.weight", &config)?;
        blocks.push(block("head".into(), Body::Head { norm, logits }));
        let model = Self { file, config, context, blocks };
        model.uses_all()?;
        Ok(model)
    }

    /// Refuses a file with a tensor that would be left out: it is of another network.
    fn uses_all(&self) -> Result<(), ModelError> {
        let used: HashSet<&str> = Layer::TENSORS.into_iter().collect();
        for name in self.file.names() {
            let of_layer =
                name.strip_prefix("blk.").and_then(|name| name.split_once('.')).is_some_and(|(i, tensor)| {
                    i.parse().is_ok_and(|i: usize| i < self.config.layers) && used.contains(tensor)
                });
            if !of_layer && !["token_embd.weight", "output.weight", "output_norm.weight"].contains(&name) {
                return Err(weight(name, "is of no llama network that is computed"));
            }
        }
        Ok(())
    }

    /// Positions of the longest sequence.
    #[must_use]
    pub const fn context(&self) -> usize {
        self.context
    }

    /// What the layers keep of one position.
    #[must_use]
    pub fn kept_per_position(&self) -> ByteSize {
        let keys_and_values = 2 * 2 * self.config.groups * self.config.head();
        ByteSize::from_bytes((self.config.layers * keys_and_values) as u64)
    }

    /// The network, its tokens chosen by `sampling`. Graphs of one model share its weights. Planners are given the
    /// sizes of one token, which is what all steps but the first are of.
    ///
    /// # Errors
    /// [`ModelError::Metadata`] when the file names an end of texts that is no token.
    pub fn graph(&self, name: ModelName, sampling: Sampling) -> Result<BlockGraph, ModelError> {
        let mut ends = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
            ends.extend(text::token(&self.file, key, self.config.vocabulary)?);
        }
        let mut blocks = self.blocks.clone();
        blocks.push(Arc::new(Sampler::new(self.config.vocabulary, sampling, ends)));
        BlockGraph::chain(name, TensorSpec::new(DType::F32, &[1, 1]), blocks)
    }

    /// The tokenizer of the file's own vocabulary. Takes some hundred bytes of memory for each token.
    ///
    /// # Errors
    /// [`ModelError::Metadata`] naming the field that is missing or says what cannot be.
    pub fn tokenizer(&self) -> Result<TextTokenizer, ModelError> {
        TextTokenizer::read(&self.file, self.config.vocabulary)
    }
}
