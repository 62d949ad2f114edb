//! One block of the network as the fabric sees it.

use candle_core::{Device, Tensor};
use scf_core::{Activation, BlockCost, BoxError, Flow, ModelBlock, ModelError, TensorSpec, WireForm};

use super::{EPSILON, HIDDEN, VOCABULARY, composed::Composed, encoder::Encoder};
use crate::{
    fixed::Fixed,
    kernel::{Isa, LayerNorm},
    tensor,
};

/// Words and positions.
#[derive(Debug)]
pub(super) struct Embedding {
    /// `[VOCABULARY][HIDDEN]`.
    words: Vec<f32>,
    /// `[tokens][HIDDEN]`, the kind of text added.
    positions: Vec<f32>,
    norm: LayerNorm,
}

/// How a block computes.
#[derive(Debug)]
pub(super) enum Body {
    /// From ids to rows; on the CPU, since it only copies.
    Embedding(Box<Embedding>),
    /// Fused on the CPU.
    Encoder(Box<Encoder>),
    /// An encoder layer out of candle's operations, on any device.
    Composed(Composed),
    /// The mean over the tokens, scaled to length 1; on the CPU.
    Pool,
}

/// A block with fixed sizes.
#[derive(Debug)]
pub(super) struct Block {
    fixed: Fixed,
    device: Device,
    body: Body,
}

/// Rows of `[tokens][HIDDEN]` up to the last that is no padding, which is a row of equal numbers.
fn tokens(x: &[f32]) -> usize {
    x.chunks_exact(HIDDEN).rposition(|row| row.iter().any(|v| *v != row[0])).map_or(0, |last| last + 1)
}

impl Block {
    pub(super) const fn new(fixed: Fixed, device: Device, body: Body) -> Self {
        Self { fixed, device, body }
    }

    fn run(&self, x: &[f32], elements: usize) -> Result<Vec<f32>, BoxError> {
        let mut out = vec![0.0; elements];
        match &self.body {
            Body::Embedding(embedding) => embedding.run(x, &mut out)?,
            Body::Encoder(encoder) => {
                let real = tokens(x);
                encoder.run(&[real], &x[..real * HIDDEN], &mut out[..real * HIDDEN]);
            }
            Body::Composed(composed) => {
                let real = tokens(x) * HIDDEN;
                if real > 0 {
                    let x = Tensor::from_slice(&x[..real], (real / HIDDEN, HIDDEN), &self.device)?;
                    out[..real].copy_from_slice(&composed.forward(&x)?.flatten_all()?.to_vec1::<f32>()?);
                }
            }
            Body::Pool => pool(x, &mut out),
        }
        Ok(out)
    }

    /// Runs an encoder on the tokens of several texts as one matrix.
    fn encode(&self, encoder: &Encoder, inputs: &[Activation]) -> Vec<Result<Activation, ModelError>> {
        let mut x = Vec::new();
        let read = |input: &Activation| {
            let gives = self.output(&input.spec)?;
            let real = tensor::with_floats(input, |text| {
                let real = tokens(text);
                x.extend_from_slice(&text[..real * HIDDEN]);
                real
            });
            Ok((gives, real.map_err(self.fixed.failed())?))
        };
        let read: Vec<Result<(TensorSpec, usize), ModelError>> = inputs.iter().map(read).collect();
        let texts: Vec<usize> = read.iter().flatten().map(|(_, real)| *real).collect();
        let mut out = vec![0.0; x.len()];
        encoder.run(&texts, &x, &mut out);
        let mut rows = out.chunks_exact(HIDDEN);
        let split = |text: Result<(TensorSpec, usize), ModelError>| {
            let (gives, real) = text?;
            let mut padded = Vec::with_capacity(gives.elements().unwrap_or(0));
            rows.by_ref().take(real).for_each(|row| padded.extend_from_slice(row));
            padded.resize(gives.elements().unwrap_or(0), 0.0);
            self.activation(gives, padded)
        };
        read.into_iter().map(split).collect()
    }

    fn activation(&self, gives: TensorSpec, out: Vec<f32>) -> Result<Activation, ModelError> {
        let out = Tensor::from_vec(out, &gives.shape[..], &Device::Cpu).map_err(self.fixed.failed())?;
        Ok(tensor::activation(gives, out))
    }
}

impl ModelBlock for Block {
    fn name(&self) -> &str {
        &self.fixed.name
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        self.fixed.output(input)
    }

    fn cost(&self, _input: &TensorSpec) -> BlockCost {
        self.fixed.cost
    }

    fn wire_forms(&self) -> &[WireForm] {
        match self.body {
            // The forms of the first block are those of the graph's input too, and ids have no eight bits.
            Body::Embedding(_) => &[WireForm::Exact],
            _ => &[WireForm::Exact, WireForm::Int8],
        }
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        let gives = self.output(&input.spec)?;
        let elements = gives.elements().unwrap_or(0);
        let out = tensor::with_floats(&input, |x| self.run(x, elements)).map_err(self.fixed.failed())?;
        self.activation(gives, out.map_err(self.fixed.failed())?)
    }

    fn step_batch(&self, inputs: Vec<Activation>) -> Vec<Result<Flow, ModelError>> {
        match &self.body {
            Body::Encoder(encoder) => {
                self.encode(encoder, &inputs).into_iter().map(|output| output.map(Flow::Continue)).collect()
            }
            _ => inputs.into_iter().map(|input| self.step(input)).collect(),
        }
    }
}

impl Embedding {
    pub(super) fn new(words: Vec<f32>, positions: Vec<f32>, gain: Vec<f32>, bias: Vec<f32>) -> Self {
        Self { words, positions, norm: LayerNorm::new(Isa::detect(), gain, bias, EPSILON) }
    }

    fn run(&self, ids: &[f32], out: &mut [f32]) -> Result<(), BoxError> {
        let real = ids.iter().rposition(|id| *id != 0.0).map_or(0, |last| last + 1);
        let out = &mut out[..real * HIDDEN];
        for ((id, out), position) in
            ids.iter().zip(out.chunks_exact_mut(HIDDEN)).zip(self.positions.chunks_exact(HIDDEN))
        {
            if id.fract() != 0.0 || !(0.0..VOCABULARY as f32).contains(id) {
                return Err(format!("{id} is no id of a token; ids are whole numbers below {VOCABULARY}").into());
            }
            let word = &self.words[*id as usize * HIDDEN..][..HIDDEN];
            out.iter_mut().zip(word.iter().zip(position)).for_each(|(out, (w, p))| *out = w + p);
        }
        self.norm.run(out);
        Ok(())
    }
}

fn pool(x: &[f32], out: &mut [f32]) {
    for row in x.chunks_exact(HIDDEN).take(tokens(x)) {
        out.iter_mut().zip(row).for_each(|(out, v)| *out += v);
    }
    // The mean and the sum have one direction; a text without tokens has none.
    let length = out.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        out.iter_mut().for_each(|v| *v /= length);
    }
}
