//! One encoder layer out of candle's operations: what runs on a GPU, and what the fused kernels are held against.

use candle_core::{D, Device, Result, Tensor};

use super::{EPSILON, HEADS, HIDDEN, Layer};

/// A layer out of candle's operations; each product and normalisation with its bias.
#[derive(Debug)]
pub(super) struct Composed {
    qkv: (Tensor, Tensor),
    mix: (Tensor, Tensor),
    up: (Tensor, Tensor),
    down: (Tensor, Tensor),
    norms: [(Tensor, Tensor); 2],
}

fn matrix(device: &Device, (w, b): (Vec<f32>, Vec<f32>)) -> Result<(Tensor, Tensor)> {
    let columns = b.len();
    let rows = w.len() / columns;
    Ok((Tensor::from_vec(w, (rows, columns), device)?, Tensor::from_vec(b, columns, device)?))
}

fn linear(x: &Tensor, (w, b): &(Tensor, Tensor)) -> Result<Tensor> {
    x.matmul(w)?.broadcast_add(b)
}

fn norm(x: &Tensor, (gain, bias): &(Tensor, Tensor)) -> Result<Tensor> {
    let off = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (off.sqr()?.mean_keepdim(D::Minus1)? + f64::from(EPSILON))?.sqrt()?;
    off.broadcast_div(&deviation)?.broadcast_mul(gain)?.broadcast_add(bias)
}

impl Composed {
    pub(super) fn new(device: &Device, layer: Layer) -> Result<Self> {
        let [first, second] = layer.norms;
        Ok(Self {
            qkv: matrix(device, layer.qkv)?,
            mix: matrix(device, layer.mix)?,
            up: matrix(device, layer.up)?,
            down: matrix(device, layer.down)?,
            norms: [matrix(device, first)?, matrix(device, second)?],
        })
    }

    /// `x` is `[tokens, HIDDEN]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let qkv = linear(x, &self.qkv)?.reshape((tokens, 3, HEADS, HIDDEN / HEADS))?;
        let part = |i: usize| qkv.narrow(1, i, 1)?.squeeze(1)?.transpose(0, 1)?.contiguous();
        let scores = part(0)?.matmul(&part(1)?.t()?.contiguous()?)?;
        let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let shares = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
        let heads = shares.matmul(&part(2)?)?.transpose(0, 1)?.contiguous()?.reshape((tokens, HIDDEN))?;
        let y = norm(&(linear(&heads, &self.mix)? + x)?, &self.norms[0])?;
        let wide = linear(&y, &self.up)?.gelu_erf()?;
        norm(&(linear(&wide, &self.down)? + y)?, &self.norms[1])
    }
}
