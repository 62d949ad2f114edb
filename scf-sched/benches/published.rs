//! Published results and the default policies beside them, in the same runs: `cargo bench -p scf-sched --features sim --bench
//! published`, with `-- --quick` for small clusters, `-- --full` for every load of Sparrow's table.

#[path = "../tests/exact/mod.rs"]
mod exact;

use std::{error::Error, time::Duration};

use scf_core::{ByteSize, Code, Function, FunctionName, MilliCpu, Name, Needs, Resources, Timestamp};
use scf_sched::{
    Binding, Decision, Demand, Fleet, NodeIx, Placer, Policy, Request, Scf,
    fleet::{Hold, SiteIx},
    place::Unplaced,
    policy::{Polaris, TwoSmart, UniformRandom},
    sim::{
        Auction, AuctionReport, Eviction, SUPERCLUSTER_TASKS, SharedState, Technique, TrafficMonitoring, Workers,
        WorkersReport, supercluster,
    },
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

/// Mean time in system of the supermarket model in services, for as many servers as you like: of `d` choices
/// `sum load^((d^i - d) / (d - 1))` (Mitzenmacher 2001, theorem 3).
fn time_in_system(d: u32, load: f64) -> f64 {
    if d == 1 {
        return 1.0 / (1.0 - load);
    }
    let term = |i: i32| load.powf((f64::from(d).powi(i) - f64::from(d)) / f64::from(d - 1));
    (1..64).map(term).sum()
}

/// Mean time in system over that of the supermarket model, less 1.
fn supermarket(extent: Extent) {
    let (jobs, seeds) = if extent == Extent::Quick { (500_000, 1) } else { (3_000_000, 4) };
    let mut worst = 0.0_f64;
    for (d, load) in [(1, 0.5), (2, 0.7), (2, 0.9), (3, 0.9), (2, 0.95)] {
        let servers = Workers::supermarket(1000, load, jobs);
        let runs = (1..=seeds).map(|seed| servers.run(Technique::PowerOf { d }, seed).response);
        let (sum, n) = runs.fold((0.0, 0), |(sum, n), run| (sum + run.sum(), n + run.count()));
        let error = (sum / n as f64 / time_in_system(d, load) - 1.0).abs();
        worst = worst.max(error);
        figure(&format!("sim.supermarket.d{d}_load{:02.0}_error", load * 100.0), error, "share", n);
    }
    figure("sim.supermarket.worst_error", worst, "share", 5);
}

/// Mean milliseconds of AuctionWhisk's simulation (OpenFogStack/faas4fogsim, `simResults/`) by requests per second, and by
/// executables.
const BY_LOAD: [(u32, f64); 4] = [(1000, 61.946), (2000, 77.429), (5000, 85.442), (10_000, 87.806)];
const BY_EXECUTABLES: [(u32, f64); 4] = [(10, 30.0), (20, 45.8), (50, 49.4), (100, 74.1)];

/// AuctionWhisk's runs, with the published mean, which counts a request once for each node that it came to, and the mean
/// over requests; and the same room let by bids per byte that are compared.
fn auction() {
    let mut worst = 0.0_f64;
    let mut compare = |name: String, run: &AuctionReport, published: f64| {
        figure(&format!("sim.auction.{name}_ms"), run.latency_by_visit, "ms", run.executed);
        figure(&format!("sim.auction.{name}_per_request_ms"), run.latency, "ms", run.executed);
        worst = worst.max((run.latency_by_visit / published - 1.0).abs());
    };
    for (load, published) in BY_LOAD {
        compare(format!("load{load}"), &Auction::loaded(load).run(0), published);
    }
    let (mut earned, mut of_newest, mut outbid) = (0.0, 0.0, 0);
    for (executables, published) in BY_EXECUTABLES {
        let of = Auction::crowded(executables);
        let newest = of.run(0);
        compare(format!("executables{executables}"), &newest, published);
        let highest = Auction { eviction: Eviction::Margin(0.0), ..of }.run(0);
        earned += highest.edge_storage;
        of_newest += newest.edge_storage;
        outbid += highest.outbid;
    }
    figure("sim.auction.worst_error", worst, "share", (BY_LOAD.len() + BY_EXECUTABLES.len()) as u64);
    figure("sim.auction.scf.earned_over_published", earned / of_newest, "ratio", BY_EXECUTABLES.len() as u64);
    figure("sim.auction.scf.outbid", outbid as f64, "executables", BY_EXECUTABLES.len() as u64);
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Places all replicas together with the default policy, and gives them back.
fn together(of: &TrafficMonitoring, seed: u64) -> Result<Vec<Option<NodeIx>>, (usize, Unplaced)> {
    let (gang, links) = (of.requests(seed).collect::<Vec<_>>(), of.links());
    let holds = Placer::new(Scf::default(), 0).place_all(of.fleet(), &gang, &links)?;
    let nodes = holds.iter().map(Hold::node).map(Some).collect();
    holds.into_iter().for_each(|hold| of.fleet().abort(hold));
    Ok(nodes)
}

/// Polaris' second scenario on the empty cluster: links that are not as asked, of replicas that are placed at random, by
/// Polaris one by one, and together by the default policy.
fn polaris(extent: Extent) -> Result<(), Box<dyn Error>> {
    let seeds = if extent == Extent::Quick { 20 } else { 200 };
    for multiplier in [1, 10] {
        let of = TrafficMonitoring::new(10, multiplier)?;
        let links = of.links().iter().map(|links| links.len() as u64).sum::<u64>() * seeds;
        let count = |arm: &str, runs: &[Vec<Option<NodeIx>>]| {
            let violations: usize = runs.iter().map(|nodes| of.violations(nodes)).sum();
            let unplaced = runs.iter().flatten().filter(|node| node.is_none()).count();
            let per_run = |name: &str, sum: usize| {
                let name = format!("sim.polaris.m{multiplier}.{arm}.{name}");
                figure(&name, sum as f64 / seeds as f64, "1/run", links);
            };
            per_run("violations", violations);
            per_run("unplaced", unplaced);
        };
        let random = |seed| of.in_turn(&mut UniformRandom::new(), false, seed);
        count("random", &(0..seeds).map(random).collect::<Vec<_>>());
        let strictest =
            |policy: Polaris, (at, service): (usize, &Demand)| policy.strictest(service.function, of.strictest(at));
        let told = || of.services().iter().enumerate().fold(Polaris::new(), strictest);
        count("polaris", &(0..seeds).map(|seed| of.in_turn(&mut told(), true, seed)).collect::<Vec<_>>());
        let begin = cpu();
        let runs = (0..seeds).map(|seed| together(&of, seed)).collect::<Result<Vec<_>, _>>();
        let runs = runs.map_err(|(_, unplaced)| unplaced)?;
        let pods = runs.iter().map(Vec::len).sum::<usize>();
        let micros = (cpu() - begin).as_secs_f64() * 1e6 / pods as f64;
        count("scf", &runs);
        figure(&format!("sim.polaris.m{multiplier}.scf.us_per_pod"), micros, "us", pods as u64);
    }
    occupied(seeds)
}

/// The same on clusters that others have taken parts of: placements where an exact solver finds one, and links that are
/// not as asked on them.
fn occupied(seeds: u64) -> Result<(), Box<dyn Error>> {
    let (mut placeable, mut placed, mut violations, mut open) = (0, 0, 0, 0);
    for seed in 0..seeds {
        let of = TrafficMonitoring::new(3, 1 + seed as usize % 3)?;
        exact::occupy(&of, 0.1 * (seed % 5) as f64, seed);
        match exact::is_placeable(&of) {
            None => open += 1,
            Some(false) => {}
            Some(true) => {
                placeable += 1;
                if let Ok(nodes) = together(&of, seed) {
                    placed += 1;
                    violations += of.violations(&nodes);
                }
            }
        }
    }
    figure("sim.polaris.occupied.exact_found", f64::from(placeable), "runs", seeds);
    figure("sim.polaris.occupied.exact_gave_up", f64::from(open), "runs", seeds);
    figure("sim.polaris.occupied.scf_found", f64::from(placed), "runs", seeds);
    figure("sim.polaris.violations", violations as f64 + f64::from(placeable - placed), "links", seeds);
    Ok(())
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
    auction();
    polaris(extent)?;
    vela(extent)?;
    conflicts(extent)
}
