//! Decisions do not allocate, however large the fleet.
#![expect(unsafe_code, reason = "an allocator that counts is how allocations are counted")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use scf_core::{
    ByteSize, Code, Function, FunctionName, MilliCpu, Name, Needs, Node, NodeId, Resources, Tier, Timestamp,
};
use scf_sched::{Fleet, Input, Means, Neighbour, NodeIx, Placer, Random, Request, Scf, Source};

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

/// The only test of this program: another one's allocations would be counted.
#[test]
fn placing_committing_and_giving_back_does_not_allocate() {
    const NODES: usize = 30_000;
    let fleet = Fleet::new();
    let resources = |milli, mib| Resources { cpu: MilliCpu::new(milli), memory: ByteSize::from_mib(mib) };
    for at in 0..NODES {
        let node = Node::new(NodeId::new(&format!("n{at}")).unwrap(), Tier::Edge);
        let site = Name::new(&format!("site-{}", at % 50)).unwrap();
        fleet.join(Arc::new(node.resources(resources(4000, 4096)).site(site))).unwrap();
    }
    for from in 0..50 {
        for to in 0..50 {
            let [from, to] = [from, to].map(|site| fleet.site(&Name::new(&format!("site-{site}")).unwrap()).unwrap());
            let quality = scf_core::LinkQuality::steady(
                std::time::Duration::from_millis(5),
                scf_core::Bandwidth::from_mbit_per_s(100),
            );
            fleet.connect(from, to, Some(quality));
        }
    }
    let name = FunctionName::new("f").unwrap();
    let function = Function::new(name, Code::Native { entry: Name::new("f").unwrap() });
    let function = function.needs(Needs { resources: resources(500, 64), ..Needs::default() });
    let demand = fleet.demand(&function).unwrap();
    let data = fleet.data(&Name::new("d").unwrap(), 1_000_000);
    (0..6).for_each(|at| fleet.set_holder(data, NodeIx::new(at * 4000), true));
    (0..6).for_each(|at| fleet.set_warm(demand.function, NodeIx::new(at * 3000), true));
    let inputs = [Input { source: Source::Data(data), read: 1e6, written: 0.0, within: None }];
    let neighbours = [Neighbour { node: NodeIx::new(9), incoming: 1e5, outgoing: 0.0, link: None }];
    let mut placer = Placer::new(Scf::learning(Means::new(0.05, 0.1)), 0);
    let mut random = Random::new(1);
    let mut decide = |count: u64| {
        for _ in 0..count {
            let now = Timestamp::from_nanos(1);
            let request = Request {
                from: Some(NodeIx::new(random.below(NODES) as u32)),
                inputs: &inputs,
                neighbours: &neighbours,
                ..Request::new(&demand, random.next(), now)
            };
            let hold = placer.place(&fleet, &request).unwrap();
            assert!(fleet.release(fleet.commit(hold, now).unwrap()));
        }
    };
    // The first decisions make the blocks of the index that they are the first to need.
    decide(2000);
    let before = ALLOCATIONS.load(Relaxed);
    decide(5000);
    assert_eq!(ALLOCATIONS.load(Relaxed) - before, 0);
}
