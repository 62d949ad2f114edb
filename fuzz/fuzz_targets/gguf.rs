//! Language models: the file's description, its weights' places, its tokenizer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scf_ai::{Llama, Sampling};
use scf_core::{Bytes, ModelName};

fuzz_target!(|file: &[u8]| {
    let Ok(model) = Llama::open(Bytes::copy_from_slice(file), 64) else { return };
    let _ = model.graph(ModelName::new("fuzzed").expect("a valid name"), Sampling::greedy());
    if let Ok(tokenizer) = model.tokenizer() {
        let _ = tokenizer.encode("he said\u{0}\u{fffd} <|im_end|>");
    }
});
