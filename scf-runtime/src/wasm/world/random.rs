//! Random numbers for functions that were granted none: a sequence that the invocation id determines.

use std::convert::Infallible;

use rand_core::TryRng;
use scf_core::InvocationId;

/// Keeps the sequence apart from everything else that is made of an invocation id.
const KEY: &[u8; blake3::KEY_LEN] = b"scf random numbers without grant";

/// A sequence as long as anybody reads of it. Whoever knows the invocation id knows it.
#[derive(Clone, Debug)]
pub(super) enum Sequence {
    /// Nothing has been read of it; most calls read nothing.
    Of(InvocationId, u8),
    Read(Box<blake3::OutputReader>),
}

impl Sequence {
    /// The sequence of an invocation, of several that are told apart by `stream`.
    pub(super) const fn of(id: InvocationId, stream: u8) -> Self {
        Self::Of(id, stream)
    }

    /// The next 16 bytes as a number.
    pub(super) fn seed(&mut self) -> u128 {
        u128::from_le_bytes(self.bytes())
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    fn fill(&mut self, into: &mut [u8]) {
        if let Self::Of(id, stream) = *self {
            let mut hasher = blake3::Hasher::new_keyed(KEY);
            hasher.update(&id.bits().to_le_bytes()).update(&[stream]);
            *self = Self::Read(Box::new(hasher.finalize_xof()));
        }
        if let Self::Read(reader) = self {
            reader.fill(into);
        }
    }
}

impl TryRng for Sequence {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        self.fill(into);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_that_of_its_invocation_and_stream() {
        let of = |id, stream| Sequence::of(InvocationId::new(id), stream).seed();
        assert_eq!(of(1, 0), of(1, 0));
        assert_ne!(of(1, 0), of(2, 0));
        assert_ne!(of(1, 0), of(1, 1));
        let mut sequence = Sequence::of(InvocationId::new(1), 0);
        assert_ne!(sequence.seed(), sequence.seed());
    }
}
