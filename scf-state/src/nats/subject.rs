//! Where what is stored under which subject.
//!
//! | subject under `FABRIC.state.SHARD.FUNCTION.SCOPE` | what |
//! |---|---|
//! | `.head` | [`Record`](super::record::Record) |
//! | `.GENERATION.e.KEY` | an entry |
//! | `.GENERATION.r.SLOT` | the result of a past invocation |
//!
//! The fabric and the function are names, which are tokens; SCOPE and KEY are digests of texts that may be anything and
//! of any length. What a message holds says whose it is, and a reader compares.

use scf_core::{Name, Scope};

/// Bytes of a digest: who looks for two keys that fall together tries 2^80 of them.
const DIGEST: usize = 20;

/// The streams and subjects of one fabric.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) fabric: Name,
    pub(super) shards: u32,
}

impl Layout {
    pub(super) fn stream(&self, shard: u32) -> String {
        format!("SCF_HEAD_{}_{shard}", self.fabric)
    }

    /// All subjects of a shard.
    pub(super) fn subjects(&self, shard: u32) -> String {
        format!("{}.state.{shard}.>", self.fabric)
    }

    pub(super) fn place(&self, scope: &Scope) -> Place {
        let digest = blake3::hash(scope.key.as_bytes());
        let mut first = [0; 4];
        let whole =
            blake3::Hasher::new().update(scope.function.as_str().as_bytes()).update(digest.as_bytes()).finalize();
        first.copy_from_slice(&whole.as_bytes()[..4]);
        let shard = u32::from_le_bytes(first) % self.shards;
        let prefix = format!("{}.state.{shard}.{}.{}", self.fabric, scope.function, token(scope.key.as_bytes()));
        Place { scope: scope.clone(), shard, prefix }
    }
}

/// Where one scope is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) scope: Scope,
    pub(super) shard: u32,
    prefix: String,
}

impl Place {
    pub(super) fn head(&self) -> String {
        format!("{}.head", self.prefix)
    }

    pub(super) fn entry(&self, generation: u64, key: &str) -> String {
        format!("{}.{generation:016x}.e.{}", self.prefix, token(key.as_bytes()))
    }

    pub(super) fn result(&self, generation: u64, slot: u64) -> String {
        format!("{}.{generation:016x}.r.{slot}", self.prefix)
    }

    /// All entries and results of a generation.
    pub(super) fn generation(&self, generation: u64) -> String {
        format!("{}.{generation:016x}.>", self.prefix)
    }
}

/// A token that any text may be behind.
fn token(text: &[u8]) -> String {
    blake3::hash(text).to_hex()[..2 * DIGEST].to_owned()
}

#[cfg(test)]
mod tests {
    use scf_core::FunctionName;

    use super::*;

    #[test]
    fn no_text_reaches_a_subject() {
        let layout = Layout { fabric: Name::new("plant-7").unwrap(), shards: 8 };
        let texts = ["", "a.b", "*", ">", "a b", "x\r\nPUB y 1\r\nz", "\u{0}", "$JS.API", &"k".repeat(5000)];
        let mut seen = std::collections::HashSet::new();
        for text in texts {
            let scope = Scope { function: FunctionName::new("f").unwrap(), key: text.to_owned() };
            let place = layout.place(&scope);
            for subject in [place.head(), place.entry(1, text), place.result(1, 5)] {
                assert!(subject.starts_with(&format!("plant-7.state.{}.f.", place.shard)), "{subject}");
                assert!(subject.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)), "{subject}");
                assert!(subject.split('.').all(|token| !token.is_empty()) && subject.len() < 200, "{subject}");
                assert!(seen.insert(subject), "{text:?} has subjects of its own");
            }
        }
    }
}
