//! Depthwise convolution with ReLU6, one output row at a time.

use super::{BASELINE_FMA, Isa, fma};

/// Pixels of the output that are summed at once; 7 divides every row width of a network for 224 pixels.
const PIXELS: usize = 7;
/// Channels that are summed at once.
const CHANNELS: usize = 16;

/// Weights of a depthwise convolution, `[kernel * kernel][channels]`.
#[derive(Debug)]
pub(crate) struct Depthwise {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) channels: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    isa: Isa,
}

/// One row of the input under the kernel, with as many pixels of padding as the kernel needs at both ends.
pub(super) type Line<'a> = (usize, &'a [f32]);

impl Depthwise {
    pub(crate) fn new(isa: Isa, kernel: usize, stride: usize, weights: &[f32], bias: &[f32]) -> Self {
        let channels = bias.len();
        assert_eq!(weights.len(), kernel * kernel * channels, "weights of {kernel}x{kernel}x{channels}");
        Self { kernel, stride, channels, weights: weights.to_vec(), bias: bias.to_vec(), isa }
    }

    /// Writes one output row of `out.len() / channels` pixels. `lines` are the rows of the input that the
    /// kernel covers, each with its row in the kernel; rows outside the input are left out.
    pub(super) fn row(&self, lines: &[Line<'_>], out: &mut [f32]) {
        match self.isa {
            // SAFETY: made for this set only after `Isa::detect` found it.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "target features are detected at run time")]
            Isa::Avx512 => unsafe { avx512(self, lines, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "target features are detected at run time")]
            Isa::Avx2 => unsafe { avx2(self, lines, out) },
            _ => shaped::<BASELINE_FMA>(self, lines, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
fn avx512(op: &Depthwise, lines: &[Line<'_>], out: &mut [f32]) {
    shaped::<true>(op, lines, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(op: &Depthwise, lines: &[Line<'_>], out: &mut [f32]) {
    shaped::<true>(op, lines, out);
}

#[inline(always)]
fn shaped<const FMA: bool>(op: &Depthwise, lines: &[Line<'_>], out: &mut [f32]) {
    match (op.kernel, op.stride) {
        (3, 1) => row::<3, 1, FMA>(op, lines, out),
        (3, 2) => row::<3, 2, FMA>(op, lines, out),
        (5, 1) => row::<5, 1, FMA>(op, lines, out),
        (5, 2) => row::<5, 2, FMA>(op, lines, out),
        _ => scalar(op, lines, out),
    }
}

#[inline(always)]
fn row<const K: usize, const S: usize, const FMA: bool>(op: &Depthwise, lines: &[Line<'_>], out: &mut [f32]) {
    let c = op.channels;
    let width = out.len() / c;
    let vectored = c - c % CHANNELS;
    for first in (0..vectored).step_by(CHANNELS) {
        let mut pixel = 0;
        while pixel + PIXELS <= width {
            tile::<K, S, PIXELS, FMA>(op, lines, first, pixel, out);
            pixel += PIXELS;
        }
        while pixel < width {
            tile::<K, S, 1, FMA>(op, lines, first, pixel, out);
            pixel += 1;
        }
    }
    if vectored < c {
        channels(op, lines, vectored, out);
    }
}

#[inline(always)]
fn tile<const K: usize, const S: usize, const P: usize, const FMA: bool>(
    op: &Depthwise,
    lines: &[Line<'_>],
    first: usize,
    pixel: usize,
    out: &mut [f32],
) {
    let c = op.channels;
    let mut sums = [[0.0f32; CHANNELS]; P];
    for sum in &mut sums {
        sum.copy_from_slice(&op.bias[first..first + CHANNELS]);
    }
    for &(ky, line) in lines {
        let line = &line[pixel * S * c + first..][..((P - 1) * S + K - 1) * c + CHANNELS];
        let weights = &op.weights[ky * K * c + first..][..(K - 1) * c + CHANNELS];
        for kx in 0..K {
            let w = &weights[kx * c..][..CHANNELS];
            for (p, sum) in sums.iter_mut().enumerate() {
                let x = &line[(p * S + kx) * c..][..CHANNELS];
                for j in 0..CHANNELS {
                    sum[j] = fma::<FMA>(x[j], w[j], sum[j]);
                }
            }
        }
    }
    for (p, sum) in sums.iter_mut().enumerate() {
        sum.iter_mut().for_each(|v| *v = v.clamp(0.0, 6.0));
        out[(pixel + p) * c + first..][..CHANNELS].copy_from_slice(sum);
    }
}

/// Kernels and strides that no tile is made for.
fn scalar(op: &Depthwise, lines: &[Line<'_>], out: &mut [f32]) {
    channels(op, lines, 0, out);
}

/// The channels from `first` on, one by one.
fn channels(op: &Depthwise, lines: &[Line<'_>], first: usize, out: &mut [f32]) {
    let c = op.channels;
    for (pixel, out) in out.chunks_exact_mut(c).enumerate() {
        for channel in first..c {
            let mut sum = op.bias[channel];
            for &(ky, line) in lines {
                for kx in 0..op.kernel {
                    let x = line[(pixel * op.stride + kx) * c + channel];
                    sum += x * op.weights[(ky * op.kernel + kx) * c + channel];
                }
            }
            out[channel] = sum.clamp(0.0, 6.0);
        }
    }
}
