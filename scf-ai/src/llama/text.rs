//! Texts as the tokens of a language model, and its tokens as text.

use scf_core::{BoxError, ModelError};
use tokenizers::{
    AddedToken, SplitDelimiterBehavior, Tokenizer,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::{
        PreTokenizerWrapper,
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use crate::{
    gguf::{GgufFile, field},
    minilm::TokenizerError,
};

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

/// How Llama 3 divides texts before pairs are merged.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What begins and ends a turn of a chat ("ChatML").
const TURN: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

/// Splits texts into the tokens of a language model and makes text of its tokens: byte-level BPE (Radford et al.,
/// "Language Models are Unsupervised Multitask Learners", 2019, section 2.2), as the model's file says.
#[derive(Debug)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    /// Goes before every text that is not a chat.
    begin: Option<u32>,
    /// Tokens that stand for no text.
    marks: Vec<u32>,
}

/// Who says a turn of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Whoever says how to answer.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// Its name in a chat.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl TextTokenizer {
    /// Out of the file's own vocabulary, which has `vocabulary` entries.
    pub(super) fn read(file: &GgufFile, vocabulary: usize) -> Result<Self, ModelError> {
        let model = file.text("tokenizer.ggml.model")?;
        if model != Some("gpt2") {
            return Err(field("tokenizer.ggml.model", format!("is {model:?}; that which is read is gpt2")));
        }
        let missing = |key| field(key, "is missing");
        let tokens = file.texts(TOKENS)?.ok_or_else(|| missing(TOKENS))?;
        let kinds = file.words(KINDS)?.ok_or_else(|| missing(KINDS))?;
        for (key, length) in [(TOKENS, tokens.len()), (KINDS, kinds.len())] {
            if length != vocabulary {
                return Err(field(key, format!("has {length} entries where token_embd.weight has {vocabulary}")));
            }
        }
        let ids: Vocab = tokens.iter().zip(0..).map(|(token, id)| (token.to_owned(), id)).collect();
        if ids.len() != vocabulary {
            return Err(field(TOKENS, "has a token twice"));
        }
        let merges = file.texts(MERGES)?.ok_or_else(|| missing(MERGES))?;
        let pair = |merge: &str| merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
        let merges: Option<Vec<_>> = merges.iter().map(pair).collect();
        let merges = merges.ok_or_else(|| field(MERGES, "has an entry that is no pair"))?;
        let unusable = |key: &'static str| move |error: BoxError| field(key, error.to_string());
        let model = BPE::builder().vocab_and_merges(ids, merges).build().map_err(unusable(MERGES))?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(divided(file)?));

        // ggml's types: 3 controls, 4 is the user's own, which a text may have.
        let of_kind = |kind: u32| {
            let ids = kinds.iter().zip(0u32..).filter(move |(k, _)| u32::from_le_bytes(**k) == kind);
            ids.map(|(_, id)| id)
        };
        let marks: Vec<u32> = of_kind(3).collect();
        let added = |ids: &mut dyn Iterator<Item = u32>, special| -> Vec<AddedToken> {
            let texts = ids.filter_map(|id| tokenizer.id_to_token(id));
            texts.map(|text| AddedToken::from(text, special).normalized(false)).collect()
        };
        let (control, own) = (added(&mut marks.iter().copied(), true), added(&mut of_kind(4), false));
        tokenizer.add_special_tokens(control).map_err(unusable(KINDS))?;
        tokenizer.add_tokens(own).map_err(unusable(KINDS))?;
        // What a text says is text, also where it says what would control the model.
        tokenizer.set_encode_special_tokens(true);

        let adds = file.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(false);
        let begin = token(file, "tokenizer.ggml.bos_token_id", vocabulary)?.filter(|_| adds);
        Ok(Self { tokenizer, begin, marks })
    }

    /// The tokens of a text that the model is to go on with. What is spelt like a mark of control is text.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens: Vec<u32> = self.begin.into_iter().collect();
        tokens.extend(self.plain(text)?);
        Ok(tokens)
    }

    /// The tokens of turns of a chat and of the beginning of the model's own, for models that were trained on ChatML,
    /// as SmolLM2 was. For a chat that goes on, those of what has been said since the model's last turn.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`]; [`TokenizerError::Marks`] where the vocabulary has no marks of turns.
    pub fn chat(&self, turns: &[(Role, &str)]) -> Result<Vec<u32>, TokenizerError> {
        let mark = |mark| self.tokenizer.token_to_id(mark).ok_or(TokenizerError::Marks { mark });
        let [begin, end] = [mark(TURN[0])?, mark(TURN[1])?];
        let mut tokens = Vec::new();
        for (role, text) in turns {
            tokens.push(begin);
            tokens.extend(self.plain(&format!("{}\n{text}", role.as_str()))?);
            tokens.push(end);
            tokens.extend(self.plain("\n")?);
        }
        tokens.push(begin);
        tokens.extend(self.plain(&format!("{}\n", Role::Assistant.as_str()))?);
        Ok(tokens)
    }

    fn plain(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let bytes = text.len();
        let encoding = self.tokenizer.encode_fast(text, false);
        Ok(encoding.map_err(|source| TokenizerError::Encode { bytes, source })?.get_ids().to_vec())
    }

    /// Begins to make text of tokens.
    #[must_use]
    pub const fn decoder(&self) -> TextDecoder<'_> {
        TextDecoder { tokenizer: self, begun: Vec::new() }
    }

    /// The bytes that a token stands for: none for marks and ids that there are not.
    fn bytes(&self, token: u32) -> Vec<u8> {
        let text = if self.marks.contains(&token) { None } else { self.tokenizer.id_to_token(token) };
        let text = text.unwrap_or_default();
        let bytes: Option<Vec<u8>> = text.chars().map(byte).collect();
        // The user's own tokens are spelt as they are.
        bytes.unwrap_or_else(|| text.into_bytes())
    }
}

/// Makes text of tokens as they come, of which one may end within a character.
#[derive(Debug)]
pub struct TextDecoder<'a> {
    tokenizer: &'a TextTokenizer,
    /// The beginning of a character: at most three bytes.
    begun: Vec<u8>,
}

impl TextDecoder<'_> {
    /// The text that is complete with `token`. Bytes that begin no character become U+FFFD.
    pub fn push(&mut self, token: u32) -> String {
        self.begun.extend(self.tokenizer.bytes(token));
        let mut text = String::new();
        let mut complete = 0;
        for chunk in self.begun.utf8_chunks() {
            text.push_str(chunk.valid());
            complete += chunk.valid().len();
            let left = chunk.invalid();
            let begins = complete + left.len() == self.begun.len()
                && str::from_utf8(left).is_err_and(|e| e.error_len().is_none());
            if !left.is_empty() && !begins {
                text.push(char::REPLACEMENT_CHARACTER);
                complete += left.len();
            }
        }
        self.begun.drain(..complete);
        text
    }
}

/// How texts are divided before pairs are merged.
fn divided(file: &GgufFile) -> Result<PreTokenizerWrapper, ModelError> {
    const KEY: &str = "tokenizer.ggml.pre";
    let unusable = |error: BoxError| field(KEY, error.to_string());
    let bytes = |words: bool| ByteLevel::new(false, true, words);
    Ok(match file.text(KEY)? {
        None | Some("gpt-2" | "default") => bytes(true).into(),
        Some("smollm") => Sequence::new(vec![Digits::new(true).into(), bytes(true).into()]).into(),
        Some("llama-bpe" | "llama3") => {
            let pattern = SplitPattern::Regex(LLAMA3.into());
            let words = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(unusable)?;
            Sequence::new(vec![words.into(), bytes(false).into()]).into()
        }
        Some(other) => {
            return Err(field(KEY, format!("is {other}; those that are read are gpt-2, smollm and llama-bpe")));
        }
    })
}

/// The token that a field names.
pub(super) fn token(file: &GgufFile, key: &str, vocabulary: usize) -> Result<Option<u32>, ModelError> {
    let last = vocabulary.saturating_sub(1) as u64;
    Ok(file.count(key, 0..=last)?.map(|token| token as u32))
}

/// The byte that a character of a token stands for: printable bytes stand for themselves, the others are counted from
/// U+0100 on.
fn byte(c: char) -> Option<u8> {
    let shown = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(c) {
        code @ 0..=0xff => Some(code as u8).filter(shown),
        code => (0..=u8::MAX).filter(|byte| !shown(byte)).nth(code as usize - 0x100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let characters = (0..0x200).filter_map(char::from_u32);
        let mut bytes: Vec<u8> = characters.filter_map(byte).collect();
        assert_eq!((byte('Ġ'), byte('Ċ'), byte('a')), (Some(b' '), Some(b'\n'), Some(b'a')));
        bytes.sort_unstable();
        assert!(bytes.iter().copied().eq(0..=255));
    }
}
