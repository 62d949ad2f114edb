//! Registers of floats.

/// A register of floats of one instruction set.
///
/// # Safety
/// Every method of it may be called only where the processor has the instruction set, from a function compiled
/// for it (otherwise it is correct but slow).
pub(super) trait Vector: Copy {
    /// Floats in it.
    const LANES: usize;

    /// Reads [`Vector::LANES`] floats at `at`, at any alignment.
    ///
    /// # Safety
    /// Those floats must be readable, and the instruction set there.
    unsafe fn load(at: *const f32) -> Self;

    /// Writes [`Vector::LANES`] floats to `at`, at any alignment.
    ///
    /// # Safety
    /// Those floats must be writable, and the instruction set there.
    unsafe fn store(self, at: *mut f32);

    /// `value` in every lane.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn splat(value: f32) -> Self;

    /// `self * b + c`.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn fma(self, b: Self, c: Self) -> Self;

    /// `self + b`.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn add(self, b: Self) -> Self;

    /// Each lane held between 0 and 6.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn relu6(self) -> Self;
}

/// What every target has: four lanes, which compilers map to its registers.
pub(super) type Plain = [f32; 4];

impl Vector for Plain {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: the caller's promise; arrays of floats have the alignment of a float.
        unsafe { at.cast::<Self>().read() }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: the caller's promise; arrays of floats have the alignment of a float.
        unsafe { at.cast::<Self>().write(self) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // Where there is no such instruction, `mul_add` is a call of the C library.
        const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        std::array::from_fn(|i| if FUSED { self[i].mul_add(b[i], c[i]) } else { self[i] * b[i] + c[i] })
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        std::array::from_fn(|i| self[i] + b[i])
    }

    #[inline(always)]
    unsafe fn relu6(self) -> Self {
        self.map(|v| v.clamp(0.0, 6.0))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    macro_rules! vector {
        ($type:ty, $lanes:literal, $load:ident, $store:ident, $splat:ident, $fma:ident, $add:ident, $max:ident,
         $min:ident) => {
            // SAFETY: the callers promise, for each call, that the instruction set is there and the memory theirs.
            impl Vector for $type {
                const LANES: usize = $lanes;

                #[inline(always)]
                unsafe fn load(at: *const f32) -> Self {
                    unsafe { $load(at) }
                }

                #[inline(always)]
                unsafe fn store(self, at: *mut f32) {
                    unsafe { $store(at, self) }
                }

                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    unsafe { $splat(value) }
                }

                #[inline(always)]
                unsafe fn fma(self, b: Self, c: Self) -> Self {
                    unsafe { $fma(self, b, c) }
                }

                #[inline(always)]
                unsafe fn add(self, b: Self) -> Self {
                    unsafe { $add(self, b) }
                }

                #[inline(always)]
                unsafe fn relu6(self) -> Self {
                    unsafe { $min($max(self, $splat(0.0)), $splat(6.0)) }
                }
            }
        };
    }

    vector!(
        __m512,
        16,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_max_ps,
        _mm512_min_ps
    );
    vector!(
        __m256,
        8,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_max_ps,
        _mm256_min_ps
    );
}
