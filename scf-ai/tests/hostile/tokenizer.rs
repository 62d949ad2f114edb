//! Descriptions of tokenizers that mean harm.

use std::panic::catch_unwind;

use scf_ai::SentenceTokenizer;
use serde_json::{Value, json};

const TOKENS: usize = 8;

/// A small one as BERT's are.
pub(crate) fn unharmed() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [mark(0, "[UNK]"), mark(1, "[CLS]"), mark(2, "[SEP]")],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [piece("SpecialToken", "[CLS]"), piece("Sequence", "A"), piece("SpecialToken", "[SEP]")],
            "pair": [piece("Sequence", "A"), piece("Sequence", "B")],
            "special_tokens": {
                "[CLS]": { "id": "[CLS]", "ids": [1], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [2], "tokens": ["[SEP]"] }
            }
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": { "[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##b": 4 }
        }
    })
}

fn mark(id: u32, content: &str) -> Value {
    json!({
        "id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false
    })
}

fn piece(kind: &str, id: &str) -> Value {
    json!({ kind: { "id": id, "type_id": 0 } })
}

/// What is done to which field, and a part of the error; none where it may be loaded and used, or refused.
fn cases() -> Vec<(&'static str, Value, Option<&'static str>)> {
    let many: Vec<_> = (0..5000).map(|id| mark(id + 10, &format!("mark{id}"))).collect();
    let ids: Vec<u32> = (0..100_000).collect();
    let patterns =
        json!({ "type": "Split", "pattern": { "Regex": "(a+)+$" }, "behavior": "Isolated", "invert": false });
    vec![
        (
            "/model",
            json!({ "type": "Unigram", "unk_id": 7, "vocab": [["a", 0.0]] }),
            Some("model is of type \"Unigram\""),
        ),
        ("/model", json!({ "type": "BPE", "vocab": {}, "merges": ["a b"] }), Some("model is of type \"BPE\"")),
        ("/model", json!({ "type": "WordPiece" }), Some("")),
        ("/model", Value::Null, Some("")),
        ("/model/vocab", json!([1, 2, 3]), Some("")),
        ("/model/vocab", json!({ "[UNK]": -1 }), Some("")),
        ("/model/vocab", json!({ "[UNK]": u64::MAX }), Some("")),
        ("/model/vocab", json!({ "[UNK]": u32::MAX, "a": u32::MAX }), None),
        ("/model/vocab", json!({}), None),
        ("/model/unk_token", json!("nowhere"), None),
        ("/model/continuing_subword_prefix", json!(""), None),
        ("/model/max_input_chars_per_word", json!(u32::MAX), Some("max_input_chars_per_word is over 1024")),
        ("/model/max_input_chars_per_word", json!(0), None),
        (
            "/normalizer",
            json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" }),
            Some("normalizer is of type"),
        ),
        ("/normalizer", json!({ "type": "Replace", "pattern": { "Regex": "(" }, "content": "" }), Some("normalizer")),
        ("/pre_tokenizer", patterns, Some("pre_tokenizer is of type \"Split\"")),
        ("/pre_tokenizer", json!({ "type": "x".repeat(1 << 20) }), Some("pre_tokenizer is of type \"xxx")),
        ("/post_processor", json!({ "type": "RobertaProcessing" }), Some("post_processor is of type")),
        ("/post_processor/single", json!([piece("SpecialToken", "[NO]")]), Some("special_tokens lacks \"[NO]\"")),
        ("/post_processor/single", json!([]), None),
        ("/post_processor/single", json!([piece("Sequence", "B")]), Some("has the sequence \"B\"")),
        ("/post_processor/special_tokens/[CLS]/ids", json!(ids), Some("")),
        ("/post_processor/special_tokens/[CLS]/ids", json!([u32::MAX]), None),
        ("/post_processor/special_tokens", json!({}), Some("special_tokens lacks \"[CLS]\"")),
        ("/decoder", json!({ "type": "Fuse" }), Some("decoder is of type")),
        ("/added_tokens", json!(many), Some("more than 4096 added_tokens")),
        ("/added_tokens", json!([mark(7, "")]), None),
        ("/added_tokens", json!([mark(u32::MAX, "a")]), None),
    ]
}

/// Opens and uses it: the error, where there is one.
fn open(description: &[u8]) -> Option<String> {
    let tokenizer = match SentenceTokenizer::open(description, TOKENS) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return Some(format!("{error}: {}", std::error::Error::source(&error).unwrap())),
    };
    for text in ["", "ab a [CLS] b", "\u{0}\u{fffd} a", &"ab".repeat(10_000)] {
        if let Ok(encoded) = tokenizer.encode(text) {
            assert_eq!(encoded.spec.shape[..], [1, TOKENS], "{text:.20}");
        }
    }
    None
}

#[test]
fn no_description_of_a_tokenizer_does_harm() {
    assert_eq!(open(unharmed().to_string().as_bytes()), None);
    for (field, value, expected) in cases() {
        let mut description = unharmed();
        *description.pointer_mut(field).unwrap() = value;
        let description = description.to_string();
        let outcome = catch_unwind(|| open(description.as_bytes()));
        let outcome = outcome.unwrap_or_else(|_| panic!("{field}: {description:.500} makes it panic"));
        if let Some(expected) = expected {
            let error = outcome.unwrap_or_else(|| panic!("{field}: {description:.500} was loaded"));
            assert!(error.contains(expected) && error.len() < 500, "{field}: {error:.500}");
        }
    }
    let nested = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    for raw in [&b""[..], b"{}", b"\xff", b"{\"model\":", &nested, &vec![b' '; (16 << 20) + 1]] {
        assert!(open(raw).is_some(), "{:.20}", String::from_utf8_lossy(raw));
    }
    let (whole, end) = (unharmed().to_string(), unharmed().to_string().len());
    for cut in (0..end).step_by(7) {
        assert!(open(&whole.as_bytes()[..cut]).is_some(), "cut at {cut}");
    }
}
