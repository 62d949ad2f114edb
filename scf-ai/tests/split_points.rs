//! Whether a network that is split anywhere is still the network: every split point, on crops of real photos,
//! against the run that is not split. Prints what `benches/figures` collects.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use photo::Photo;
use scf_ai::{Agreement, Device, EfficientNetLite, from_wire, through_wire, to_wire};
use scf_core::{Activation, BlockGraph, BlockSet, Bytes, WireForm};

#[path = "../../examples/assets/fetched.rs"]
mod fetched;
mod photo;

const PHOTOS: [&str; 4] = ["camera", "chelsea", "coffee", "rocket"];
const CROPS_PER_PHOTO: u64 = 16;
/// The share of crops on which a form has to give the same best score to be offered.
const GUARD: f64 = 0.98;

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/assets")
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Squares of half the shorter side up to all of it, anywhere in each photo.
fn crops(graph: &BlockGraph) -> Vec<Activation> {
    let mut seed = 6;
    let mut crops = Vec::new();
    for name in PHOTOS {
        let photo = Photo::load(name);
        let shorter = photo.width.min(photo.height);
        for _ in 0..CROPS_PER_PHOTO {
            let mut below = |n: usize| (random(&mut seed) % n as u64) as usize;
            let side = shorter / 2 + below(shorter / 2 + 1);
            let (left, top) = (below(photo.width - side + 1), below(photo.height - side + 1));
            let elements = Bytes::from(photo.crop(left, top, side, graph.input.shape[1]));
            crops.push(Activation::new(graph.input.clone(), elements).unwrap());
        }
    }
    crops
}

fn floats(activation: &Activation) -> Vec<f32> {
    activation.bytes().unwrap().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn top1(scores: &[f32]) -> Option<usize> {
    scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i)
}

/// What splitting did, over all inputs.
struct Differences {
    /// Largest difference of a score with the exact form, over every split point.
    exact: f32,
    /// Of each split point, on how many inputs the best score was that of the whole run with eight bits.
    agreed: Vec<usize>,
}

/// Runs `graph` on each of `inputs` whole and split at every place, in each form.
fn split_everywhere(graph: &BlockGraph, inputs: &[Activation]) -> Differences {
    let blocks = graph.blocks().len();
    let mut found = Differences { exact: 0.0, agreed: vec![0; blocks] };
    for input in inputs {
        let whole = floats(&graph.run(0..blocks, input.clone()).unwrap());
        let mut here = input.clone();
        for cut in 0..blocks {
            let there = |form| {
                let arrived = from_wire(&to_wire(&here, form).unwrap()).unwrap();
                floats(&graph.run(cut..blocks, arrived).unwrap())
            };
            for (a, b) in there(WireForm::Exact).iter().zip(&whole) {
                found.exact = found.exact.max((a - b).abs());
            }
            found.agreed[cut] += usize::from(top1(&there(WireForm::Int8)) == top1(&whole));
            here = graph.run(cut..cut + 1, here).unwrap();
        }
    }
    found
}

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!("{{\"bar\":\"{bar}\",\"value\":{value},\"unit\":\"{unit}\",\"n\":{n}}}");
}

#[test]
fn lite0_split_anywhere_gives_the_scores_of_the_whole_run() {
    let weights = std::fs::read(assets().join("efficientnet-lite0.safetensors")).unwrap();
    let graph = EfficientNetLite::Lite0.load(&weights, Device::Cpu).unwrap();
    let crops = crops(&graph);
    let found = split_everywhere(&graph, &crops);
    let runs = crops.len() * graph.blocks().len();
    let shares: Vec<f64> = found.agreed.iter().map(|&agreed| agreed as f64 / crops.len() as f64).collect();
    let worst = shares.iter().copied().fold(1.0, f64::min);
    figure("ai.split.max_abs_diff", found.exact.into(), "abs", runs);
    figure("ai.split.int8_top1", worst, "share", crops.len());
    assert!(found.exact <= 1e-4, "a split run differs by {}", found.exact);
    assert!(worst >= 0.98, "agreement by split point: {shares:?}");
}

#[test]
fn lite1_and_lite2_split_anywhere_give_the_scores_of_the_whole_run() {
    for variant in [EfficientNetLite::Lite1, EfficientNetLite::Lite2] {
        let weights = match fetched::read(&format!("{}.safetensors", variant.name())) {
            Ok(weights) => weights,
            Err(error) => {
                // Past the capture of the test's output.
                writeln!(std::io::stderr().lock(), "SKIPPED: {error}").unwrap();
                continue;
            }
        };
        let graph = variant.load(&weights, Device::Cpu).unwrap();
        let photo = |name| Bytes::from(Photo::load(name).centre(variant.side()));
        let photos = PHOTOS.map(|name| Activation::new(graph.input.clone(), photo(name)).unwrap());
        let found = split_everywhere(&graph, &photos);
        let bar = format!("ai.split.{variant:?}.max_abs_diff").to_lowercase();
        figure(&bar, found.exact.into(), "abs", photos.len() * graph.blocks().len());
        assert!(found.exact <= 1e-4, "a split run of {} differs by {}", variant.name(), found.exact);
        assert!(
            found.agreed.iter().all(|agreed| *agreed == photos.len()),
            "agreement by split point: {:?}",
            found.agreed
        );
    }
}

#[test]
fn lite0_with_its_additions_apart_split_anywhere_gives_the_scores_of_the_chain() {
    let weights = std::fs::read(assets().join("efficientnet-lite0.safetensors")).unwrap();
    let chain = EfficientNetLite::Lite0.load(&weights, Device::Cpu).unwrap();
    let fine = EfficientNetLite::Lite0.load_fine(&weights, Device::Cpu).unwrap();
    let (blocks, crops) = (fine.blocks().len(), crops(&chain));
    // Four crops of each photo.
    let crops: Vec<_> = crops.into_iter().step_by(4).collect();
    let (mut different, mut agreed, mut several) = (0f32, vec![0; blocks], 0);
    for input in &crops {
        let whole = floats(&chain.run(0..chain.blocks().len(), input.clone()).unwrap());
        let mut here = fine.begin(input.clone());
        for (cut, agreed) in agreed.iter_mut().enumerate() {
            several += usize::from(here.tensors().len() > 1);
            let there = |form| {
                let sent = here.tensors().iter().map(|(tensor, x)| (*tensor, through_wire(x, form).unwrap()));
                let mut there = fine.resume(BlockSet::first(cut), sent.collect()).unwrap();
                (cut..blocks).for_each(|block| assert!(fine.advance(&mut there, block).unwrap().is_none()));
                floats(&there.into_only().unwrap())
            };
            for (a, b) in there(WireForm::Exact).iter().zip(&whole) {
                different = different.max((a - b).abs());
            }
            *agreed += usize::from(top1(&there(WireForm::Int8)) == top1(&whole));
            fine.advance(&mut here, cut).unwrap();
        }
    }
    // Of Lite0's 16 blocks 9 add their input.
    assert_eq!((blocks, several), (chain.blocks().len() + 9, 9 * crops.len()));
    let worst = agreed.iter().copied().min().unwrap_or(0) as f64 / crops.len() as f64;
    figure("ai.split.dag.max_abs_diff", different.into(), "abs", crops.len() * blocks);
    figure("ai.split.dag.int8_top1", worst, "share", crops.len());
    assert!(different <= 1e-4, "a split run differs by {different}");
    assert!(worst >= 0.9, "agreement by split point: {agreed:?} of {}", crops.len());
}

#[test]
fn four_bits_break_some_cuts_of_lite0_and_are_offered_where_they_do_not() {
    let weights = std::fs::read(assets().join("efficientnet-lite0.safetensors")).unwrap();
    let graph = EfficientNetLite::Lite0.load(&weights, Device::Cpu).unwrap();
    let crops = crops(&graph);
    let forms = [WireForm::F16, WireForm::Int8Rows, WireForm::Int4];
    let agreement = Agreement::measure(&graph, &crops, &forms).unwrap();
    let shares = |form| (0..graph.blocks().len()).map(move |cut| (cut, form));
    let shares = |form| shares(form).map(|(cut, form)| agreement.share(cut, form).unwrap()).collect::<Vec<_>>();
    let worst = |form| shares(form).into_iter().fold(1.0, f64::min);
    figure("ai.wire.f16_top1", worst(WireForm::F16), "share", crops.len());
    figure("ai.wire.int8_rows_top1", worst(WireForm::Int8Rows), "share", crops.len());
    figure("ai.wire.int4_top1_unguarded", worst(WireForm::Int4), "share", crops.len());
    let kept: Vec<f64> = shares(WireForm::Int4).into_iter().filter(|share| *share >= GUARD).collect();
    figure("ai.wire.int4_top1_guarded", kept.iter().copied().fold(1.0, f64::min), "share", crops.len());
    figure("ai.wire.int4_cuts", kept.len() as f64, "cuts", graph.blocks().len());
    assert!(worst(WireForm::F16) >= GUARD && worst(WireForm::Int8Rows) >= GUARD, "{agreement:?}");
    assert!(worst(WireForm::Int4) < GUARD, "there is nothing to guard: {agreement:?}");
    assert!(!kept.is_empty(), "four bits nowhere do: {agreement:?}");
    assert_eq!(agreement.share(0, WireForm::Int8), None, "it was not measured");
}
