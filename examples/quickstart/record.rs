//! What was seen of each frame, and figures of many.

use std::time::Duration;

use scf::core::{ByteSize, Slo};

/// The arms that a frame's tensor is classified by.
pub const ARMS: [&str; 4] = ["planned", "all on camera", "all in cloud", "best static"];

/// What the service promises: nine of ten frames classified within a tenth of a second.
pub const SLO: Duration = Duration::from_millis(100);

/// One classification of a tensor.
#[derive(Clone, Debug)]
pub struct Run {
    pub took: Duration,
    pub wire: ByteSize,
    /// Blocks per node, in the order of the nodes.
    pub blocks: [usize; 3],
    /// The split as text: `camera 0-2, gateway 3-17`.
    pub split: String,
    pub class: u64,
}

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Position in the schedule of the network.
    pub weather: usize,
    /// When it was sent, from the start of the run.
    pub at: Duration,
    pub photo: &'static str,
    /// From photo to tally; nothing when a step failed.
    pub total: Option<Duration>,
    /// The arms' classifications; `Err` has the typed error as text.
    pub arms: [Result<Run, String>; 4],
    pub label: String,
    pub probability: f64,
    pub phase: &'static str,
    pub tally: Duration,
}

/// The value below which `share` of `values` lie (nearest rank); nothing of nothing.
pub fn quantile(values: &[Duration], share: f64) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// How one arm fared in one stretch of the run.
#[derive(Clone, Debug)]
pub struct Summary {
    pub answered: usize,
    pub asked: usize,
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
    /// Mean bytes on the wire per answer.
    pub wire: ByteSize,
    /// The splits that were used, most frequent first, with how often.
    pub splits: Vec<(String, usize)>,
    pub slo: bool,
}

/// Sums up arm `arm` over the frames of schedule position `weather`.
pub fn summary(frames: &[Frame], weather: usize, arm: usize) -> Summary {
    let asked: Vec<_> = frames.iter().filter(|frame| frame.weather == weather).map(|frame| &frame.arms[arm]).collect();
    let runs: Vec<&Run> = asked.iter().filter_map(|run| run.as_ref().ok()).collect();
    let took: Vec<Duration> = runs.iter().map(|run| run.took).collect();
    let wire: u64 = runs.iter().map(|run| run.wire.bytes()).sum();
    let mut splits: Vec<(String, usize)> = Vec::new();
    for run in &runs {
        match splits.iter_mut().find(|(split, _)| *split == run.split) {
            Some((_, count)) => *count += 1,
            None => splits.push((run.split.clone(), 1)),
        }
    }
    splits.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Summary {
        answered: runs.len(),
        asked: asked.len(),
        p50: quantile(&took, 0.5),
        p99: quantile(&took, 0.99),
        wire: ByteSize::from_bytes(wire / runs.len().max(1) as u64),
        splits,
        slo: runs.len() == asked.len() && Slo::percentile(90.0, SLO).report(&took).holds(),
    }
}
