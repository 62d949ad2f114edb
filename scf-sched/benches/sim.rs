//! What the simulator says and what it costs: `cargo bench -p scf-sched --features sim --bench sim`, with `-- --quick` for
//! fewer requests and nodes.
//!
//! The published scenarios of Skippy with its columns beside the default policy's, in the same runs; the speed of a run
//! by the CPU time of its thread; a million nodes on which ten million calls are placed one by one.

use std::{error::Error, fs, sync::Arc, time::Duration};

use scf_core::{
    Bandwidth, ByteSize, Code, Function, FunctionName, LinkQuality, MilliCpu, Name, Node, NodeId, Resources, Slowdown,
    Tier,
};
use scf_sched::{
    Fleet, Scf,
    place::CompletionTime,
    sim::{CallKind, Calls, CallsReport, Distribution, Origin, PolicyKind, Report, Scenario, Times},
};

const KUBE: PolicyKind = PolicyKind::Kube { percent: 100 };
const LEARNED: PolicyKind = PolicyKind::Scf { times: Times::Learned, uplink_mb: None };
const SITES: usize = 256;

fn figure(bar: &str, value: f64, unit: &str, n: u64) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Most memory that the process has had, in GiB.
fn peak_gib() -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number in VmHWM")?.parse()?;
    Ok(kib / f64::from(1 << 20))
}

/// Means over the seeds of a scenario: seconds per request, gigabytes over uplinks, requests in all.
fn mean(scenario: &Scenario, policy: PolicyKind, seeds: u64) -> Result<(f64, f64, u64), Box<dyn Error>> {
    let mut runs: Vec<Report> = Vec::new();
    for seed in 1..=seeds {
        runs.push(scenario.run(policy, seed, |_| ())?);
    }
    let n = runs.len() as f64;
    let seconds = runs.iter().map(|run| run.took.mean()).sum::<f64>() / n;
    let gigabytes = runs.iter().map(|run| run.uplink_bytes / 1e9).sum::<f64>() / n;
    Ok((seconds, gigabytes, runs.iter().map(Report::invocations).sum()))
}

fn shipped(name: &str) -> Result<Scenario, Box<dyn Error>> {
    Ok(Scenario::shipped(name).ok_or("no such scenario")??)
}

fn published(quick: bool) -> Result<(), Box<dyn Error>> {
    let seeds = if quick { 10 } else { 40 };
    let known = |uplink_mb| PolicyKind::Scf { times: Times::Known, uplink_mb };

    let urban = shipped("urban-sensing")?;
    let (seconds, gigabytes, n) = mean(&urban, LEARNED, seeds)?;
    figure("sim.urban.fet_learned_s", seconds, "s", n);
    figure("sim.urban.uplink_gb", gigabytes, "GB", n);
    let (seconds, _, n) = mean(&urban, known(None), seeds)?;
    figure("sim.urban.fet_known_s", seconds, "s", n);

    let iiot = shipped("industrial-iot")?;
    let (seconds, gigabytes, n) = mean(&iiot, LEARNED, seeds)?;
    figure("sim.iiot.fet_learned_s", seconds, "s", n);
    figure("sim.iiot.uplink_learned_gb", gigabytes, "GB", n);
    let (seconds, gigabytes, n) = mean(&iiot, known(Some(34.0)), seeds)?;
    figure("sim.iiot.fet_known_s", seconds, "s", n);
    figure("sim.iiot.uplink_known_gb", gigabytes, "GB", n);
    let (seconds, gigabytes, n) = mean(&iiot, known(Some(17.0)), seeds)?;
    figure("sim.iiot.fet_thrifty_s", seconds, "s", n);
    figure("sim.iiot.uplink_thrifty_gb", gigabytes, "GB", n);

    let cloud = shipped("cloud-regions")?;
    for (room, scenario, seeds) in [("urban", &urban, seeds), ("iiot", &iiot, seeds), ("cloud", &cloud, 3)] {
        for (arm, policy) in [("kube", KUBE), ("skippy", PolicyKind::Skippy)] {
            let (seconds, gigabytes, n) = mean(scenario, policy, seeds)?;
            figure(&format!("sim.{room}.{arm}.fet_s"), seconds, "s", n);
            figure(&format!("sim.{room}.{arm}.uplink_gb"), gigabytes, "GB", n);
        }
    }
    Ok(())
}

/// Requests of the urban scenario by CPU second of the thread, set-up included.
fn speed(quick: bool) -> Result<(), Box<dyn Error>> {
    let invocations = if quick { 200_000 } else { 2_000_000 };
    let scenario = shipped("urban-sensing")?.with_invocations(invocations);
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = cpu();
        let report = scenario.run(LEARNED, 1, |_| ())?;
        best = best.min((cpu() - start).as_secs_f64() / report.invocations() as f64);
    }
    figure("sim.invocations_per_cpu_s", 1.0 / best, "1/s", invocations);
    Ok(())
}

/// Four kinds of machines at 256 places that are the further apart the more their numbers differ.
fn world(nodes: usize) -> Result<(Fleet, Vec<Origin>), Box<dyn Error>> {
    let fleet = Fleet::new();
    let mut origins: Vec<Origin> =
        (0..SITES).map(|_| Origin { nodes: Vec::new(), rate: 0.2 * nodes as f64 / SITES as f64 }).collect();
    let site = |number: usize| Name::new(&format!("site-{number}"));
    for number in 0..nodes {
        let at = number % SITES;
        let (class, slowdown) = [("rpi4", 8.0), ("nano", 5.0), ("nuc", 2.0), ("xeon", 1.0)][number / SITES % 4];
        let tier = if class == "xeon" { Tier::Cloud } else { Tier::Edge };
        let resources = Resources { cpu: MilliCpu::from_cores(4), memory: ByteSize::from_mib(4096) };
        let node = Node::new(NodeId::new(&format!("node-{number}"))?, tier)
            .resources(resources)
            .class(Name::new(class)?)
            .slowdown(Slowdown::new(slowdown))
            .site(site(at)?);
        origins[at].nodes.push(fleet.join(Arc::new(node))?);
    }
    let sites = (0..SITES).map(|number| Ok(fleet.site(&site(number)?)?)).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    for (a, from) in sites.iter().enumerate() {
        for (b, to) in sites.iter().enumerate().filter(|(b, _)| *b != a) {
            let quality = LinkQuality {
                latency: Duration::from_micros(500 + 200 * a.abs_diff(b) as u64),
                bandwidth: Bandwidth::from_mbit_per_s(100),
                jitter: Duration::ZERO,
                loss: 0,
            };
            fleet.connect(*from, *to, Some(quality));
        }
    }
    Ok((fleet, origins))
}

fn calls(nodes: usize, calls: u64) -> Result<(CallsReport, Duration), Box<dyn Error>> {
    let (fleet, origins) = world(nodes)?;
    let kinds = [
        ("thumbnail", 200, 64, 0.02, 1e4, 6.0),
        ("detect", 1000, 256, 0.1, 1e5, 3.0),
        ("answer", 2000, 1024, 0.4, 2e3, 1.0),
    ];
    let kinds = kinds.into_iter().map(|(name, milli, mib, mean, payload, weight)| {
        let mut function = Function::new(FunctionName::new(name)?, Code::Native { entry: Name::new(name)? });
        function.needs.resources = Resources { cpu: MilliCpu::new(milli), memory: ByteSize::from_mib(mib) };
        let (demand, takes) = (fleet.demand(&function)?, Distribution::Exponential { shift: 0.005, mean });
        Ok(CallKind { demand, takes, payload, reply: 1e3, weight })
    });
    let kinds = kinds.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let start = cpu();
    let report = Calls::new(&fleet, Scf::new(CompletionTime::default()), kinds, origins, 1).run(calls, |_| ());
    Ok((report, cpu() - start))
}

fn million(quick: bool) -> Result<(), Box<dyn Error>> {
    let (nodes, wanted) = if quick { (100_000, 300_000) } else { (1_000_000, 10_000_000) };
    let (report, took) = calls(nodes, wanted)?;
    assert_eq!((report.done, report.refused), (wanted, 0), "every call is placed");
    figure("sim.million_nodes_gib", peak_gib()?, "GiB", report.done);
    figure("sim.million_nodes.calls_per_cpu_s", report.done as f64 / took.as_secs_f64(), "1/s", report.done);
    if quick {
        let (again, _) = calls(nodes, wanted)?;
        let differs = f64::from(u8::from(again.log != report.log));
        figure("sim.reruns_that_differ", differs, "runs", again.log.events());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    published(quick)?;
    speed(quick)?;
    million(quick)
}
