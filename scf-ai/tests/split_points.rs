//! Whether a network that is split anywhere is still the network: every split point, on crops of real photos,
//! against the run that is not split. Prints what `benches/figures` collects.

use std::path::{Path, PathBuf};

use scf_ai::{Device, efficientnet_lite0, from_wire, to_wire};
use scf_core::{Activation, BlockGraph, Bytes, WireForm};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

const SIDE: usize = 224;
const CROPS_PER_PHOTO: u64 = 16;
/// Mean and standard deviation of ImageNet's red, green and blue, of 1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

struct Photo {
    width: usize,
    height: usize,
    /// Red, green and blue by pixel.
    samples: Vec<u8>,
}

impl Photo {
    fn load(name: &str) -> Self {
        let file = std::fs::read(assets().join("photos").join(name).with_extension("jpg")).unwrap();
        let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&file), options);
        let samples = decoder.decode().unwrap();
        let (width, height) = decoder.dimensions().unwrap();
        assert_eq!(samples.len(), width * height * 3, "{name}");
        Self { width, height, samples }
    }

    /// The square of `side` pixels at (`left`, `top`), resized bilinearly and normalised.
    fn crop(&self, left: usize, top: usize, side: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(SIDE * SIDE * 12);
        let place = |i: usize, offset: usize| {
            let at = ((i as f32 + 0.5) * side as f32 / SIDE as f32 - 0.5).clamp(0.0, (side - 1) as f32);
            (offset + at as usize, at.fract())
        };
        for (y, down) in (0..SIDE).map(|y| place(y, top)) {
            for (x, right) in (0..SIDE).map(|x| place(x, left)) {
                for channel in 0..3 {
                    let at = |x: usize, y: usize| {
                        let (x, y) = (x.min(self.width - 1), y.min(self.height - 1));
                        f32::from(self.samples[(y * self.width + x) * 3 + channel])
                    };
                    let row = |y| at(x, y) * (1.0 - right) + at(x + 1, y) * right;
                    let value = row(y) * (1.0 - down) + row(y + 1) * down;
                    out.extend(((value / 255.0 - MEAN[channel]) / DEVIATION[channel]).to_le_bytes());
                }
            }
        }
        out
    }
}

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
    for name in ["camera", "chelsea", "coffee", "rocket"] {
        let photo = Photo::load(name);
        let shorter = photo.width.min(photo.height);
        for _ in 0..CROPS_PER_PHOTO {
            let mut below = |n: usize| (random(&mut seed) % n as u64) as usize;
            let side = shorter / 2 + below(shorter / 2 + 1);
            let (left, top) = (below(photo.width - side + 1), below(photo.height - side + 1));
            let elements = Bytes::from(photo.crop(left, top, side));
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
    let graph = efficientnet_lite0(&weights, Device::Cpu).unwrap();
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
