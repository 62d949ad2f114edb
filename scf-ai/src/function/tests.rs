use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use scf_core::{
    Activation, Bandwidth, BlockCost, ByteSize, Call, Callee, DType, Flow, FunctionName, Host, InvocationId, LimitKind,
    ManualClock, MediaType, ModelBlock, ModelError, Node, NodeId, Outcome, Path, Payload, PlanError, Receipt, Reply,
    Segment, Slowdown, SplitPlan, SplitProblem, TenantName, TensorSpec, Tier, Timestamp, WireForm,
};

use super::*;
use crate::{FixedSplit, LatencyOptimal, tensor::little_endian};

mod network;
mod offloaded;
mod spending;

/// Multiplies by two and adds its number.
#[derive(Debug)]
struct Affine {
    name: String,
    number: f32,
    flops: u64,
}

impl ModelBlock for Affine {
    fn name(&self) -> &str {
        &self.name
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        Ok(input.clone())
    }

    fn cost(&self, _: &TensorSpec) -> BlockCost {
        BlockCost { flops: self.flops, ..BlockCost::default() }
    }

    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact, WireForm::Int8]
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        let bytes = input.bytes().unwrap();
        let out: Vec<f32> = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b) * 2.0 + self.number).collect();
        Ok(Activation::new(input.spec, little_endian(&out)).unwrap())
    }
}

const BLOCKS: usize = 6;

fn graph() -> BlockGraph {
    let block = |i: usize| {
        let block = Affine { name: format!("block{i}"), number: i as f32, flops: 40_000_000 };
        Arc::new(block) as Arc<dyn ModelBlock>
    };
    let input = TensorSpec::new(DType::F32, &[1, 4]);
    BlockGraph::chain(ModelName::new("affine").unwrap(), input, (0..BLOCKS).map(block).collect()).unwrap()
}

fn input() -> Payload {
    let spec = TensorSpec::new(DType::F32, &[1, 4]);
    Activation::new(spec, little_endian(&[0.0, 1.0, -1.0, 0.5])).unwrap().encode().unwrap()
}

/// What all blocks make of [`input`].
fn expected() -> Vec<u8> {
    let whole = graph().run(0..BLOCKS, Activation::decode(&input()).unwrap()).unwrap();
    whole.bytes().unwrap().to_vec()
}

fn elements(payload: &Payload) -> Vec<u8> {
    Activation::decode(payload).unwrap().bytes().unwrap().to_vec()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// Nodes in one process that call one another directly.
#[derive(Debug)]
struct Net {
    nodes: Vec<Arc<Node>>,
    prepared: HashMap<NodeId, Arc<dyn Prepared>>,
    profilers: HashMap<NodeId, Arc<BlockProfiler>>,
    unreachable: HashSet<NodeId>,
    silent: HashSet<NodeId>,
    path: Path,
    calls: Mutex<Vec<(NodeId, NodeId, u64)>>,
}

#[derive(Debug)]
struct At(Arc<Net>, Arc<Node>);

#[async_trait]
impl Host for At {
    fn node(&self) -> &Arc<Node> {
        &self.1
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn hosts_of(&self, _: &FunctionName) -> Vec<Arc<Node>> {
        self.0.nodes.clone()
    }

    fn path(&self, _: &NodeId, _: &NodeId) -> Option<Path> {
        Some(self.0.path)
    }

    async fn pace(&self, cpu: Duration) -> Duration {
        self.1.slowdown.stretch(cpu)
    }

    async fn invoke(&self, call: &Call, step: u64, callee: Callee) -> Result<Outcome, InvokeError> {
        let node = callee.node.unwrap();
        self.0.calls.lock().unwrap().push((self.1.id.clone(), node.clone(), step));
        // No hop is over when it is first asked for, however the threads that compute are scheduled.
        tokio::task::yield_now().await;
        if self.0.silent.contains(&node) {
            std::future::pending::<()>().await;
        }
        if self.0.unreachable.contains(&node) {
            return Err(InvokeError::Unreachable { function: callee.function, node });
        }
        let reply = self.0.run(call.id.child(step), &node, callee.payload).await?;
        let mut receipt = Receipt::new(callee.function, TenantName::default(), node);
        receipt.usage = reply.usage;
        receipt.spans = reply.spans;
        receipt.calls = reply.calls;
        Ok(Outcome { payload: reply.payload, receipt })
    }
}

impl Net {
    /// One factory per node, as in a fleet: what a node knows of another it has from receipts.
    async fn new<P: SplitPlanner>(slowdowns: &[(&str, f32)], planner: impl Fn() -> P) -> Self {
        let function = Function::model(FunctionName::new("f").unwrap(), ModelName::new("affine").unwrap());
        let (mut nodes, mut prepared, mut profilers) = (Vec::new(), HashMap::new(), HashMap::new());
        for &(name, slowdown) in slowdowns {
            let id = NodeId::new(name).unwrap();
            nodes.push(Arc::new(Node::new(id.clone(), Tier::Device).slowdown(Slowdown::new(slowdown))));
            let factory = ModelFactory::new().with(&graph(), planner());
            profilers.insert(id.clone(), factory.profiler(&graph().model).unwrap().clone());
            prepared.insert(id, factory.prepare(&function).await.unwrap());
        }
        let path = Path {
            latency: Duration::from_micros(100),
            bandwidth: Bandwidth::from_mbit_per_s(100),
            measured: Timestamp::default(),
        };
        let (unreachable, silent) = Default::default();
        Self { nodes, prepared, profilers, unreachable, silent, path, calls: Mutex::default() }
    }

    fn run<'a>(
        self: &'a Arc<Self>,
        id: InvocationId,
        node: &'a NodeId,
        payload: Payload,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Reply, InvokeError>> + Send + 'a>> {
        Box::pin(async move {
            let function = FunctionName::new("f").unwrap();
            let here = self.nodes.iter().find(|n| n.id == *node).unwrap().clone();
            let deadline = Timestamp::default() + Duration::from_secs(30);
            let call = Call::new(id, function, TenantName::default(), deadline, Arc::new(At(self.clone(), here)));
            self.prepared[node].instantiate().await?.invoke(&call, payload).await
        })
    }

    /// Runs [`input`] from the first node on.
    async fn start(self: &Arc<Self>, payload: Payload) -> Result<(Payload, Receipt), InvokeError> {
        let first = self.nodes[0].id.clone();
        let reply = self.run(InvocationId::new(1), &first, payload).await?;
        let mut receipt = Receipt::new(FunctionName::new("f").unwrap(), TenantName::default(), first);
        receipt.usage = reply.usage;
        receipt.spans = reply.spans;
        receipt.calls = reply.calls;
        Ok((reply.payload, receipt))
    }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

#[tokio::test]
async fn a_fixed_chain_runs_each_block_once_where_it_was_told() {
    let split =
        || FixedSplit::here().hand_over(2, node("gw"), WireForm::Exact).hand_over(5, node("cloud"), WireForm::Exact);
    let net = Arc::new(Net::new(&[("cam", 1.0), ("gw", 1.0), ("cloud", 1.0)], split).await);
    let (payload, receipt) = net.start(input()).await.unwrap();
    assert_eq!(elements(&payload), expected());
    let trace = SplitTrace::of(&receipt);
    assert_eq!(trace.to_string(), "cam block0..block1 > gw block2..block4 > cloud block5");
    assert_eq!(receipt.calls.len(), 1);
    assert_eq!(Activation::decode(&payload).unwrap().resume, None);
}

#[tokio::test]
async fn everything_elsewhere_starts_there_with_the_first_block() {
    let net = Arc::new(Net::new(&[("cam", 1.0), ("cloud", 1.0)], || FixedSplit::all_on(node("cloud"))).await);
    let (payload, receipt) = net.start(input()).await.unwrap();
    assert_eq!(elements(&payload), expected());
    assert_eq!(SplitTrace::of(&receipt).to_string(), "cloud block0..block5");
}

#[tokio::test]
async fn an_eight_bit_hop_is_restored_before_the_next_block() {
    let split = || FixedSplit::here().hand_over(3, node("cloud"), WireForm::Int8);
    let net = Arc::new(Net::new(&[("cam", 1.0), ("cloud", 1.0)], split).await);
    let (payload, receipt) = net.start(input()).await.unwrap();
    assert!(receipt.calls[0].spans.iter().any(|span| span.name == trace::DECODE));
    // The tensor spans 16 at the cut; the three blocks behind it double a step of 16/255 three times.
    for (a, e) in floats(&elements(&payload)).iter().zip(floats(&expected())) {
        assert!((a - e).abs() <= 16.0 / 255.0 * 8.0, "{a} is not {e}");
    }
}

#[tokio::test]
async fn the_fast_node_gets_the_work_and_the_bills_teach_its_speed() {
    let net = Arc::new(Net::new(&[("cam", 5000.0), ("cloud", 1.0)], LatencyOptimal::new).await);
    let mut times = Vec::new();
    for _ in 0..3 {
        let (payload, receipt) = net.start(input()).await.unwrap();
        assert_eq!(elements(&payload), expected());
        assert_eq!(SplitTrace::of(&receipt).to_string(), "cloud block0..block5");
        assert!(receipt.usage.cpu < receipt.total_cpu());
        times.push(receipt.calls[0].spans.iter().find(|span| span.name == "block4").unwrap().took);
    }
    // The camera never ran a block; what it knows of the cloud it has from three bills.
    times.sort_unstable();
    assert_eq!(net.profilers[&node("cam")].estimate(&net.nodes[1], 4), times[1]);
}

#[tokio::test]
async fn when_the_far_node_is_lost_the_rest_runs_here_from_the_kept_activation() {
    let mut net = Net::new(&[("cam", 5000.0), ("gw", 50.0), ("cloud", 1.0)], LatencyOptimal::new).await;
    net.unreachable = [node("cloud"), node("gw")].into();
    let net = Arc::new(net);
    let (payload, receipt) = net.start(input()).await.unwrap();
    assert_eq!(elements(&payload), expected());
    assert_eq!(SplitTrace::of(&receipt).to_string(), "cam block0..block5");
    let calls = net.calls.lock().unwrap().clone();
    assert_eq!(calls, [(node("cam"), node("cloud"), 0), (node("cam"), node("gw"), 1)], "each lost node is tried once");
}

#[tokio::test]
async fn a_fixed_split_fails_with_the_node_that_it_needs() {
    let split = || FixedSplit::here().hand_over(2, node("cloud"), WireForm::Exact);
    let unreachable = InvokeError::Unreachable { function: FunctionName::new("f").unwrap(), node: node("cloud") };
    let net = Arc::new(Net::new(&[("cam", 1.0), ("gw", 1.0)], split).await);
    assert_eq!(net.start(input()).await.unwrap_err(), unreachable);

    let mut net = Net::new(&[("cam", 1.0), ("cloud", 1.0)], split).await;
    net.unreachable = [node("cloud")].into();
    assert_eq!(Arc::new(net).start(input()).await.unwrap_err(), unreachable);
}

/// Wants everything on the node after this one, whatever the problem says.
#[derive(Debug)]
struct Elsewhere;

impl SplitPlanner for Elsewhere {
    fn name(&self) -> &'static str {
        "elsewhere"
    }

    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        let end = problem.first + problem.blocks;
        // A block that only this node may run is the only thing it leaves here.
        let pinned = usize::from(problem.times[problem.blocks] == Duration::MAX);
        let here = Segment { node: 0, from: problem.first, to: problem.first + pinned, form: WireForm::Exact };
        let there = Segment { node: 1, from: here.to, to: end, form: WireForm::Exact };
        let segments = [here, there].into_iter().filter(|s| s.from < s.to).collect();
        Ok(SplitPlan { segments, predicted: Duration::ZERO })
    }
}

#[tokio::test]
async fn a_planner_that_passes_everything_on_ends_after_one_hop_per_block() {
    let net = Arc::new(Net::new(&[("a", 1.0), ("b", 1.0)], || Elsewhere).await);
    let (payload, receipt) = net.start(input()).await.unwrap();
    assert_eq!(elements(&payload), expected());
    assert_eq!(SplitTrace::of(&receipt).stretches.len(), BLOCKS);
}

/// A planner whose plans do not cover the blocks.
#[derive(Debug)]
struct Broken;

impl SplitPlanner for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn plan(&self, _: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        let segments = [Segment { node: 0, from: 3, to: 100, form: WireForm::Exact }].into_iter().collect();
        Ok(SplitPlan { segments, predicted: Duration::ZERO })
    }
}

#[tokio::test]
async fn a_plan_that_does_not_cover_the_blocks_is_an_error_and_no_panic() {
    let net = Arc::new(Net::new(&[("a", 1.0)], || Broken).await);
    let error = net.start(input()).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Host { message, .. } if message.contains("broken")), "{error:?}");
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_waited_for_only_so_long() {
    let mut net = Net::new(&[("cam", 5000.0), ("cloud", 1.0)], LatencyOptimal::new).await;
    net.silent = [node("cloud")].into();
    let clock = ManualClock::new();
    let factory = ModelFactory::new().with(&graph(), LatencyOptimal::new()).clock(Arc::new(clock.clone()));
    let function = Function::model(FunctionName::new("f").unwrap(), graph().model);
    net.prepared.insert(node("cam"), factory.prepare(&function).await.unwrap());
    let net = Arc::new(net);
    let mut run = Box::pin(net.start(input()));
    let (payload, receipt) = loop {
        tokio::select! {
            biased;
            done = &mut run => break done.unwrap(),
            () = tokio::task::yield_now() => clock.advance(Duration::from_millis(10)),
        }
    };
    assert_eq!(elements(&payload), expected());
    assert_eq!(SplitTrace::of(&receipt).to_string(), "cam block0..block5");
}

/// A clock that notes how long it was waited on; each wait is over at once, or none ever is.
#[derive(Debug, Default)]
struct Noting {
    waits: Mutex<Vec<Duration>>,
    ends: bool,
}

#[async_trait]
impl Clock for Noting {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    async fn sleep(&self, wait: Duration) {
        self.waits.lock().unwrap().push(wait);
        if !self.ends {
            std::future::pending::<()>().await;
        }
    }
}

/// A camera so much slower than the cloud, which knows the time by `clock`; and what it has measured.
async fn camera(slowdown: f32, silent: bool, clock: &Arc<Noting>) -> (Arc<Net>, Arc<BlockProfiler>) {
    let mut net = Net::new(&[("cam", slowdown), ("cloud", 1.0)], LatencyOptimal::new).await;
    net.silent = [node("cloud")].into_iter().filter(|_| silent).collect();
    let factory = ModelFactory::new().with(&graph(), LatencyOptimal::new()).clock(clock.clone());
    let profiler = factory.profiler(&graph().model).unwrap().clone();
    let function = Function::model(FunctionName::new("f").unwrap(), graph().model);
    net.prepared.insert(node("cam"), factory.prepare(&function).await.unwrap());
    (Arc::new(net), profiler)
}

#[tokio::test]
async fn a_node_that_was_given_up_counts_as_busy_until_that_fades() {
    let clock = Arc::new(Noting { ends: true, ..Noting::default() });
    // Six blocks of 2 ms, fifty times slower: 0.6 s here.
    let (net, profiler) = camera(50.0, true, &clock).await;
    let (payload, receipt) = net.start(input()).await.unwrap();
    assert_eq!(elements(&payload), expected());
    assert_eq!(SplitTrace::of(&receipt).to_string(), "cam block0..block5");
    let [waited] = clock.waits.lock().unwrap()[..] else { panic!("it waits once") };
    assert!((600..650).contains(&waited.as_millis()), "{waited:?}, not as long as the rest takes here");
    assert_eq!(profiler.wait(&node("cloud"), Timestamp::default()), waited);
    net.start(input()).await.unwrap();
    assert_eq!(net.calls.lock().unwrap().len(), 1, "the cloud is not tried again at once");
}

#[tokio::test]
async fn a_hop_is_waited_for_while_the_rest_could_still_be_done_here_by_the_deadline() {
    // 18 s here, and half as much again to be sure, of the 30 s; and 60 s, which nobody waits for.
    for (slowdown, patience) in [(1500.0, 3), (5000.0, 30)] {
        let clock = Arc::new(Noting::default());
        let (net, _) = camera(slowdown, false, &clock).await;
        net.start(input()).await.unwrap();
        assert_eq!(*clock.waits.lock().unwrap(), [Duration::from_secs(patience)]);
    }
}

#[tokio::test]
async fn what_does_not_fit_the_block_is_refused() {
    let net = Arc::new(Net::new(&[("cam", 1.0)], FixedSplit::here).await);
    let activation = |shape: &[usize], bytes: &'static [u8]| {
        Activation::new(TensorSpec::new(DType::U8, shape), bytes::Bytes::from_static(bytes)).unwrap()
    };
    let past = Activation::decode(&input()).unwrap().resume(BLOCKS as u32).encode().unwrap();
    let inputs = [
        Payload::new("no activation").with_media(MediaType::ACTIVATION),
        Payload::new("no activation"),
        activation(&[1, 4], b"abcd").encode().unwrap(),
        activation(&[4], b"abcd").encode().unwrap(),
        past,
    ];
    for input in inputs {
        let error = net.start(input).await.unwrap_err();
        assert!(matches!(error, InvokeError::Refused { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_functions_limits_of_cpu_and_memory_hold() {
    let net = Arc::new(Net::new(&[("cam", 1.0)], FixedSplit::here).await);
    for (limits, limit) in [
        (Limits { cpu: Duration::ZERO, ..Limits::default() }, LimitKind::Cpu),
        (Limits { memory: ByteSize::from_bytes(31), ..Limits::default() }, LimitKind::Memory),
    ] {
        let function = Function::model(FunctionName::new("f").unwrap(), graph().model).limits(limits);
        let factory = ModelFactory::new().with(&graph(), FixedSplit::here());
        let prepared = factory.prepare(&function).await.unwrap();
        let deadline = Timestamp::default() + Duration::from_secs(1);
        let host = Arc::new(At(net.clone(), net.nodes[0].clone()));
        let call = Call::new(InvocationId::new(1), function.name.clone(), TenantName::default(), deadline, host);
        let error = prepared.instantiate().await.unwrap().invoke(&call, input()).await.unwrap_err();
        assert_eq!(error, InvokeError::Limit { function: function.name, limit });
    }
}

#[tokio::test]
async fn names_of_one_graph_share_a_profiler_and_an_unknown_name_is_not_prepared() {
    let static_name = ModelName::new("affine-here").unwrap();
    let factory = ModelFactory::new().with(&graph(), LatencyOptimal::new()).with_as(
        static_name.clone(),
        &graph(),
        FixedSplit::here(),
    );
    assert!(Arc::ptr_eq(&factory.models[&static_name].profiler, &factory.models[&graph().model].profiler));
    let unknown = Function::model(FunctionName::new("f").unwrap(), ModelName::new("other").unwrap());
    let error = factory.prepare(&unknown).await.unwrap_err().to_string();
    assert_eq!(error, "function f: model \"other\" is not registered");
}

#[tokio::test]
async fn what_is_not_finite_travels_as_it_is_instead_of_in_eight_bits() {
    let split = || FixedSplit::here().hand_over(3, node("cloud"), WireForm::Int8);
    let net = Arc::new(Net::new(&[("cam", 1.0), ("cloud", 1.0)], split).await);
    let spec = TensorSpec::new(DType::F32, &[1, 4]);
    let input = Activation::new(spec, little_endian(&[f32::INFINITY, 1.0, 0.0, 0.0])).unwrap();
    let (payload, receipt) = net.start(input.encode().unwrap()).await.unwrap();
    let here = graph().run(0..BLOCKS, input).unwrap();
    assert_eq!(elements(&payload), here.bytes().unwrap());
    assert_eq!(SplitTrace::of(&receipt).to_string(), "cam block0..block2 > cloud block3..block5");
}

/// Answers when the second element is at least 40, which it is from some block on.
#[derive(Debug)]
struct Sure {
    affine: Affine,
    confidence: f32,
}

impl ModelBlock for Sure {
    fn name(&self) -> &str {
        self.affine.name()
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        self.affine.output(input)
    }

    fn cost(&self, input: &TensorSpec) -> BlockCost {
        self.affine.cost(input)
    }

    fn wire_forms(&self) -> &[WireForm] {
        self.affine.wire_forms()
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        self.affine.forward(input)
    }

    fn step(&self, input: Activation) -> Result<Flow, ModelError> {
        let output = self.forward(input)?;
        let sure = floats(&output.bytes().unwrap())[1] >= 40.0;
        let confidence = self.confidence;
        Ok(if sure { Flow::Exit { scores: output, confidence } } else { Flow::Continue(output) })
    }

    fn hasten(&self, input: Activation) -> Result<Flow, ModelError> {
        Ok(Flow::Exit { scores: self.forward(input)?, confidence: 0.1 })
    }
}

fn exiting(confidence: f32) -> BlockGraph {
    let affine = |i: usize| Affine { name: format!("block{i}"), number: i as f32, flops: 40_000_000 };
    let block = |i| Arc::new(Sure { affine: affine(i), confidence }) as Arc<dyn ModelBlock>;
    let input = TensorSpec::new(DType::F32, &[1, 4]);
    BlockGraph::chain(ModelName::new("affine").unwrap(), input, (0..BLOCKS).map(block).collect()).unwrap()
}

/// The answer, and how many calls other nodes got for it.
async fn run_exiting(hand_over: usize, confidence: f32) -> (usize, Result<(Payload, Receipt), InvokeError>) {
    let split = || FixedSplit::here().hand_over(hand_over, node("cloud"), WireForm::Exact);
    let mut net = Net::new(&[("cam", 1.0), ("cloud", 1.0)], split).await;
    let function = Function::model(FunctionName::new("f").unwrap(), graph().model);
    for prepared in net.prepared.values_mut() {
        let factory = ModelFactory::new().with(&exiting(confidence), split());
        *prepared = factory.prepare(&function).await.unwrap();
    }
    let net = Arc::new(net);
    let answer = net.start(input()).await;
    let calls = net.calls.lock().unwrap().len();
    (calls, answer)
}

#[tokio::test]
async fn an_early_exit_ends_the_run_where_it_is_sure_whatever_the_plan_was() {
    // The second element after each block: 2, 5, 12, 27, 58.
    let answer = exiting(0.9).step(0..BLOCKS, Activation::decode(&input()).unwrap()).unwrap();
    let Flow::Exit { scores, confidence } = answer else { panic!("goes on") };
    assert_eq!((floats(&scores.bytes().unwrap())[1], confidence), (58.0, 0.9));

    for (hand_over, trace, calls) in [(2, "cam block0..block1 > cloud block2..block4", 1), (5, "cam block0..block4", 0)]
    {
        let (called, answer) = run_exiting(hand_over, 0.9).await;
        let (payload, receipt) = answer.unwrap();
        assert_eq!(elements(&payload), scores.bytes().unwrap());
        assert_eq!(SplitTrace::of(&receipt).to_string(), trace);
        assert_eq!(called, calls, "a run that has ended calls nobody");
    }
}

#[tokio::test]
async fn a_run_that_would_be_late_ends_at_the_nearest_exit_and_one_that_is_in_time_does_not() {
    // Six blocks of 2 ms and so many times slower, of a call that has 30 s.
    for (slowdown, trace) in [(2000.0, "cam block0..block4"), (3000.0, "cam block0")] {
        let mut net = Net::new(&[("cam", slowdown)], LatencyOptimal::new).await;
        let factory = ModelFactory::new().with(&exiting(0.9), LatencyOptimal::new());
        let function = Function::model(FunctionName::new("f").unwrap(), graph().model);
        net.prepared.insert(node("cam"), factory.prepare(&function).await.unwrap());
        let (payload, receipt) = Arc::new(net).start(input()).await.unwrap();
        assert_eq!(SplitTrace::of(&receipt).to_string(), trace);
        let ran = if slowdown < 2500.0 { 5 } else { 1 };
        let until = graph().run(0..ran, Activation::decode(&input()).unwrap()).unwrap();
        assert_eq!(elements(&payload), until.bytes().unwrap());
    }
}

#[test]
fn a_batch_goes_on_without_those_that_were_answered_early_or_failed() {
    let row = |second: f32| {
        let bytes = little_endian(&[0.0, second, -1.0, 0.5]);
        Activation::new(TensorSpec::new(DType::F32, &[1, 4]), bytes).unwrap()
    };
    // The second is answered by the first block, the third by none.
    let rows = [1.0, 30.0, -2.0].map(row);
    let alone = rows.clone().map(|row| exiting(0.9).step(0..BLOCKS, row).unwrap());
    let together = exiting(0.9).step_batch(0..BLOCKS, rows.into());
    assert_eq!(together.len(), 3);
    for (alone, together) in alone.into_iter().zip(together) {
        let together = together.unwrap();
        assert_eq!(matches!(alone, Flow::Exit { .. }), matches!(together, Flow::Exit { .. }));
        assert_eq!(alone.into_activation().bytes().unwrap(), together.into_activation().bytes().unwrap());
    }
    let errors = exiting(f32::NAN).step_batch(0..BLOCKS, vec![row(30.0), row(-2.0)]);
    assert!(matches!(&errors[0], Err(ModelError::Exit { block, .. }) if block == "block0"), "{errors:?}");
    assert!(matches!(&errors[1], Ok(Flow::Continue(_))), "{errors:?}");
}

#[tokio::test]
async fn an_exit_whose_confidence_is_no_share_is_an_error() {
    let error = run_exiting(5, f32::NAN).await.1.unwrap_err();
    assert!(matches!(&error, InvokeError::Host { message, .. } if message.contains("block4 exits")), "{error:?}");
}
