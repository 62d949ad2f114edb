//! Randomness: one stream per entity.

use crate::random::Random;

/// A stream of random numbers that belongs to one entity of a simulation (a node, a deployment, a scheduler).
///
/// Entities that draw from streams of their own draw the same numbers whatever the others do: policies that are compared
/// see the same arrivals and the same execution times (common random numbers). 8 bytes, so that a million entities can
/// have one each. SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
#[derive(Debug)]
pub struct Rng(Random);

impl Rng {
    /// The stream of entity `id` of a `kind` in the run with this seed. `kind` is any number that the model gives to
    /// entities of one sort.
    #[must_use]
    pub const fn of(seed: u64, kind: u64, id: u64) -> Self {
        // Three steps of the generator itself, so that neighbours in any of the three do not start near each other.
        let seed = Random::new(seed).next();
        let kind = Random::new(seed ^ kind).next();
        Self(Random::new(Random::new(kind ^ id).next()))
    }

    /// The next 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        self.0.next()
    }

    /// A number in [0, 1).
    pub const fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number below `bound`; 0 if that is 0.
    pub const fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    /// From the exponential distribution with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        // 1 - unit is never 0.
        -mean * (1.0 - self.unit()).ln()
    }

    /// From the standard normal distribution (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Brings a slice into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, slice: &mut [T]) {
        for last in (1..slice.len()).rev() {
            slice.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_own_and_does_not_depend_on_others() {
        let first = |seed, kind, id| Rng::of(seed, kind, id).bits();
        let all = [first(1, 1, 1), first(2, 1, 1), first(1, 2, 1), first(1, 1, 2), first(1, 2, 3), first(1, 3, 2)];
        let distinct: std::collections::HashSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(first(1, 1, 1), all[0]);
    }

    #[test]
    fn means_and_spread_are_those_of_the_distributions() {
        let mut rng = Rng::of(7, 0, 0);
        let n = 200_000;
        let mean = |draw: &mut dyn FnMut() -> f64| (0..n).map(|_| draw()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || rng.exponential(3.0)) - 3.0).abs() < 0.03);
        assert!(mean(&mut || rng.normal()).abs() < 0.01);
        let mut rng = Rng::of(7, 0, 1);
        assert!((mean(&mut || rng.normal().powi(2)) - 1.0).abs() < 0.015);
        let mut rng = Rng::of(7, 0, 2);
        assert!((mean(&mut || rng.unit()) - 0.5).abs() < 0.003);
    }

    #[test]
    fn shuffling_keeps_everything_and_reaches_every_place() {
        let mut places = [[0u32; 4]; 4];
        let mut rng = Rng::of(3, 0, 0);
        for _ in 0..4000 {
            let mut order = [0usize, 1, 2, 3];
            rng.shuffle(&mut order);
            for (place, &who) in order.iter().enumerate() {
                places[place][who] += 1;
            }
        }
        for count in places.into_iter().flatten() {
            assert!((850..1150).contains(&count), "{places:?}");
        }
    }
}
