use scf::{
    ai::{FixedSplit, LatencyOptimal, SplitTrace, from_wire, to_wire},
    core::{Activation, WireForm},
};

use crate::support::{Site, best, node, photo};

/// Photo and the class that onnxruntime gives for it on the same weights in single precision.
const PHOTOS: [(&str, u64); 4] = [("chelsea", 285), ("coffee", 967), ("camera", 872), ("rocket", 657)];

#[tokio::test]
async fn the_four_photos_are_what_the_reference_says() {
    let site = Site::new(LatencyOptimal).await;
    for (name, class) in PHOTOS {
        let tensor = site.call("decode", photo(name)).await.unwrap().payload;
        let logits = site.call("classify", tensor).await.unwrap().payload;
        let answer = site.call("label", logits).await.unwrap();
        assert_eq!(best(&answer).0, class, "{name}");
    }
}

#[tokio::test]
async fn probabilities_agree_with_the_reference_within_half_precision_and_jpeg() {
    let site = Site::new(FixedSplit::here()).await;
    // Measured with onnxruntime on the original photos; the committed ones are JPEG files of quality 90.
    for (name, expected) in [("chelsea", 0.38), ("coffee", 0.78), ("camera", 0.94)] {
        let tensor = site.call("decode", photo(name)).await.unwrap().payload;
        let logits = site.call("classify", tensor).await.unwrap().payload;
        let (_, probability) = best(&site.call("label", logits).await.unwrap());
        assert!((probability - expected).abs() < 0.05, "{name}: {probability} instead of {expected}");
    }
}

#[tokio::test]
async fn a_split_at_any_place_gives_what_the_whole_gives() {
    let site = Site::new(FixedSplit::here()).await;
    let blocks = site.graph.blocks().len();
    for (name, class) in PHOTOS {
        let tensor = Activation::decode(&site.call("decode", photo(name)).await.unwrap().payload).unwrap();
        let whole = floats(&site.graph.run(0..blocks, tensor.clone()).unwrap());
        for cut in 0..=blocks {
            let kept = site.graph.run(0..cut, tensor.clone()).unwrap();
            for (form, tolerance) in [(WireForm::Exact, 1e-4), (WireForm::Int8, f32::INFINITY)] {
                let arrived = from_wire(&to_wire(&kept, form).unwrap()).unwrap();
                let split = floats(&site.graph.run(cut..blocks, arrived).unwrap());
                let apart = whole.iter().zip(&split).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart <= tolerance, "{name} cut before block {cut}: {apart} apart");
                assert_eq!(top(&split), class, "{name} cut before block {cut}, {}", form.as_str());
            }
        }
    }
}

#[tokio::test]
async fn a_split_over_three_nodes_runs_on_three_nodes_and_gives_what_the_whole_gives() {
    let split = FixedSplit::here().hand_over(4, node("gateway"), WireForm::Exact);
    let site = Site::new(split.hand_over(9, node("cloud"), WireForm::Exact)).await;
    let tensor = site.call("decode", photo("coffee")).await.unwrap().payload;
    let whole = site.call("classify-here", tensor.clone()).await.unwrap();
    let split = site.call("classify", tensor).await.unwrap();
    let ran: Vec<_> = SplitTrace::of(&split.receipt).stretches;
    let ran: Vec<_> = ran.iter().map(|part| (part.node.as_str(), part.blocks.len())).collect();
    assert_eq!(ran, [("camera", 4), ("gateway", 5), ("cloud", 9)]);
    let [whole, split] = [whole, split].map(|outcome| floats(&Activation::decode(&outcome.payload).unwrap()));
    let apart = whole.iter().zip(&split).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart <= 1e-4, "{apart} apart");
}

fn floats(activation: &Activation) -> Vec<f32> {
    activation.bytes().unwrap().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn top(logits: &[f32]) -> u64 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u64
}
