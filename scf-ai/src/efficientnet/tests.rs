use std::path::Path;

use bytes::Bytes;
use scf_core::{Activation, WireForm, conformance};

use super::*;
use crate::{kernel::reference::Random, tensor::with_floats};

fn file() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/assets/efficientnet-lite0.safetensors");
    std::fs::read(path).unwrap()
}

/// A file of a variant's shapes with seeded weights.
fn seeded(variant: EfficientNetLite) -> Vec<u8> {
    let mut layers = vec![("stem".to_owned(), 27, STEM)];
    for (i, shape) in variant.shapes().enumerate() {
        if shape.expand != 1 {
            layers.push((format!("block{i}.expand"), shape.cin, shape.wide()));
        }
        layers.push((format!("block{i}.depthwise"), shape.kernel * shape.kernel, shape.wide()));
        layers.push((format!("block{i}.project"), shape.wide(), shape.cout));
    }
    layers.push(("head.conv".into(), variant.shapes().last().unwrap().cout, FEATURES));
    layers.push(("head.fc".into(), FEATURES, CLASSES));
    let mut random = Random::new(17);
    let mut tensors = Vec::new();
    for (name, rows, columns) in layers {
        // Keeps the size of what goes through.
        let spread = (6.0 / rows as f32).sqrt();
        let w: Vec<f32> = random.floats(rows * columns).iter().map(|w| w * spread).collect();
        tensors.push((format!("{name}.w"), vec![rows, columns], crate::tensor::little_endian(&w)));
        tensors.push((format!("{name}.b"), vec![columns], crate::tensor::little_endian(&random.floats(columns))));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn input(spec: &TensorSpec, seed: u64) -> Activation {
    let floats = Random::new(seed).floats(spec.elements().unwrap());
    Activation::new(spec.clone(), crate::tensor::little_endian(&floats)).unwrap()
}

fn floats(activation: &Activation) -> Vec<f32> {
    with_floats(activation, <[f32]>::to_vec).unwrap()
}

fn largest_difference(a: &Activation, b: &Activation) -> f32 {
    floats(a).iter().zip(floats(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn has_the_shapes_of_the_published_network() {
    let graph = efficientnet_lite0(&file(), Device::Cpu).unwrap();
    let side_and_channels: Vec<_> = graph.edges()[1..18].iter().map(|s| (s.shape[1], s.shape[3])).collect();
    let expected = [
        (112, 32),
        (112, 16),
        (56, 24),
        (56, 24),
        (28, 40),
        (28, 40),
        (14, 80),
        (14, 80),
        (14, 80),
        (14, 112),
        (14, 112),
        (14, 112),
        (7, 192),
        (7, 192),
        (7, 192),
        (7, 192),
        (7, 320),
    ];
    assert_eq!(side_and_channels, expected);
    assert_eq!(graph.edges()[18], TensorSpec::new(DType::F32, &[1, 1000]));
    let names: Vec<_> = graph.blocks().iter().map(|b| b.name().to_owned()).collect();
    assert_eq!((names.len(), &names[0][..], &names[16][..], &names[17][..]), (18, "stem", "mbconv15", "head"));
    // 0.39 billion multiply-adds and 4.6 million weights, as the authors give them.
    let cost = graph.blocks().iter().zip(graph.edges()).map(|(b, s)| b.cost(s));
    let (flops, weights) = cost.fold((0, 0), |(f, w), c| (f + c.flops, w + c.weights.bytes()));
    assert!((760_000_000..820_000_000).contains(&flops), "{flops} operations");
    assert!((4_600_000 * 4..4_700_000 * 4).contains(&weights), "{weights} bytes");
}

#[test]
fn larger_variants_are_wider_and_deeper_as_published() {
    // Blocks, channels after each group, side before the head; then millions of weights and of multiply-adds, which the
    // authors count a twentieth higher.
    let published = [
        (EfficientNetLite::Lite0, 16, [16, 24, 40, 80, 112, 192, 320], 7, 4.7, 407.0),
        (EfficientNetLite::Lite1, 21, [16, 24, 40, 80, 112, 192, 320], 8, 5.4, 631.0),
        (EfficientNetLite::Lite2, 21, [16, 24, 48, 88, 120, 208, 352], 9, 6.1, 899.0),
    ];
    for (variant, blocks, channels, side, weights, sums) in published {
        let shapes: Vec<_> = variant.shapes().collect();
        let mut widths: Vec<_> = shapes.iter().map(|shape| shape.cout).collect();
        widths.dedup();
        assert_eq!((shapes.len(), &widths[..], shapes[blocks - 1].output()), (blocks, &channels[..], (side, side)));
        let graph = variant.load(&seeded(variant), Device::Cpu).unwrap();
        assert_eq!((graph.model.as_str(), graph.blocks().len()), (variant.name(), blocks + 2));
        let cost = graph.blocks().iter().zip(graph.edges()).map(|(block, input)| block.cost(input));
        let (flops, bytes) = cost.fold((0, 0), |(f, w), c| (f + c.flops, w + c.weights.bytes()));
        let (found, near) = ((bytes as f64 / 4e6, flops as f64 / 2e6), |a: f64, b: f64| (a / b - 1.0).abs() < 0.05);
        assert!(near(found.0, weights) && near(found.1, 0.95 * sums), "{variant:?}: {found:?}");
    }
}

#[test]
fn every_block_passes_the_suite() {
    let graph = efficientnet_lite0(&file(), Device::Cpu).unwrap();
    for (i, block) in graph.blocks().iter().enumerate() {
        conformance::model::model_block(|| block.clone(), || input(&graph.edges()[i], 1 + i as u64));
    }
}

#[test]
fn candle_operations_give_what_the_kernels_give_block_by_block() {
    for variant in EfficientNetLite::ALL {
        let bytes = if variant == EfficientNetLite::Lite0 { file() } else { seeded(variant) };
        let file = WeightFile::open(&bytes).unwrap();
        let composed = graph(variant, &file, &candle_core::Device::Cpu, None).unwrap();
        for isa in Isa::available() {
            let fused = graph(variant, &file, &candle_core::Device::Cpu, Some(isa)).unwrap();
            let mut x = input(&fused.input, 7);
            for (a, b) in fused.blocks().iter().zip(composed.blocks()) {
                let (y, z) = (a.forward(x.clone()).unwrap(), b.forward(x).unwrap());
                let off = largest_difference(&y, &z);
                assert!(off < 1e-4, "{} of {variant:?} differs by {off} with {isa:?}", a.name());
                x = y;
            }
        }
    }
}

#[test]
fn every_split_point_gives_the_whole_runs_result() {
    let graph = efficientnet_lite0(&file(), Device::Cpu).unwrap();
    let x = input(&graph.input, 9);
    let blocks = graph.blocks().len();
    let whole = graph.run(0..blocks, x.clone()).unwrap();
    for cut in 0..=blocks {
        let here = graph.run(0..cut, x.clone()).unwrap();
        let sent = crate::to_wire(&here, WireForm::Exact).unwrap();
        let there = graph.run(cut..blocks, crate::from_wire(&sent).unwrap()).unwrap();
        let off = largest_difference(&whole, &there);
        assert!(off < 1e-4, "a cut before block {cut} is off by {off}");
    }
}

#[test]
fn eight_bits_on_the_wire_keep_the_direction_of_the_logits() {
    let graph = efficientnet_lite0(&file(), Device::Cpu).unwrap();
    let x = input(&graph.input, 9);
    let blocks = graph.blocks().len();
    let whole = floats(&graph.run(0..blocks, x.clone()).unwrap());
    for cut in 0..blocks {
        let here = graph.run(0..cut, x.clone()).unwrap();
        let sent = crate::to_wire(&here, WireForm::Int8).unwrap();
        let there = floats(&graph.run(cut..blocks, crate::from_wire(&sent).unwrap()).unwrap());
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine = dot(&whole, &there) / (dot(&whole, &whole) * dot(&there, &there)).sqrt();
        assert!(cosine > 0.995, "a cut before block {cut} has cosine {cosine}");
    }
}

#[test]
fn a_broken_file_is_a_typed_error_that_names_the_weight() {
    let whole = file();
    let load = |bytes: &[u8]| match efficientnet_lite0(bytes, Device::Cpu) {
        Err(ModelError::Weight { weight, problem }) => (weight, problem),
        other => panic!("{other:?}"),
    };
    for length in [0, 7, 8, 200, 5000] {
        assert_eq!(load(&whole[..length]).0, "header", "{length} bytes");
    }
    let (last, problem) = load(&whole[..whole.len() - 1]);
    assert_eq!(last, "head.fc.b");
    assert!(problem.starts_with("ends at byte "), "{problem}");
    let renamed = replaced(&whole, "block3.project.w", "block3.project.x");
    assert_eq!(load(&renamed), ("block3.project.w".into(), "is missing".into()));
    let reshaped = replaced(&whole, "\"shape\":[27,32]", "\"shape\":[32,27]");
    assert_eq!(load(&reshaped), ("stem.w".into(), "has shape [32, 27] instead of [27, 32]".into()));
}

fn replaced(file: &[u8], from: &str, to: &str) -> Bytes {
    assert_eq!(from.len(), to.len());
    let at = file.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
    let mut file = file.to_vec();
    file[at..at + from.len()].copy_from_slice(to.as_bytes());
    file.into()
}
