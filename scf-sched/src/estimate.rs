//! How long calls take, as far as anybody knows.

use std::{
    fmt::Debug,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::fleet::{ClassIx, FunctionIx, Segments};

/// What execution times are learned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "three parts are all that it is")]
pub struct ProfileKey {
    /// The function.
    pub function: FunctionIx,
    /// The class of its input.
    pub input: u8,
    /// The kind of hardware.
    pub class: ClassIx,
}

/// How long a call takes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "estimators of integrators write it as a literal")]
pub struct Estimate {
    /// Expected seconds, or what a call is to be reckoned with: a learner that explores says less than it expects.
    pub seconds: f32,
    /// Standard deviation in seconds; 0 when unknown.
    pub deviation: f32,
}

/// Knows how long calls take: learned, measured beforehand, or given.
///
/// Asked for every node of a sample, so it takes some tens of nanoseconds and does not allocate; told about every
/// call that ended, by many threads.
pub trait Estimator: Debug + Send + Sync + 'static {
    /// How long a call runs once it is started; `None` when nothing is known, and the request's own word counts.
    fn execution(&self, key: ProfileKey) -> Option<Estimate>;

    /// Seconds that starting the function takes where it is not started, without what must be fetched for it.
    fn cold_start(&self, key: ProfileKey) -> f32;

    /// An instance was placed where it will run calls: something will be known of them soon. Default: does not care.
    fn placed(&self, _key: ProfileKey) {}

    /// A call ran for that many seconds.
    fn observed(&self, key: ProfileKey, seconds: f32);
}

impl<E: Estimator + ?Sized> Estimator for Arc<E> {
    fn execution(&self, key: ProfileKey) -> Option<Estimate> {
        (**self).execution(key)
    }

    fn cold_start(&self, key: ProfileKey) -> f32 {
        (**self).cold_start(key)
    }

    fn placed(&self, key: ProfileKey) {
        (**self).placed(key);
    }

    fn observed(&self, key: ProfileKey, seconds: f32) {
        (**self).observed(key, seconds);
    }
}

/// Knows nothing: every request's own word counts, and starting takes no time.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct Unknown;

impl Estimator for Unknown {
    fn execution(&self, _key: ProfileKey) -> Option<Estimate> {
        None
    }

    fn cold_start(&self, _key: ProfileKey) -> f32 {
        0.0
    }

    fn observed(&self, _key: ProfileKey, _seconds: f32) {}
}

/// Classes of hardware of which [`Means`] learns; calls on further ones are not learned from.
const CLASSES: usize = 64;
/// Calls after which a mean forgets as fast as it learns.
const MEMORY: u32 = 256;

/// The mean execution time per function and kind of hardware, over all classes of input; forgets slowly, so that it
/// follows drift. Where nothing was seen it says less than anything takes, so that every kind is tried once.
#[derive(Debug)]
pub struct Means {
    /// For each function and class: mean seconds as a 32-bit float | calls seen.
    cells: Segments<OnceLock<Box<[AtomicU64]>>>,
    unseen: f32,
    cold: f32,
}

impl Means {
    /// Nothing seen yet: what was not seen is reckoned with `unseen` seconds, a start with `cold` seconds.
    #[must_use]
    pub const fn new(unseen: f32, cold: f32) -> Self {
        Self { cells: Segments::new(), unseen, cold }
    }

    fn cell(&self, key: ProfileKey) -> Option<&AtomicU64> {
        self.cells.get(key.function.index())?.get()?.get(key.class.index())
    }
}

impl Estimator for Means {
    #[inline]
    fn execution(&self, key: ProfileKey) -> Option<Estimate> {
        let word = self.cell(key).map_or(0, |cell| cell.load(Relaxed));
        let seen = word as u32;
        let seconds = if seen == 0 { self.unseen } else { f32::from_bits((word >> 32) as u32) };
        Some(Estimate { seconds, deviation: 0.0 })
    }

    #[inline]
    fn cold_start(&self, _key: ProfileKey) -> f32 {
        self.cold
    }

    fn observed(&self, key: ProfileKey, seconds: f32) {
        let classes = || (0..CLASSES).map(|_| AtomicU64::new(0)).collect();
        let cells = self.cells.make(key.function.index()).get_or_init(classes);
        let Some(cell) = cells.get(key.class.index()) else { return };
        let learn = |word: u64| {
            let (mean, seen) = (f32::from_bits((word >> 32) as u32), (word as u32).min(MEMORY - 1) + 1);
            let mean = mean + (seconds - mean) / seen as f32;
            Some(u64::from(mean.to_bits()) << 32 | u64::from(seen))
        };
        // A closure that always gives a value never fails.
        let _changed = cell.fetch_update(Relaxed, Relaxed, learn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unseen_kind_looks_fast_and_a_seen_one_as_it_was() {
        let means = Means::new(0.05, 0.0);
        let key = |class| ProfileKey { function: FunctionIx(3), input: 0, class: ClassIx(class) };
        let seconds = |class| means.execution(key(class)).unwrap().seconds;
        means.observed(key(1), 2.0);
        means.observed(key(1), 4.0);
        assert_eq!((seconds(0), seconds(1)), (0.05, 3.0));
        (0..4000).for_each(|_| means.observed(key(1), 9.0));
        assert!((seconds(1) - 9.0).abs() < 0.01, "{} follows the drift", seconds(1));
    }
}
