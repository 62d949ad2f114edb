//! What was seen of each frame, and figures of many.

use std::time::Duration;

use scf::core::{ByteSize, Slo};

/// The arms that a frame's tensor is classified by.
pub(crate) const ARMS: [&str; 4] = ["planned", "all on camera", "all in cloud", "best static"];

/// What the service promises: nine of ten frames classified within a tenth of a second.
pub(crate) const SLO: Duration = Duration::from_millis(100);

/// One classification of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) took: Duration,
    pub(crate) wire: ByteSize,
    /// Blocks per node, in the order of the nodes.
    pub(crate) blocks: [usize; 3],
    /// The split as text: `camera 0-2, gateway 3-17`.
    pub(crate) split: String,
}

/// One frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Position in the schedule of the network.
    pub(crate) weather: usize,
    /// When it was sent, from the start of the run.
    pub(crate) at: Duration,
    pub(crate) photo: &'static str,
    /// From photo to tally; nothing when a step failed.
    pub(crate) total: Option<Duration>,
    /// The arms' classifications; `Err` has the typed error as text.
    pub(crate) arms: [Result<Run, String>; 4],
    pub(crate) label: String,
    pub(crate) probability: f64,
    pub(crate) phase: &'static str,
}

/// The value below which `share` of `values` lie (nearest rank); nothing of nothing.
pub(crate) fn quantile(values: &[Duration], share: f64) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// How one arm fared in one stretch of the run.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) answered: usize,
    pub(crate) asked: usize,
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
    /// Mean bytes on the wire per answer.
    pub(crate) wire: ByteSize,
    /// The splits that were used, most frequent first, with how often.
    pub(crate) splits: Vec<(String, usize)>,
    pub(crate) slo: bool,
}

/// Sums up arm `arm` over the frames of schedule position `weather`.
pub(crate) fn summary(frames: &[Frame], weather: usize, arm: usize) -> Summary {
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
