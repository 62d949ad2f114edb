//! Published results and the default policies beside them, in the same runs: `cargo bench -p scf-sched --features sim --bench
//! published`, with `-- --quick` for small clusters, `-- --full` for every load and ten seeds of Sparrow's table.

use scf_sched::{
    Binding,
    sim::{Technique, Workers, WorkersReport},
};

const IDLE_FIRST: Technique = Technique::IdleFirst { schedulers: 10 };

#[derive(Clone, Copy, PartialEq)]
enum Extent {
    Quick,
    Usual,
    Full,
}

fn figure(bar: &str, value: f64, unit: &str, n: u64) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

const fn arm(technique: Technique) -> &'static str {
    match technique {
        Technique::Omniscient => "omniscient",
        Technique::Random => "random",
        Technique::PowerOf { .. } => "per_task",
        Technique::Batch { binding: Binding::Early, .. } => "batch",
        Technique::Batch { binding: Binding::Late { cancels: false }, .. } => "late",
        Technique::Batch { .. } => "cancel",
        _ => "scf",
    }
}

/// Sparrow's table of techniques over loads: mean milliseconds over the seeds, which are the same for all.
fn sparrow(extent: Extent) {
    let (loads, seeds): (&[f64], u64) = match extent {
        Extent::Quick => (&[0.9], 1),
        Extent::Usual => (&[0.8, 0.9], 2),
        Extent::Full => (&[0.5, 0.7, 0.8, 0.9, 0.95], 10),
    };
    let techniques = [Technique::Omniscient].into_iter().chain(Technique::SPARROW).chain([IDLE_FIRST]);
    for load in loads {
        let cluster = if extent == Extent::Quick { Workers::small(*load) } else { Workers::published(*load) };
        let mut ideal = 0.0;
        for technique in techniques.clone() {
            let runs: Vec<WorkersReport> = (1..=seeds).map(|seed| cluster.run(technique, seed)).collect();
            let mean = |of: &dyn Fn(&WorkersReport) -> f64| runs.iter().map(of).sum::<f64>() / seeds as f64;
            let seconds = mean(&|run| run.response.mean());
            let messages = mean(&WorkersReport::messages_per_task);
            let n = runs.iter().map(|run| run.response.count()).sum();
            let name = format!("sim.sparrow.{}.load{:02.0}", arm(technique), load * 100.0);
            figure(&format!("{name}_ms"), seconds * 1e3, "ms", n);
            figure(&format!("{name}.messages"), messages, "msg", n);
            match technique {
                Technique::Omniscient => ideal = seconds,
                IDLE_FIRST if *load == 0.9 => {
                    figure("sim.sparrow.load09_over_ideal", seconds / ideal - 1.0, "share", n);
                    figure("sim.sparrow.messages", messages, "msg", n);
                }
                _ => {}
            }
        }
    }
}

/// Mean time in system over that of the supermarket model, less 1.
fn supermarket(extent: Extent) {
    let jobs = if extent == Extent::Quick { 300_000 } else { 3_000_000 };
    for (d, load, exact) in [(1, 0.5, 2.0), (2, 0.9, 2.614), (3, 0.9, 2.028), (2, 0.95, 3.383)] {
        let run = Workers::supermarket(1000, load, jobs).run(Technique::PowerOf { d }, 1);
        let error = (run.response.mean() / exact - 1.0).abs();
        figure(&format!("sim.supermarket.d{d}_load{:02.0}_error", load * 100.0), error, "share", run.response.count());
    }
}

fn main() {
    let asks = |flag: &str| std::env::args().any(|argument| argument == flag);
    let extent = match (asks("--quick"), asks("--full")) {
        (true, _) => Extent::Quick,
        (_, true) => Extent::Full,
        _ => Extent::Usual,
    };
    sparrow(extent);
    supermarket(extent);
}
