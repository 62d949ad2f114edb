//! Whether a network in a worker is still the network: every range of its blocks, on the program that is shipped,
//! against the same range in this process, bit for bit.
#![cfg(target_os = "linux")]

use std::{io::Write as _, path::Path, time::Duration};

use scf_ai::{
    Device, DigitsCnn, EfficientNetLite,
    accelerator::{Accelerator, AcceleratorError, InProcess, Loaded, ModelSource, Network, Worker},
    lifecycle::{Network as _, Parameters},
};
use scf_core::{Activation, BlockGraph, ByteSize, Bytes, DType, ModelName, TensorSpec};

#[path = "../../examples/assets/fetched.rs"]
mod fetched;

const MEMORY: ByteSize = ByteSize::from_mib(1024);
const LEASE: ByteSize = ByteSize::from_mib(256);

fn worker() -> Worker {
    let settings = Worker::of(env!("CARGO_BIN_EXE_scf-accelerator"), Device::Cpu).memory(MEMORY);
    // Nothing here is to fail because the machine is slow.
    settings.patience(Duration::from_secs(3600)).start().unwrap()
}

fn source(model: &str, network: Network, weights: Bytes) -> ModelSource {
    ModelSource { model: ModelName::new(model).unwrap(), network, weights }
}

fn lite0() -> ModelSource {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/assets/efficientnet-lite0.safetensors");
    source("lite0", Network::EfficientNetLite(EfficientNetLite::Lite0), std::fs::read(path).unwrap().into())
}

/// A file that `examples/assets/fetch-models` keeps; says so where it is not there.
fn kept(name: &str) -> Option<Bytes> {
    let found = fetched::read(name).map(Bytes::from);
    if let Err(error) = &found {
        // Past the capture of the test's output.
        writeln!(std::io::stderr().lock(), "SKIPPED: {error}").unwrap();
    }
    found.ok()
}

fn load(accelerator: &dyn Accelerator, model: &ModelSource) -> Loaded {
    accelerator.load(accelerator.reserve(LEASE).unwrap(), model).unwrap()
}

/// Elements that differ from each other and are the same in every run, from 0 to `below`.
fn input(spec: &TensorSpec, below: u32) -> Activation {
    let elements = (0..spec.elements().unwrap() as u32).map(|i| i.wrapping_mul(2_654_435_761) >> 8);
    let bytes: Vec<u8> = elements.flat_map(|v| ((v % below) as f32).to_le_bytes()).collect();
    Activation::new(spec.clone(), bytes.into()).unwrap()
}

/// Compares the two on every range of blocks, and on the whole for a batch; gives the number of ranges.
fn compare(there: &BlockGraph, here: &BlockGraph, input: &Activation) -> usize {
    assert_eq!((&there.model, there.edges()), (&here.model, here.edges()));
    let blocks = here.blocks().len();
    let mut before = vec![input.clone()];
    for block in 0..blocks {
        let next = here.run(block..block + 1, before[block].clone()).unwrap();
        before.push(Activation::new(next.spec.clone(), next.bytes().unwrap()).unwrap());
    }
    let mut ranges = 0;
    for from in 0..blocks {
        for to in from + 1..=blocks {
            let output = there.step(from..to, before[from].clone()).unwrap().into_activation();
            assert_eq!(output.spec, before[to].spec, "{from}..{to}");
            assert_eq!(output.bytes().unwrap(), before[to].bytes().unwrap(), "{from}..{to}");
            ranges += 1;
        }
    }
    for flow in there.step_batch(0..blocks, vec![input.clone(); 3]) {
        assert_eq!(flow.unwrap().into_activation().bytes().unwrap(), before[blocks].bytes().unwrap());
    }
    ranges
}

#[test]
fn every_range_of_an_image_classifier_is_bit_for_bit_that_of_this_process() {
    let (worker, here) = (worker(), InProcess::cpu(MEMORY));
    let (there, here) = (load(&worker, &lite0()), load(&here, &lite0()));
    let picture = input(&here.graph().input, 3);
    assert_eq!(compare(there.graph(), here.graph(), &picture), 18 * 19 / 2);
    let ran = there.run(0..18, vec![picture]);
    assert_eq!(ran.blocks.len(), 18);
    assert!(!ran.usage.cpu.is_zero() && ran.usage.accelerator.is_zero(), "{:?}", ran.usage);
}

#[test]
fn every_range_of_a_network_that_is_trained_here_is_bit_for_bit_that_of_this_process() {
    let model = source("digits", Network::DigitsCnn, Parameters::random(&DigitsCnn.shapes(), 1).to_bytes());
    let (worker, here) = (worker(), InProcess::cpu(MEMORY));
    let (there, here) = (load(&worker, &model), load(&here, &model));
    assert_eq!(compare(there.graph(), here.graph(), &input(&here.graph().input, 2)), 4 * 5 / 2);
}

#[test]
fn every_range_of_a_sentence_encoder_is_bit_for_bit_that_of_this_process() {
    let Some(weights) = kept("minilm-l6.safetensors") else { return };
    let model = source("minilm", Network::MiniLm { tokens: 16 }, weights);
    let (worker, here) = (worker(), InProcess::cpu(MEMORY));
    let (there, here) = (load(&worker, &model), load(&here, &model));
    assert_eq!(compare(there.graph(), here.graph(), &input(&here.graph().input, 20_000)), 8 * 9 / 2);
}

#[test]
fn a_language_model_gives_the_token_that_it_gives_here_for_any_number_before_it() {
    let Some(weights) = kept("smollm2-135m-instruct.q4_1.gguf") else { return };
    let model = source("smollm2", Network::Llama { context: 64 }, weights);
    let (worker, here) = (worker(), InProcess::cpu(MEMORY));
    let (there, here) = (load(&worker, &model), load(&here, &model));
    let blocks = here.graph().blocks().len();
    for tokens in [1, 7] {
        let text = input(&TensorSpec::new(DType::F32, &[1, tokens]), 40_000);
        let [there, here] = [there.graph(), here.graph()].map(|graph| {
            let layer = graph.run(0..2, text.clone()).unwrap().bytes().unwrap();
            (layer, graph.step(0..blocks, text.clone()).unwrap().into_activation().bytes().unwrap())
        });
        assert_eq!(there, here, "{tokens} tokens");
    }
}

#[test]
fn a_file_that_is_no_model_is_an_error_and_takes_no_memory() {
    for accelerator in [&worker() as &dyn Accelerator, &InProcess::cpu(MEMORY)] {
        let broken = ModelSource { weights: Bytes::from_static(b"no weights"), ..lite0() };
        let error = accelerator.load(accelerator.reserve(LEASE).unwrap(), &broken).unwrap_err();
        assert!(matches!(error, AcceleratorError::Load { .. }), "{error}");
        let error = accelerator.load(accelerator.reserve(ByteSize::from_mib(12)).unwrap(), &lite0()).unwrap_err();
        assert!(matches!(error, AcceleratorError::OverLease { .. }), "{error}");
        assert_eq!(accelerator.describe().free, MEMORY);
    }
}
