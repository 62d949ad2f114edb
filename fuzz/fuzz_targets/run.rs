//! Runs of networks as nodes send them to each other: what follows the head that only the same network has.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use scf_ai::{run_from_wire, run_to_wire};
use scf_core::{
    Activation, BlockCost, BlockGraph, Bytes, DType, DagNode, MediaType, ModelBlock, ModelError, ModelName, Payload,
    TensorSpec, WireForm,
};

/// A block of a network with branches that gives its first input.
#[derive(Debug)]
struct First(String);

impl ModelBlock for First {
    fn name(&self) -> &str {
        &self.0
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        Ok(input.clone())
    }

    fn output_of(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, ModelError> {
        Ok(inputs[0].clone())
    }

    fn cost(&self, _: &TensorSpec) -> BlockCost {
        BlockCost::default()
    }

    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact, WireForm::Int8]
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        Ok(input)
    }
}

/// Bytes of the magic, the version and the flags; behind them the hash of what is not the hash, then the network's
/// fingerprint.
const FLAGS: usize = 5;
const HASH: std::ops::Range<usize> = 6..14;
const HEAD: usize = 22;

/// A stem, two branches and what joins them, and the head of a message of it.
static NETWORK: LazyLock<(BlockGraph, [u8; HEAD])> = LazyLock::new(|| {
    let inputs: [&[usize]; 4] = [&[0], &[1], &[1], &[1, 2, 3]];
    let node = |(i, inputs): (usize, &&[usize])| DagNode {
        block: Arc::new(First(format!("block{i}"))) as Arc<dyn ModelBlock>,
        inputs: inputs.to_vec(),
    };
    let input = TensorSpec::new(DType::F32, &[2, 8]);
    let name = ModelName::new("fuzzed").expect("a valid name");
    let nodes = inputs.iter().enumerate().map(node).collect();
    let graph = BlockGraph::dag(name, input.clone(), nodes).expect("the wiring is sound");
    let zeros = Activation::new(input, Bytes::from_static(&[0; 64])).expect("as many bytes as the shape has");
    let message = run_to_wire(&graph, &graph.begin(zeros), WireForm::Exact).expect("zeros travel");
    let head = *message.bytes.first_chunk().expect("a message has a head");
    (graph, head)
});

fuzz_target!(|data: &[u8]| {
    let (graph, head) = &*NETWORK;
    let Some((&flags, rest)) = data.split_first() else { return };
    let mut message = [head, rest].concat();
    message[FLAGS] = flags;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&message[..HASH.start]).update(&message[HASH.end..]);
    hasher.finalize_xof().fill(&mut message[HASH]);
    let payload = Payload::new(message).with_media(MediaType::ACTIVATION);
    if let Ok(run) = run_from_wire(&payload, graph) {
        let fits = |(tensor, x): &(usize, Activation)| x.spec == graph.edges()[*tensor];
        assert!(run.tensors().iter().all(fits));
    }
});
