//! What came of a scenario, for people and for programs.

use std::fmt::Write as _;

use scf_sched::sim::Report;

/// One line for each policy: means over its runs.
pub(crate) fn of(all: &[(String, Vec<Report>)]) -> String {
    let mut text = format!(
        "{:20} {:>9} {:>9} {:>9} {:>10} {:>6} {:>8} {:>7} {:>7}  {}\n",
        "policy",
        "seconds",
        "p99",
        "waited",
        "uplink GB",
        "edge",
        "cloud $",
        "retries",
        "unserved",
        "events, hash of the first run"
    );
    for (policy, runs) in all {
        let mean = |of: &dyn Fn(&Report) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
        let _written = writeln!(
            text,
            "{policy:20} {:9.3} {:9.2} {:9.2} {:10.3} {:6.2} {:8.3} {:7.1} {:8.1}  {:016x}",
            mean(&|run| run.took.mean()),
            mean(&|run| run.took.quantile(0.99)),
            mean(&|run| run.waited.mean()),
            mean(&|run| run.uplink_bytes / 1e9),
            mean(&|run| run.edge_share()),
            mean(&|run| run.cloud_dollars),
            mean(&|run| run.retries as f64),
            mean(&|run| run.waiting as f64),
            runs[0].log.hash(),
        );
    }
    text
}

/// One line for each run.
pub(crate) fn csv(all: &[(String, Vec<Report>)]) -> String {
    let mut text = String::from(
        "policy,run,invocations,mean_s,p50_s,p99_s,waited_s,uplink_bytes,edge_share,cloud_dollars,decisions,pulls,\
         failures,retries,virtual_s,events,hash\n",
    );
    for (policy, runs) in all {
        for (number, run) in runs.iter().enumerate() {
            let _written = writeln!(
                text,
                "\"{policy}\",{number},{},{:.6},{:.6},{:.6},{:.6},{:.0},{:.6},{:.6},{},{},{},{},{:.3},{},{:016x}",
                run.invocations(),
                run.took.mean(),
                run.took.quantile(0.5),
                run.took.quantile(0.99),
                run.waited.mean(),
                run.uplink_bytes,
                run.edge_share(),
                run.cloud_dollars,
                run.decisions,
                run.pulls,
                run.failures,
                run.retries,
                run.virtual_s,
                run.log.events(),
                run.log.hash(),
            );
        }
    }
    text
}
