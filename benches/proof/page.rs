//! The run as one self-contained HTML page.

use std::fmt::{Error, Write};

use scf::core::BlockGraph;

use crate::{
    chart::{Axes, COLOURS, STYLE},
    experiment::{Record, Run, mean},
    table,
};

/// Inputs that a point of the line over time is the mean of.
const WINDOW: usize = 20;

/// Charts of each of `parts`, a title with what was measured, and `text`.
pub(crate) fn html(parts: &[(String, &BlockGraph, &Record)], text: &str) -> Result<String, Error> {
    let mut out = format!("<!doctype html><html lang=en><meta charset=utf-8><title>SCF splits</title>{STYLE}");
    out.push_str(
        "<h1>Split anew for every input</h1><p>EfficientNet-Lite0 between an edge that is ten times slower and a cloud, \
         over a link of 0.5 to 80 Mbit/s, with queues in the cloud and load on the edge that change every hundred \
         inputs on average. Every arm ran on a fabric of its own; the oracle chooses in hindsight.</p>",
    );
    for (title, graph, record) in parts {
        write!(out, "<h2>{title}</h2>")?;
        by_cut(&mut out, graph, record)?;
        choices(&mut out, record)?;
        over_time(&mut out, record)?;
    }
    write!(out, "<pre>{}</pre></html>", text.replace('&', "&amp;").replace('<', "&lt;"))?;
    Ok(out)
}

/// The mean of every fixed split, and of those that choose.
fn by_cut(out: &mut String, graph: &BlockGraph, record: &Record) -> Result<(), Error> {
    let means: Vec<f64> = record.fixed.iter().map(|runs| mean(runs)).collect();
    let lowest = record.best_fixed().0;
    let last = (means.len() - 1) as f64;
    let axes = Axes { x: (0.0, last), y: (0.0, lowest * 3.0) };
    axes.draw(out, "Mean latency (ms)", "blocks on the edge of a split that stays", [3.0, step(lowest * 3.0)])?;
    let points = || means.iter().enumerate().map(|(block, &mean)| (block as f64, mean.min(lowest * 3.0)));
    axes.line(out, points(), COLOURS[2])?;
    for ((x, y), (block, mean)) in points().zip(means.iter().enumerate()) {
        axes.dot(out, (x, y), 3.0, COLOURS[2], &format!("{}: {mean:.1} ms", table::name(graph, block)))?;
    }
    let choosing = [("planned", mean(&record.dynamic), 0), ("oracle", mean(&record.oracle_runs()), 1)];
    for (name, mean, colour) in choosing {
        axes.line(out, [(0.0, mean), (last, mean)].into_iter(), COLOURS[colour])?;
        axes.label(out, (last * 0.1 + last * 0.3 * colour as f64, mean), COLOURS[colour], name)?;
    }
    out.push_str("</svg></figure>");
    Ok(())
}

/// How often each place was cut at.
fn choices(out: &mut String, record: &Record) -> Result<(), Error> {
    let mut hindsight = vec![0; record.fixed.len()];
    record.oracle.iter().for_each(|&cut| hindsight[cut] += 1);
    let share = |count: usize| 100.0 * count as f64 / record.dynamic.len() as f64;
    let cuts = record.cuts();
    let most = cuts.iter().chain(&hindsight).map(|&count| share(count)).fold(10.0, f64::max);
    let axes = Axes { x: (0.0, (cuts.len() - 1) as f64), y: (0.0, most) };
    axes.draw(out, "Share of the inputs (%)", "blocks on the edge", [3.0, step(most)])?;
    for (counts, colour, name) in [(&hindsight, COLOURS[1], "oracle"), (&cuts, COLOURS[0], "planned")] {
        axes.line(out, counts.iter().enumerate().map(|(cut, &count)| (cut as f64, share(count))), colour)?;
        for (cut, &count) in counts.iter().enumerate() {
            let title = format!("{name}: {:.1} % with {cut} blocks on the edge", share(count));
            axes.dot(out, (cut as f64, share(count)), 3.0, colour, &title)?;
        }
    }
    out.push_str("</svg></figure>");
    Ok(())
}

/// Latency from input to input.
fn over_time(out: &mut String, record: &Record) -> Result<(), Error> {
    let windows = |runs: &[Run]| {
        let means = runs.chunks(WINDOW).enumerate();
        means.map(|(at, runs)| ((at * WINDOW) as f64, mean(runs))).collect::<Vec<_>>()
    };
    let arms = [(&record.dynamic, 0, "planned"), (&record.fixed[record.best_fixed().1], 2, "best fixed split")];
    let most = windows(arms[0].0).iter().map(|(_, mean)| mean * 1.3).fold(0.0, f64::max);
    let inputs = record.dynamic.len() as f64;
    let axes = Axes { x: (0.0, inputs), y: (0.0, most) };
    axes.draw(out, "Latency (ms), means of 20 inputs", "input", [inputs / 5.0, step(most)])?;
    axes.line(out, windows(&record.oracle_runs()).into_iter(), COLOURS[1])?;
    for (row, (runs, colour, name)) in arms.into_iter().enumerate() {
        axes.line(out, windows(runs).into_iter(), COLOURS[colour])?;
        axes.label(out, (inputs * 0.3 * row as f64, most), COLOURS[colour], name)?;
    }
    axes.label(out, (inputs * 0.7, most), COLOURS[1], "oracle")?;
    out.push_str("</svg></figure>");
    Ok(())
}

/// A round distance of about five lines up to `most`.
fn step(most: f64) -> f64 {
    let ten = 10f64.powf((most / 5.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * ten).find(|step| step * 5.0 >= most).unwrap_or(most)
}
