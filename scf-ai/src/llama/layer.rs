//! One layer on the CPU, over the tokens that come next.

use half::f16;
use scf_core::{BlockMemory, ModelError};

use super::config::Config;
use crate::{
    gguf::GgufFile,
    kernel::{GroupedAttention, Isa, Quantised, swiglu},
};

/// Root-mean-square normalisation (Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019, section
/// 4).
#[derive(Debug)]
pub(super) struct RmsNorm {
    gain: Vec<f32>,
    epsilon: f32,
}

impl RmsNorm {
    pub(super) fn read(file: &GgufFile, name: &str, config: &Config) -> Result<Self, ModelError> {
        Ok(Self { gain: file.vector(name, config.hidden)?, epsilon: config.epsilon })
    }

    /// The rows of `x`, normalised.
    pub(super) fn run(&self, x: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(self.gain.len()) {
            // Beside each other, as registers add; a row is a multiple of 32.
            let mut squares = [0.0f32; 16];
            for part in row.as_chunks::<16>().0 {
                squares.iter_mut().zip(part).for_each(|(sum, v)| *sum += v * v);
            }
            let scale = (squares.iter().sum::<f32>() / row.len() as f32 + self.epsilon).sqrt().recip();
            out.extend(row.iter().zip(&self.gain).map(|(v, gain)| v * scale * gain));
        }
        out
    }
}

/// A matrix of the file.
pub(super) fn matrix(file: &GgufFile, isa: Isa, name: &str, shape: (usize, usize)) -> Result<Quantised, ModelError> {
    let packed = file.tensor(name, &[shape.0, shape.1])?;
    Ok(Quantised::new(isa, shape, packed.format, packed.bytes))
}

/// `op` of the rows of `x`.
pub(super) fn product(op: &Quantised, x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / op.columns() * op.rows()];
    op.run(x, &mut out);
    out
}

/// Weights of one layer, as the file has them.
#[derive(Debug)]
pub(super) struct Layer {
    config: Config,
    isa: Isa,
    /// Angles between neighbouring positions, for each pair of a head.
    speeds: Vec<f64>,
    norms: [RmsNorm; 2],
    queries: Quantised,
    keys: Quantised,
    values: Quantised,
    attention: GroupedAttention,
    mix: Quantised,
    gate: Quantised,
    up: Quantised,
    down: Quantised,
}

impl Layer {
    /// The names of a layer's tensors, behind the layer's own.
    pub(super) const TENSORS: [&str; 9] = [
        "attn_norm.weight",
        "attn_q.weight",
        "attn_k.weight",
        "attn_v.weight",
        "attn_output.weight",
        "ffn_norm.weight",
        "ffn_gate.weight",
        "ffn_up.weight",
        "ffn_down.weight",
    ];

    pub(super) fn read(file: &GgufFile, isa: Isa, index: usize, config: Config) -> Result<Self, ModelError> {
        let Config { hidden, wide, heads, groups, .. } = config;
        let kept = groups * config.head();
        let [attn_norm, q, k, v, output, ffn_norm, gate, up, down] = Self::TENSORS.map(|t| format!("blk.{index}.{t}"));
        let read = |name: &str, rows, columns| matrix(file, isa, name, (rows, columns));
        let speed = |i: usize| config.rope_base.powf(-(i as f64) / config.head() as f64);
        Ok(Self {
            config,
            isa,
            speeds: (0..config.head()).step_by(2).map(speed).collect(),
            norms: [RmsNorm::read(file, &attn_norm, &config)?, RmsNorm::read(file, &ffn_norm, &config)?],
            queries: read(&q, hidden, hidden)?,
            keys: read(&k, kept, hidden)?,
            values: read(&v, kept, hidden)?,
            attention: GroupedAttention::new(isa, heads, groups, config.head()),
            mix: read(&output, hidden, hidden)?,
            gate: read(&gate, wide, hidden)?,
            up: read(&up, wide, hidden)?,
            down: read(&down, hidden, wide)?,
        })
    }

    fn products(&self) -> [&Quantised; 7] {
        [&self.queries, &self.keys, &self.values, &self.mix, &self.gate, &self.up, &self.down]
    }

    /// Multiply-adds for one token, attention left out.
    pub(super) fn sums(&self) -> usize {
        self.products().iter().map(|op| op.rows() * op.columns()).sum()
    }

    /// Bytes of the weights.
    pub(super) fn size(&self) -> usize {
        self.products().iter().map(|op| op.size()).sum()
    }

    /// Bytes that are remembered of a position.
    pub(super) const fn row(&self) -> usize {
        self.attention.row()
    }

    /// Runs the layer on `x`, `[tokens][hidden]`, which follows what `memory` has seen; `context` positions at most.
    pub(super) fn run(&self, x: &[f32], memory: &mut BlockMemory, context: usize) -> Result<Vec<f32>, String> {
        let tokens = x.len() / self.config.hidden;
        if memory.seen.checked_mul(self.row()) != Some(memory.bytes.len()) {
            let (bytes, row) = (memory.bytes.len(), self.row());
            return Err(format!("{bytes} bytes are not {row} for each of {} positions", memory.seen));
        }
        if tokens > context.saturating_sub(memory.seen) {
            return Err(format!("{tokens} positions behind {} are more than the context of {context}", memory.seen));
        }
        let normal = self.norms[0].run(x);
        let mut queries = product(&self.queries, &normal);
        let (mut keys, values) = (product(&self.keys, &normal), product(&self.values, &normal));
        let turns = self.turns(tokens, memory.seen);
        rotate(&mut queries, tokens, &turns);
        rotate(&mut keys, tokens, &turns);
        let scale = (self.config.head() as f32).sqrt().recip();
        queries.iter_mut().for_each(|v| *v *= scale);
        let width = keys.len() / tokens;
        for (key, value) in keys.chunks_exact(width).zip(values.chunks_exact(width)) {
            memory.bytes.extend(key.iter().chain(value).flat_map(|v| f16::from_f32(*v).to_le_bytes()));
        }
        memory.seen += tokens;
        let mut heads = vec![0.0; x.len()];
        self.attention.run(&queries, &memory.bytes, &mut heads);
        let mut y = product(&self.mix, &heads);
        add(&mut y, x);
        let normal = self.norms[1].run(&y);
        let mut gate = product(&self.gate, &normal);
        swiglu(self.isa, &mut gate, &product(&self.up, &normal));
        add(&mut y, &product(&self.down, &gate));
        Ok(y)
    }

    /// Sine and cosine of the angles by which the pairs of a head are turned, for each of `tokens` positions from
    /// `first` on (Su et al., "RoFormer", 2021, section 3.2.2).
    fn turns(&self, tokens: usize, first: usize) -> Vec<(f32, f32)> {
        let positions = (first..first + tokens).map(|position| position as f64);
        let angles = positions.flat_map(|position| self.speeds.iter().map(move |speed| position * speed));
        angles.map(f64::sin_cos).map(|(sin, cos)| (sin as f32, cos as f32)).collect()
    }
}

/// Turns each pair of neighbours of the heads; files have queries and keys permuted so that pairs are neighbours.
fn rotate(rows: &mut [f32], tokens: usize, turns: &[(f32, f32)]) {
    let (row, pairs) = (rows.len() / tokens, turns.len() / tokens);
    for (row, turns) in rows.chunks_exact_mut(row).zip(turns.chunks_exact(pairs)) {
        for head in row.chunks_exact_mut(2 * pairs) {
            for ([a, b], (sin, cos)) in head.as_chunks_mut().0.iter_mut().zip(turns) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}

fn add(to: &mut [f32], x: &[f32]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
}
