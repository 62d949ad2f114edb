//! The arms side by side, as text.

use std::fmt::{Error, Write};

use scf::core::BlockGraph;

use crate::{
    experiment::{Record, Run, mean},
    outage::Outages,
};

/// One line for each arm: latencies in milliseconds, agreement with the network that is not split, bytes between the
/// nodes, and how often the planned arm and the oracle cut there.
pub(crate) fn table(title: &str, graph: &BlockGraph, record: &Record) -> Result<String, Error> {
    let mut out = String::new();
    let n = record.dynamic.len();
    let (best, cut) = record.best_fixed();
    let oracle = record.oracle_runs();
    writeln!(out, "{title}, {n} inputs; the whole network takes {:.2} ms on the cloud", ms(record.whole))?;
    writeln!(out, "  arm                        mean      p50      p95  agree  kB/input  planned  oracle")?;
    line(&mut out, "planned for every input", &record.dynamic)?;
    writeln!(out)?;
    line(&mut out, "oracle", &oracle)?;
    writeln!(out)?;
    let cuts = record.cuts();
    for (block, runs) in record.fixed.iter().enumerate() {
        line(&mut out, &name(graph, block), runs)?;
        let chosen = record.oracle.iter().filter(|&&choice| choice == block).count();
        let share = |count: usize| 100.0 * count as f64 / n as f64;
        writeln!(
            out,
            " {:>6.1} % {:>5.1} %{}",
            share(cuts[block]),
            share(chosen),
            if block == cut { "  <" } else { "" }
        )?;
    }
    let (dynamic, hindsight) = (mean(&record.dynamic), mean(&oracle));
    writeln!(
        out,
        "planned over the best fixed split (<) {:.3}, over the oracle {:.3}",
        dynamic / best,
        dynamic / hindsight
    )?;
    Ok(out)
}

/// What failing links came to.
pub(crate) fn outages(outages: &Outages) -> String {
    let Outages { asked, answered, agree, interrupted, most_added, time_out } = outages;
    format!(
        "link cut or silent in the middle of calls: {answered} of {asked} inputs answered, {agree} as by the whole network, \
         {interrupted} finished on the edge;\n  the slowest took {:.1} ms longer than on the edge alone, time-outs are up to \
         {:.1} ms\n",
        ms(*most_added),
        ms(*time_out)
    )
}

/// What the arm that hands over before `block` is called.
pub(crate) fn name(graph: &BlockGraph, block: usize) -> String {
    match graph.blocks().get(block) {
        _ if block == 0 => "cloud only".into(),
        Some(next) => format!("cloud from {}", next.name()),
        None => "edge only".into(),
    }
}

fn line(out: &mut String, name: &str, runs: &[Run]) -> Result<(), Error> {
    let mut took: Vec<f64> = runs.iter().map(|run| ms(run.took)).collect();
    took.sort_by(f64::total_cmp);
    let quantile = |share: f64| took[((took.len() as f64 * share).ceil() as usize).max(1) - 1];
    let agree = runs.iter().filter(|run| run.agrees).count() as f64 / runs.len() as f64;
    let wire = runs.iter().map(|run| run.wire).sum::<u64>() as f64 / runs.len() as f64 / 1e3;
    let (mean, p50, p95) = (mean(runs), quantile(0.5), quantile(0.95));
    write!(out, "  {name:<24} {mean:>8.2} {p50:>8.2} {p95:>8.2}  {agree:>5.3} {wire:>9.1}")
}

fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
