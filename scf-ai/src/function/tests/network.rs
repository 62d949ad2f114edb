//! Networks that are no chain, and what nodes may have.

use scf_core::{DagNode, NetworkPlan, NetworkProblem, Zone};

use super::*;
use crate::{MinCutSplit, SplitModel};

/// Adds its inputs, the second one twice, and its number.
#[derive(Debug)]
struct Sum(Affine);

impl ModelBlock for Sum {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        self.0.output(input)
    }

    fn output_of(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, ModelError> {
        self.0.output(inputs[0])
    }

    fn cost(&self, input: &TensorSpec) -> BlockCost {
        self.0.cost(input)
    }

    fn wire_forms(&self) -> &[WireForm] {
        self.0.wire_forms()
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        self.0.forward(input)
    }

    fn join(&self, inputs: Vec<Activation>) -> Result<Activation, ModelError> {
        let parts: Vec<Vec<f32>> = inputs.iter().map(|input| floats(&input.bytes().unwrap())).collect();
        let weight = |i: usize| if i == 1 { 2.0 } else { 1.0 };
        let sum = |at: usize| parts.iter().enumerate().map(|(i, part)| weight(i) * part[at]).sum::<f32>();
        let out: Vec<f32> = (0..parts[0].len()).map(|at| sum(at) + self.0.number).collect();
        Ok(Activation::new(inputs[0].spec.clone(), little_endian(&out)).unwrap())
    }
}

/// Two diamonds with a way around the second one.
const DIAMONDS: [&[usize]; 8] = [&[0], &[1], &[1], &[2, 3], &[4], &[4], &[5, 6], &[7, 4]];

fn diamonds() -> BlockGraph {
    let node = |(i, inputs): (usize, &&[usize])| {
        let affine = Affine { name: format!("block{i}"), number: i as f32, flops: 40_000_000 };
        DagNode { block: Arc::new(Sum(affine)) as Arc<dyn ModelBlock>, inputs: inputs.to_vec() }
    };
    let input = TensorSpec::new(DType::F32, &[1, 4]);
    BlockGraph::dag(graph().model, input, DIAMONDS.iter().enumerate().map(node).collect()).unwrap()
}

/// What all blocks of [`diamonds`] make of [`input`].
fn joined() -> Vec<u8> {
    let whole = diamonds().run(0..DIAMONDS.len(), Activation::decode(&input()).unwrap()).unwrap();
    whole.bytes().unwrap().to_vec()
}

/// Eight bits may have been worth their while.
fn near(payload: &Payload, expected: &[u8]) {
    let (given, expected) = (floats(&elements(payload)), floats(expected));
    let largest = expected.iter().fold(0f32, |largest, v| largest.max(v.abs()));
    let off = given.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(given.len() == expected.len() && off <= largest / 20.0, "{given:?} is not {expected:?}");
}

/// Nodes whose models `model` makes, by name.
async fn net_of(slowdowns: &[(&str, f32)], model: impl Fn(&str) -> SplitModel) -> Net {
    let mut net = Net::new(slowdowns, FixedSplit::here).await;
    let function = Function::model(FunctionName::new("f").unwrap(), graph().model);
    for (id, prepared) in &mut net.prepared {
        *prepared = ModelFactory::new().register(model(id.as_str())).prepare(&function).await.unwrap();
    }
    net
}

#[tokio::test]
async fn a_network_with_branches_is_handed_over_at_every_place_of_its_order() {
    for cut in 0..DIAMONDS.len() {
        for back in cut + 1..=DIAMONDS.len() {
            let split = || {
                let there = FixedSplit::here().hand_over(cut, node("cloud"), WireForm::Exact);
                there.hand_over(back, node("gw"), WireForm::Exact)
            };
            let nodes = [("cam", 1.0), ("gw", 1.0), ("cloud", 1.0)];
            let net = Arc::new(net_of(&nodes, |_| SplitModel::new(&diamonds(), split()).compressed()).await);
            let (payload, receipt) = net.start(input()).await.unwrap();
            assert_eq!(elements(&payload), joined(), "{cut} and {back}");
            let ran: usize = SplitTrace::of(&receipt).stretches.iter().map(|stretch| stretch.blocks.len()).sum();
            assert_eq!(ran, DIAMONDS.len(), "each block runs once");
        }
    }
}

/// Runs the blocks of even number that can, and sends the rest to the next node.
#[derive(Debug)]
struct Evens;

impl SplitPlanner for Evens {
    fn name(&self) -> &'static str {
        "evens"
    }

    fn plan(&self, _: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        Err(PlanError::Malformed { table: "inputs" })
    }

    fn plan_network(&self, problem: &NetworkProblem<'_>) -> Result<NetworkPlan, PlanError> {
        let (blocks, alive, first) = (problem.chain.blocks, problem.alive(), problem.chain.first);
        let mut near: Vec<usize> = Vec::new();
        for block in 0..blocks {
            let made = problem.inputs[block].iter().all(|&tensor| tensor < alive || near.contains(&(tensor - alive)));
            if made && (near.is_empty() || block % 2 == 0) {
                near.push(block);
            }
        }
        let far: Vec<usize> = (0..blocks).filter(|block| !near.contains(block)).collect();
        let handed = first + near.len();
        let here = Segment { node: 0, from: first, to: handed, form: WireForm::Exact };
        let there = Segment { node: 1, from: handed, to: first + blocks, form: WireForm::Exact };
        let segments = [here, there].into_iter().filter(|s| s.from < s.to).collect();
        let plan = SplitPlan { segments, predicted: Duration::ZERO };
        Ok(NetworkPlan { order: near.into_iter().chain(far).collect(), plan })
    }
}

#[tokio::test]
async fn blocks_that_are_not_the_first_of_the_order_may_run_before_others() {
    let net = Arc::new(net_of(&[("a", 1.0), ("b", 1.0)], |_| SplitModel::new(&diamonds(), Evens)).await);
    let (payload, receipt) = net.start(input()).await.unwrap();
    assert_eq!(elements(&payload), joined());
    let trace = SplitTrace::of(&receipt);
    assert_eq!(trace.stretches[0].blocks, ["block0", "block2"]);
    assert_eq!(trace.stretches.iter().map(|stretch| stretch.blocks.len()).sum::<usize>(), DIAMONDS.len());
}

#[tokio::test]
async fn a_branch_that_was_handed_over_to_a_lost_node_runs_here_from_the_kept_tensors() {
    let mut net = net_of(&[("cam", 50.0), ("cloud", 1.0)], |_| SplitModel::new(&diamonds(), MinCutSplit::new())).await;
    net.unreachable = [node("cloud")].into();
    let net = Arc::new(net);
    let (payload, receipt) = net.start(input()).await.unwrap();
    assert_eq!(elements(&payload), joined());
    assert_eq!(SplitTrace::of(&receipt).to_string(), "cam block0..block7");
    assert_eq!(net.calls.lock().unwrap().len(), 1, "the lost node is tried once");
}

#[tokio::test]
async fn each_node_runs_the_blocks_that_it_hosts_without_the_weights_of_others() {
    let whole = diamonds();
    let parts = [("cam", 0..3), ("gw", 3..6), ("cloud", 6..8)];
    let model = |name: &str| {
        let (_, hosted) = parts.iter().find(|(node, _)| *node == name).unwrap();
        let alone = whole.hosting(&hosted.clone().collect());
        let model = SplitModel::new(&alone, LatencyOptimal);
        parts.iter().fold(model, |model, (name, blocks)| model.hosted(node(name), blocks.clone()))
    };
    let net = Arc::new(net_of(&[("cam", 1.0), ("gw", 1.0), ("cloud", 1.0)], model).await);
    let (payload, receipt) = net.start(input()).await.unwrap();
    near(&payload, &joined());
    assert_eq!(SplitTrace::of(&receipt).to_string(), "cam block0..block2 > gw block3..block5 > cloud block6..block7");
}

#[tokio::test]
async fn a_block_that_nobody_reachable_hosts_is_an_error_and_not_run() {
    let model = |_: &str| {
        let model = SplitModel::new(&diamonds(), LatencyOptimal).hosted(node("cam"), 0..4);
        model.hosted(node("cloud"), 4..8)
    };
    let mut net = net_of(&[("cam", 1.0), ("cloud", 1.0)], model).await;
    net.unreachable = [node("cloud")].into();
    let error = Arc::new(net).start(input()).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Unreachable { node, .. } if node.as_str() == "cloud"), "{error:?}");
}

#[tokio::test]
async fn what_must_stay_in_a_zone_never_leaves_it_and_what_comes_of_it_does() {
    let home = Zone::new("home").unwrap();
    for (kept, trace) in [(0, "cam block0 > cloud block1..block5"), (2, "cam block0..block2 > cloud block3..block5")] {
        let model = |_: &str| SplitModel::new(&graph(), LatencyOptimal).kept_in(home.clone(), kept);
        let net = Arc::new(net_of(&[("cam", 500.0), ("cloud", 1.0)], model).await);
        let (payload, receipt) = net.start(input()).await.unwrap();
        near(&payload, &expected());
        assert_eq!(SplitTrace::of(&receipt).to_string(), trace);
    }
}

/// Sends everything to the next node, whatever the problem says.
#[derive(Debug)]
struct Careless;

impl SplitPlanner for Careless {
    fn name(&self) -> &'static str {
        "careless"
    }

    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        let (from, to) = (problem.first, problem.first + problem.blocks);
        let segments = std::iter::once(Segment { node: 1, from, to, form: WireForm::Exact }).collect();
        Ok(SplitPlan { segments, predicted: Duration::ZERO })
    }
}

#[tokio::test]
async fn a_planner_that_would_send_what_must_stay_is_not_obeyed() {
    let model = |_: &str| SplitModel::new(&graph(), Careless).kept_in(Zone::new("home").unwrap(), 0);
    let net = Arc::new(net_of(&[("cam", 1.0), ("cloud", 1.0)], model).await);
    let error = net.start(input()).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Host { message, .. } if message.contains("careless")), "{error:?}");
    assert!(net.calls.lock().unwrap().is_empty());
}
