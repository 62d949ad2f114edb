//! The blocks out of candle's operations: what runs on a GPU, and what the fused kernels are held against.

use candle_core::{Device, Result, Tensor};

use super::Skip;
use crate::kernel::{MbConvShape, same};

type Layer = (Vec<f32>, Vec<f32>);

/// A block out of candle's operations, channels last.
#[derive(Debug)]
pub(super) enum Composed {
    Stem {
        kernel: usize,
        stride: usize,
        w: Tensor,
        b: Tensor,
    },
    MbConv {
        shape: MbConvShape,
        /// Whether the input is added to the output.
        adds: bool,
        expand: Option<(Tensor, Tensor)>,
        depthwise: (Tensor, Tensor),
        project: (Tensor, Tensor),
    },
    Head {
        conv: (Tensor, Tensor),
        classes: (Tensor, Tensor),
    },
}

fn matrix(device: &Device, (w, b): Layer) -> Result<(Tensor, Tensor)> {
    let columns = b.len();
    let rows = w.len() / columns;
    Ok((Tensor::from_vec(w, (rows, columns), device)?, Tensor::from_vec(b, columns, device)?))
}

pub(super) fn stem(
    device: &Device,
    (kernel, stride): (usize, usize),
    cin: usize,
    w: Vec<f32>,
    b: Vec<f32>,
) -> Result<Composed> {
    let (w, b) = matrix(device, (w, b))?;
    // Rows (ky, kx, channel) become the [out, channel, ky, kx] of candle's convolution.
    let w = w.reshape((kernel, kernel, cin, ()))?.permute((3, 2, 0, 1))?.contiguous()?;
    Ok(Composed::Stem { kernel, stride, w, b })
}

pub(super) fn mbconv(
    device: &Device,
    shape: MbConvShape,
    skip: Skip,
    expand: Option<Layer>,
    depthwise: Layer,
    project: Layer,
) -> Result<Composed> {
    let expand = expand.map(|layer| matrix(device, layer)).transpose()?;
    let (depthwise, project) = (matrix(device, depthwise)?, matrix(device, project)?);
    let adds = skip == Skip::Inside && shape.residual();
    Ok(Composed::MbConv { shape, adds, expand, depthwise, project })
}

pub(super) fn head(device: &Device, conv: Layer, classes: Layer) -> Result<Composed> {
    Ok(Composed::Head { conv: matrix(device, conv)?, classes: matrix(device, classes)? })
}

impl Composed {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Stem { kernel, stride, w, b } => {
                let x = padded(x, *kernel, *stride)?.permute((0, 3, 1, 2))?.contiguous()?;
                let y = x.conv2d(w, 0, *stride, 1, 1)?.permute((0, 2, 3, 1))?.contiguous()?;
                y.broadcast_add(b)?.clamp(0f32, 6f32)
            }
            Self::MbConv { shape, adds, expand, depthwise, project } => {
                let wide = match expand {
                    Some(layer) => pointwise(x, layer)?.clamp(0f32, 6f32)?,
                    None => x.clone(),
                };
                let y = pointwise(&depthwise_sum(&wide, shape, depthwise)?.clamp(0f32, 6f32)?, project)?;
                if *adds { y + x } else { Ok(y) }
            }
            Self::Head { conv, classes } => {
                let features = pointwise(x, conv)?.clamp(0f32, 6f32)?.mean((1, 2))?;
                features.matmul(&classes.0)?.broadcast_add(&classes.1)
            }
        }
    }
}

fn pointwise(x: &Tensor, (w, b): &(Tensor, Tensor)) -> Result<Tensor> {
    let (n, h, width, c) = x.dims4()?;
    x.reshape((n * h * width, c))?.matmul(w)?.broadcast_add(b)?.reshape((n, h, width, ()))
}

/// Zeros around the picture as a "SAME" convolution wants them, height and width rounded up to the stride.
fn padded(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    let mut x = x.clone();
    for dim in [1, 2] {
        let size = x.dim(dim)?;
        let (before, output) = same(size, kernel, stride);
        let needed = ((output - 1) * stride + kernel).max(size + before);
        x = x.pad_with_zeros(dim, before, needed - before - size)?;
    }
    Ok(x)
}

/// The sum over the taps of the kernel, each a shifted picture times one weight per channel: candle convolves
/// groups one by one, which here would be a launch per channel.
fn depthwise_sum(x: &Tensor, shape: &MbConvShape, (w, b): &(Tensor, Tensor)) -> Result<Tensor> {
    let (k, s) = (shape.kernel, shape.stride);
    let (height, width) = shape.output();
    let mut x = padded(x, k, s)?;
    // A multiple of the stride lets a strided picture be a slice.
    for dim in [1, 2] {
        let size = x.dim(dim)?;
        x = x.pad_with_zeros(dim, 0, (size + s - 1).next_multiple_of(s) - size)?;
    }
    let (n, h, wide, c) = x.dims4()?;
    let strided = x.reshape((n * h / s, s, wide / s, s * c))?;
    let mut sum = b.reshape((1, 1, c))?.broadcast_as((height, width, c))?.contiguous()?;
    for tap in 0..k * k {
        let (ky, kx) = (tap / k, tap % k);
        let part = strided.narrow(0, ky / s, height)?.narrow(1, ky % s, 1)?.narrow(2, kx / s, width)?;
        let part = part.narrow(3, (kx % s) * c, c)?.squeeze(1)?;
        sum = (sum + part.broadcast_mul(&w.narrow(0, tap, 1)?.reshape((1, 1, c))?)?)?;
    }
    sum.unsqueeze(0)
}
