//! The gate of a transformer's second half (Shazeer, "GLU Variants Improve Transformer", 2020, section 2).

use super::{
    Isa,
    vector::{Plain, Vector},
};

/// Makes each of `gate` `gate / (1 + e^-gate) * up`.
///
/// # Panics
/// When the lengths differ or are no multiple of 16.
pub(crate) fn swiglu(isa: Isa, gate: &mut [f32], up: &[f32]) {
    assert!(gate.len() == up.len() && gate.len().is_multiple_of(16), "gates of {} and {}", gate.len(), up.len());
    // SAFETY: the lengths are checked above; an instruction set is named only after `Isa::detect` found it.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512(gate, up),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2(gate, up),
            _ => each::<Plain>(gate, up),
        }
    }
}

/// # Safety
/// As [`each`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn avx512(gate: &mut [f32], up: &[f32]) {
    // SAFETY: the caller's promise.
    unsafe { each::<std::arch::x86_64::__m512>(gate, up) }
}

/// # Safety
/// As [`each`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(gate: &mut [f32], up: &[f32]) {
    // SAFETY: the caller's promise.
    unsafe { each::<std::arch::x86_64::__m256>(gate, up) }
}

/// # Safety
/// Both have the same length, a multiple of the registers, which are there.
#[inline(always)]
unsafe fn each<V: Vector>(gate: &mut [f32], up: &[f32]) {
    // SAFETY: steps are whole registers within both.
    unsafe {
        let one = V::splat(1.0);
        for at in (0..gate.len()).step_by(V::LANES) {
            let x = V::load(gate.as_ptr().add(at));
            let silu = x.div(one.add(V::splat(0.0).sub(x).exp()));
            silu.mul(V::load(up.as_ptr().add(at))).store(gate.as_mut_ptr().add(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reference, *};

    #[test]
    fn agrees_with_the_definition_for_every_instruction_set() {
        let mut random = reference::Random::new(37);
        for isa in Isa::available() {
            let mut gate: Vec<f32> = random.floats(64).iter().map(|v| v * 20.0).collect();
            let up = random.floats(64);
            let expected: Vec<f32> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            swiglu(isa, &mut gate, &up);
            reference::assert_close(&gate, &expected, 1e-6);
        }
    }
}
