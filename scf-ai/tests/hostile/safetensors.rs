//! Files in the safetensors format, as the networks of this crate take them.

use std::sync::OnceLock;

use ::safetensors::{Dtype, SafeTensors, tensor::TensorView};
use scf_ai::{Device, EfficientNetLite, MiniLm};
use scf_core::Bytes;

use crate::case::{
    Case, Loaded,
    Outcome::{Either, Refused},
    named,
};

/// Bytes beside a header that is large in itself.
const LARGE: usize = 8 << 20;

fn lite(file: &Bytes) -> Loaded {
    named(EfficientNetLite::Lite0.load(file, Device::Cpu))
}

fn minilm(file: &Bytes) -> Loaded {
    named(MiniLm::new(16).load(file, Device::Cpu))
}

/// EfficientNet-Lite0 in 32-bit floats, which is what a network holds: a file of halves becomes twice as large.
fn lite0() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/assets/efficientnet-lite0.safetensors");
        let halves = std::fs::read(path).unwrap();
        let halves = SafeTensors::deserialize(&halves).unwrap();
        let floats: Vec<_> = halves
            .iter()
            .map(|(name, view)| {
                let half = |bytes: &[u8; 2]| half::f16::from_le_bytes(*bytes).to_f32().to_le_bytes();
                let data: Vec<u8> = view.data().as_chunks().0.iter().flat_map(half).collect();
                (name.to_owned(), view.shape().to_vec(), data)
            })
            .collect();
        let views =
            floats.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
        ::safetensors::serialize(views, None).unwrap()
    })
}

/// A file of a header and `data` zeros.
fn file(header: &[u8], data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, &vec![0; data]].concat()
}

/// The header of one tensor.
fn tensor(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

/// A file of one tensor as its header says and `data` bytes.
fn one(dtype: &str, shape: &str, offsets: &str, data: usize) -> Vec<u8> {
    file(format!("{{{}}}", tensor("stem.w", dtype, shape, offsets)).as_bytes(), data)
}

/// A file of tensors `a`, `b` and so on of 8 bytes each, as their places say.
fn places(places: &[&str], data: usize) -> Vec<u8> {
    let tensors: Vec<_> =
        places.iter().zip("abc".chars()).map(|(at, name)| tensor(&name.to_string(), "U8", "[8]", at)).collect();
    file(format!("{{{}}}", tensors.join(",")).as_bytes(), data)
}

/// A header that is large in itself, of what is `before` and one tensor of all the file's data.
fn large(before: &str) -> Vec<u8> {
    let rest = tensor("rest", "U8", &format!("[{LARGE}]"), &format!("[0,{LARGE}]"));
    file(format!("{{{before}{rest}}}").as_bytes(), LARGE)
}

fn header_length(file: &[u8]) -> usize {
    8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize
}

/// The network's file with another header.
fn reheaded(from: &str, to: &str) -> Vec<u8> {
    let (header, data) = lite0().split_at(header_length(lite0()));
    let header = std::str::from_utf8(&header[8..]).unwrap();
    assert!(header.contains(from), "the header has no {from}");
    let header = header.replacen(from, to, 1);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// The network's file with `element` in the place of the middle one of a weight.
fn poisoned(name: &str, element: f32) -> Vec<u8> {
    let mut file = lite0().to_vec();
    let tensors = SafeTensors::deserialize(lite0()).unwrap();
    let data = tensors.tensor(name).unwrap();
    let start = data.data().as_ptr() as usize - lite0().as_ptr() as usize;
    let at = start + data.data().len() / 8 * 4;
    file[at..at + 4].copy_from_slice(&element.to_le_bytes());
    file
}

/// The network's file with some of the bits of a part of it turned.
fn flipped(seed: u64, header: bool, bits: usize) -> Vec<u8> {
    let mut file = lite0().to_vec();
    let border = header_length(&file);
    let part = if header { 0..border } else { border..file.len() };
    let mut state = seed;
    for _ in 0..bits {
        // SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        file[part.start + (z >> 3) as usize % part.len()] ^= 1 << (z & 7);
    }
    file
}

/// Files whose beginning is not what the format says.
fn frames() -> Vec<Case> {
    let header = |name, why, file: fn() -> Vec<u8>| Case::new(name, lite, Refused("header", why), file);
    vec![
        header("an empty file", "cut off", Vec::new),
        header("a file that ends inside the header's length", "cut off", || vec![1; 7]),
        header("a file of a header's length alone", "cut off", || 5u64.to_le_bytes().to_vec()),
        header("a header that ends behind the file", "cut off", || [&100u64.to_le_bytes()[..], &[b' '; 99]].concat()),
        header("a header's length of all ones", "over the limit", || [0xff; 64].to_vec()),
        header("a header over the limit", "over the limit", || file(&vec![b' '; (1 << 20) + 1], 16 << 20)),
        header("a header that is most of the file", "over the limit", || file(&vec![b' '; 512 << 10], 1024)),
        header("a header of no characters", "invalid", || file(&[b'{', b'"', 0xff, 0xfe, b'"', b':', b'1', b'}'], 8)),
        header("a header of zeros", "expected", || file(&[0; 512], 8)),
        header("a header that is no map", "map", || file(b"[1,2,3]", 8)),
        header("a header that breaks off", "EOF", || file(br#"{"stem.w":{"dtype":"F32","shape":[27"#, 8)),
        header("a header with more behind its map", "trailing", || file(b"{} {}", 0)),
        header("a file cut in half", "cut off", || lite0()[..6000].to_vec()),
    ]
}

/// Headers of absurd sizes, in files that may have headers so large.
fn sizes() -> Vec<Case> {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    vec![
        Case::new("metadata of great depth", lite, Refused("stem.w", "missing"), move || {
            large(&format!(r#""__metadata__":{},"#, deep("[", "]")))
        }),
        Case::new("a tensor of great depth", lite, Refused("header", "tensor a"), move || {
            large(&format!(r#""a":{},"#, deep("[", "]")))
        }),
        Case::new("a field of great depth", lite, Refused("header", "missing field `dtype`"), move || {
            large(&format!(r#""a":{{"b":{}}},"#, deep(r#"{"c":"#, "}")))
        }),
        Case::new("an absurd number of tensors", lite, Refused("stem.w", "missing"), || {
            large(&(0..17_000).map(|i| tensor(&i.to_string(), "U8", "[0]", "[0,0]") + ",").collect::<String>())
        }),
        Case::new("a shape of a hundred thousand sizes", lite, Refused("header", "at most 8 sizes"), || {
            large(&(tensor("a", "U8", &format!("[{}1]", "1,".repeat(100_000)), "[0,0]") + ","))
        }),
        Case::new("a name of most of a megabyte", lite, Refused("stem.w", "missing"), || {
            large(&(tensor(&"n".repeat(900_000), "U8", "[0]", "[0,0]") + ","))
        }),
        Case::new("a long name of escapes", lite, Refused("header", "invalid type: string"), || {
            large(&(tensor(&r"\u006e".repeat(150_000), "U8", "[0]", "[0,0]") + ","))
        }),
        Case::new("an element type of most of a megabyte", lite, Refused("header", "unknown variant"), || {
            large(&(tensor("a", &"F".repeat(900_000), "[0]", "[0,0]") + ","))
        }),
    ]
}

/// Tensors that are not where or what their header says.
fn tensors() -> Vec<Case> {
    let stem = |name, why, file: fn() -> Vec<u8>| Case::new(name, lite, Refused("stem.w", why), file);
    let header = |name, why, file: fn() -> Vec<u8>| Case::new(name, lite, Refused("header", why), file);
    let named = |name, at, why, file: fn() -> Vec<u8>| Case::new(name, lite, Refused(at, why), file);
    vec![
        stem("sizes whose product is over 64 bits", "more elements", || {
            one("F32", "[4294967296,4294967296,2]", "[0,8]", 8)
        }),
        stem("elements whose bits are over 64 bits", "more elements", || {
            one("F32", "[1152921504606846976]", "[0,8]", 8)
        }),
        stem("a terabyte in eight bytes", "ends at byte", || one("F32", "[274877906944]", "[0,1099511627776]", 8)),
        stem("a terabyte that says it has eight bytes", "data_offsets", || one("F32", "[274877906944]", "[0,8]", 8)),
        header("a size below zero", "-1", || one("F32", "[-1,2]", "[0,8]", 8)),
        header("a size with a fraction", "1.5", || one("F32", "[1.5]", "[0,8]", 8)),
        header("a size over 64 bits", "invalid", || one("F32", "[100000000000000000000]", "[0,8]", 8)),
        header("an offset that is a text", "string", || one("F32", "[2]", r#"["0","8"]"#, 8)),
        header("three offsets", "tensor stem.w", || one("F32", "[2]", "[0,8,8]", 8)),
        header("no shape", "missing field `shape`", || file(br#"{"stem.w":{"dtype":"F32","data_offsets":[0,8]}}"#, 8)),
        header("two shapes", "duplicate field", || {
            file(br#"{"stem.w":{"dtype":"F32","shape":[2],"shape":[4],"data_offsets":[0,8]}}"#, 8)
        }),
        header("an element type that is none", "unknown variant", || one("F31", "[2]", "[0,8]", 8)),
        stem("elements of half a byte that fill none", "data_offsets", || one("F4", "[1]", "[0,1]", 1)),
        stem("offsets that go backwards", "data_offsets", || one("F32", "[2]", "[8,0]", 8)),
        stem("offsets behind the file", "ends at byte 16 of 8", || one("F32", "[4]", "[0,16]", 8)),
        stem("offsets of the last byte there can be", "data_offsets", || {
            one("F32", "[2]", "[18446744073709551608,18446744073709551615]", 8)
        }),
        named("tensors that overlap", "b", "where the one before ends at 8", || places(&["[0,8]", "[4,12]"], 12)),
        named("tensors in one place", "b", "where the one before ends at 8", || places(&["[0,8]", "[0,8]"], 8)),
        named("a hole between tensors", "b", "where the one before ends at 8", || places(&["[0,8]", "[16,24]"], 24)),
        header("bytes of no tensor", "8 bytes of the file are of no tensor", || places(&["[0,8]"], 16)),
        named("tensors as large as all addresses together", "0", "ends at byte", || {
            let size = (1u64 << 61) - 1;
            let at = |i: u64| format!("[{},{}]", i * size, (i + 1) * size);
            let all: Vec<_> = (0..8).map(|i| tensor(&i.to_string(), "U8", &format!("[{size}]"), &at(i))).collect();
            file(format!("{{{}}}", all.join(",")).as_bytes(), 8)
        }),
        named("two tensors of one name", "a", "twice", || {
            let both = [tensor("a", "U8", "[8]", "[0,8]"), tensor("a", "U8", "[8]", "[8,16]")];
            file(format!("{{{}}}", both.join(",")).as_bytes(), 16)
        }),
    ]
}

/// Files of the format that are not the network's.
fn networks() -> Vec<Case> {
    let named = |name, at, why, file: fn() -> Vec<u8>| Case::new(name, lite, Refused(at, why), file);
    vec![
        named("no tensors", "stem.w", "missing", || file(b"{}", 0)),
        named("another network's weights", "stem.w", "missing", || places(&["[0,8]", "[8,16]"], 16)),
        named("the first weight turned on its side", "stem.w", "[32, 27]", || reheaded("[27,32]", "[32,27]")),
        named("a weight of no elements", "stem.w", "[0, 32]", || one("F32", "[0,32]", "[0,0]", 0)),
        named("a weight without dimensions", "stem.w", "has shape []", || one("F32", "[]", "[0,4]", 4)),
        named("whole numbers for weights", "stem.w", "I32", || one("I32", "[27,32]", "[0,3456]", 3456)),
        named("weights in brain floats", "stem.w", "BF16", || one("BF16", "[27,32]", "[0,1728]", 1728)),
        named("the last weight missing", "head.fc.b", "missing", || reheaded(r#""head.fc.b""#, r#""head.fc.c""#)),
        named("the last byte missing", "stem.w", "ends at byte", || lite0()[..lite0().len() - 1].to_vec()),
        named("a weight that is no number", "block7.depthwise.w", "finite", || {
            poisoned("block7.depthwise.w", f32::NAN)
        }),
        named("a weight without bounds", "head.fc.w", "finite", || poisoned("head.fc.w", f32::INFINITY)),
        Case::new("the largest weights there are", lite, Either, || poisoned("stem.w", f32::MAX)),
        Case::new(
            "a vocabulary that is none",
            minilm,
            Refused("embeddings.word_embeddings.weight", "[0, 384]"),
            || {
                file(
                    format!("{{{}}}", tensor("embeddings.word_embeddings.weight", "F32", "[0,384]", "[0,0]"))
                        .as_bytes(),
                    0,
                )
            },
        ),
        Case::new(
            "a picture's network where a text's is asked",
            minilm,
            Refused("embeddings.word_embeddings.weight", "missing"),
            || lite0().to_vec(),
        ),
    ]
}

/// Files in which bits are turned by chance.
fn noise() -> impl Iterator<Item = Case> {
    let bits = move |header: bool, seed: u64| {
        let (place, bits) = if header { ("header", 1 + seed as usize) } else { ("weights", 1000) };
        let name = format!("{bits} bits of the {place} turned, seed {seed}");
        Case::new(name, lite, Either, move || flipped(seed, header, bits))
    };
    (0..16).map(move |seed| bits(true, seed)).chain((0..4).map(move |seed| bits(false, seed)))
}

/// The file that the cases begin with.
pub(crate) fn unharmed() -> Loaded {
    lite(&Bytes::from_static(lite0()))
}

pub(crate) fn cases() -> Vec<Case> {
    [frames(), sizes(), tensors(), networks()].into_iter().flatten().chain(noise()).collect()
}
