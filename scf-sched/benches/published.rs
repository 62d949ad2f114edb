//! Published results and the default policies beside them, in the same runs: `cargo bench -p scf-sched --features sim --bench
//! published`, with `-- --quick` for small clusters, `-- --full` for every load of Sparrow's table.

use std::error::Error;

use scf_core::{ByteSize, Code, Function, FunctionName, MilliCpu, Name, Needs, Resources, Timestamp};
use scf_sched::{
    Binding, Decision, Demand, Fleet, Policy, Request, Scf,
    fleet::SiteIx,
    policy::TwoSmart,
    sim::{SUPERCLUSTER_TASKS, SharedState, Technique, Workers, WorkersReport, supercluster},
};

/// Hundreds of nodes in each of Vela's ten clusters.
const HUNDREDS: u32 = 20;
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

/// Mean milliseconds of the techniques by an independent model with the parameters of Sparrow's simulation, 8 to 12 seeds
/// of 20,000 jobs; its batch sampling agrees with the original program within 2 %.
const EXPECTED: [(f64, [f64; 6]); 5] = [
    (0.5, [100.4, 271.0, 110.2, 102.0, 101.8, 101.8]),
    (0.7, [100.4, 444.0, 172.4, 117.3, 101.9, 101.8]),
    (0.8, [100.4, 621.0, 210.3, 154.5, 105.2, 104.3]),
    (0.9, [100.5, 850.0, 255.5, 216.1, 123.2, 119.8]),
    (0.95, [102.2, 976.0, 296.7, 258.9, 147.1, 139.2]),
];

/// Sparrow's table of techniques over loads: mean milliseconds over the seeds, which are the same for all.
fn sparrow(extent: Extent) {
    let (loads, seeds): (&[f64], u64) = match extent {
        Extent::Quick => (&[0.9], 1),
        Extent::Usual => (&[0.8, 0.9], 10),
        Extent::Full => (&[0.5, 0.7, 0.8, 0.9, 0.95], 10),
    };
    let techniques = [Technique::Omniscient].into_iter().chain(Technique::SPARROW).chain([IDLE_FIRST]);
    for load in loads {
        let cluster = if extent == Extent::Quick { Workers::small(*load) } else { Workers::published(*load) };
        let expected = EXPECTED.iter().find(|(of, _)| of == load).filter(|_| extent != Extent::Quick);
        let (mut ideal, mut worst) = (0.0, 0.0_f64);
        for (column, technique) in techniques.clone().enumerate() {
            let runs: Vec<WorkersReport> = (1..=seeds).map(|seed| cluster.run(technique, seed)).collect();
            let mean = |of: &dyn Fn(&WorkersReport) -> f64| runs.iter().map(of).sum::<f64>() / seeds as f64;
            let seconds = mean(&|run| run.response.mean());
            let messages = mean(&WorkersReport::messages_per_task);
            let n = runs.iter().map(|run| run.response.count()).sum();
            let name = format!("sim.sparrow.{}.load{:02.0}", arm(technique), load * 100.0);
            figure(&format!("{name}_ms"), seconds * 1e3, "ms", n);
            figure(&format!("{name}.messages"), messages, "msg", n);
            if let Some(expected) = expected.and_then(|(_, row)| row.get(column)) {
                worst = worst.max((seconds * 1e3 / expected - 1.0).abs());
            }
            match technique {
                Technique::Omniscient => ideal = seconds,
                IDLE_FIRST if *load == 0.9 => {
                    figure("sim.sparrow.load09_over_ideal", seconds / ideal - 1.0, "share", n);
                    figure("sim.sparrow.messages", messages, "msg", n);
                }
                _ => {}
            }
        }
        if expected.is_some() {
            figure(&format!("sim.sparrow.load{:02.0}_worst_error", load * 100.0), worst, "share", seeds);
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

/// Vela's task of 4 cores and 4 GiB.
fn task(fleet: &Fleet) -> Result<Demand, Box<dyn Error>> {
    let resources = Resources { cpu: MilliCpu::from_cores(4), memory: ByteSize::from_mib(4096) };
    let function = Function::new(FunctionName::new("task")?, Code::Native { entry: Name::new("task")? });
    Ok(fleet.demand(&function.needs(Needs { resources, ..Needs::default() }))?)
}

/// Packs 20,000 nodes with as many tasks as fit, each decided up to 11 times as Vela does; gives tasks without a node and
/// nodes that were looked at, over all seeds.
fn pack(seeds: u64, make: impl Fn(Vec<SiteIx>) -> Box<dyn Policy>) -> Result<(u64, u64), Box<dyn Error>> {
    let (mut failed, mut evaluated) = (0, 0);
    for seed in 0..seeds {
        let (fleet, sites) = supercluster(HUNDREDS)?;
        let (demand, mut policy, mut decision) = (task(&fleet)?, make(sites), Decision::new());
        for at in 0..u64::from(HUNDREDS * SUPERCLUSTER_TASKS) {
            let is_placed = (0..11).any(|attempt| {
                let request = Request::new(&demand, seed << 32 | at << 8 | attempt, Timestamp::default());
                decision.clear();
                policy.decide(&fleet, &request, &mut decision);
                evaluated += u64::from(decision.evaluated);
                decision.choices.iter().any(|choice| fleet.claim(choice.node, demand.need).is_ok())
            });
            failed += u64::from(!is_placed);
        }
    }
    Ok((failed, evaluated))
}

fn vela(extent: Extent) -> Result<(), Box<dyn Error>> {
    let (seeds, peers) = if extent == Extent::Quick { (5, 1) } else { (100, 10) };
    let tasks = u64::from(HUNDREDS * SUPERCLUSTER_TASKS);
    let (failed, evaluated) = pack(seeds, |_| Box::new(Scf::default()))?;
    figure("sim.vela.failures", failed as f64, "pods", seeds * tasks);
    figure("sim.vela.evaluations", evaluated as f64 / (seeds * tasks) as f64, "evals", seeds * tasks);
    let (failed, evaluated) = pack(peers, |sites| Box::new(TwoSmart::new(sites)))?;
    figure("sim.vela.two_smart.failures_per_run", failed as f64 / peers as f64, "pods", peers * tasks);
    figure("sim.vela.two_smart.evaluations", evaluated as f64 / (peers * tasks) as f64, "evals", peers * tasks);
    Ok(())
}

/// Schedulers that always have a task to place, on 20,000 nodes that are 95 % full.
fn conflicts(extent: Extent) -> Result<(), Box<dyn Error>> {
    let jobs = if extent == Extent::Quick { 40_000 } else { 200_000 };
    let (fleet, sites) = supercluster(HUNDREDS)?;
    let demand = task(&fleet)?;
    let lasts = 0.95 * f64::from(HUNDREDS * SUPERCLUSTER_TASKS) * 0.01 / 8.0;
    let of = SharedState { warm_up: 50_000, ..SharedState::single(8, lasts, jobs) };
    let report = of.run(&fleet, &demand, |_| Box::new(Scf::default()), 1);
    figure("sim.conflicts.requeued", report.requeued_share(), "share", report.decided);
    figure("sim.conflicts.double_bookings", report.double_bookings as f64, "nodes", report.transactions);
    for (arm, spare) in [("plain", 0), ("multi_bind", 2)] {
        let of = SharedState { spare, jobs: jobs / 10, ..of };
        let report = of.run(&fleet, &demand, |_| Box::new(TwoSmart::new(sites.clone())), 1);
        figure(&format!("sim.conflicts.two_smart.{arm}"), report.requeued_share(), "share", report.decided);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let asks = |flag: &str| std::env::args().any(|argument| argument == flag);
    let extent = match (asks("--quick"), asks("--full")) {
        (true, _) => Extent::Quick,
        (_, true) => Extent::Full,
        _ => Extent::Usual,
    };
    sparrow(extent);
    supermarket(extent);
    vela(extent)?;
    conflicts(extent)
}
