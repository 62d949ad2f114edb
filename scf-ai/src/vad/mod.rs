//! Silero VAD: is somebody speaking? 32 ms of sound at a time, as 4 blocks, two of which keep something between chunks.
//!
//! The network (Silero Team, "Silero VAD", version 6, MIT) is a short-time Fourier transform as a convolution, four
//! convolutions over its magnitudes, one long short-term memory (Hochreiter and Schmidhuber, Neural Computation 9(8),
//! 1997) and a logistic unit.

mod block;
mod detector;
mod segment;

use std::sync::Arc;

use scf_core::{BlockGraph, ModelBlock, ModelError, ModelName, TensorSpec};

use self::block::{Block, Body, Convolution, Recurrence, Spectrum};
pub use self::{
    detector::{Heard, SpeechDetector},
    segment::SpeechLimits,
};
use crate::{
    fixed::Fixed,
    kernel::{Isa, Pointwise},
    weights::WeightFile,
};

/// Samples of a chunk, at 16 kHz.
const CHUNK: usize = 512;
/// Samples that are seen again with the next chunk.
const CONTEXT: usize = 64;
/// Samples of a window of the transform, and from one to the next.
const WINDOW: usize = 256;
const HOP: usize = 128;
/// Windows of a chunk and its context, mirrored by half a hop at its end.
const FRAMES: usize = (CONTEXT + CHUNK + CONTEXT - WINDOW) / HOP + 1;
/// Frequencies of a window.
const BINS: usize = WINDOW / 2 + 1;
/// Width of the recurrence.
const HIDDEN: usize = 128;

/// How Silero VAD is loaded.
///
/// The blocks are `spectrum`, `encoder`, `recurrence` and `head`. The graph takes one chunk, `f32` `[1, 512]`: 32 ms of
/// one channel at 16 kHz, -1 to 1; and gives `f32` `[1, 1]`, the probability that it has speech. With
/// [`BlockGraph::follow`] `spectrum` keeps the chunk's last 64 samples, and `recurrence` what it has made of all so far:
/// 1,280 bytes however long the sound is. [`SpeechDetector`] does that, and stores it with a session's state. Chunks come
/// from outside, so that no block asks with [`Flow::Stream`](scf_core::Flow::Stream) for what it gave itself.
///
/// Behind `encoder`, 512 bytes travel instead of 2,048, and no sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it has no settings")]
pub struct SileroVad;

impl SileroVad {
    /// Samples of a chunk.
    pub const CHUNK: usize = CHUNK;
    /// Samples per second.
    pub const RATE: u32 = 16_000;

    /// Loads the weights from the bytes of the safetensors file that the network's authors publish for 16 kHz; on the
    /// CPU, one thread per inference.
    ///
    /// # Errors
    /// [`ModelError::Weight`] naming the weight that is missing or has another shape.
    pub fn load(weights: &[u8]) -> Result<BlockGraph, ModelError> {
        Self::with(&WeightFile::open(weights)?, Isa::detect())
    }

    fn with(file: &WeightFile<'_>, isa: Isa) -> Result<BlockGraph, ModelError> {
        let spectrum = Spectrum::new(product(file, isa, "stft_conv", (1, 2 * BINS, WINDOW), Bias::None)?);
        let convolution = |i: usize, from, to, stride| -> Result<Convolution, ModelError> {
            let product = product(file, isa, &format!("conv{i}"), (from, to, 3), Bias::Own)?;
            Ok(Convolution::new(product, stride))
        };
        let encoder = vec![
            convolution(1, BINS, 128, 1)?,
            convolution(2, 128, 64, 2)?,
            convolution(3, 64, 64, 2)?,
            convolution(4, 64, HIDDEN, 1)?,
        ];
        let head = product(file, isa, "final_conv", (HIDDEN, 1, 1), Bias::Own)?;
        let sums =
            [FRAMES * 2 * BINS * WINDOW, encoder.iter().map(Convolution::weights).sum(), 8 * HIDDEN * HIDDEN, HIDDEN];
        let weights = [2 * BINS * WINDOW, sums[1], sums[2], HIDDEN];
        let shapes: [&[usize]; 5] = [&[1, CHUNK], &[1, FRAMES, BINS], &[1, HIDDEN], &[1, HIDDEN], &[1, 1]];
        let specs = shapes.map(|shape| TensorSpec::new(scf_core::DType::F32, shape));
        let bodies = [
            ("spectrum", Body::Spectrum(spectrum)),
            ("encoder", Body::Encoder(encoder)),
            ("recurrence", Body::Recurrence(recurrence(file, isa)?)),
            ("head", Body::Head(head)),
        ];
        let blocks = bodies.into_iter().enumerate().map(|(i, (name, body))| -> Arc<dyn ModelBlock> {
            let fixed = Fixed::new(name.into(), specs[i].clone(), specs[i + 1].clone(), sums[i], weights[i]);
            Arc::new(Block::new(fixed, body))
        });
        BlockGraph::chain(ModelName::new("silero-vad").expect("a valid name"), specs[0].clone(), blocks.collect())
    }
}

/// Whether a convolution adds something.
#[derive(Clone, Copy, PartialEq)]
enum Bias {
    None,
    Own,
}

/// A one-dimensional convolution of torch, `[to][from][taps]`, as a product with windows `[taps][from]`.
fn product(
    file: &WeightFile<'_>,
    isa: Isa,
    name: &str,
    (from, to, taps): (usize, usize, usize),
    bias: Bias,
) -> Result<Pointwise, ModelError> {
    let w = file.get(&format!("{name}.weight"), &[to, from, taps])?;
    let bias = if bias == Bias::Own { file.get(&format!("{name}.bias"), &[to])? } else { vec![0.0; to] };
    let mut turned = Vec::with_capacity(w.len());
    for tap in 0..taps {
        for channel in 0..from {
            turned.extend((0..to).map(|out| w[(out * from + channel) * taps + tap]));
        }
    }
    Ok(Pointwise::new(isa, taps * from, to, &turned, &bias))
}

/// Both matrices of the gates below each other, since their products are added up.
fn recurrence(file: &WeightFile<'_>, isa: Isa) -> Result<Recurrence, ModelError> {
    let get = |name: &str, shape: &[usize]| file.get(&format!("lstm_cell.{name}"), shape);
    let gates = 4 * HIDDEN;
    let (input, own) = (get("weight_ih", &[gates, HIDDEN])?, get("weight_hh", &[gates, HIDDEN])?);
    let column = |w: &[f32], i: usize| w.iter().skip(i).step_by(HIDDEN).copied().collect::<Vec<f32>>();
    let turned: Vec<f32> = [&input, &own].into_iter().flat_map(|w| (0..HIDDEN).flat_map(|i| column(w, i))).collect();
    let bias = get("bias_ih", &[gates])?.into_iter().zip(get("bias_hh", &[gates])?).map(|(a, b)| a + b);
    Ok(Recurrence::new(Pointwise::new(isa, 2 * HIDDEN, gates, &turned, &bias.collect::<Vec<f32>>())))
}

#[cfg(test)]
mod tests;
