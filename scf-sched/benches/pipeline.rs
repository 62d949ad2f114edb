//! Decisions per CPU second on the cluster of benches/side-by-side/skippy, which runs this beside Skippy:
//! `cargo bench -p scf-sched --bench pipeline -- NODES SECONDS`; without them 1,000 nodes and a second.

use std::{error::Error, hint::black_box, sync::Arc, time::Duration};

use scf_core::{
    Accelerator, Bandwidth, ByteSize, Code, Function, FunctionName, LinkQuality, MilliCpu, Name, Needs, Node, NodeId,
    Resources, Tier, Timestamp,
};
use scf_sched::{Demand, Fleet, Input, NodeIx, Placer, Request, Scf, Source, fleet::DataIx};

const MIB: f32 = 1_048_576.0;
/// Buckets, each with the three objects of the pipeline.
const BUCKETS: usize = 64;
const OBJECTS: [(&str, f32); 3] = [("raw", 12.0 * MIB), ("train", 209.0 * MIB), ("model", 1500.0 * 1024.0)];
/// Function, MiB, GPU, object that is read, bytes that are written beside it.
const FUNCTIONS: [(&str, u64, bool, usize, f32); 3] =
    [("prepare", 100, false, 0, 209.0 * MIB), ("train", 1024, true, 1, 1500.0 * 1024.0), ("serve", 200, false, 2, 0.0)];

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<f64>().ok());
    let nodes = numbers.next().unwrap_or(1000.0) as usize;
    let seconds = Duration::from_secs_f64(numbers.next().unwrap_or(1.0));
    let fleet = Fleet::new();
    for at in 0..nodes {
        fleet.join(Arc::new(node(at)?))?;
    }
    connect(&fleet)?;
    let demands = FUNCTIONS.into_iter().map(|function| demand(&fleet, function)).collect::<Result<Vec<_>, _>>()?;
    let data = objects(&fleet, nodes)?;
    let mut placer = Placer::new(Scf::default(), 0);
    let (mut done, start) = (0_usize, thread_cpu());
    loop {
        for _ in 0..300 {
            let which = done % 3;
            let (_, _, _, read, written) = FUNCTIONS[which];
            let source = Source::Data(data[done % BUCKETS][read]);
            let inputs = [Input { source, read: OBJECTS[read].1, written, within: None }];
            let now = Timestamp::from_nanos(done as u64);
            let request = Request { inputs: &inputs, ..Request::new(&demands[which], done as u64, now) };
            let hold = placer.place(&fleet, &request)?;
            fleet.release(fleet.commit(black_box(hold), now)?);
            done += 1;
        }
        let spent = thread_cpu() - start;
        if spent >= seconds {
            let rate = done as f64 / spent.as_secs_f64();
            println!("{{\"nodes\":{nodes},\"decisions\":{done},\"decisions_per_cpu_s\":{rate:.1}}}");
            return Ok(());
        }
    }
}

/// Of 20 nodes 12 single-board computers, 5 with a GPU, an edge server, a storage node, a virtual machine of a cloud.
fn node(at: usize) -> Result<Node, Box<dyn Error>> {
    let (tier, class, gib) = match at % 20 {
        0..12 => (Tier::Device, "rpi", 1),
        12..17 => (Tier::Edge, "jetson", 8),
        17 | 18 => (Tier::Edge, "nuc", 16),
        _ => (Tier::Cloud, "cloud", 8),
    };
    let site = Name::new(if tier == Tier::Cloud { "cloud" } else { "edge" })?;
    let node = Node::new(NodeId::new(&format!("n{at}"))?, tier).resources(resources(4000, gib * 1024));
    let node = node.class(Name::new(class)?).site(site);
    Ok(if class == "jetson" { node.accelerator(Accelerator::Cuda) } else { node })
}

/// 10 Mbit/s between nodes of the edge, 100 Mbit/s between edge and cloud, 1 Gbit/s inside the cloud.
fn connect(fleet: &Fleet) -> Result<(), Box<dyn Error>> {
    let [edge, cloud] = [fleet.site(&Name::new("edge")?)?, fleet.site(&Name::new("cloud")?)?];
    for (from, to, mbit) in [(edge, edge, 10), (edge, cloud, 100), (cloud, edge, 100), (cloud, cloud, 1000)] {
        let quality = LinkQuality::steady(Duration::from_millis(1), Bandwidth::from_mbit_per_s(mbit));
        fleet.connect(from, to, Some(quality));
    }
    Ok(())
}

fn demand(fleet: &Fleet, (name, mib, has_gpu, ..): (&str, u64, bool, usize, f32)) -> Result<Demand, Box<dyn Error>> {
    let accelerator = has_gpu.then_some(Accelerator::Cuda);
    let needs = Needs { resources: resources(100, mib), accelerator, ..Needs::default() };
    let function = Function::new(FunctionName::new(name)?, Code::Native { entry: Name::new(name)? });
    Ok(fleet.demand(&function.needs(needs))?)
}

/// The objects of each bucket, all on one of the storage nodes.
fn objects(fleet: &Fleet, nodes: usize) -> Result<Vec<[DataIx; 3]>, Box<dyn Error>> {
    let stores: Vec<usize> = (0..nodes).filter(|at| at % 20 == 18).collect();
    let bucket = |bucket: usize| -> Result<[DataIx; 3], Box<dyn Error>> {
        let store = NodeIx::new(stores[bucket % stores.len()] as u32);
        let mut objects = [DataIx::default(); 3];
        for (object, (name, bytes)) in objects.iter_mut().zip(OBJECTS) {
            *object = fleet.data(&Name::new(&format!("b{bucket}-{name}"))?, bytes as u64);
            fleet.set_holder(*object, store, true);
        }
        Ok(objects)
    };
    (0..BUCKETS).map(bucket).collect()
}

const fn resources(milli: u32, mib: u64) -> Resources {
    Resources { cpu: MilliCpu::new(milli), memory: ByteSize::from_mib(mib) }
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
