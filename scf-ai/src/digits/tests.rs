use std::{path::Path, sync::Arc};

use scf_core::{Activation, ModelName, conformance};

use super::*;
use crate::{
    lifecycle::{Parameters, Training, TrainingPlan, evaluate},
    tensor::little_endian,
};

fn images() -> DigitImages {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/assets/digits.safetensors");
    DigitImages::read(&std::fs::read(path).unwrap()).unwrap()
}

fn graph(parameters: &Parameters) -> BlockGraph {
    DigitsCnn::load(ModelName::new("digits").unwrap(), &parameters.to_bytes(), Device::Cpu).unwrap()
}

#[test]
fn the_file_has_1797_digits_and_comes_out_as_it_went_in() {
    let images = images();
    let labels: Vec<u8> = (0..10).map(|at| images.get(at).unwrap().1).collect();
    assert_eq!((images.len(), labels), (1797, (0..10).collect()), "the first ten are 0 to 9");
    assert_eq!(DigitImages::read(&images.to_bytes()).unwrap(), images);
}

#[test]
fn parts_share_no_picture_and_leave_none_out() {
    let images = images();
    let parts = images.split(7, &[2, 2, 1]);
    assert_eq!(parts.iter().map(DigitImages::len).collect::<Vec<_>>(), [718, 718, 361]);
    assert_eq!(parts, images.split(7, &[2, 2, 1]), "the seed determines it");
    let mut all: Vec<_> = parts.iter().flat_map(|part| (0..part.len()).map(|at| part.get(at).unwrap())).collect();
    let mut whole: Vec<_> = (0..images.len()).map(|at| images.get(at).unwrap()).collect();
    all.sort_unstable();
    whole.sort_unstable();
    assert_eq!(all, whole);
}

#[test]
fn a_file_of_something_else_is_refused_with_the_tensor() {
    let one = DigitImages::default().to_bytes();
    let text = |from: &str, to: &str| String::from_utf8_lossy(&one).replace(from, to).into_bytes();
    let error = |file: &[u8]| DigitImages::read(file).unwrap_err();
    assert!(matches!(error(&text("[0,8,8]", "[0,8,7]")), DigitsError::Shape { tensor: "images", .. }));
    assert!(matches!(error(&text("labels", "lavels")), DigitsError::File(_)));
    let mut ink = images();
    ink.push(&[9; 64], 3);
    let mut file = ink.to_bytes().to_vec();
    *file.last_mut().unwrap() = 10;
    assert!(matches!(error(&file), DigitsError::Value { tensor: "labels", at: 1797, value: 10, most: 9 }));
}

#[test]
fn every_block_passes_the_suite_of_model_blocks() {
    let parameters = Parameters::random(&DigitsCnn.shapes(), 1);
    let elements: Vec<f32> = (0..64).map(|i| (i % 17) as f32 / 16.0).collect();
    let mut input = Activation::new(graph(&parameters).input, little_endian(&elements)).unwrap();
    for at in 0..4 {
        let block = || Arc::clone(&graph(&parameters).blocks()[at]);
        conformance::model::model_block(block, || input.clone());
        let output = block().forward(input).unwrap();
        input = Activation::new(output.spec.clone(), output.bytes().unwrap()).unwrap();
    }
}

#[test]
fn the_graph_gives_what_the_trained_network_gives() {
    let parts = images().split(3, &[9, 1]);
    let (train, test) = (parts[0].examples(), parts[1].examples());
    let plan = TrainingPlan { epochs: 6, seed: 3, ..TrainingPlan::default() };
    let mut training = Training::begin(&DigitsCnn, &train, plan, &Parameters::random(&DigitsCnn.shapes(), 3)).unwrap();
    assert!(training.run(u64::MAX).unwrap().is_done());
    let parameters = training.parameters().unwrap();
    let measured = evaluate(&DigitsCnn, &parameters, &test).unwrap();
    assert!(measured.accuracy > 0.93, "{measured:?}");

    let graph = graph(&parameters);
    let right = (0..test.len()).filter(|at| {
        let input = Activation::new(graph.input.clone(), little_endian(test.input(*at))).unwrap();
        let logits = graph.run(0..4, input).unwrap().bytes().unwrap();
        let logits: Vec<f32> = logits.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let best = (0..10).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        best as u32 == test.labels()[*at]
    });
    assert_eq!(right.count() as f64 / test.len() as f64, measured.accuracy);
}
