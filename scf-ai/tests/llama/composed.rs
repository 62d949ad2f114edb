//! The network out of candle's operations over 32-bit weights, which candle's own reader takes out of the file: what
//! the blocks are held against.

use std::io::Cursor;

use scf_ai::candle_core::{D, Device, Result, Tensor, quantized::gguf_file::Content};

/// A file that candle reads.
pub(crate) struct Composed {
    content: Content,
    file: Vec<u8>,
}

impl Composed {
    pub(crate) fn open(file: Vec<u8>) -> Result<Self> {
        Ok(Self { content: Content::read(&mut Cursor::new(&file))?, file })
    }

    fn number(&self, key: &str) -> f64 {
        let value = &self.content.metadata[&format!("llama.{key}")];
        value.to_u32().map(f64::from).or_else(|_| value.to_f32().map(f64::from)).unwrap()
    }

    fn weight(&self, name: &str) -> Result<Tensor> {
        let tensor = self.content.tensor(&mut Cursor::new(&self.file), &format!("{name}.weight"), &Device::Cpu)?;
        tensor.dequantize(&Device::Cpu)
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight(name)?.t()?)
    }

    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let epsilon = self.number("attention.layer_norm_rms_epsilon");
        let root = (x.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
        x.broadcast_div(&root)?.broadcast_mul(&self.weight(name)?)
    }

    /// Turns pairs of neighbours; `x` is `[heads, tokens, head]`.
    fn rotated(&self, x: &Tensor) -> Result<Tensor> {
        let (heads, tokens, head) = x.dims3()?;
        let base = self.number("rope.freq_base");
        let angle = |i: usize| (i / (head / 2)) as f64 * base.powf(-((i % (head / 2) * 2) as f64) / head as f64);
        let angles: Vec<f64> = (0..tokens * head / 2).map(angle).collect();
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|a| f(*a) as f32).collect();
            Tensor::from_vec(values, (1, tokens, head / 2), &Device::Cpu)
        };
        let (sin, cos) = (table(f64::sin)?, table(f64::cos)?);
        let pairs = x.reshape((heads, tokens, head / 2, 2))?;
        let (a, b) = (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?);
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
        Tensor::stack(&[first, second], 3)?.reshape((heads, tokens, head))
    }

    fn attention(&self, layer: &str, x: &Tensor) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let (heads, groups) =
            (self.number("attention.head_count") as usize, self.number("attention.head_count_kv") as usize);
        let head = self.number("embedding_length") as usize / heads;
        let split = |name: &str, heads: usize| {
            let y = self.linear(&format!("{layer}.{name}"), x)?;
            y.reshape((tokens, heads, head))?.transpose(0, 1)?.contiguous()
        };
        let shared = |y: Tensor| {
            let each = heads / groups;
            y.unsqueeze(1)?.broadcast_as((groups, each, tokens, head))?.contiguous()?.reshape((heads, tokens, head))
        };
        let queries = self.rotated(&split("attn_q", heads)?)?;
        let keys = shared(self.rotated(&split("attn_k", groups)?)?)?;
        let values = shared(split("attn_v", groups)?)?;
        let scores = (queries.matmul(&keys.transpose(1, 2)?.contiguous()?)? / (head as f64).sqrt())?;
        let later = |i: usize| if i % tokens > i / tokens { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> = (0..tokens * tokens).map(later).collect();
        let scores = scores.broadcast_add(&Tensor::from_vec(mask, (1, tokens, tokens), &Device::Cpu)?)?;
        let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let shares = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
        let mixed = shares.matmul(&values)?.transpose(0, 1)?.contiguous()?.reshape((tokens, heads * head))?;
        self.linear(&format!("{layer}.attn_output"), &mixed)
    }

    /// The logits behind every token, `[tokens][vocabulary]`.
    pub(crate) fn logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
        let ids = Tensor::new(ids, &Device::Cpu)?;
        let words = self.weight("token_embd")?;
        let mut x = words.index_select(&ids, 0)?;
        for i in 0..self.number("block_count") as usize {
            let layer = format!("blk.{i}");
            let y = self.norm(&format!("{layer}.attn_norm"), &x)?;
            x = (x + self.attention(&layer, &y)?)?;
            let y = self.norm(&format!("{layer}.ffn_norm"), &x)?;
            let gate = self.linear(&format!("{layer}.ffn_gate"), &y)?.silu()?;
            let wide = (gate * self.linear(&format!("{layer}.ffn_up"), &y)?)?;
            x = (x + self.linear(&format!("{layer}.ffn_down"), &wide)?)?;
        }
        self.norm("output_norm", &x)?.matmul(&words.t()?)?.to_vec2()
    }
}
