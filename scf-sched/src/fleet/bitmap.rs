//! A set of nodes as bits in blocks, with a summary above them.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use super::segments::Segments;

/// Nodes of a block.
const BLOCK: usize = 64 * 64;

/// 4,096 nodes: a bit for each, and one for each word that has any.
#[derive(Debug)]
struct Block {
    some: AtomicU64,
    words: [AtomicU64; 64],
}

impl Default for Block {
    fn default() -> Self {
        Self { some: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; 64] }
    }
}

/// A set of positions. Blocks that never had a member take no memory but a pointer; members are found without
/// looking at the absent ones, in a time that grows with the number of blocks, one for 4,096 positions.
#[derive(Debug)]
pub(crate) struct Bitmap {
    blocks: Segments<OnceLock<Box<Block>>, 4>,
    /// One bit for each block that has any.
    some: Segments<AtomicU64, 4>,
}

impl Bitmap {
    pub(crate) const fn new() -> Self {
        Self { blocks: Segments::new(), some: Segments::new() }
    }

    pub(crate) fn contains(&self, at: usize) -> bool {
        self.block(at / BLOCK).is_some_and(|block| block.words[at / 64 % 64].load(SeqCst) >> (at % 64) & 1 == 1)
    }

    /// Puts a position in. Bits are set from below and above them last, so that who clears a summary bit and sees
    /// the word below become non-zero sets it again.
    pub(crate) fn insert(&self, at: usize) {
        let number = at / BLOCK;
        let block = self.blocks.make(number).get_or_init(Box::default);
        block.words[at / 64 % 64].fetch_or(1 << (at % 64), SeqCst);
        block.some.fetch_or(1 << (at / 64 % 64), SeqCst);
        self.some.make(number / 64).fetch_or(1 << (number % 64), SeqCst);
    }

    pub(crate) fn remove(&self, at: usize) {
        let number = at / BLOCK;
        let Some(block) = self.block(number) else { return };
        let word = &block.words[at / 64 % 64];
        let bit = 1 << (at % 64);
        if word.fetch_and(!bit, SeqCst) & !bit != 0 {
            return;
        }
        clear(&block.some, at / 64 % 64, || word.load(SeqCst) != 0);
        if block.some.load(SeqCst) == 0
            && let Some(some) = self.some.get(number / 64)
        {
            clear(some, number % 64, || block.some.load(SeqCst) != 0);
        }
    }

    /// The first member at or after `from`, of those below `end`.
    pub(crate) fn next(&self, from: usize, end: usize) -> Option<usize> {
        let mut at = from;
        while at < end {
            let number = at / BLOCK;
            if at.is_multiple_of(BLOCK) {
                // At the start of a block: skip the blocks that have none.
                let some = self.some.get(number / 64).map_or(0, |some| some.load(SeqCst)) >> (number % 64);
                if some == 0 {
                    at = (number / 64 + 1) * 64 * BLOCK;
                    continue;
                }
                at = (number + some.trailing_zeros() as usize) * BLOCK;
            }
            match self.block(at / BLOCK).and_then(|block| within(block, at % BLOCK)) {
                Some(offset) => return Some(at / BLOCK * BLOCK + offset).filter(|found| *found < end),
                None => at = (at / BLOCK + 1) * BLOCK,
            }
        }
        None
    }

    fn block(&self, number: usize) -> Option<&Block> {
        self.blocks.get(number)?.get().map(|block| &**block)
    }
}

/// The first member of a block at or after `offset`.
fn within(block: &Block, offset: usize) -> Option<usize> {
    let first = offset / 64;
    let rest = block.words[first].load(SeqCst) >> (offset % 64);
    if rest != 0 {
        return Some(offset + rest.trailing_zeros() as usize);
    }
    // Shifted in two steps: a shift by 64 is no shift.
    let mut some = (block.some.load(SeqCst) >> first >> 1) << 1 << first;
    while some != 0 {
        let word = some.trailing_zeros() as usize;
        let bits = block.words[word].load(SeqCst);
        if bits != 0 {
            return Some(word * 64 + bits.trailing_zeros() as usize);
        }
        some &= some - 1;
    }
    None
}

/// Clears a summary bit, and sets it again if what it stands for got a member meanwhile.
fn clear(summary: &AtomicU64, bit: usize, has_some: impl Fn() -> bool) {
    summary.fetch_and(!(1 << bit), SeqCst);
    if has_some() {
        summary.fetch_or(1 << bit, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::Random;

    #[test]
    fn it_has_what_a_sorted_set_has() {
        let (bitmap, mut set, mut random) = (Bitmap::new(), BTreeSet::new(), Random::new(3));
        for _ in 0..20_000 {
            let at = random.below(40) * 7919 % 300_000;
            if random.below(2) == 0 {
                bitmap.insert(at);
                set.insert(at);
            } else {
                bitmap.remove(at);
                set.remove(&at);
            }
            let (from, end) = (random.below(310_000), random.below(310_000));
            let expected = if from < end { set.range(from..end).next().copied() } else { None };
            assert_eq!(bitmap.next(from, end), expected, "from {from} to {end}");
            assert_eq!(bitmap.contains(at), set.contains(&at));
        }
    }
}
