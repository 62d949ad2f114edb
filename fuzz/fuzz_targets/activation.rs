//! Activations as nodes send them to each other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scf_core::{MediaType, Payload};

fuzz_target!(|message: &[u8]| {
    let payload = Payload::new(message.to_vec()).with_media(MediaType::ACTIVATION);
    if let Ok(activation) = scf_ai::from_wire(&payload) {
        let bytes = activation.bytes().expect("what was read is in this memory");
        assert_eq!(activation.spec.size().map(|size| size.bytes()), Some(bytes.len() as u64));
    }
});
