//! The blocks, over the chunk that comes next.

use candle_core::{Device, Tensor};
use scf_core::{Activation, BlockCost, BlockMemory, BoxError, Flow, ModelBlock, ModelError, TensorSpec, WireForm};

use super::{BINS, CHUNK, CONTEXT, FRAMES, HIDDEN, HOP, WINDOW};
use crate::{
    fixed::Fixed,
    kernel::{Finish, Pointwise, Rows},
    tensor,
};

/// How a block computes.
#[derive(Debug)]
pub(super) enum Body {
    /// From sound to magnitudes; keeps the last samples.
    Spectrum(Spectrum),
    /// Convolutions with rectifiers.
    Encoder(Vec<Convolution>),
    /// Keeps its output and its cell.
    Recurrence(Recurrence),
    /// The probability.
    Head(Pointwise),
}

/// A block with fixed sizes.
#[derive(Debug)]
pub(super) struct Block {
    fixed: Fixed,
    body: Body,
}

impl Block {
    pub(super) const fn new(fixed: Fixed, body: Body) -> Self {
        Self { fixed, body }
    }

    /// Numbers that the block keeps from one chunk to the next.
    const fn kept(&self) -> usize {
        match self.body {
            Body::Spectrum(_) => CONTEXT,
            Body::Recurrence(_) => 2 * HIDDEN,
            Body::Encoder(_) | Body::Head(_) => 0,
        }
    }

    /// What `memory` has: zeros before the first chunk.
    fn recall(&self, memory: &BlockMemory) -> Result<Vec<f32>, ModelError> {
        let kept = self.kept();
        match memory.bytes.len() {
            0 if memory.seen == 0 || kept == 0 => Ok(vec![0.0; kept]),
            bytes if bytes == 4 * kept && memory.seen > 0 => {
                Ok(memory.bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
            }
            bytes => {
                let problem = format!("{bytes} bytes after {} chunks instead of {}", memory.seen, 4 * kept);
                Err(ModelError::Memory { block: self.fixed.name.clone(), problem })
            }
        }
    }

    fn run(&self, x: &[f32], kept: &mut [f32]) -> Result<Vec<f32>, BoxError> {
        Ok(match &self.body {
            Body::Spectrum(spectrum) => spectrum.run(x, kept),
            Body::Encoder(convolutions) => {
                let mut convolutions = convolutions.iter();
                let first = convolutions.next().map_or_else(|| x.to_vec(), |first| first.run(x));
                convolutions.fold(first, |x, convolution| convolution.run(&x))
            }
            Body::Recurrence(recurrence) => recurrence.run(x, kept),
            Body::Head(weights) => {
                let speech = logistic(rows(weights, x)[0]);
                if speech.is_nan() {
                    return Err("what came so far is no number".into());
                }
                vec![speech]
            }
        })
    }
}

impl ModelBlock for Block {
    fn name(&self) -> &str {
        &self.fixed.name
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        self.fixed.output(input)
    }

    fn cost(&self, _: &TensorSpec) -> BlockCost {
        self.fixed.cost
    }

    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact, WireForm::F16]
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        self.follow(input, &mut BlockMemory::default()).map(Flow::into_activation)
    }

    fn follow(&self, input: Activation, memory: &mut BlockMemory) -> Result<Flow, ModelError> {
        let gives = self.output(&input.spec)?;
        let mut kept = self.recall(memory)?;
        let seen = memory.seen.checked_add(1).ok_or_else(|| {
            let problem = format!("{} chunks are more than are ever heard", memory.seen);
            ModelError::Memory { block: self.fixed.name.clone(), problem }
        })?;
        let out = tensor::with_floats(&input, |x| self.run(x, &mut kept)).map_err(self.fixed.failed())?;
        let out = out.map_err(self.fixed.failed())?;
        let out = Tensor::from_vec(out, &gives.shape[..], &Device::Cpu).map_err(self.fixed.failed())?;
        memory.bytes.clear();
        memory.bytes.extend(kept.iter().flat_map(|v| v.to_le_bytes()));
        memory.seen = seen;
        Ok(Flow::Continue(tensor::activation(gives, out)))
    }
}

/// Rows without gaps times the weights.
fn rows(weights: &Pointwise, x: &[f32]) -> Vec<f32> {
    let count = x.len() / weights.cin();
    let mut out = vec![0.0; count * weights.cout()];
    weights.run(x, Rows { width: count, starts: &[0] }, Finish::Linear, &mut out);
    out
}

/// What is no number stays none, where `max` would make it 0.
fn rectified(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

fn logistic(x: f32) -> f32 {
    (1.0 + (-x).exp()).recip()
}

/// The short-time Fourier transform.
#[derive(Debug)]
pub(super) struct Spectrum {
    /// Real parts of all frequencies, then the imaginary ones.
    waves: Pointwise,
}

impl Spectrum {
    pub(super) const fn new(waves: Pointwise) -> Self {
        Self { waves }
    }

    /// The magnitudes of a chunk behind its `context`, `[FRAMES][BINS]`.
    fn run(&self, chunk: &[f32], context: &mut [f32]) -> Vec<f32> {
        let mut sound = Vec::with_capacity(CONTEXT + CHUNK + CONTEXT);
        sound.extend_from_slice(context);
        sound.extend_from_slice(chunk);
        // Mirrored at the last sample, which is not doubled.
        sound.extend(chunk.iter().rev().skip(1).take(CONTEXT));
        context.copy_from_slice(&chunk[CHUNK - CONTEXT..]);
        let mut windows = Vec::with_capacity(FRAMES * WINDOW);
        (0..FRAMES).for_each(|frame| windows.extend_from_slice(&sound[frame * HOP..][..WINDOW]));
        let waves = rows(&self.waves, &windows);
        let magnitude = |(re, im): (&f32, &f32)| (re * re + im * im).sqrt();
        waves.chunks_exact(2 * BINS).flat_map(|wave| wave[..BINS].iter().zip(&wave[BINS..]).map(magnitude)).collect()
    }
}

/// A convolution of three taps over time, one frame of zeros on either side, and a rectifier.
#[derive(Debug)]
pub(super) struct Convolution {
    weights: Pointwise,
    stride: usize,
}

impl Convolution {
    pub(super) const fn new(weights: Pointwise, stride: usize) -> Self {
        Self { weights, stride }
    }

    pub(super) fn weights(&self) -> usize {
        self.weights.cin() * self.weights.cout()
    }

    /// `x` is `[frames][channels]`, and so is what it gives.
    fn run(&self, x: &[f32]) -> Vec<f32> {
        let channels = self.weights.cin() / 3;
        let mut padded = vec![0.0; x.len() + 2 * channels];
        padded[channels..channels + x.len()].copy_from_slice(x);
        let frames = x.len() / channels;
        let windows = (0..frames).step_by(self.stride).flat_map(|frame| &padded[frame * channels..][..3 * channels]);
        let mut out = rows(&self.weights, &windows.copied().collect::<Vec<f32>>());
        out.iter_mut().for_each(|v| *v = rectified(*v));
        out
    }
}

/// A long short-term memory of one layer.
#[derive(Debug)]
pub(super) struct Recurrence {
    /// From the input and the last output to the gates, in torch's order: in, forget, cell, out.
    gates: Pointwise,
}

impl Recurrence {
    pub(super) const fn new(gates: Pointwise) -> Self {
        Self { gates }
    }

    /// Gives the rectified output; `kept` is the output and the cell.
    fn run(&self, x: &[f32], kept: &mut [f32]) -> Vec<f32> {
        let (output, cell) = kept.split_at_mut(HIDDEN);
        let gates = rows(&self.gates, &[x, output].concat());
        for i in 0..HIDDEN {
            let [input, forget, new, out] = [0, 1, 2, 3].map(|gate| gates[gate * HIDDEN + i]);
            cell[i] = logistic(forget) * cell[i] + logistic(input) * new.tanh();
            output[i] = logistic(out) * cell[i].tanh();
        }
        output.iter().map(|v| rectified(*v)).collect()
    }
}
