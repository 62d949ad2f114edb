//! Depthwise convolution with ReLU6, one output row at a time.

use super::{
    Isa,
    vector::{Plain, Vector},
};

/// Pixels of the output that are summed at once; 7 divides every row width of a network for 224 pixels.
const PIXELS: usize = 7;

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
    ///
    /// # Panics
    /// When a line is shorter than the kernel reads or its row is not in the kernel.
    pub(super) fn row(&self, lines: &[Line<'_>], out: &mut [f32]) {
        let pixels = out.len() / self.channels;
        let read = ((pixels.saturating_sub(1)) * self.stride + self.kernel) * self.channels;
        assert!(lines.iter().all(|(ky, line)| *ky < self.kernel && line.len() >= read), "a line is short");
        // SAFETY: the lengths are checked above; an instruction set is named only after `Isa::detect` found it.
        unsafe {
            match self.isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512(self, lines, out),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2(self, lines, out),
                _ => shaped::<Plain>(self, lines, out),
            }
        }
    }
}

/// # Safety
/// As [`shaped`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn avx512(op: &Depthwise, lines: &[Line<'_>], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { shaped::<std::arch::x86_64::__m512>(op, lines, out) }
}

/// # Safety
/// As [`shaped`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(op: &Depthwise, lines: &[Line<'_>], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { shaped::<std::arch::x86_64::__m256>(op, lines, out) }
}

/// # Safety
/// The lengths are as [`Depthwise::row`] checks them, and the registers are there.
#[inline(always)]
unsafe fn shaped<V: Vector>(op: &Depthwise, lines: &[Line<'_>], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match (op.kernel, op.stride) {
            (3, 1) => row::<V, 3, 1>(op, lines, out),
            (3, 2) => row::<V, 3, 2>(op, lines, out),
            (5, 1) => row::<V, 5, 1>(op, lines, out),
            (5, 2) => row::<V, 5, 2>(op, lines, out),
            _ => channels(op, lines, 0, out),
        }
    }
}

/// # Safety
/// As [`shaped`].
#[inline(always)]
unsafe fn row<V: Vector, const K: usize, const S: usize>(op: &Depthwise, lines: &[Line<'_>], out: &mut [f32]) {
    let c = op.channels;
    let width = out.len() / c;
    let vectored = c - c % V::LANES;
    for first in (0..vectored).step_by(V::LANES) {
        let mut pixel = 0;
        // SAFETY: the caller's promise, and pixels and channels stay within the row.
        unsafe {
            while pixel + PIXELS <= width {
                tile::<V, K, S, PIXELS>(op, lines, first, pixel, out);
                pixel += PIXELS;
            }
            while pixel < width {
                tile::<V, K, S, 1>(op, lines, first, pixel, out);
                pixel += 1;
            }
        }
    }
    if vectored < c {
        channels(op, lines, vectored, out);
    }
}

/// # Safety
/// As [`shaped`]; `P` pixels from `pixel` on and a register of channels from `first` on exist.
#[inline(always)]
unsafe fn tile<V: Vector, const K: usize, const S: usize, const P: usize>(
    op: &Depthwise,
    lines: &[Line<'_>],
    first: usize,
    pixel: usize,
    out: &mut [f32],
) {
    let c = op.channels;
    // SAFETY: a pixel of the output reads `K` pixels of each line from its own times the stride on, all of
    // which the line has; weights have `K` rows of `K` times `c`.
    unsafe {
        let mut sums = [V::load(op.bias.as_ptr().add(first)); P];
        for &(ky, line) in lines {
            let line = line.as_ptr().add(pixel * S * c + first);
            let weights = op.weights.as_ptr().add(ky * K * c + first);
            for kx in 0..K {
                let w = V::load(weights.add(kx * c));
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = V::load(line.add((p * S + kx) * c)).fma(w, *sum);
                }
            }
        }
        for (p, sum) in sums.iter().enumerate() {
            sum.relu6().store(out.as_mut_ptr().add((pixel + p) * c + first));
        }
    }
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
