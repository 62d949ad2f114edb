//! What a decision costs: `cargo bench -p scf-sched --bench sched`, with `-- --quick` for less.
//!
//! The same requests over a fleet of 10,000 and one of 1,000,000 nodes, in turns. A decision is what the default policy
//! does for a call until a node is held for it; the hold is committed and given back before the next one. Latencies
//! are wall time of one decision each, throughput is decisions by the CPU time of the thread.
#![expect(unsafe_code, reason = "an allocator that counts is how allocations are counted")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    error::Error,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use scf_core::{
    Accelerator, Bandwidth, ByteSize, Code, Function, FunctionName, LinkQuality, MilliCpu, Name, Needs, Node, NodeId,
    Resources, Tier, Timestamp,
};
use scf_sched::{
    Demand, Estimator, Fleet, Input, Means, NodeIx, Placer, ProfileKey, Random, Request, Scf, Source, fleet::Claim,
};

const SITES: usize = 256;
/// Nodes that are as good as full: their free amount fits none of the functions.
const FULL: f64 = 0.5;

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator, with a counter beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A fleet, and functions with their data on it.
struct Arm {
    nodes: usize,
    fleet: Fleet,
    demands: [Demand; 3],
    inputs: Vec<[Input; 1]>,
    placer: Placer<Scf<scf_sched::place::CompletionTime<Arc<Means>>>>,
    latencies: Vec<u32>,
    cpu: Duration,
    decisions: u64,
    allocations: u64,
}

impl Arm {
    fn new(nodes: usize) -> Result<Self, Box<dyn Error>> {
        let fleet = Fleet::new();
        let mut random = Random::new(7);
        let sites = (0..SITES).map(|site| Name::new(&format!("site-{site}"))).collect::<Result<Vec<_>, _>>()?;
        for at in 0..nodes {
            fleet.join(Arc::new(node(at, sites[random.below(SITES)].clone())?))?;
        }
        connect(&fleet, &sites, &mut random)?;
        let full = scf_sched::fleet::Need::new(resources(0, 0), 1).ok_or("a need")?;
        let mut kept: Vec<Claim> = Vec::new();
        for at in 0..nodes {
            if (random.next() as f64) < FULL * u64::MAX as f64 {
                let node = NodeIx::new(at as u32);
                let slots = fleet.look(node).ok_or("a node")?.free().slots();
                for _ in 0..slots {
                    kept.push(fleet.claim(node, full)?);
                }
            }
        }
        drop(kept);
        let means = Arc::new(Means::new(0.05, 0.5));
        let mut demands = Vec::new();
        let mut inputs = Vec::new();
        // Preprocessing, training and serving of the published profiles (device, GPU device, edge, cloud).
        let times = [[73.0, 0.45, 0.10, 0.78], [600.0, 18.8, 36.2, 161.0], [1.9, 0.6, 0.2, 0.6]];
        for (position, (name, mib, accelerator, bytes)) in [
            ("prepare", 100, None, 221e6),
            ("train", 1024, Some(Accelerator::Cuda), 211e6),
            ("serve", 200, None, 1.5e6),
        ]
        .into_iter()
        .enumerate()
        {
            let needs = Needs { resources: resources(100, mib), accelerator, ..Needs::default() };
            let function =
                Function::new(FunctionName::new(name)?, Code::Native { entry: Name::new(name)? }).needs(needs);
            let data = fleet.data(&Name::new(&format!("data-{name}"))?, bytes as u64);
            let key = |class: &str| -> Option<ProfileKey> {
                let named = |at: usize| {
                    fleet
                        .node(NodeIx::new(at as u32))
                        .is_some_and(|node| node.class.as_ref().is_some_and(|c| c.as_str() == class))
                };
                let at = (0..20).find(|at| named(*at))?;
                let class = fleet.look(NodeIx::new(at as u32))?.class();
                Some(ProfileKey { function: fleet.function(&function), input: 0, class })
            };
            for (class, seconds) in ["device", "gpu", "edge", "cloud"].into_iter().zip(times[position]) {
                means.observed(key(class).ok_or("a class")?, seconds);
            }
            for _ in 0..8 {
                fleet.set_holder(data, NodeIx::new(random.below(nodes) as u32), true);
                fleet.set_warm(fleet.function(&function), NodeIx::new(random.below(nodes) as u32), true);
            }
            demands.push(fleet.demand(&function)?);
            inputs.push([Input { source: Source::Data(data), read: bytes, written: bytes / 100.0, within: None }]);
        }
        let demands = demands.try_into().map_err(|_| "three demands")?;
        let placer = Placer::new(Scf::learning(means), 0);
        let (latencies, cpu) = (Vec::new(), Duration::ZERO);
        Ok(Self { nodes, fleet, demands, inputs, placer, latencies, cpu, decisions: 0, allocations: 0 })
    }

    /// Decides `count` times and notes how long each took.
    fn run(&mut self, count: usize, random: &mut Random, is_timed: bool) -> Result<(), Box<dyn Error>> {
        let before = ALLOCATIONS.load(Relaxed);
        let cpu = thread_cpu();
        for at in 0..count {
            let which = at % self.demands.len();
            let now = Timestamp::from_nanos(at as u64);
            let request = Request {
                from: Some(NodeIx::new(random.below(self.nodes) as u32)),
                payload: 2e4,
                reply: 1e3,
                inputs: &self.inputs[which],
                ..Request::new(&self.demands[which], random.next(), now)
            };
            let hold = if is_timed {
                let start = Instant::now();
                let hold = self.placer.place(&self.fleet, &request)?;
                self.latencies.push(u32::try_from(start.elapsed().as_nanos())?);
                hold
            } else {
                self.placer.place(&self.fleet, &request)?
            };
            let claim = self.fleet.commit(black_box(hold), now)?;
            self.fleet.release(claim);
        }
        if !is_timed {
            self.cpu += thread_cpu() - cpu;
            self.decisions += count as u64;
        }
        self.allocations += ALLOCATIONS.load(Relaxed) - before;
        Ok(())
    }

    fn quantile(&mut self, share: f64) -> f64 {
        self.latencies.sort_unstable();
        f64::from(self.latencies[((self.latencies.len() - 1) as f64 * share) as usize]) / 1000.0
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let is_quick = std::env::args().any(|arg| arg == "--quick");
    let (rounds, batch) = if is_quick { (4, 20_000) } else { (20, 50_000) };
    let mut small = Arm::new(10_000)?;
    let mut large = Arm::new(1_000_000)?;
    let mut random = Random::new(99);
    for arm in [&mut small, &mut large] {
        arm.run(batch, &mut random, false)?;
        (arm.cpu, arm.decisions, arm.allocations) = (Duration::ZERO, 0, 0);
        arm.latencies.reserve(rounds * batch);
    }
    for _ in 0..rounds {
        for arm in [&mut small, &mut large] {
            arm.run(batch, &mut random, true)?;
            arm.run(batch, &mut random, false)?;
        }
    }
    let n = rounds * batch;
    let (p50, p99, of_small) = (large.quantile(0.5), large.quantile(0.99), small.quantile(0.5));
    figure("sched.decide_1m.p50_us", p50, "us", n);
    figure("sched.decide_1m.p99_us", p99, "us", n);
    figure("sched.decide.growth", p50 / of_small, "ratio", n);
    let allocations = small.allocations + large.allocations;
    figure("sched.decide.allocs", allocations as f64 / (4 * n) as f64, "allocs", 4 * n);
    figure("sched.decisions_per_core", large.decisions as f64 / large.cpu.as_secs_f64(), "1/s", n);
    figure("sched.decisions_per_core_10k", small.decisions as f64 / small.cpu.as_secs_f64(), "1/s", n);
    Ok(())
}

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!("{{\"bar\":\"{bar}\",\"value\":{value:.4},\"unit\":\"{unit}\",\"n\":{n}}}");
}

/// Of 20 nodes 12 devices, 5 with a GPU, 2 edge servers, one of a cloud.
fn node(at: usize, site: Name) -> Result<Node, Box<dyn Error>> {
    let id = NodeId::new(&format!("n{at}"))?;
    let (tier, class, cores, mib, gpus) = match at % 20 {
        0..12 => (Tier::Device, "device", 4, 1024, 0),
        12..17 => (Tier::Device, "gpu", 4, 8192, 2),
        17..19 => (Tier::Edge, "edge", 4, 16_384, 1),
        _ => (Tier::Cloud, "cloud", 16, 65_536, 8),
    };
    let node = Node::new(id, tier).resources(resources(cores * 1000, mib)).class(Name::new(class)?).site(site).slots(4);
    Ok(if gpus > 0 { node.accelerators(Accelerator::Cuda, gpus) } else { node })
}

const fn resources(milli: u32, mib: u64) -> Resources {
    Resources { cpu: MilliCpu::new(milli), memory: ByteSize::from_mib(mib) }
}

fn connect(fleet: &Fleet, sites: &[Name], random: &mut Random) -> Result<(), Box<dyn Error>> {
    for from in sites {
        for to in sites {
            let latency = Duration::from_micros(200 + random.below(40_000) as u64);
            let bandwidth = Bandwidth::from_mbit_per_s(10 + random.below(1000) as u64);
            fleet.connect(fleet.site(from)?, fleet.site(to)?, Some(LinkQuality::steady(latency, bandwidth)));
        }
    }
    Ok(())
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
