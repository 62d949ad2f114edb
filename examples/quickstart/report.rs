//! The run as text.

use std::{fmt::Write, time::Duration};

use scf::{core::FunctionName, runtime::Bill};

use crate::{
    network::SCHEDULE,
    record::{ARMS, Frame, quantile, summary},
};

/// The tables that end the run.
pub(crate) fn tables(
    frames: &[Frame],
    bills: &[(FunctionName, Bill)],
    best_static: &str,
) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(out, "classify, per state of the link between gateway and cloud")?;
    let head = ("arm", "p50", "p99", "answered", "wire/frame", "SLO", "splits (frames)");
    writeln!(
        out,
        "  {:<15} {:>9} {:>9} {:>9} {:>11} {:>6}  {}",
        head.0, head.1, head.2, head.3, head.4, head.5, head.6
    )?;
    for (position, weather) in SCHEDULE.iter().enumerate() {
        writeln!(out, "{} ({} frames)", weather.name, weather.frames)?;
        for (arm, name) in ARMS.iter().enumerate() {
            let s = summary(frames, position, arm);
            let splits: Vec<_> = s.splits.iter().map(|(split, n)| format!("{split} ({n})")).collect();
            let answered = format!("{}/{}", s.answered, s.asked);
            let (p50, p99) = (millis(s.p50), millis(s.p99));
            let slo = if s.slo { "met" } else { "missed" };
            let wire = if s.answered == 0 { "-".into() } else { s.wire.to_string() };
            let splits = splits.join("; ");
            writeln!(out, "  {name:<15} {p50:>9} {p99:>9} {answered:>9} {wire:>11} {slo:>6}  {splits}")?;
        }
    }
    writeln!(out, "SLO: 90 % of the frames classified within 100 ms. The best static split, from the profile in")?;
    writeln!(out, "hindsight, is {best_static}.")?;
    let totals: Vec<Duration> = frames.iter().filter_map(|frame| frame.total).collect();
    let (p50, p99) = (millis(quantile(&totals, 0.5)), millis(quantile(&totals, 0.99)));
    writeln!(out, "\nphoto to tally: {} of {} frames, p50 {p50}, p99 {p99}", totals.len(), frames.len())?;
    writeln!(out, "\nlabels")?;
    for (photo, label, probability, count) in labels(frames) {
        writeln!(out, "  {photo:<12} {label} ({probability:.2}), {count} frames")?;
    }
    writeln!(out, "\ntally's state was")?;
    for (from, to, phase) in phases(frames) {
        let place = if phase == "remote" { "on cloud" } else { "on camera" };
        writeln!(out, "  {phase:<8} {place:<9} frames {from:>2} to {to:>2}")?;
    }
    writeln!(out, "\nbilled       calls  failed        CPU       input      output   between nodes")?;
    for (function, bill) in bills {
        let (name, cpu) = (function.as_str(), millis(Some(bill.cpu)));
        let (calls, failures) = (bill.calls, bill.failures);
        let (input, output, wire) = (bill.bytes_in.to_string(), bill.bytes_out.to_string(), bill.on_wire.to_string());
        writeln!(out, "  {name:<16} {calls:>5} {failures:>5} {cpu:>10} {input:>11} {output:>11} {wire:>12}")?;
    }
    Ok(out)
}

/// What each photo was taken for: photo, label, probability, number of frames.
pub(crate) fn labels(frames: &[Frame]) -> Vec<(&'static str, String, f64, usize)> {
    let mut seen: Vec<(&'static str, String, f64, usize)> = Vec::new();
    for frame in frames.iter().filter(|frame| frame.total.is_some()) {
        match seen.iter_mut().find(|(photo, label, ..)| *photo == frame.photo && *label == frame.label) {
            Some((.., count)) => *count += 1,
            None => seen.push((frame.photo, frame.label.clone(), frame.probability, 1)),
        }
    }
    seen
}

/// Where the state of `tally` was: first frame, last frame, phase.
pub(crate) fn phases(frames: &[Frame]) -> Vec<(usize, usize, &'static str)> {
    let mut stretches: Vec<(usize, usize, &'static str)> = Vec::new();
    for (position, frame) in frames.iter().enumerate() {
        match stretches.last_mut() {
            Some((_, to, phase)) if *phase == frame.phase => *to = position + 1,
            _ => stretches.push((position + 1, position + 1, frame.phase)),
        }
    }
    stretches
}

/// A time in milliseconds, or a dash.
pub(crate) fn millis(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".into(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
}
