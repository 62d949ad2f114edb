//! Files that are damaged by chance; `tests/hostile_files.rs` has those that are so by intent.

use proptest::prelude::*;
use scf_ai::Llama;
use scf_core::{Bytes, ModelError};

use crate::{
    allocated::peak,
    file::{Random, network},
};

/// Everything that reads a file.
fn load(bytes: Bytes) -> Result<(), ModelError> {
    let model = Llama::open(bytes, 64)?;
    model.graph(scf_core::ModelName::new("hostile").unwrap(), scf_ai::Sampling::greedy())?;
    model.tokenizer()?;
    Ok(())
}

#[test]
fn every_cut_of_a_file_is_a_typed_error() {
    let whole = Bytes::from(network().write());
    // The last tensor's padding is not part of it.
    for length in (0..whole.len() - 32).step_by(7) {
        assert!(load(whole.slice(..length)).is_err(), "{length} bytes of {} were accepted", whole.len());
    }
}

#[test]
fn no_byte_that_is_another_makes_it_panic_or_allocate() {
    let whole = network().write();
    let mut random = Random(59);
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random.next() % 3 {
            // Most of a file is weights, of which any are as good; its description comes first.
            let at = random.next() as usize % 9000;
            bytes[at] = random.next() as u8;
        }
        let bytes = Bytes::from(bytes);
        let (_, peak) = peak(|| Llama::open(bytes, 64).map(drop));
        assert!(peak <= 2 * whole.len());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Llama::open([&b"GGUF\x03\0\0\0"[..], &bytes].concat().into(), 64);
        let _ = Llama::open(bytes.into(), 64);
    }
}
