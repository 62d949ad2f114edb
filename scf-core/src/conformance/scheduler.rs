//! Schedulers.

use std::{sync::Arc, time::Duration};

use crate::{
    Accelerator, Area, Bandwidth, Battery, BatteryNeed, ByteSize, ClusterView, Code, Context, Function, FunctionName,
    GeoPoint, Health, LinkNeed, MilliCpu, Name, Needs, Node, NodeId, NodeStatus, Path, Placement, PlacementRequest,
    Resources, ScheduleError, Scheduler, Strength, Tier, Timestamp, Wanted, Zone,
};

/// Clusters that are drawn; each is asked for several functions.
const CLUSTERS: u64 = 200;

/// Holds a scheduler against the contract of [`Scheduler`].
///
/// `make` gives a fresh scheduler. Draws clusters of 1 to 1000 nodes and functions with needs of every kind, and
/// checks each answer against all needs.
///
/// # Panics
/// With a sentence that says what was promised, and the seed of the cluster.
pub fn scheduler(make: impl Fn() -> Arc<dyn Scheduler>) {
    for seed in 0..CLUSTERS {
        let mut random = Random(seed);
        let nodes = if seed % 20 == 0 { 1000 } else { 1 + random.below(12) };
        let view = cluster(&mut random, nodes);
        for _ in 0..4 {
            let function = function(&mut random);
            let from = view.nodes()[random.below(nodes)].node.id.clone();
            check(&*make(), &*make(), &function, &from, &view, seed);
        }
    }
    refuses_an_unknown_caller(&*make());
}

fn check(
    scheduler: &dyn Scheduler,
    twin: &dyn Scheduler,
    function: &Function,
    from: &NodeId,
    view: &ClusterView,
    seed: u64,
) {
    let payload = ByteSize::from_kib(100);
    let request = PlacementRequest { function, from, payload, data: &[], work: Duration::from_millis(5), seed };
    let fitting = (0..view.nodes().len()).filter(|&at| fits(function, from, view, at)).count();
    let answer = scheduler.schedule(&request, view);
    assert_eq!(
        answer,
        twin.schedule(&request, view),
        "cluster {seed}: a decision must be the same for the same request, view and seed"
    );
    explains(twin, &request, answer.as_ref().ok(), view);
    match answer {
        Ok(placement) => {
            let at = view.position(&placement.node);
            let at = at.unwrap_or_else(|| panic!("cluster {seed}: {} is not a node of the view", placement.node));
            assert!(
                fits(function, from, view, at),
                "cluster {seed}: {} does not satisfy every need of {:?}",
                placement.node,
                function.needs
            );
            assert_eq!(
                placement.version,
                view.nodes()[at].version,
                "cluster {seed}: a placement must carry the version of the status that it rests on"
            );
        }
        Err(ScheduleError::Unplaceable { considered, refused }) => {
            assert_eq!(
                fitting, 0,
                "cluster {seed}: {fitting} nodes fit and none was chosen; needs {:?}",
                function.needs
            );
            let counted: u32 = refused.iter().map(|refusal| refusal.nodes).sum();
            assert_eq!(counted, considered, "cluster {seed}: every considered node must be counted by one filter");
        }
        Err(error) => panic!("cluster {seed}: unexpected {error:?}"),
    }
}

fn explains(
    scheduler: &dyn Scheduler,
    request: &PlacementRequest<'_>,
    placement: Option<&Placement>,
    view: &ClusterView,
) {
    let (verdicts, seed) = (scheduler.explain(request, view), request.seed);
    // What surrounds a node is named by schedulers that explain themselves.
    let is_plain = request.function.needs.context == Context::default();
    assert!(
        verdicts.iter().map(|verdict| &verdict.node).eq(view.nodes().iter().map(|status| &status.node.id)),
        "cluster {seed}: every node must be explained, in the order of the view"
    );
    for (at, verdict) in verdicts.iter().enumerate() {
        let is_chosen = placement.is_some_and(|placement| placement.node == verdict.node);
        assert_eq!(verdict.is_chosen, is_chosen, "cluster {seed}: {verdict} must be what is decided");
        assert!(!is_chosen || verdict.refused.is_empty(), "cluster {seed}: {verdict} must not be refused");
        assert!(
            !is_plain || !verdict.refused.is_empty() || fits(request.function, request.from, view, at),
            "cluster {seed}: {verdict} must say which need of {:?} is not satisfied",
            request.function.needs
        );
    }
}

fn refuses_an_unknown_caller(scheduler: &dyn Scheduler) {
    let view = cluster(&mut Random(1), 3);
    let stranger = id("stranger");
    let function = Function::new(FunctionName::new("f").expect("a name"), Code::Native { entry: name("f") });
    let work = Duration::ZERO;
    let request =
        PlacementRequest { function: &function, from: &stranger, payload: ByteSize::ZERO, data: &[], work, seed: 0 };
    let answer = scheduler.schedule(&request, &view);
    let expected = ScheduleError::UnknownCaller { from: stranger.clone() };
    assert_eq!(answer, Err(expected), "a caller that is not in the view must be named");
}

/// Whether a node satisfies every need, by the words of [`Needs`] alone.
fn fits(function: &Function, from: &NodeId, view: &ClusterView, at: usize) -> bool {
    let status = &view.nodes()[at];
    let caller = view.position(from).expect("the caller is drawn from the view");
    let path = view.path(caller, at);
    status.health == Health::Ready
        && function.needs.allow(&status.node)
        && status.free.fits(&function.needs.resources)
        && path.is_some_and(|path| function.needs.within.is_none_or(|within| path.latency <= within))
        && surrounds(&function.needs.context, caller, view, at)
}

/// Whether a node satisfies the hard needs of a [`Context`], by its words alone. The drawn functions ask for one at a
/// time, and of ways only for what a [`Path`] says.
fn surrounds(context: &Context, caller: usize, view: &ClusterView, at: usize) -> bool {
    let node = &view.nodes()[at].node;
    if let Some(Wanted { what: area, strength: Strength::Hard }) = context.area
        && !node.location.is_some_and(|point| area.contains(point))
    {
        return false;
    }
    if let Some(Wanted { what: need, strength: Strength::Hard }) = context.battery
        && node.battery.is_some_and(|battery| battery.percent < need.percent)
    {
        return false;
    }
    if let Some(Wanted { what: need, strength: Strength::Hard }) = context.link {
        let carries = |path: Option<Path>| path.is_some_and(|path| path.bandwidth >= need.bandwidth);
        return carries(view.path(caller, at)) && carries(view.path(at, caller));
    }
    true
}

fn cluster(random: &mut Random, nodes: usize) -> ClusterView {
    const TIERS: [Tier; 4] = [Tier::Device, Tier::Edge, Tier::Region, Tier::Cloud];
    let statuses: Vec<NodeStatus> = (0..nodes)
        .map(|at| {
            let total = resources(random.below(8) as u32 + 1, random.below(8) as u64 + 1);
            let mut node = Node::new(id(&format!("n{at}")), TIERS[random.below(4)]).resources(total);
            if random.below(2) == 0 {
                node = node.zone(zone(random.below(2)));
            }
            if random.below(4) == 0 {
                node = node.accelerators(Accelerator::Npu, 1 + random.below(3) as u16);
            }
            if random.below(2) == 0 {
                node = node.region(zone(random.below(2))).label(name("arm"));
            }
            if random.below(2) == 0 {
                node = node.at(GeoPoint::degrees(48.0 + random.below(20) as f64 / 10.0, 16.0), 0.0);
            }
            if random.below(3) == 0 {
                node = node.battery(Battery { watt_hours: 20, percent: random.below(101) as u8 });
            }
            let free = resources(
                random.below(total.cpu.milli() as usize / 1000 + 1) as u32,
                random.below((total.memory.bytes() >> 30) as usize + 1) as u64,
            );
            let health = match random.below(6) {
                0 => Health::Draining,
                1 => Health::Unreachable,
                _ => Health::Ready,
            };
            let (load, version) = (random.below(20) as u32, random.next());
            NodeStatus { node: Arc::new(node), free, load, health, version }
        })
        .collect();
    let ids: Vec<NodeId> = statuses.iter().map(|status| status.node.id.clone()).collect();
    let mut view = ClusterView::new(Timestamp::from_nanos(random.next() >> 20), statuses);
    // A few callers' ways in large clusters, all of them in small ones.
    for from in ids.iter().take(32) {
        for to in &ids {
            if from != to && random.below(5) > 0 {
                let latency = Duration::from_millis(random.below(60) as u64);
                let bandwidth = Bandwidth::from_mbit_per_s(random.below(100) as u64 + 1);
                view = view.with_path(from, to, Path { latency, bandwidth, measured: Timestamp::default() });
            }
        }
    }
    view
}

fn function(random: &mut Random) -> Function {
    let mut needs = Needs::default();
    if random.below(2) == 0 {
        needs.resources = resources(random.below(4) as u32, random.below(4) as u64);
    }
    let strength = |random: &mut Random| match random.below(3) {
        0 => Strength::Soft(Duration::from_millis(50)),
        _ => Strength::Hard,
    };
    match random.below(12) {
        0 => needs.tiers = vec![Tier::Edge, Tier::Cloud],
        1 => needs.nodes = vec![id("n0"), id("n3")],
        2 => needs.accelerator = Some(Accelerator::Npu),
        3 => needs.zone = Some(zone(random.below(2))),
        4 => needs.within = Some(Duration::from_millis(20)),
        5 => (needs.accelerator, needs.accelerator_units) = (Some(Accelerator::Npu), 2),
        6 => needs.regions = vec![zone(random.below(2))],
        7 => needs.labels = vec![name("arm")],
        8 => {
            let what = Area { centre: GeoPoint::degrees(48.5, 16.0), metres: 40_000 };
            needs.context.area = Some(Wanted { what, strength: strength(random) });
        }
        9 => {
            let what = BatteryNeed { percent: 50, share: 1_000_000 };
            needs.context.battery = Some(Wanted { what, strength: strength(random) });
        }
        10 => {
            let what = LinkNeed { bandwidth: Bandwidth::from_mbit_per_s(30), ..LinkNeed::default() };
            needs.context.link = Some(Wanted { what, strength: strength(random) });
        }
        _ => {}
    }
    Function::new(FunctionName::new("f").expect("a name"), Code::Native { entry: name("f") }).needs(needs)
}

const fn resources(cores: u32, gib: u64) -> Resources {
    Resources { cpu: MilliCpu::from_cores(cores), memory: ByteSize::from_mib(gib * 1024) }
}

fn id(text: &str) -> NodeId {
    NodeId::new(text).expect("a name")
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn zone(number: usize) -> Zone {
    Zone::new(if number == 0 { "plant" } else { "office" }).expect("a name")
}

/// SplitMix64, so that a cluster is known by its seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
