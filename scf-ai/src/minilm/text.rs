//! Texts as the ids of their tokens.

use std::collections::HashMap;

use scf_core::{Activation, BoxError, DType, TensorSpec};
use serde::{Deserialize, de::IgnoredAny};
use thiserror::Error;
use tokenizers::{PostProcessor as _, Tokenizer, TruncationParams};

use crate::tensor::little_endian;

/// Bytes that a description has at most.
const LARGEST: usize = 16 << 20;
/// Words that are not split, such as the marks, at most: an automaton is made of them.
const ADDED: usize = 4096;
/// Letters of a word at most that is looked for in the vocabulary, part by part: that takes their square.
const WORD: usize = 1024;

/// What of a description is looked at before it is made use of: the library that does so fails in its own ways on parts
/// that no model here needs.
#[derive(Deserialize)]
struct Description {
    model: Part,
    normalizer: Option<Part>,
    pre_tokenizer: Option<Part>,
    post_processor: Option<Part>,
    decoder: Option<Part>,
    #[serde(default)]
    added_tokens: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    max_input_chars_per_word: Option<usize>,
    #[serde(default)]
    single: Vec<Piece>,
    #[serde(default)]
    pair: Vec<Piece>,
    #[serde(default)]
    special_tokens: HashMap<String, IgnoredAny>,
}

/// Of a template.
#[derive(Deserialize)]
enum Piece {
    Sequence { id: String },
    SpecialToken { id: String },
}

impl Piece {
    fn other_sequence(&self) -> Option<&str> {
        match self {
            Self::Sequence { id } if id != "A" => Some(id),
            _ => None,
        }
    }
}

/// As much of a description as an error should have.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

impl Description {
    /// What is wrong with it.
    fn check(&self) -> Result<(), String> {
        let parts = [
            ("model", Some(&self.model), &["WordPiece"][..]),
            ("normalizer", self.normalizer.as_ref(), &["BertNormalizer"]),
            ("pre_tokenizer", self.pre_tokenizer.as_ref(), &["BertPreTokenizer"]),
            ("post_processor", self.post_processor.as_ref(), &["TemplateProcessing", "BertProcessing"]),
            ("decoder", self.decoder.as_ref(), &["WordPiece"]),
        ];
        for (field, part, known) in parts {
            if let Some(part) = part
                && !known.contains(&part.r#type.as_str())
            {
                return Err(format!("{field} is of type {:?}, not {}", short(&part.r#type), known.join(" or ")));
            }
        }
        if let Some(template) = &self.post_processor {
            for piece in template.single.iter().chain(&template.pair) {
                if let Piece::SpecialToken { id } = piece
                    && !template.special_tokens.contains_key(id)
                {
                    return Err(format!("post_processor.special_tokens lacks {:?}", short(id)));
                }
            }
            // The text is one sequence.
            if let Some(id) = template.single.iter().find_map(Piece::other_sequence) {
                return Err(format!("post_processor.single has the sequence {:?}, not \"A\"", short(id)));
            }
        }
        match self.model.max_input_chars_per_word {
            Some(letters) if letters > WORD => Err(format!("model.max_input_chars_per_word is over {WORD}")),
            _ if self.added_tokens.len() > ADDED => Err(format!("there are more than {ADDED} added_tokens")),
            _ => Ok(()),
        }
    }
}

/// Splits texts into the tokens of a model: WordPiece for MiniLM-L6, as its `tokenizer.json` says.
#[derive(Debug)]
pub struct SentenceTokenizer {
    tokenizer: Tokenizer,
    tokens: usize,
}

/// Why a text has no tokens.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The tokenizer's description cannot be used.
    #[error("the tokenizer cannot be loaded; give the bytes of the model's tokenizer.json")]
    Load {
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The text cannot be split.
    #[error("a text of {bytes} bytes cannot be split into tokens")]
    Encode {
        /// Its length.
        bytes: usize,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The vocabulary lacks a mark of what is asked for.
    #[error("the vocabulary has no {mark}: the model was not trained for that")]
    Marks {
        /// The mark.
        mark: &'static str,
    },
}

impl SentenceTokenizer {
    /// Reads the bytes of a `tokenizer.json`, for a model that takes `tokens` tokens.
    ///
    /// # Errors
    /// [`TokenizerError::Load`] when the description is malformed, longer than 16 MiB, not of a WordPiece model as BERT's
    /// are, or has marks that leave no room for text.
    pub fn open(description: &[u8], tokens: usize) -> Result<Self, TokenizerError> {
        let load = |source: String| TokenizerError::Load { source: source.into() };
        if description.len() > LARGEST {
            return Err(load(format!("it has {} bytes, more than {LARGEST}", description.len())));
        }
        let seen: Description = serde_json::from_slice(description).map_err(|error| load(error.to_string()))?;
        seen.check().map_err(load)?;
        let mut tokenizer = Tokenizer::from_bytes(description).map_err(|source| TokenizerError::Load { source })?;
        let marks = tokenizer.get_post_processor().map_or(0, |marks| marks.added_tokens(false));
        if marks >= tokens {
            return Err(load(format!("{tokens} tokens leave no room beside {marks} marks")));
        }
        let truncation = TruncationParams { max_length: tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|source| TokenizerError::Load { source })?;
        tokenizer.with_padding(None);
        Ok(Self { tokenizer, tokens })
    }

    /// The input of the model for `text`: `f32` `[1, tokens]`, cut off where the text is longer, zeros where it is
    /// shorter.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn encode(&self, text: &str) -> Result<Activation, TokenizerError> {
        let bytes = text.len();
        let encoding = self.tokenizer.encode(text, true).map_err(|source| TokenizerError::Encode { bytes, source })?;
        let mut ids: Vec<f32> = encoding.get_ids().iter().map(|id| *id as f32).collect();
        ids.resize(self.tokens, 0.0);
        let spec = TensorSpec::new(DType::F32, &[1, self.tokens]);
        Activation::new(spec, little_endian(&ids))
            .map_err(|error| TokenizerError::Encode { bytes, source: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_that_is_none_is_a_typed_error() {
        for description in [&b""[..], b"{}", b"\xff", br#"{"version":"1.0","model":{"type":"None"}}"#] {
            assert!(matches!(SentenceTokenizer::open(description, 128), Err(TokenizerError::Load { .. })));
        }
    }
}
