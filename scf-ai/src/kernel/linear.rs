//! Dense layers with weights in eight bits, one scale per output.

use scf_core::Bytes;

use super::{
    Finish, Format, Isa, Quantised,
    vector::{Plain, Vector},
};

/// Largest step of a weight to either side of zero.
const STEPS: f32 = 127.0;

/// A dense layer of weights in eight bits, symmetric and per channel (Krishnamoorthi, "Quantizing Deep Convolutional
/// Networks for Efficient Inference", 2018, section 3.1); activations stay 32-bit floats.
#[derive(Debug)]
pub(crate) struct Int8Linear {
    /// In blocks of ggml's `Q8_0`, all of a row with the row's scale: a sixteenth more than the bytes alone.
    weights: Quantised,
    bias: Vec<f32>,
    isa: Isa,
}

impl Int8Linear {
    /// Rounds `weights`, `[cin][cout]`, as many outputs as `bias` has.
    ///
    /// # Panics
    /// When inputs are no multiple of 32 or outputs none of 16.
    pub(crate) fn new(isa: Isa, weights: &[f32], bias: Vec<f32>) -> Self {
        let (cin, cout) = (weights.len() / bias.len(), bias.len());
        assert!(cout.is_multiple_of(16), "{cout} outputs are no whole registers");
        let mut bytes = Vec::with_capacity(cin * cout / Format::BLOCK * Format::Q8_0.size());
        for output in 0..cout {
            let row: Vec<f32> = weights.iter().skip(output).step_by(cout).copied().collect();
            let largest = row.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
            let scale = half::f16::from_f32(largest / STEPS);
            // A row of zeros, or of what half a float cannot tell from them.
            let per_step = if scale.to_f32() > 0.0 { scale.to_f32().recip() } else { 0.0 };
            for block in row.chunks_exact(Format::BLOCK) {
                bytes.extend(scale.to_le_bytes());
                bytes.extend(block.iter().map(|w| (w * per_step).round().clamp(-STEPS, STEPS) as i8 as u8));
            }
        }
        Self { weights: Quantised::new(isa, (cout, cin), Format::Q8_0, Bytes::from(bytes)), bias, isa }
    }

    /// Multiplies the rows of `x` into those of `out`, both without gaps.
    ///
    /// # Panics
    /// When `x` is no whole number of rows, or `out` or a residual are not of as many.
    pub(crate) fn run(&self, x: &[f32], finish: Finish<'_>, out: &mut [f32]) {
        self.weights.run(x, out);
        if let Finish::Add(residual) = finish {
            assert_eq!(residual.len(), out.len(), "the residual of the product");
        }
        // SAFETY: `new` checks that rows are whole registers and `Quantised::run` that `out` is rows, and the residual's
        // length is checked above; an instruction set is named only after `Isa::detect` found it.
        unsafe {
            match self.isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512(&self.bias, finish, out),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2(&self.bias, finish, out),
                _ => ended::<Plain>(&self.bias, finish, out),
            }
        }
    }
}

/// # Safety
/// As [`ended`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn avx512(bias: &[f32], finish: Finish<'_>, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { ended::<std::arch::x86_64::__m512>(bias, finish, out) }
}

/// # Safety
/// As [`ended`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(bias: &[f32], finish: Finish<'_>, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { ended::<std::arch::x86_64::__m256>(bias, finish, out) }
}

/// Adds the bias to each row and does what is left.
///
/// # Safety
/// `out` is rows as long as `bias`, which are whole registers; a residual is as long as `out`; the registers are there.
#[inline(always)]
unsafe fn ended<V: Vector>(bias: &[f32], finish: Finish<'_>, out: &mut [f32]) {
    let row = bias.len();
    for (i, out) in out.chunks_exact_mut(row).enumerate() {
        for at in (0..row).step_by(V::LANES) {
            // SAFETY: steps are whole registers within the bias, the row and the residual's row.
            unsafe {
                let sum = V::load(out.as_ptr().add(at)).add(V::load(bias.as_ptr().add(at)));
                let sum = match finish {
                    Finish::Linear => sum,
                    Finish::Relu6 => sum.relu6(),
                    Finish::Gelu => sum.gelu(),
                    Finish::Add(residual) => sum.add(V::load(residual.as_ptr().add(i * row + at))),
                };
                sum.store(out.as_mut_ptr().add(at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reference, *};

    #[test]
    fn is_off_by_half_a_step_of_each_outputs_own_scale_at_most() {
        let mut random = reference::Random::new(61);
        let (cin, cout, rows) = (64, 32, 11);
        // Outputs of very different size, and one of zeros.
        let weights: Vec<f32> =
            random.floats(cin * cout).iter().enumerate().map(|(i, w)| w * (i % cout) as f32 * 0.1).collect();
        let (bias, x, residual) = (random.floats(cout), random.floats(rows * cin), random.floats(rows * cout));
        for isa in Isa::available() {
            let op = Int8Linear::new(isa, &weights, bias.clone());
            for finish in [Finish::Linear, Finish::Relu6, Finish::Gelu, Finish::Add(&residual)] {
                let mut out = vec![f32::NAN; rows * cout];
                op.run(&x, finish, &mut out);
                for (i, given) in out.iter().enumerate() {
                    let (row, output) = (&x[i / cout * cin..][..cin], i % cout);
                    let column = || weights.iter().skip(output).step_by(cout);
                    let sum = row.iter().zip(column()).map(|(x, w)| x * w).sum::<f32>() + bias[output];
                    let expected = match finish {
                        Finish::Linear => sum,
                        Finish::Relu6 => sum.clamp(0.0, 6.0),
                        Finish::Gelu => reference::gelu(sum),
                        Finish::Add(residual) => sum + residual[i],
                    };
                    let step = column().fold(0.0f32, |largest, w| largest.max(w.abs())) / STEPS;
                    // Steps are rounded to half floats, too; no finish is steeper than 1.13.
                    let bound = 1e-5 + 0.6 * 1.13 * step * row.iter().map(|x| x.abs()).sum::<f32>();
                    assert!((given - expected).abs() <= bound, "{isa:?} {finish:?}: {given} instead of {expected}");
                }
            }
        }
    }
}
