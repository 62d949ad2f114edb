//! How long calls take, as far as anybody knows.

use std::fmt::Debug;

use crate::fleet::{ClassIx, FunctionIx};

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

    /// A call ran for that many seconds.
    fn observed(&self, key: ProfileKey, seconds: f32);
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
