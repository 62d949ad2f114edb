use std::{
    fmt::Write as _,
    io::{self, Write as _},
    sync::OnceLock,
    time::{Duration, Instant},
};

use scf_core::{Activation, ByteSize, Name, Share, Timestamp, WireForm, conformance};

use super::*;
use crate::{Executor, ModelRegistry, Query, Variant, kernel::reference::Random, tensor::with_floats};

const TOKENS: usize = 48;

/// A file of the network's shapes with seeded weights, so that the blocks are held against each other without the
/// published ones.
fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let mut shapes = vec![
            ("embeddings.word_embeddings.weight".to_owned(), vec![VOCABULARY, HIDDEN]),
            ("embeddings.position_embeddings.weight".to_owned(), vec![POSITIONS, HIDDEN]),
            ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, HIDDEN]),
        ];
        let mut layer = |name: String, shape: Vec<usize>| {
            shapes.push((format!("{name}.bias"), vec![shape[0]]));
            shapes.push((format!("{name}.weight"), shape));
        };
        layer("embeddings.LayerNorm".into(), vec![HIDDEN]);
        for i in 0..LAYERS {
            for (part, to, from) in [
                ("attention.self.query", HIDDEN, HIDDEN),
                ("attention.self.key", HIDDEN, HIDDEN),
                ("attention.self.value", HIDDEN, HIDDEN),
                ("attention.output.dense", HIDDEN, HIDDEN),
                ("intermediate.dense", WIDE, HIDDEN),
                ("output.dense", HIDDEN, WIDE),
            ] {
                layer(format!("encoder.layer.{i}.{part}"), vec![to, from]);
            }
            layer(format!("encoder.layer.{i}.attention.output.LayerNorm"), vec![HIDDEN]);
            layer(format!("encoder.layer.{i}.output.LayerNorm"), vec![HIDDEN]);
        }
        let (mut header, mut data, mut random) = (String::from("{"), Vec::new(), Random::new(41));
        for (name, shape) in &shapes {
            let count: usize = shape.iter().product();
            let from = data.len();
            let (middle, spread) = if name.ends_with("LayerNorm.weight") { (1.0, 0.2) } else { (0.0, 0.1) };
            data.extend(random.floats(count).iter().flat_map(|v| (middle + spread * v).to_le_bytes()));
            let comma = if from == 0 { "" } else { "," };
            let to = data.len();
            write!(header, r#"{comma}"{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}"#)
                .unwrap();
        }
        header.push('}');
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
    })
}

fn network() -> BlockGraph {
    MiniLm::new(TOKENS).load(file(), Device::Cpu).unwrap()
}

/// A text of `real` tokens.
fn ids(real: usize, seed: u64) -> Activation {
    let mut random = Random::new(seed);
    let id = |i: usize, random: &mut Random| if i < real { 1 + random.next() % 30_521 } else { 0 };
    let ids: Vec<f32> = (0..TOKENS).map(|i| id(i, &mut random) as f32).collect();
    Activation::new(TensorSpec::new(DType::F32, &[1, TOKENS]), crate::tensor::little_endian(&ids)).unwrap()
}

fn floats(activation: &Activation) -> Vec<f32> {
    with_floats(activation, <[f32]>::to_vec).unwrap()
}

fn largest_difference(a: &Activation, b: &Activation) -> f32 {
    let (a, b) = (floats(a), floats(b));
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A file that `examples/assets/fetch-models` keeps; says so where it is not there.
fn fetched(name: &str) -> Option<Vec<u8>> {
    let skipped = |error: &io::Error| writeln!(io::stderr().lock(), "SKIPPED: {error}").unwrap();
    // Past the capture of the test's output.
    crate::fetched::read(name).inspect_err(skipped).ok()
}

#[test]
fn every_block_passes_the_suite() {
    let graph = network();
    let mut x = ids(TOKENS, 1);
    for block in graph.blocks() {
        conformance::model::model_block(|| block.clone(), || x.clone());
        let y = block.forward(x).unwrap();
        x = Activation::new(y.spec.clone(), y.bytes().unwrap()).unwrap();
    }
}

#[test]
fn candle_operations_give_what_the_kernels_give_block_by_block() {
    let file = WeightFile::open(file()).unwrap();
    let model = MiniLm::new(TOKENS);
    let composed = model.graph(&file, &candle_core::Device::Cpu, None).unwrap();
    for isa in Isa::available() {
        let fused = model.graph(&file, &candle_core::Device::Cpu, Some(isa)).unwrap();
        for real in [TOKENS, 13, 1] {
            let mut x = ids(real, 7);
            for (a, b) in fused.blocks().iter().zip(composed.blocks()) {
                let (y, z) = (a.forward(x.clone()).unwrap(), b.forward(x).unwrap());
                let off = largest_difference(&y, &z);
                assert!(off < 1e-5, "{} differs by {off} with {isa:?} and {real} tokens", a.name());
                x = y;
            }
        }
    }
}

#[test]
fn every_split_point_gives_the_whole_runs_result_also_with_padding_in_eight_bits() {
    let graph = network();
    let blocks = graph.blocks().len();
    for real in [TOKENS, 11] {
        let x = ids(real, 9);
        let whole = graph.run(0..blocks, x.clone()).unwrap();
        for cut in 0..=blocks {
            let here = graph.run(0..cut, x.clone()).unwrap();
            for form in [WireForm::Exact, WireForm::Int8] {
                if !graph.wire_forms(cut).contains(&form) {
                    continue;
                }
                let sent = crate::to_wire(&here, form).unwrap();
                let there = graph.run(cut..blocks, crate::from_wire(&sent).unwrap()).unwrap();
                let off = largest_difference(&whole, &there);
                let bound = if form == WireForm::Exact { 1e-4 } else { 0.05 };
                assert!(off < bound, "a cut before block {cut} in {form:?} with {real} tokens is off by {off}");
            }
        }
    }
}

#[test]
fn padding_and_threads_change_nothing() {
    let threaded = MiniLm::new(TOKENS).threads(NonZeroUsize::new(3).unwrap()).load(file(), Device::Cpu).unwrap();
    let (graph, short) = (network(), MiniLm::new(11).load(file(), Device::Cpu).unwrap());
    let x = ids(11, 3);
    let whole = graph.run(0..8, x.clone()).unwrap();
    let cut = Activation::new(short.input.clone(), x.bytes().unwrap().slice(..44)).unwrap();
    assert!(largest_difference(&whole, &short.run(0..8, cut).unwrap()) < 1e-5);
    assert!(largest_difference(&whole, &threaded.run(0..8, x).unwrap()) < 1e-5);
    let nothing = floats(&graph.run(0..8, ids(0, 1)).unwrap());
    assert!(nothing.iter().all(|v| *v == 0.0), "a text without tokens has no direction");
}

#[test]
fn texts_of_a_batch_come_to_what_each_comes_to_alone_and_fail_alone() {
    let threaded = MiniLm::new(TOKENS).threads(NonZeroUsize::new(3).unwrap()).load(file(), Device::Cpu).unwrap();
    for graph in [network(), threaded] {
        let mut texts: Vec<Activation> = [9, TOKENS, 0, 1, 17].into_iter().zip(20..).map(|(n, s)| ids(n, s)).collect();
        let alone: Vec<Activation> = texts.iter().map(|x| graph.run(0..8, x.clone()).unwrap()).collect();
        let wrong = vec![-1.0; TOKENS];
        texts.insert(2, Activation::new(graph.input.clone(), crate::tensor::little_endian(&wrong)).unwrap());
        let mut together = graph.step_batch(0..8, texts);
        let error = together.remove(2).unwrap_err();
        assert!(matches!(error, ModelError::Block { block, .. } if block == "embedding"));
        for (alone, together) in alone.iter().zip(together) {
            let off = largest_difference(alone, &together.unwrap().into_activation());
            assert!(off < 1e-5, "off by {off}");
        }
    }
}

#[test]
fn an_id_that_is_none_and_a_text_that_is_too_long_are_typed_errors() {
    let graph = network();
    for id in [0.5, -1.0, 30_522.0, f32::NAN, f32::INFINITY] {
        let mut ids = vec![0.0; TOKENS];
        ids[3] = id;
        let x = Activation::new(graph.input.clone(), crate::tensor::little_endian(&ids)).unwrap();
        assert!(matches!(graph.run(0..1, x), Err(ModelError::Block { block, .. }) if block == "embedding"), "{id}");
    }
    for tokens in [0, 1, 513] {
        let error = MiniLm::new(tokens).load(file(), Device::Cpu).unwrap_err();
        assert!(matches!(error, ModelError::Weight { weight, .. } if weight.contains("position")), "{tokens}");
    }
}

/// What a model makes of the Lee corpus.
struct Lee {
    embeddings: Vec<Vec<f32>>,
    /// How far their cosines go with how alike people found the texts: Pearson's correlation.
    pearson: f64,
    /// What a text took.
    took: Duration,
}

fn lee(graph: &BlockGraph) -> Option<Lee> {
    let files = ["minilm-l6-tokenizer.json", "lee.txt", "lee-similarities.txt"];
    let [Some(tokenizer), Some(texts), Some(people)] = files.map(fetched) else { return None };
    let tokenizer = SentenceTokenizer::open(&tokenizer, 128).unwrap();
    let texts = String::from_utf8(texts).unwrap();
    let begun = Instant::now();
    let embeddings: Vec<Vec<f32>> =
        texts.lines().map(|text| floats(&graph.run(0..8, tokenizer.encode(text).unwrap()).unwrap())).collect();
    let took = begun.elapsed() / 50;
    let people = String::from_utf8(people).unwrap();
    let people: Vec<Vec<f64>> =
        people.lines().map(|line| line.split_whitespace().map(|v| v.parse().unwrap()).collect()).collect();
    assert_eq!((embeddings.len(), people.len()), (50, 50));
    let mut pairs = Vec::new();
    for i in 0..50 {
        for j in i + 1..50 {
            pairs.push((f64::from(cosine(&embeddings[i], &embeddings[j])), people[i][j]));
        }
    }
    let n = pairs.len() as f64;
    let (x, y) = pairs.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let sum = |f: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>();
    let together = sum(&|p| (p.0 - x) * (p.1 - y));
    let pearson = together / (sum(&|p| (p.0 - x).powi(2)) * sum(&|p| (p.1 - y).powi(2))).sqrt();
    Some(Lee { embeddings, pearson, took })
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn weights(graph: &BlockGraph) -> ByteSize {
    graph.blocks().iter().map(|block| block.cost(&graph.input).weights).fold(ByteSize::ZERO, |a, b| a + b)
}

#[test]
fn the_published_weights_see_texts_as_people_do_and_in_eight_bits_nearly_so() {
    let Some(published) = fetched("minilm-l6.safetensors") else { return };
    let model = MiniLm::new(128);
    let [float, int8] = [model, model.int8()].map(|model| model.load(&published, Device::Cpu).unwrap());
    let (Some(exact), Some(rounded)) = (lee(&float), lee(&int8)) else { return };
    assert!(exact.pearson >= 0.653, "Pearson's correlation is {}", exact.pearson);
    assert!(rounded.pearson >= 0.653 - 0.005, "Pearson's correlation in eight bits is {}", rounded.pearson);
    let cosines = exact.embeddings.iter().zip(&rounded.embeddings).map(|(a, b)| cosine(a, b));
    let least = cosines.fold(1.0, f32::min);
    println!(r#"{{"bar":"ai.minilm-int8.least_cosine","value":{least:.5},"unit":"cosine","n":50}}"#);
    assert!(least > 0.99, "a text's embeddings have a cosine of {least}");
    assert!(weights(&int8).bytes() * 3 < weights(&float).bytes() * 2, "{} of {}", weights(&int8), weights(&float));

    // Variants of one task with what was measured above.
    let (task, cpu) = (Name::new("embed").unwrap(), Name::new("cpu").unwrap());
    let mut registry = ModelRegistry::new(1).executor(Executor::new(cpu, 1));
    for (graph, Lee { pearson, took, .. }) in [(&float, &exact), (&int8, &rounded)] {
        let accuracy = Share::from_fraction(*pearson);
        let variant = Variant::new(graph.model.clone(), task.clone(), accuracy, weights(graph));
        registry = registry.variant(variant.licence("Apache-2.0").expect(*took, *took * 10));
    }
    let best = if exact.pearson >= rounded.pearson { &float } else { &int8 };
    let accuracy = Share::from_fraction(exact.pearson.max(rounded.pearson));
    let query = Query::new(task.clone(), Duration::from_secs(3600)).accuracy(accuracy);
    assert_eq!(registry.select(&query, Timestamp::default()).unwrap().variant, best.model);
    for graph in [&float, &int8] {
        let query = Query::new(task.clone(), Duration::from_secs(3600)).variant(graph.model.clone());
        assert_eq!(registry.select(&query, Timestamp::default()).unwrap().variant, graph.model);
    }
}

#[test]
fn eight_bits_come_to_nearly_the_same_block_by_block_and_every_suite_holds() {
    let (float, int8) = (network(), MiniLm::new(TOKENS).int8().load(file(), Device::Cpu).unwrap());
    let mut x = ids(31, 5);
    for (exact, rounded) in float.blocks().iter().zip(int8.blocks()) {
        conformance::model::model_block(|| rounded.clone(), || x.clone());
        let (y, z) = (exact.forward(x.clone()).unwrap(), rounded.forward(x).unwrap());
        let off = largest_difference(&y, &z);
        assert!(off < 0.1, "{} is off by {off}", exact.name());
        x = Activation::new(y.spec.clone(), y.bytes().unwrap()).unwrap();
    }
}
