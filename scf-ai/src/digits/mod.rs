//! The digits CNN: handwritten digits of 8x8 pixels, small enough to be trained where its data is.

mod block;
mod images;

use std::sync::Arc;

use candle_core::{Result, Tensor};
use scf_core::{BlockGraph, DType, ModelBlock, ModelError, ModelName, TensorSpec};

use self::block::{DigitsBlock, Layer};
pub use self::images::{DigitImages, DigitsError};
use crate::{
    device::Device,
    lifecycle::{Network, Variables},
    weights::WeightFile,
};

/// Pixels along a side.
pub(crate) const SIDE: usize = 8;
/// Digits.
const CLASSES: usize = 10;
/// Channels behind the first and the second convolution.
const CHANNELS: [usize; 2] = [16, 32];
/// What is left of a picture after both have halved its sides.
const FLAT: usize = CHANNELS[1] * (SIDE / 4) * (SIDE / 4);
/// Features before the classes.
const FEATURES: usize = 64;

/// A convolutional network for digits of 8x8 pixels, after LeNet-5 (LeCun et al., "Gradient-Based Learning Applied to
/// Document Recognition", Proc. IEEE 86(11), 1998, section II.B): two 3x3 convolutions with rectifiers, each followed by
/// a 2x2 maximum, and two dense layers. 13 706 weights.
///
/// As a [`Network`] it is trained; [`DigitsCnn::load`] makes a graph of its weights that is run like any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it has no settings")]
pub struct DigitsCnn;

impl DigitsCnn {
    /// The weights by name and shape; rows of dense layers are inputs.
    const SHAPES: [(&str, &[usize]); 8] = [
        ("conv1.w", &[CHANNELS[0], 1, 3, 3]),
        ("conv1.b", &[CHANNELS[0]]),
        ("conv2.w", &[CHANNELS[1], CHANNELS[0], 3, 3]),
        ("conv2.b", &[CHANNELS[1]]),
        ("features.w", &[FLAT, FEATURES]),
        ("features.b", &[FEATURES]),
        ("classes.w", &[FEATURES, CLASSES]),
        ("classes.b", &[CLASSES]),
    ];

    /// Loads the network `model` from the bytes of a safetensors file onto `device`, as the blocks `conv1`, `conv2`,
    /// `features` and `classes`. The graph takes one picture, `f32` `[1, 1, 8, 8]` of 0 to 1, and gives the logits of the
    /// ten digits.
    ///
    /// # Errors
    /// [`ModelError::Weight`] naming the weight that is missing or has another shape, [`ModelError::Device`] when the
    /// device is not there.
    pub fn load(model: ModelName, weights: &[u8], device: Device) -> std::result::Result<BlockGraph, ModelError> {
        let (file, device) = (WeightFile::open(weights)?, device.open()?);
        let mut blocks: Vec<Arc<dyn ModelBlock>> = Vec::new();
        for (layer, pair) in Layer::ALL.into_iter().zip(Self::SHAPES.chunks_exact(2)) {
            blocks.push(Arc::new(DigitsBlock::load(layer, pair, &file, &device)?));
        }
        BlockGraph::chain(model, TensorSpec::new(DType::F32, &[1, 1, SIDE, SIDE]), blocks)
    }
}

impl Network for DigitsCnn {
    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        Self::SHAPES.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
    }

    fn logits(&self, weights: &Variables, inputs: &Tensor) -> Result<Tensor> {
        Layer::ALL.into_iter().zip(Self::SHAPES.chunks_exact(2)).try_fold(inputs.clone(), |x, (layer, pair)| {
            layer.forward(&x, weights.of(pair[0].0)?, weights.of(pair[1].0)?)
        })
    }
}

#[cfg(test)]
mod tests;
