//! CPU kernels of convolutional blocks, channels last, and of transformer blocks.
//!
//! Each kernel has one body, generic over the registers it keeps its sums in; it is compiled three times, for
//! AVX-512, for AVX2 with FMA and for the target's baseline, and the best that the processor has is chosen once,
//! when weights are packed. This module has all unsafe code of the crate.
#![expect(unsafe_code, reason = "registers of run-time detected instruction sets; lengths are checked once per call")]

mod attention;
mod depthwise;
mod grouped_attention;
mod layer_norm;
mod linear;
mod mbconv;
mod pointwise;
mod quantised;
#[cfg(test)]
pub(crate) mod reference;
mod stem;
mod swiglu;
mod vector;

pub(crate) use attention::Attention;
pub(crate) use grouped_attention::GroupedAttention;
pub(crate) use layer_norm::LayerNorm;
pub(crate) use linear::Int8Linear;
pub(crate) use mbconv::{MbConv, MbConvShape};
pub(crate) use pointwise::{Finish, Pointwise, Rows};
pub(crate) use quantised::{Format, Quantised};
pub(crate) use stem::Stem;
pub(crate) use swiglu::swiglu;

use depthwise::Depthwise;

/// The instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// AVX-512 F and VL: 32 registers of 16 floats.
    Avx512,
    /// AVX2 and FMA: 16 registers of 8 floats.
    Avx2,
    /// What the target always has.
    Baseline,
}

impl Isa {
    /// The best that this processor has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if fma && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                return Self::Avx512;
            }
            if fma {
                return Self::Avx2;
            }
        }
        Self::Baseline
    }

    /// Every set that this processor has, for tests.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        match Self::detect() {
            Self::Avx512 => vec![Self::Avx512, Self::Avx2, Self::Baseline],
            Self::Avx2 => vec![Self::Avx2, Self::Baseline],
            Self::Baseline => vec![Self::Baseline],
        }
    }
}

/// Space before the first and output size of a "SAME" convolution as TensorFlow defines it: the output covers
/// the input, and of an odd padding the larger part comes last.
pub(crate) fn same(input: usize, kernel: usize, stride: usize) -> (usize, usize) {
    let output = input.div_ceil(stride);
    let total = ((output.saturating_sub(1)) * stride + kernel).saturating_sub(input);
    (total / 2, output)
}
