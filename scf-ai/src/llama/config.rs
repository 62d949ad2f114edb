//! Sizes of a network, as its file says them.

use scf_core::ModelError;

use crate::{
    gguf::{GgufFile, field},
    kernel::GroupedAttention,
};

/// Sizes of a llama network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Config {
    pub(super) layers: usize,
    /// Positions that were trained.
    pub(super) context: usize,
    /// Width of a token between the blocks.
    pub(super) hidden: usize,
    /// Width between the two products of a layer's second half.
    pub(super) wide: usize,
    pub(super) heads: usize,
    /// Heads of keys and values.
    pub(super) groups: usize,
    pub(super) vocabulary: usize,
    /// Added to a mean square before its root is taken.
    pub(super) epsilon: f32,
    /// What the angles of positions are powers of.
    pub(super) rope_base: f64,
}

/// Largest vocabulary; 32-bit floats hold ids up to 2^24 exactly.
const MAX_VOCABULARY: u64 = 1 << 20;

impl Config {
    pub(super) fn read(file: &GgufFile) -> Result<Self, ModelError> {
        let architecture = file.text("general.architecture")?;
        if architecture != Some("llama") {
            return Err(field("general.architecture", format!("is {architecture:?} instead of llama")));
        }
        let count = |key: &str, most: u64| file.count(key, 1..=most)?.ok_or_else(|| field(key, "is missing"));
        let hidden = count("llama.embedding_length", 1 << 16)?;
        let heads = count("llama.attention.head_count", 1 << 10)?;
        let groups = file.count("llama.attention.head_count_kv", 1..=1 << 10)?.unwrap_or(heads);
        if hidden % heads != 0 || !GroupedAttention::fits(heads, groups, hidden / heads) {
            let problem =
                format!("{heads} heads in {groups} groups, of a width of {hidden}, are none that are computed");
            return Err(field("llama.attention.head_count", problem));
        }
        let head = hidden / heads;
        for key in ["llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"] {
            if let Some(width) = file.count(key, 0..=1 << 16)?.filter(|width| *width != head) {
                return Err(field(key, format!("is {width} instead of a head's width of {head}")));
            }
        }
        if let Some(scaling) = file.text("llama.rope.scaling.type")?.filter(|scaling| *scaling != "none") {
            return Err(field("llama.rope.scaling.type", format!("is {scaling}, which is not computed")));
        }
        if let Some(experts @ 1..) = file.count("llama.expert_count", 0..=1 << 16)? {
            return Err(field("llama.expert_count", format!("is {experts}; mixtures of experts are not computed")));
        }
        let positive = |key: &str, otherwise: Option<f64>| {
            let value = file.float(key)?.or(otherwise).ok_or_else(|| field(key, "is missing"))?;
            if value > 0.0 { Ok(value) } else { Err(field(key, format!("is {value}, not above 0"))) }
        };
        let embedding = file.shape("token_embd.weight").unwrap_or_default();
        let vocabulary = embedding.first().copied().filter(|n| (1..=MAX_VOCABULARY).contains(n));
        Ok(Self {
            layers: count("llama.block_count", 1 << 10)?,
            context: count("llama.context_length", 1 << 20)?,
            hidden,
            wide: count("llama.feed_forward_length", 1 << 20)?,
            heads,
            groups,
            vocabulary: vocabulary.ok_or_else(|| crate::gguf::weight("token_embd.weight", "has no rows of tokens"))?
                as usize,
            epsilon: positive("llama.attention.layer_norm_rms_epsilon", None)? as f32,
            rope_base: positive("llama.rope.freq_base", Some(10_000.0))?,
        })
    }

    /// Width of a head.
    pub(super) const fn head(&self) -> usize {
        self.hidden / self.heads
    }
}
