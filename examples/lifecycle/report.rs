//! The run as a table.

use std::{
    fmt::{Error, Write as _},
    time::Duration,
};

use scf::core::{Revision, Timestamp};

use crate::{cycle::Story, traffic::Call};

/// What calls of one stretch came to.
pub(crate) struct Stretch {
    pub(crate) name: &'static str,
    pub(crate) calls: usize,
    pub(crate) failed: usize,
    /// Of pictures that no model was trained with.
    pub(crate) accuracy: Option<f64>,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) revisions: Vec<Revision>,
}

impl Stretch {
    fn of(name: &'static str, calls: &[&Call]) -> Self {
        let mut times: Vec<Duration> = calls.iter().map(|call| call.took).collect();
        times.sort_unstable();
        let quantile = |of: f64| times.get((of * times.len() as f64) as usize).copied().unwrap_or_default();
        let judged: Vec<bool> = calls.iter().filter_map(|call| call.right).collect();
        let right = judged.iter().filter(|right| **right).count();
        let mut revisions: Vec<Revision> = calls.iter().filter_map(|call| call.revision).collect();
        revisions.sort_unstable();
        revisions.dedup();
        Self {
            name,
            calls: calls.len(),
            failed: calls.iter().filter(|call| call.revision.is_none()).count(),
            accuracy: (!judged.is_empty()).then(|| right as f64 / judged.len() as f64),
            p50: quantile(0.5),
            p99: quantile(0.99),
            revisions,
        }
    }
}

impl Story {
    /// The run in the stretches that matter.
    pub(crate) fn stretches(&self) -> Vec<Stretch> {
        let swapping = self.splits[1].0;
        let swapped = self.splits[self.splits.len() - 1].0;
        let between = |from: Timestamp, to: Option<Timestamp>| -> Vec<&Call> {
            let calls = self.log.calls.iter();
            calls.filter(|call| call.at >= from && to.is_none_or(|to| call.at < to)).collect()
        };
        let drifted = self.drifted.0;
        vec![
            Stretch::of("version 1, as trained", &between(self.begun, Some(drifted))),
            Stretch::of("drifted, until it is found", &between(drifted, Some(self.alarm.at))),
            Stretch::of("labels, training", &between(self.alarm.at, Some(swapping))),
            Stretch::of("canary", &between(swapping, Some(swapped))),
            Stretch::of("version 2", &between(swapped, None)),
        ]
    }

    /// Calls after the pictures changed until the monitor said so.
    pub(crate) fn found_after(&self) -> u64 {
        self.alarm.calls.saturating_sub(self.drifted.1 as u64)
    }
}

/// The table.
pub(crate) fn table(story: &Story) -> Result<String, Error> {
    let mut out = String::new();
    writeln!(
        out,
        "{:<28} {:>6} {:>7} {:>9} {:>9} {:>9}  answered by",
        "", "calls", "failed", "accuracy", "p50", "p99"
    )?;
    for Stretch { name, calls, failed, accuracy, p50, p99, revisions } in story.stretches() {
        let accuracy = accuracy.map_or_else(|| "-".into(), |accuracy| format!("{:.1} %", accuracy * 100.0));
        let millis = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        let by: Vec<_> = revisions.iter().map(Revision::to_string).collect();
        let (p50, p99, by) = (millis(p50), millis(p99), by.join(", "));
        writeln!(out, "{name:<28} {calls:>6} {failed:>7} {accuracy:>9} {p50:>9} {p99:>9}  {by}")?;
    }
    out.push('\n');
    for learned in &story.learned {
        let (rounds, last) = (learned.accuracy.len(), learned.accuracy.last().copied().unwrap_or_default());
        writeln!(
            out,
            "{}: {} examples on three edges, {rounds} rounds, {:.1} % right in validation",
            learned.model.id,
            learned.examples,
            last * 100.0
        )?;
    }
    let (before, value) = (story.first_on_drifted * 100.0, story.alarm.value);
    writeln!(out, "on what the second was validated with, the first is {before:.1} % right")?;
    writeln!(out, "drift found after {} calls, {} {value:.2}", story.found_after(), story.alarm.metric.as_str())?;
    let origins: Vec<_> = story.origins.iter().map(|origin| origin.id.to_string()).collect();
    writeln!(out, "{} serves; it comes from {}", story.serving, origins.join(", "))?;
    Ok(out)
}
