//! Whether the networks see in photos what people see in them, each at the size that it was made for. Prints what
//! `benches/figures` collects.

use std::io::{self, Write as _};

use photo::Photo;
use scf_ai::{Device, EfficientNetLite};
use scf_core::{Activation, BlockGraph};

#[path = "../../examples/assets/fetched.rs"]
mod fetched;
mod photo;

/// Photos of the repository, each with its class of ImageNet: palace, Egyptian cat, espresso, tripod and missile.
const KEPT: [(&str, usize); 5] = [("china", 698), ("chelsea", 285), ("coffee", 967), ("camera", 872), ("rocket", 657)];
/// A scooter, of which people say either: moped and motor scooter.
const FETCHED: (&str, [usize; 2]) = ("motorcycle.png", [665, 670]);

/// A file that `examples/assets/fetch-models` keeps; says so where it is not there.
fn fetched(name: &str) -> Option<Vec<u8>> {
    // Past the capture of the test's output.
    let skipped = |error: &io::Error| writeln!(io::stderr().lock(), "SKIPPED: {error}").unwrap();
    fetched::read(name).inspect_err(skipped).ok()
}

fn weights(variant: EfficientNetLite) -> Option<Vec<u8>> {
    let name = format!("{}.safetensors", variant.name());
    let kept = format!("{}/../examples/assets/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(kept).ok().or_else(|| fetched(&name))
}

fn class(graph: &BlockGraph, photo: &Photo) -> usize {
    let input = Activation::new(graph.input.clone(), photo.centre(graph.input.shape[1]).into()).unwrap();
    let logits = graph.run(0..graph.blocks().len(), input).unwrap().bytes().unwrap();
    let logits = logits.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b));
    logits.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
}

#[test]
fn every_variant_sees_what_is_on_the_photos() {
    let mut photos: Vec<_> =
        KEPT.iter().map(|(name, label)| (*name, Photo::load(name), std::slice::from_ref(label))).collect();
    photos.extend(fetched(FETCHED.0).map(|file| (FETCHED.0, Photo::decode(&file), &FETCHED.1[..])));
    for variant in EfficientNetLite::ALL {
        let Some(weights) = weights(variant) else { continue };
        let graph = variant.load(&weights, Device::Cpu).unwrap();
        let seen: Vec<_> = photos.iter().map(|(name, photo, labels)| (*name, class(&graph, photo), *labels)).collect();
        let right = seen.iter().filter(|(_, class, labels)| labels.contains(class)).count();
        let (bar, n) = (format!("ai.labels.{variant:?}").to_lowercase(), seen.len());
        println!(r#"{{"bar":"{bar}","value":{},"unit":"share","n":{n}}}"#, right as f64 / n as f64);
        assert_eq!(right, seen.len(), "photo, class, labels of {}: {seen:?}", variant.name());
    }
}
