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

    /// Reads [`Vector::LANES`] signed bytes at `at` as floats.
    ///
    /// # Safety
    /// Those bytes must be readable, and the instruction set there.
    unsafe fn bytes(at: *const i8) -> Self;

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

    /// `self - b`.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn sub(self, b: Self) -> Self;

    /// `self * b`.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn mul(self, b: Self) -> Self;

    /// `self / b`.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn div(self, b: Self) -> Self;

    /// The larger of both, lane by lane.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn max(self, b: Self) -> Self;

    /// The smaller of both, lane by lane.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn min(self, b: Self) -> Self;

    /// Two to the power of each lane, which holds a whole number of at least -126 and at most 127.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn two_to(self) -> Self;

    /// Each lane held between 0 and 6.
    ///
    /// # Safety
    /// The instruction set must be there.
    #[inline(always)]
    unsafe fn relu6(self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.max(Self::splat(0.0)).min(Self::splat(6.0)) }
    }

    /// The lanes, the first [`Vector::LANES`] of them.
    ///
    /// # Safety
    /// The instruction set must be there.
    #[inline(always)]
    unsafe fn lanes(self) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        // SAFETY: no register has more than 16 lanes.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes
    }

    /// `e` to the power of each lane, off by less than 2e-7 of itself; lanes below -87 count as -87, above 88 as 88.
    ///
    /// # Safety
    /// The instruction set must be there.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // Adding and taking away 1.5 * 2^23 rounds to a whole number. The natural logarithm of 2 is taken away in
        // two parts, of which the first has so few bits that its product with a whole number is exact
        // (Cody and Waite, "Software Manual for the Elementary Functions", 1980, chapter 6).
        const ROUND: f32 = 12_582_912.0;
        const LN2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
        // Taylor's, of degree 6 over half of ln 2 to both sides.
        const SERIES: [f32; 6] = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
        // SAFETY: the caller's promise.
        unsafe {
            let x = self.max(Self::splat(-87.0)).min(Self::splat(88.0));
            let n = x.fma(Self::splat(std::f32::consts::LOG2_E), Self::splat(ROUND)).sub(Self::splat(ROUND));
            let r = n.fma(Self::splat(-LN2.1), n.fma(Self::splat(-LN2.0), x));
            let mut sum = Self::splat(1.0 / 720.0);
            for term in SERIES {
                sum = sum.fma(r, Self::splat(term));
            }
            sum.mul(n.two_to())
        }
    }

    /// `x / 2 * (1 + erf(x / sqrt 2))` of each lane (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016), with
    /// the error function of Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26, off by 1.5e-7.
    ///
    /// # Safety
    /// The instruction set must be there.
    #[inline(always)]
    unsafe fn gelu(self) -> Self {
        const P: f32 = 0.327_591_1;
        const A: [f32; 5] = [1.061_405_4, -1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6];
        // SAFETY: the caller's promise.
        unsafe {
            let zero = Self::splat(0.0);
            let size = self.max(zero.sub(self));
            let z = size.mul(Self::splat(std::f32::consts::FRAC_1_SQRT_2));
            let t = Self::splat(1.0).div(z.fma(Self::splat(P), Self::splat(1.0)));
            let mut sum = Self::splat(A[0]);
            for a in &A[1..] {
                sum = sum.fma(t, Self::splat(*a));
            }
            let tail = sum.mul(t).mul(zero.sub(z).mul(z).exp()).mul(Self::splat(0.5));
            self.max(zero).sub(size.mul(tail))
        }
    }
}

/// What every target has: four lanes, which compilers map to its registers.
#[cfg(not(target_arch = "aarch64"))]
pub(super) type Plain = [f32; 4];
/// What every target of this architecture has: NEON's registers of four lanes.
#[cfg(target_arch = "aarch64")]
pub(super) type Plain = std::arch::aarch64::float32x4_t;

#[cfg(not(target_arch = "aarch64"))]
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
    unsafe fn bytes(at: *const i8) -> Self {
        // SAFETY: the caller's promise; bytes have no alignment.
        unsafe { at.cast::<[i8; 4]>().read() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // Where there is no such instruction, `mul_add` is a call of the C library.
        const FUSED: bool = cfg!(target_feature = "fma");
        std::array::from_fn(|i| if FUSED { self[i].mul_add(b[i], c[i]) } else { self[i] * b[i] + c[i] })
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        std::array::from_fn(|i| self[i] + b[i])
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        std::array::from_fn(|i| self[i] - b[i])
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        std::array::from_fn(|i| self[i] * b[i])
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        std::array::from_fn(|i| self[i] / b[i])
    }

    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        std::array::from_fn(|i| if self[i] > b[i] { self[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        std::array::from_fn(|i| if self[i] < b[i] { self[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn two_to(self) -> Self {
        self.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    macro_rules! vector {
        ($type:ty, $lanes:literal, $load:ident, $store:ident, $splat:ident, $fma:ident, $add:ident, $sub:ident,
         $mul:ident, $div:ident, $max:ident, $min:ident, $bytes:ident => $from_bytes:expr, $n:ident => $two_to:expr) => {
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
                unsafe fn bytes($bytes: *const i8) -> Self {
                    unsafe { $from_bytes }
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
                unsafe fn sub(self, b: Self) -> Self {
                    unsafe { $sub(self, b) }
                }

                #[inline(always)]
                unsafe fn mul(self, b: Self) -> Self {
                    unsafe { $mul(self, b) }
                }

                #[inline(always)]
                unsafe fn div(self, b: Self) -> Self {
                    unsafe { $div(self, b) }
                }

                #[inline(always)]
                unsafe fn max(self, b: Self) -> Self {
                    unsafe { $max(self, b) }
                }

                #[inline(always)]
                unsafe fn min(self, b: Self) -> Self {
                    unsafe { $min(self, b) }
                }

                #[inline(always)]
                unsafe fn two_to(self) -> Self {
                    let $n = self;
                    unsafe { $two_to }
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
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_div_ps,
        _mm512_max_ps,
        _mm512_min_ps,
        at => _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))),
        n => _mm512_scalef_ps(_mm512_set1_ps(1.0), n)
    );
    vector!(
        __m256,
        8,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_div_ps,
        _mm256_max_ps,
        _mm256_min_ps,
        at => _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()))),
        n => _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127))))
    );
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    use super::Vector;

    // SAFETY: NEON is part of the architecture; the callers promise, for each call, that the memory is theirs.
    impl Vector for float32x4_t {
        const LANES: usize = 4;

        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            unsafe { vld1q_f32(at) }
        }

        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            unsafe { vst1q_f32(at, self) }
        }

        #[inline(always)]
        unsafe fn bytes(at: *const i8) -> Self {
            unsafe {
                let four = vcreate_s8(u64::from(at.cast::<u32>().read_unaligned()));
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(four))))
            }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { vdupq_n_f32(value) }
        }

        #[inline(always)]
        unsafe fn fma(self, b: Self, c: Self) -> Self {
            unsafe { vfmaq_f32(c, self, b) }
        }

        #[inline(always)]
        unsafe fn two_to(self) -> Self {
            unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(self), vdupq_n_s32(127)))) }
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            unsafe { vaddq_f32(self, b) }
        }

        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            unsafe { vsubq_f32(self, b) }
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            unsafe { vmulq_f32(self, b) }
        }

        #[inline(always)]
        unsafe fn div(self, b: Self) -> Self {
            unsafe { vdivq_f32(self, b) }
        }

        #[inline(always)]
        unsafe fn max(self, b: Self) -> Self {
            unsafe { vmaxq_f32(self, b) }
        }

        #[inline(always)]
        unsafe fn min(self, b: Self) -> Self {
            unsafe { vminq_f32(self, b) }
        }
    }
}
