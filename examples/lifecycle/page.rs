//! The run as one self-contained HTML page.

use std::{
    fmt::{Error, Write as _},
    time::Duration,
};

use scf::{ai::lifecycle::DriftMetric, core::Timestamp};

use crate::{
    chart::{Axes, COLOURS, STYLE},
    cycle::Story,
    traffic::Call,
};

/// Calls that a point of a curve stands for.
const POINT: usize = 60;
/// The curves of the monitor.
const METRICS: [DriftMetric; 3] = [DriftMetric::Psi, DriftMetric::EmbeddingShift, DriftMetric::AccuracyLoss];

/// The page.
pub(crate) fn html(story: &Story, table: &str) -> Result<String, Error> {
    let mut out = format!("<!doctype html><html lang=en><meta charset=utf-8><title>SCF lifecycle</title>{STYLE}");
    out.push_str(
        "<h1>The life of a model, on a running fabric</h1>\
         <p>Three edge nodes train on handwritten digits that they keep (federated averaging); the model is measured, let \
         through a gate and serves. Then the pictures change: the monitor finds it, the edges train again with what was \
         labelled meanwhile, and the new version takes over under traffic. After Rausch et al., <i>Towards a Serverless \
         Platform for Edge AI</i>, HotEdge 2019, and McMahan et al., AISTATS 2017. Upright lines: the pictures change; \
         drift is found; the first calls go to version 2; all do.</p>",
    );
    rounds(&mut out, story)?;
    drift(&mut out, story)?;
    accuracy(&mut out, story)?;
    versions(&mut out, story)?;
    latency(&mut out, story)?;
    let escaped = table.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    write!(out, "<pre>{escaped}</pre></html>")?;
    Ok(out)
}

impl Story {
    /// Seconds since the clients began to ask.
    fn second(&self, at: Timestamp) -> f64 {
        at.since(self.splits[0].0).as_secs_f64()
    }

    fn end(&self) -> f64 {
        self.log.calls.iter().map(|call| self.second(call.at)).fold(1.0, f64::max)
    }

    /// Of every so many calls that `of` gives something for: when, and the mean.
    fn means(&self, of: impl Fn(&Call) -> Option<f64>) -> Vec<(f64, f64)> {
        let values: Vec<_> = self.log.calls.iter().filter_map(|call| Some((self.second(call.at), of(call)?))).collect();
        let mean =
            |part: &[(f64, f64)], at: fn(&(f64, f64)) -> f64| part.iter().map(at).sum::<f64>() / part.len() as f64;
        values.chunks_exact(POINT).map(|part| (mean(part, |p| p.0), mean(part, |p| p.1))).collect()
    }

    /// Begins a figure over the time of the run, with the moments that matter.
    fn over_time(&self, out: &mut String, y: (f64, f64), step: f64, title: &str) -> Result<Axes, Error> {
        let end = self.end();
        let axes = Axes { x: (0.0, end), y };
        axes.draw(out, title, "seconds", [nice(end / 6.0), step])?;
        let last = self.splits[self.splits.len() - 1].0;
        for at in [self.drifted.0, self.alarm.at, self.splits[1].0, last] {
            let x = self.second(at);
            axes.line(out, [(x, y.0), (x, y.1)].into_iter(), "#999")?;
        }
        Ok(axes)
    }
}

/// A round number of about `step`.
fn nice(step: f64) -> f64 {
    let base = 10f64.powf(step.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|times| times * base).into_iter().find(|nice| *nice >= step).unwrap_or(base)
}

fn rounds(out: &mut String, story: &Story) -> Result<(), Error> {
    let most = story.learned.iter().map(|learned| learned.accuracy.len()).max().unwrap_or(1);
    let axes = Axes { x: (1.0, f64::max(most as f64, 2.0)), y: (0.0, 1.0) };
    axes.draw(out, "Accuracy in validation by round of training", "round", [1.0, 0.2])?;
    for (learned, colour) in story.learned.iter().zip(COLOURS) {
        let points = || learned.accuracy.iter().enumerate().map(|(round, accuracy)| (round as f64 + 1.0, *accuracy));
        axes.line(out, points(), colour)?;
        for point in points() {
            axes.dot(out, point, 3.0, colour, &format!("{}: {:.3}", learned.model.id, point.1))?;
        }
    }
    legend(out, &axes, story.learned.iter().map(|learned| format!("v{}", learned.model.id.version)))?;
    out.push_str("</svg></figure>");
    Ok(())
}

fn drift(out: &mut String, story: &Story) -> Result<(), Error> {
    let axes = story.over_time(out, (0.0, 3.0), 0.5, "Drift, as the monitor measures it (over 3 cut off)")?;
    for (metric, colour) in METRICS.into_iter().zip(COLOURS) {
        let readings = || story.log.readings.iter().filter(move |reading| reading.metric == metric);
        let at = |reading: &scf::ai::lifecycle::DriftReading| (story.second(reading.at), reading.value.min(3.0));
        axes.line(out, readings().map(at), colour)?;
        for reading in readings().filter(|reading| reading.action.is_some()) {
            let title = format!("{} {:.2} over {}", metric.as_str(), reading.value, reading.threshold);
            axes.dot(out, at(reading), 5.0, colour, &title)?;
        }
    }
    legend(out, &axes, METRICS.iter().map(|metric| metric.as_str().to_owned()))?;
    out.push_str("</svg></figure>");
    Ok(())
}

fn accuracy(out: &mut String, story: &Story) -> Result<(), Error> {
    let title = "Share of right answers, of pictures never trained with";
    let axes = story.over_time(out, (0.0, 1.0), 0.2, title)?;
    axes.line(out, story.means(|call| call.right.map(|right| f64::from(u8::from(right)))).into_iter(), COLOURS[0])?;
    out.push_str("</svg></figure>");
    Ok(())
}

fn versions(out: &mut String, story: &Story) -> Result<(), Error> {
    let axes = story.over_time(out, (0.0, 1.0), 0.2, "Share of the calls by version that answered")?;
    for (revision, colour) in story.log.fared.keys().zip(COLOURS) {
        let share = |call: &Call| Some(f64::from(u8::from(call.revision == Some(*revision))));
        axes.line(out, story.means(share).into_iter(), colour)?;
    }
    legend(out, &axes, story.log.fared.keys().map(|revision| format!("v{}", revision.number())))?;
    out.push_str("</svg></figure>");
    Ok(())
}

fn latency(out: &mut String, story: &Story) -> Result<(), Error> {
    let millis = |took: Duration| took.as_secs_f64() * 1e3;
    let mut times: Vec<f64> = story.log.calls.iter().map(|call| millis(call.took)).collect();
    times.sort_unstable_by(f64::total_cmp);
    let top = nice(times.get(times.len() * 99 / 100).copied().unwrap_or(1.0));
    let failed = story.log.errors.len();
    let title = format!("Time of calls in ms (mean of {POINT}); {failed} of {} failed", times.len());
    let axes = story.over_time(out, (0.0, top), top / 5.0, &title)?;
    axes.line(out, story.means(|call| Some(millis(call.took))).into_iter(), COLOURS[0])?;
    for call in story.log.calls.iter().filter(|call| call.revision.is_none()) {
        axes.dot(out, (story.second(call.at), 0.0), 4.0, "#b3261e", "a failed call")?;
    }
    out.push_str("</svg></figure>");
    Ok(())
}

/// Names of curves, one below the other in the middle.
fn legend(out: &mut String, axes: &Axes, names: impl Iterator<Item = String>) -> Result<(), Error> {
    let (width, height) = (axes.x.1 - axes.x.0, axes.y.1 - axes.y.0);
    for (row, (name, colour)) in names.zip(COLOURS).enumerate() {
        let at = (axes.x.0 + 0.35 * width, axes.y.0 + height * (0.5 - 0.06 * row as f64));
        axes.label(out, at, colour, &name)?;
    }
    Ok(())
}
