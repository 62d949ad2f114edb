//! Descriptions of tokenizers, and texts under them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scf_ai::SentenceTokenizer;

fuzz_target!(|description: &[u8]| {
    let Ok(tokenizer) = SentenceTokenizer::open(description, 8) else { return };
    for text in ["", "ab a [CLS] b", "\u{0}\u{fffd} a"] {
        if let Ok(encoded) = tokenizer.encode(text) {
            assert_eq!(encoded.spec.shape[..], [1, 8]);
        }
    }
});
