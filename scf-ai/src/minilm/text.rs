//! Texts as the ids of their tokens.

use scf_core::{Activation, BoxError, DType, TensorSpec};
use thiserror::Error;
use tokenizers::{PostProcessor as _, Tokenizer, TruncationParams};

use crate::tensor::little_endian;

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
    /// [`TokenizerError::Load`] when the description is malformed or has marks that leave no room for text.
    pub fn open(description: &[u8], tokens: usize) -> Result<Self, TokenizerError> {
        let mut tokenizer = Tokenizer::from_bytes(description).map_err(|source| TokenizerError::Load { source })?;
        let marks = tokenizer.get_post_processor().map_or(0, |marks| marks.added_tokens(false));
        if marks >= tokens {
            let source = format!("{tokens} tokens leave no room beside {marks} marks").into();
            return Err(TokenizerError::Load { source });
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
