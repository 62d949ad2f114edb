//! The random numbers of published simulations that were written for the JVM.

/// The generator that the documentation of `java.util.Random` prescribes: linear congruential modulo 2^48 (Knuth: The Art of
/// Computer Programming 2, section 3.2.1), so that the same seed gives the same numbers here as there.
#[derive(Clone, Debug)]
pub(super) struct JavaRandom(u64);

const MULTIPLIER: u64 = 0x5_deec_e66d;
const INCREMENT: u64 = 0xb;
const MASK: u64 = (1 << 48) - 1;

impl JavaRandom {
    /// The sequence of a seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self((seed ^ MULTIPLIER) & MASK)
    }

    /// The highest bits of the next state, at most 32.
    const fn bits(&mut self, bits: u32) -> u32 {
        self.0 = self.0.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & MASK;
        (self.0 >> (48 - bits)) as u32
    }

    /// `nextInt(bound)`: a number below `bound`, which is from 1 to 2^31.
    pub(super) const fn below(&mut self, bound: u32) -> u32 {
        if bound.is_power_of_two() {
            return ((bound as u64 * self.bits(31) as u64) >> 31) as u32;
        }
        loop {
            let bits = self.bits(31);
            let value = bits % bound;
            // Numbers above the last whole multiple of the bound would favour small results.
            if bits - value + (bound - 1) < 1 << 31 {
                return value;
            }
        }
    }

    /// `nextDouble()`: a number in [0, 1).
    pub(super) const fn unit(&mut self) -> f64 {
        let high = (self.bits(26) as u64) << 27;
        (high + self.bits(27) as u64) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// `nextBoolean()`.
    pub(super) const fn is_heads(&mut self) -> bool {
        self.bits(1) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_numbers_that_the_jvm_gives() {
        let mut random = JavaRandom::new(0);
        assert_eq!(random.unit(), 0.730_967_787_376_657);
        assert_eq!(random.unit(), 0.240_536_415_671_485_87);
        // new Random(42).nextInt(100), thrice.
        let mut random = JavaRandom::new(42);
        assert_eq!([random.below(100), random.below(100), random.below(100)], [0, 63, 11]);
    }
}
