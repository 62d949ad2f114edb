//! An array that grows without moving what is in it.

use std::sync::OnceLock;

/// Segments; with a first one of 16 entries they have room for 67 million, with one of 1,024 for as many as a `u32` counts.
const SEGMENTS: usize = 22;

/// Entries by position, in segments that are made when they are first needed: the first has 2^`BITS` entries, each
/// further one twice as many as the one before. Reading takes no lock.
#[derive(Debug)]
pub(crate) struct Segments<T, const BITS: u32 = 10>([OnceLock<Box<[T]>>; SEGMENTS]);

impl<T: Default, const BITS: u32> Segments<T, BITS> {
    pub(crate) const fn new() -> Self {
        Self([const { OnceLock::new() }; SEGMENTS])
    }

    /// The entry, if its segment was ever needed.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        let (segment, offset) = Self::locate(at);
        self.0.get(segment)?.get()?.get(offset)
    }

    /// The entry, which is made when it is not there. Allocates for every segment once.
    ///
    /// # Panics
    /// Beyond the room of all segments.
    pub(crate) fn make(&self, at: usize) -> &T {
        let (segment, offset) = Self::locate(at);
        let entries = self.0[segment].get_or_init(|| (0..1_usize << BITS << segment).map(|_| T::default()).collect());
        &entries[offset]
    }

    #[inline]
    const fn locate(at: usize) -> (usize, usize) {
        let shifted = at + (1 << BITS);
        let segment = (shifted.ilog2() - BITS) as usize;
        (segment, shifted - (1 << BITS << segment))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[test]
    fn every_position_has_an_entry_of_its_own_across_the_segments_edges() {
        let segments: Segments<AtomicU32, 4> = Segments::new();
        for at in 0..10_000 {
            segments.make(at).store(at as u32, Relaxed);
        }
        assert!((0..10_000).all(|at| segments.get(at).unwrap().load(Relaxed) == at as u32));
        assert!(segments.get(1 << 20).is_none());
    }
}
