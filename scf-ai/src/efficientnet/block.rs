//! One block of the network as the fabric sees it.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape};
use scf_core::{Activation, BlockCost, ModelBlock, ModelError, TensorSpec, WireForm};

use super::composed::Composed;
use crate::{
    fixed::Fixed,
    kernel::{Finish, MbConv, Pointwise, Rows, Stem},
    tensor,
};

/// How a block computes.
#[derive(Debug)]
pub(super) enum Body {
    /// Fused on the CPU.
    Stem(Stem),
    /// Fused on the CPU.
    MbConv(MbConv),
    /// Convolution, mean over the picture and classes, on the CPU.
    Head { conv: Pointwise, classes: Pointwise },
    /// Out of candle's operations, on any device.
    Composed(Composed),
}

/// A block with fixed sizes.
#[derive(Debug)]
pub(super) struct Block {
    fixed: Fixed,
    device: candle_core::Device,
    body: Body,
}

impl Block {
    pub(super) const fn new(fixed: Fixed, device: candle_core::Device, body: Body) -> Self {
        Self { fixed, device, body }
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
        &[WireForm::Exact, WireForm::Int8]
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        let gives = self.output(&input.spec)?;
        let x = tensor::tensor(&input, &self.device).map_err(self.fixed.failed())?;
        let y = match &self.body {
            Body::Composed(composed) => composed.forward(&x),
            fused => x.contiguous().and_then(|x| x.apply_op1_no_bwd(&Fused { body: fused, gives: &gives })),
        };
        Ok(tensor::activation(gives, y.map_err(self.fixed.failed())?))
    }
}

/// A fused body as one operation of candle.
struct Fused<'a> {
    body: &'a Body,
    gives: &'a TensorSpec,
}

impl CustomOp1 for Fused<'_> {
    fn name(&self) -> &'static str {
        "scf-fused-block"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let all = storage.as_slice::<f32>()?;
        let (from, to) =
            layout.contiguous_offsets().ok_or(candle_core::Error::RequiresContiguous { op: "scf-fused-block" })?;
        let x = &all[from..to];
        let y = match self.body {
            Body::Stem(stem) => stem.run(x),
            Body::MbConv(mbconv) => mbconv.run(x),
            Body::Head { conv, classes } => head(conv, classes, x),
            Body::Composed(_) => return Err(candle_core::Error::Msg("a composed block is no fused operation".into())),
        };
        Ok((CpuStorage::F32(y), Shape::from(&self.gives.shape[..])))
    }
}

fn head(conv: &Pointwise, classes: &Pointwise, x: &[f32]) -> Vec<f32> {
    let pixels = x.len() / conv.cin();
    let mut wide = vec![0.0; pixels * conv.cout()];
    conv.run(x, Rows { width: pixels, starts: &[0] }, Finish::Relu6, &mut wide);
    let mut mean = vec![0.0; conv.cout()];
    for pixel in wide.chunks_exact(conv.cout()) {
        mean.iter_mut().zip(pixel).for_each(|(m, v)| *m += v);
    }
    mean.iter_mut().for_each(|m| *m /= pixels as f32);
    let mut logits = vec![0.0; classes.cout()];
    classes.run(&mean, Rows { width: 1, starts: &[0] }, Finish::Linear, &mut logits);
    logits
}
