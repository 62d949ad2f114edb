//! What a split decision costs beside what it decides about, and the network itself.
//!
//! Ends with one JSON line per figure for `benches/figures`.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use criterion::Criterion;
use scf::{
    ai::{BlockProfiler, Device, LatencyOptimal, ModelFactory, efficientnet_lite0, from_wire, to_wire},
    core::{
        Activation, Bandwidth, BlockGraph, ByteSize, Bytes, Call, Callee, EdgeCost, FormCost, FunctionName, Host,
        InvokeError, Node, NodeId, Outcome, Path, Slowdown, SplitPlanner, SplitProblem, SplitSpent, Tier, Timestamp,
        WireForm,
    },
};

const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/efficientnet-lite0.safetensors");

/// A camera that knows of a gateway and a cloud.
#[derive(Debug)]
struct Camera(Vec<Arc<Node>>);

fn way(mbit: u64) -> Path {
    let (latency, bandwidth) = (Duration::from_millis(5), Bandwidth::from_mbit_per_s(mbit));
    Path { latency, bandwidth, measured: Timestamp::default() }
}

#[async_trait]
impl Host for Camera {
    fn node(&self) -> &Arc<Node> {
        &self.0[0]
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn hosts_of(&self, _: &FunctionName) -> Vec<Arc<Node>> {
        self.0.clone()
    }

    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        // The gateway is near, the cloud is not.
        Some(way(if from.as_str() == "cloud" || to.as_str() == "cloud" { 20 } else { 100 }))
    }

    async fn pace(&self, cpu: Duration) -> Duration {
        cpu
    }

    async fn invoke(&self, _: &Call, _: u64, callee: Callee) -> Result<Outcome, InvokeError> {
        Err(InvokeError::Unreachable { function: callee.function, node: self.0[0].id.clone() })
    }
}

fn camera() -> Camera {
    let node = |(name, tier, slow): (&str, _, _)| {
        Arc::new(Node::new(NodeId::new(name).expect("a valid name"), tier).slowdown(Slowdown::new(slow)))
    };
    let nodes = [("camera", Tier::Device, 8.0), ("gateway", Tier::Edge, 2.0), ("cloud", Tier::Cloud, 1.0)];
    Camera(nodes.map(node).to_vec())
}

fn picture(graph: &BlockGraph) -> Activation {
    let value = |i: usize| (i * 7919 % 1000) as f32 / 500.0 - 1.0;
    let elements = (0..graph.input.elements().expect("a small shape")).flat_map(|i| value(i).to_le_bytes());
    Activation::new(graph.input.clone(), elements.collect::<Bytes>()).expect("as many elements as the shape has")
}

/// Runs `f` with a chain of `blocks` blocks between a device and a machine ten times faster, like the proof
/// experiments of the literature.
fn with_chain<T>(blocks: u64, f: impl FnOnce(&SplitProblem<'_>) -> T) -> T {
    let times = |slow| (0..blocks).map(move |i| Duration::from_micros((400 + 13 * i) * slow));
    let form = |form, size| FormCost { form, size: ByteSize::from_bytes(size), codec: Duration::from_micros(20) };
    let forms: Vec<_> = (0..blocks)
        .map(|i| [form(WireForm::Exact, 600_000 / (i + 1)), form(WireForm::Int8, 150_000 / (i + 1))])
        .collect();
    let edges: Vec<_> = forms.iter().map(|forms| EdgeCost { forms }).collect();
    f(&SplitProblem {
        nodes: 2,
        names: &[&NodeId::new("device").expect("a valid name"), &NodeId::new("cloud").expect("a valid name")],
        slowdowns: &[Slowdown::new(10.0), Slowdown::NONE],
        blocks: edges.len(),
        first: 0,
        times: &times(10).chain(times(1)).collect::<Vec<_>>(),
        waits: &[Duration::ZERO; 2],
        paths: &[Some(way(20)); 4],
        edges: &edges,
        result: ByteSize::from_bytes(4000),
        draws: &[],
        spent: SplitSpent::NOTHING,
    })
}

/// The median over `rounds` rounds of the mean time of `per_round` calls, in microseconds.
fn median_us(rounds: usize, per_round: u32, mut f: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            (0..per_round).for_each(|_| f());
            start.elapsed().as_secs_f64() * 1e6 / f64::from(per_round)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!("{{\"bar\":\"{bar}\",\"value\":{value:.4},\"unit\":\"{unit}\",\"n\":{n}}}");
}

fn main() {
    let graph = efficientnet_lite0(&std::fs::read(WEIGHTS).expect("the weights"), Device::Cpu).expect("the network");
    let (blocks, input) = (graph.blocks().len(), picture(&graph));
    let factory = ModelFactory::new().with(&graph, LatencyOptimal);
    let (host, function) = (camera(), FunctionName::new("classify").expect("a valid name"));
    measure(factory.profiler(&graph.model).expect("registered"), &host, &graph, &input);
    let decide = || black_box(factory.preview(&graph.model, &host, &function)).expect("registered").expect("a plan");

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("decision");
    with_chain(20, |problem| {
        group.bench_function("chain of 20, two nodes", |b| b.iter(|| LatencyOptimal.plan(black_box(problem))));
    });
    group.bench_function("lite0, three nodes, with its problem", |b| b.iter(decide));
    group.finish();
    let mut group = criterion.benchmark_group("lite0");
    group.bench_function("whole, one thread", |b| b.iter(|| graph.run(0..blocks, black_box(input.clone()))));
    let stem = graph.run(0..1, input.clone()).expect("the stem runs");
    for form in [WireForm::Exact, WireForm::Int8] {
        let there_and_back = || from_wire(&to_wire(black_box(&stem), form).expect("finite")).expect("just written");
        group.bench_function(format!("1.6 MB to {} and back", form.as_str()), |b| b.iter(there_and_back));
    }
    group.finish();
    criterion.final_summary();

    let rounds = if std::env::var_os("SCF_FIGURES_QUICK").is_some() { 21 } else { 201 };
    let chain =
        with_chain(20, |problem| median_us(rounds, 1000, || drop(black_box(LatencyOptimal.plan(black_box(problem))))));
    figure("ai.plan.chain_us", chain, "us", rounds * 1000);
    figure("ai.plan.lite0_three_nodes_us", median_us(rounds, 100, || drop(decide())), "us", rounds * 100);
    let whole = median_us(rounds, 1, || drop(black_box(graph.run(0..blocks, input.clone()))));
    figure("ai.lite0.whole_ms", whole / 1000.0, "ms", rounds);
}

/// Lets the profiler see each block on each node often enough, so that decisions read medians.
fn measure(profiler: &BlockProfiler, host: &Camera, graph: &BlockGraph, input: &Activation) {
    for _ in 0..5 {
        let mut activation = input.clone();
        for (i, block) in graph.blocks().iter().enumerate() {
            let start = Instant::now();
            activation = block.forward(activation).expect("the block takes what the one before it gives");
            let took = start.elapsed();
            host.0.iter().for_each(|node| profiler.observe(node, i, node.slowdown.stretch(took)));
        }
    }
}
