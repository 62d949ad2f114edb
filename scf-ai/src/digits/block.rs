//! The layers of the digits CNN, and blocks made of them.

use candle_core::{Device, Result, Tensor};
use scf_core::{Activation, BlockCost, BoxError, DType, ModelBlock, ModelError, TensorSpec, WireForm};

use super::{CHANNELS, CLASSES, FEATURES, SIDE};
use crate::{
    fixed::{self, Fixed},
    tensor::{activation, tensor},
    weights::WeightFile,
};

/// A layer: what training and inference both run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Conv1,
    Conv2,
    Features,
    Classes,
}

impl Layer {
    pub(super) const ALL: [Self; 4] = [Self::Conv1, Self::Conv2, Self::Features, Self::Classes];

    const fn name(self) -> &'static str {
        match self {
            Self::Conv1 => "conv1",
            Self::Conv2 => "conv2",
            Self::Features => "features",
            Self::Classes => "classes",
        }
    }

    const fn is_convolution(self) -> bool {
        matches!(self, Self::Conv1 | Self::Conv2)
    }

    /// For any number of inputs.
    pub(super) fn forward(self, x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
        match self {
            Self::Conv1 | Self::Conv2 => {
                let bias = b.reshape((1, (), 1, 1))?;
                x.conv2d(w, 1, 1, 1, 1)?.broadcast_add(&bias)?.relu()?.max_pool2d(2)
            }
            Self::Features => x.flatten_from(1)?.matmul(w)?.broadcast_add(b)?.relu(),
            Self::Classes => x.matmul(w)?.broadcast_add(b),
        }
    }

    /// What it takes and gives for one input.
    const fn shapes(self) -> (&'static [usize], &'static [usize]) {
        const SHAPES: [&[usize]; 5] = [
            &[1, 1, SIDE, SIDE],
            &[1, CHANNELS[0], SIDE / 2, SIDE / 2],
            &[1, CHANNELS[1], SIDE / 4, SIDE / 4],
            &[1, FEATURES],
            &[1, CLASSES],
        ];
        let at = self as usize;
        (SHAPES[at], SHAPES[at + 1])
    }
}

/// A layer with its weights on a device.
#[derive(Debug)]
pub(super) struct DigitsBlock {
    layer: Layer,
    fixed: Fixed,
    device: Device,
    w: Tensor,
    b: Tensor,
}

impl DigitsBlock {
    /// With the weights that `shapes` names, the matrix first.
    pub(super) fn load(
        layer: Layer,
        shapes: &[(&str, &[usize])],
        file: &WeightFile<'_>,
        device: &Device,
    ) -> std::result::Result<Self, ModelError> {
        let placed = |(name, shape): (&str, &[usize])| {
            let values = file.get(name, shape)?;
            Tensor::from_vec(values, shape, device).map_err(fixed::failed(layer.name()))
        };
        let (w, b) = (placed(shapes[0])?, placed(shapes[1])?);
        let (takes, gives) = layer.shapes();
        let spec = |shape| TensorSpec::new(DType::F32, shape);
        let weights = w.elem_count() + b.elem_count();
        // A convolution's weights are used at every place of what it takes.
        let places = if layer.is_convolution() { takes[2] * takes[3] } else { 1 };
        let fixed = Fixed::new(layer.name().into(), spec(takes), spec(gives), places * w.elem_count(), weights);
        Ok(Self { layer, fixed, device: device.clone(), w, b })
    }

    fn run(&self, input: &Activation) -> std::result::Result<Tensor, BoxError> {
        let x = tensor(input, &self.device)?;
        Ok(self.layer.forward(&x, &self.w, &self.b)?)
    }
}

impl ModelBlock for DigitsBlock {
    fn name(&self) -> &str {
        &self.fixed.name
    }

    fn output(&self, input: &TensorSpec) -> std::result::Result<TensorSpec, ModelError> {
        self.fixed.output(input)
    }

    fn cost(&self, _: &TensorSpec) -> BlockCost {
        self.fixed.cost
    }

    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact, WireForm::Int8]
    }

    fn forward(&self, input: Activation) -> std::result::Result<Activation, ModelError> {
        let output = self.output(&input.spec)?;
        let result = self.run(&input).map_err(self.fixed.failed())?;
        Ok(activation(output, result))
    }
}
