//! What runs.

use std::sync::Arc;

use crate::sim::Distribution;

/// Something that is kept on a host.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written by literal in workloads")]
pub struct Data {
    /// Where it is, by position.
    pub host: usize,
    /// How much it is.
    pub bytes: f64,
}

/// When requests come.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "written by literal in workloads")]
pub enum Arrivals {
    /// Only when another function triggers them.
    Triggered,
    /// One at once, and one after each of these times in seconds.
    Every(Distribution),
    /// At these times in seconds after the function was deployed, in order, with what each takes as a multiple of its
    /// profile.
    Trace(Arc<[(f64, f32)]>),
}

/// A function of a simulated platform.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "written by literal in workloads")]
pub struct FunctionSpec {
    /// Its name.
    pub name: String,
    /// What it does: the position of its profile in the [`Profiles`](crate::sim::Profiles).
    pub profile: u16,
    /// Its image; functions with equal numbers share one.
    pub image: u32,
    /// Processor that a replica reserves, in thousandths of a core.
    pub cpu_milli: u32,
    /// Memory that a replica reserves, in bytes.
    pub memory: u64,
    /// It runs faster with a GPU and says so; it is not refused without.
    pub wants_gpu: bool,
    /// Read before every execution.
    pub reads: Option<Data>,
    /// Written after every execution.
    pub writes: Option<Data>,
    /// Read once when a replica starts.
    pub model: Option<Data>,
    /// Requested whenever an execution is done, by position among the functions.
    pub triggers: Option<usize>,
    /// Its replica is taken away when it has been idle for long.
    pub scale_to_zero: bool,
    /// When requests come from outside.
    pub arrivals: Arrivals,
    /// Seconds after the start of the run at which it is deployed.
    pub deployed: f64,
    /// Seconds after it was deployed at which requests begin.
    pub requested: f64,
}
