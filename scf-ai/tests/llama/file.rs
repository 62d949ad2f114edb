//! Files of the format, written field by field so that any of them can be wrong.

use std::collections::BTreeMap;

/// A file before it is written.
#[derive(Clone, Default)]
pub(crate) struct File {
    /// Type and value of each field.
    pub(crate) fields: BTreeMap<String, Vec<u8>>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone)]
pub(crate) struct Tensor {
    /// Innermost first.
    pub(crate) dimensions: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;
pub(crate) const Q4_0: u32 = 2;
pub(crate) const Q4_1: u32 = 3;
pub(crate) const Q8_0: u32 = 8;

pub(crate) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A value's type before its bytes.
pub(crate) fn typed(kind: u32, value: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), value].concat()
}

pub(crate) fn array(kind: u32, values: &[Vec<u8>]) -> Vec<u8> {
    typed(9, &[&kind.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &values.concat()].concat())
}

impl File {
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.fields.insert(key.into(), typed(8, &text(value)));
    }

    pub(crate) fn count(&mut self, key: &str, value: u32) {
        self.fields.insert(key.into(), typed(4, &value.to_le_bytes()));
    }

    pub(crate) fn float(&mut self, key: &str, value: f32) {
        self.fields.insert(key.into(), typed(6, &value.to_le_bytes()));
    }

    pub(crate) fn texts(&mut self, key: &str, values: impl IntoIterator<Item = impl AsRef<str>>) {
        let values: Vec<Vec<u8>> = values.into_iter().map(|value| text(value.as_ref())).collect();
        self.fields.insert(key.into(), array(8, &values));
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.fields.len() as u64).to_le_bytes());
        for (key, value) in &self.fields {
            out.extend(text(key));
            out.extend(value);
        }
        let mut offset = 0u64;
        for (name, tensor) in &self.tensors {
            out.extend(text(name));
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            out.extend(tensor.dimensions.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(32) as u64;
        }
        for tensor in self.tensors.values() {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.bytes);
        }
        out
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, figure 16).
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

fn half(value: f32) -> [u8; 2] {
    half::f16::from_f32(value).to_le_bytes()
}

/// A tensor of a kind with seeded numbers of about `spread`.
fn seeded(random: &mut Random, kind: u32, dimensions: &[u64], spread: f32) -> Tensor {
    let count: u64 = dimensions.iter().product();
    let mut bytes = Vec::new();
    for _ in 0..count / 32 {
        match kind {
            F32 => bytes.extend((0..32).flat_map(|_| (spread * random.float()).to_le_bytes())),
            F16 => bytes.extend((0..32).flat_map(|_| half(spread * random.float()))),
            kind => {
                let (levels, quants) = if kind == Q8_0 { (128.0, 32) } else { (8.0, 16) };
                bytes.extend(half(spread / levels));
                if kind == Q4_1 {
                    bytes.extend(half(-spread));
                }
                bytes.extend((0..quants).map(|_| random.next() as u8));
            }
        }
    }
    Tensor { dimensions: dimensions.into(), kind, bytes }
}

/// The characters that bytes are spelt with in a vocabulary.
fn spelt() -> Vec<String> {
    let shown = |b: &u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut hidden = 0x100..;
    let mut letter = |b: u32| if shown(&b) { Some(b) } else { hidden.next() };
    (0..256).filter_map(|b| char::from_u32(letter(b)?)).map(String::from).collect()
}

pub(crate) const CONTEXT: u32 = 96;

/// A small network of every format, with a vocabulary of bytes, one merge and the marks of chats.
pub(crate) fn network() -> File {
    let (hidden, wide, heads, groups) = (64, 96, 2, 1);
    let mut file = File::default();
    file.text("general.architecture", "llama");
    for (key, value) in [
        ("block_count", 2),
        ("context_length", CONTEXT),
        ("embedding_length", hidden),
        ("feed_forward_length", wide),
        ("attention.head_count", heads),
        ("attention.head_count_kv", groups),
        ("rope.dimension_count", hidden / heads),
    ] {
        file.count(&format!("llama.{key}"), value);
    }
    file.float("llama.attention.layer_norm_rms_epsilon", 1e-5);
    file.float("llama.rope.freq_base", 10_000.0);
    let mut tokens = spelt();
    tokens.extend(["he", "<|im_start|>", "<|im_end|>"].map(String::from));
    let kinds: Vec<Vec<u8>> = (0..tokens.len()).map(|i| i32::to_le_bytes(if i > 256 { 3 } else { 1 }).into()).collect();
    file.text("tokenizer.ggml.model", "gpt2");
    file.text("tokenizer.ggml.pre", "smollm");
    file.texts("tokenizer.ggml.tokens", &tokens);
    file.fields.insert("tokenizer.ggml.token_type".into(), array(5, &kinds));
    file.texts("tokenizer.ggml.merges", ["h e"]);
    file.count("tokenizer.ggml.eos_token_id", 258);

    let mut random = Random(53);
    let (h, w, kept) = (u64::from(hidden), u64::from(wide), u64::from(hidden / heads * groups));
    let mut tensor = |name: &str, kind, dimensions: &[u64], spread: f32| {
        file.tensors.insert(name.into(), seeded(&mut random, kind, dimensions, spread));
    };
    tensor("token_embd.weight", Q8_0, &[h, tokens.len() as u64], 1.0);
    tensor("output_norm.weight", F32, &[h], 2.0);
    for i in 0..2 {
        for (name, kind, dimensions) in [
            ("attn_norm", F32, &[h][..]),
            ("attn_q", Q4_1, &[h, h]),
            ("attn_k", Q8_0, &[h, kept]),
            ("attn_v", Q4_0, &[h, kept]),
            ("attn_output", F16, &[h, h]),
            ("ffn_norm", F32, &[h]),
            ("ffn_gate", Q4_1, &[h, w]),
            ("ffn_up", F32, &[h, w]),
            ("ffn_down", Q4_0, &[w, h]),
        ] {
            tensor(&format!("blk.{i}.{name}.weight"), kind, dimensions, if dimensions.len() == 1 { 1.5 } else { 0.3 });
        }
    }
    file
}
