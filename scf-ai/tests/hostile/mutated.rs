//! Sound files and messages with seeded damage: two thousand of each, as a fuzzer begins (Zalewski, "AFL", 2014, notes on
//! its deterministic steps). `fuzz/` goes on from there.

use std::{
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind},
};

use ::safetensors::{Dtype, tensor::TensorView};
use scf_ai::{
    Device, DigitsCnn, Llama, Sampling, SentenceTokenizer, SileroVad, from_wire, lifecycle::Network as _, to_wire,
};
use scf_core::{Activation, Bytes, DType, ModelName, Payload, TensorSpec, WireForm};

use crate::{allocated::peak, file::Random, file::network, tokenizer};

const MUTATIONS: u64 = 2000;
/// What reading may take whatever the file has.
const ALWAYS: usize = 128 << 10;

/// A file and what reads it.
struct Target {
    name: &'static str,
    sound: Vec<u8>,
    /// Bytes at the beginning that say what the rest is; half of the damage is there.
    head: usize,
    /// Whether it was taken.
    read: fn(&Bytes) -> bool,
    /// Most bytes of memory for one byte of the file.
    share: usize,
}

/// Numbers at which sizes and counts go wrong.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// One to four of what a fuzzer does.
fn mutated(random: &mut Random, sound: &[u8], head: usize) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for _ in 0..=random.next() % 4 {
        if bytes.is_empty() {
            break;
        }
        let within = if random.next().is_multiple_of(2) { head.clamp(1, bytes.len()) } else { bytes.len() };
        let at = random.next() as usize % within;
        let length = 1 + random.next() as usize % 64;
        let to = bytes.len().min(at + length);
        match random.next() % 7 {
            0 => bytes[at] ^= 1 << (random.next() % 8),
            1 => bytes[at] = random.next() as u8,
            2 => {
                let edge = EDGES[random.next() as usize % EDGES.len()].to_le_bytes();
                let width = [1, 2, 4, 8][random.next() as usize % 4].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&edge[..width]);
            }
            3 => drop(bytes.drain(at..to)),
            4 => {
                let part = bytes[at..to].to_vec();
                let place = random.next() as usize % bytes.len();
                drop(bytes.splice(place..place, part));
            }
            5 => {
                let place = random.next() as usize % (bytes.len() - (to - at) + 1);
                bytes.copy_within(at..to, place);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Weights of the digits' network, all of them the same.
fn digits() -> Vec<u8> {
    let shapes = DigitsCnn.shapes();
    let data: Vec<Vec<u8>> =
        shapes.iter().map(|(_, shape)| 0.01f32.to_le_bytes().repeat(shape.iter().product())).collect();
    let views = shapes.iter().zip(&data);
    let views = views.map(|((name, shape), data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    ::safetensors::serialize(views, None).unwrap()
}

fn message(form: WireForm) -> Vec<u8> {
    let elements: Vec<u8> = (0..64u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let activation = Activation::new(TensorSpec::new(DType::F32, &[2, 32]), elements.into()).unwrap();
    to_wire(&activation, form).unwrap().bytes.to_vec()
}

/// What reads an activation, and all of it.
fn decoded(bytes: &Bytes) -> bool {
    let mut payload = Payload::new(bytes.clone());
    payload.media = scf_core::MediaType::ACTIVATION;
    from_wire(&payload).is_ok_and(|activation| activation.bytes().is_ok())
}

fn targets() -> Vec<Target> {
    let gguf = network().write();
    let digits = digits();
    let header = 8 + u64::from_le_bytes(digits[..8].try_into().unwrap()) as usize;
    let description = tokenizer::unharmed().to_string().into_bytes();
    let [exact, int8] = [WireForm::Exact, WireForm::Int8].map(message);
    vec![
        Target {
            name: "safetensors",
            head: header,
            sound: digits,
            read: |file| {
                let name = ModelName::new("mutated").unwrap();
                drop(black_box(SileroVad::load(file)));
                DigitsCnn::load(name, file, Device::Cpu).is_ok()
            },
            share: 2,
        },
        Target {
            name: "gguf",
            head: 9000,
            sound: gguf,
            read: |file| {
                let model = Llama::open(file.clone(), 64);
                model.is_ok_and(|model| {
                    let graph = model.graph(ModelName::new("mutated").unwrap(), Sampling::greedy());
                    graph.is_ok() && model.tokenizer().is_ok()
                })
            },
            share: 2,
        },
        Target {
            name: "tokenizer.json",
            head: description.len(),
            sound: description,
            read: |file| {
                let tokenizer = SentenceTokenizer::open(file, 8);
                tokenizer.is_ok_and(|tokenizer| tokenizer.encode("ab a [CLS] \u{fffd}").is_ok())
            },
            // Of a description each token and mark becomes several entries of tables.
            share: 64,
        },
        Target { name: "an exact activation", head: 40, sound: exact, read: decoded, share: 2 },
        Target { name: "an activation in eight bits", head: 40, sound: int8, read: decoded, share: 8 },
    ]
}

#[test]
fn no_seeded_damage_makes_a_reader_panic_or_take_memory_beyond_its_file() {
    for Target { name, sound, head, read, share } in targets() {
        assert!(read(&Bytes::from(sound.clone())), "{name} without damage");
        let (mut taken, mut largest) = (0, 0);
        for seed in 0..MUTATIONS {
            let file = Bytes::from(mutated(&mut Random(seed), &sound, head));
            let (read, peak) = peak(|| catch_unwind(AssertUnwindSafe(|| read(&file))));
            let read = read.unwrap_or_else(|_| panic!("{name} with the damage of seed {seed} makes it panic"));
            // What was sound may be longer than what is left of it.
            let bound = share * file.len().max(sound.len()) + ALWAYS;
            assert!(peak <= bound, "{name} with the damage of seed {seed} takes {peak} of {bound} bytes");
            taken += u64::from(read);
            largest = largest.max(peak);
        }
        println!("{name}: {taken} of {MUTATIONS} were taken, at most {largest} bytes for {}", sound.len());
        assert!(taken < MUTATIONS, "{name}: nothing was refused");
    }
}
