//! An array that grows without moving what is in it.

use std::sync::OnceLock;

/// Entries of the first segment; each further one is twice as long.
const FIRST: usize = 1 << FIRST_BITS;
const FIRST_BITS: u32 = 10;
/// Segments; together they have room for some four thousand million entries.
const SEGMENTS: usize = 22;

/// Entries by position, in segments that are made when they are first needed. Reading takes no lock.
#[derive(Debug)]
pub(crate) struct Segments<T>([OnceLock<Box<[T]>>; SEGMENTS]);

impl<T: Default> Segments<T> {
    pub(crate) const fn new() -> Self {
        Self([const { OnceLock::new() }; SEGMENTS])
    }

    /// The entry, if its segment was ever needed.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        let (segment, offset) = locate(at);
        self.0.get(segment)?.get()?.get(offset)
    }

    /// The entry, which is made when it is not there. Allocates for every segment once.
    ///
    /// # Panics
    /// Beyond the room of all segments, which no `u32` position reaches.
    pub(crate) fn make(&self, at: usize) -> &T {
        let (segment, offset) = locate(at);
        let entries = self.0[segment].get_or_init(|| (0..FIRST << segment).map(|_| T::default()).collect());
        &entries[offset]
    }
}

#[inline]
const fn locate(at: usize) -> (usize, usize) {
    let shifted = at + FIRST;
    let segment = (shifted.ilog2() - FIRST_BITS) as usize;
    (segment, shifted - (FIRST << segment))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[test]
    fn every_position_has_an_entry_of_its_own_across_the_segments_edges() {
        let segments: Segments<AtomicU32> = Segments::new();
        for at in 0..10_000 {
            segments.make(at).store(at as u32, Relaxed);
        }
        assert!((0..10_000).all(|at| segments.get(at).unwrap().load(Relaxed) == at as u32));
        assert!(segments.get(1 << 20).is_none());
    }
}
