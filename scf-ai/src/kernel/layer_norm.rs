//! Layer normalisation (Ba, Kiros and Hinton, "Layer Normalization", 2016, section 3), row by row in place.

use super::{
    Isa,
    vector::{Plain, Vector},
};

/// Gain and bias of one normalisation; the length of both is that of a row, a multiple of 16.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    gain: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
    isa: Isa,
}

impl LayerNorm {
    /// # Panics
    /// When the row is no multiple of 16 or `bias` is longer or shorter than `gain`.
    pub(crate) fn new(isa: Isa, gain: Vec<f32>, bias: Vec<f32>, epsilon: f32) -> Self {
        assert!(gain.len() == bias.len() && gain.len().is_multiple_of(16), "a row of {}", gain.len());
        Self { gain, bias, epsilon, isa }
    }

    /// Normalises each row of `rows`.
    pub(crate) fn run(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.gain.len()) {
            // SAFETY: a row is a multiple of 16 and so of every register; an instruction set is named only after
            // `Isa::detect` found it.
            unsafe {
                match self.isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => avx512(self, row),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => avx2(self, row),
                    _ => normalise::<Plain>(self, row),
                }
            }
        }
    }
}

/// # Safety
/// As [`normalise`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn avx512(op: &LayerNorm, row: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { normalise::<std::arch::x86_64::__m512>(op, row) }
}

/// # Safety
/// As [`normalise`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(op: &LayerNorm, row: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { normalise::<std::arch::x86_64::__m256>(op, row) }
}

/// # Safety
/// The row is as long as the gain, and the registers are there.
#[inline(always)]
unsafe fn normalise<V: Vector>(op: &LayerNorm, row: &mut [f32]) {
    let length = row.len() as f32;
    let steps = (0..row.len()).step_by(V::LANES);
    // SAFETY: steps are whole registers within the row, the gain and the bias.
    unsafe {
        let mut sum = V::splat(0.0);
        for at in steps.clone() {
            sum = sum.add(V::load(row.as_ptr().add(at)));
        }
        let mean = V::splat(sum.lanes()[..V::LANES].iter().sum::<f32>() / length);
        let mut squares = V::splat(0.0);
        for at in steps.clone() {
            let off = V::load(row.as_ptr().add(at)).sub(mean);
            squares = off.fma(off, squares);
        }
        let variance = squares.lanes()[..V::LANES].iter().sum::<f32>() / length;
        let scale = V::splat((variance + op.epsilon).sqrt().recip());
        for at in steps {
            let unit = V::load(row.as_ptr().add(at)).sub(mean).mul(scale);
            unit.fma(V::load(op.gain.as_ptr().add(at)), V::load(op.bias.as_ptr().add(at)))
                .store(row.as_mut_ptr().add(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reference, *};

    #[test]
    fn agrees_with_the_definition_for_every_instruction_set() {
        let mut random = reference::Random::new(17);
        for isa in Isa::available() {
            for length in [16, 48, 384] {
                let (gain, bias, mut rows) = (random.floats(length), random.floats(length), random.floats(3 * length));
                let expected: Vec<f32> = rows
                    .chunks_exact(length)
                    .flat_map(|row| {
                        let mean = row.iter().sum::<f32>() / length as f32;
                        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / length as f32;
                        let scale = (variance + 1e-12).sqrt().recip();
                        let unit = row.iter().map(|v| (v - mean) * scale).collect::<Vec<_>>();
                        unit.into_iter().zip(&gain).zip(&bias).map(|((v, g), b)| v * g + b).collect::<Vec<_>>()
                    })
                    .collect();
                LayerNorm::new(isa, gain, bias, 1e-12).run(&mut rows);
                reference::assert_close(&rows, &expected, 1e-5);
            }
        }
    }
}
