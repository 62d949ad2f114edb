//! Sets of blocks.

use smallvec::SmallVec;

/// Blocks of one network, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockSet {
    /// 64 blocks each; the last word is not zero, so that equal sets are equal values.
    words: SmallVec<[u64; 2]>,
}

impl BlockSet {
    /// No block.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first `blocks` blocks.
    #[must_use]
    pub fn first(blocks: usize) -> Self {
        let mut words = SmallVec::from_elem(u64::MAX, blocks / 64);
        if !blocks.is_multiple_of(64) {
            words.push(u64::MAX >> (64 - blocks % 64));
        }
        Self { words }
    }

    /// Reads what [`BlockSet::to_bytes`] wrote; `None` when there are blocks beyond the first `blocks`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], blocks: usize) -> Option<Self> {
        let mut set = Self::new();
        for (at, byte) in bytes.iter().enumerate() {
            for block in (0..8).filter(|bit| byte & (1 << bit) != 0).map(|bit| at * 8 + bit) {
                if block >= blocks {
                    return None;
                }
                set.insert(block);
            }
        }
        Some(set)
    }

    /// One bit per block of a network of `blocks` blocks, the first in the lowest bit of the first byte.
    pub fn to_bytes(&self, blocks: usize) -> impl Iterator<Item = u8> + '_ {
        let word = |byte: usize| self.words.get(byte / 8).copied().unwrap_or(0);
        (0..blocks.div_ceil(8)).map(move |byte| word(byte).to_le_bytes()[byte % 8])
    }

    /// Adds a block.
    pub fn insert(&mut self, block: usize) {
        if self.words.len() <= block / 64 {
            self.words.resize(block / 64 + 1, 0);
        }
        self.words[block / 64] |= 1 << (block % 64);
    }

    /// Whether a block is in it.
    #[must_use]
    pub fn contains(&self, block: usize) -> bool {
        self.words.get(block / 64).is_some_and(|word| word & (1 << (block % 64)) != 0)
    }

    /// How many blocks are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

impl FromIterator<usize> for BlockSet {
    fn from_iter<T: IntoIterator<Item = usize>>(blocks: T) -> Self {
        let mut set = Self::new();
        blocks.into_iter().for_each(|block| set.insert(block));
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_blocks_are_those_that_are_inserted_one_by_one() {
        for blocks in [0, 1, 63, 64, 65, 128, 130] {
            let set: BlockSet = (0..blocks).collect();
            assert_eq!((BlockSet::first(blocks), set.len()), (set.clone(), blocks));
            assert!(!set.contains(blocks));
        }
    }

    #[test]
    fn a_block_that_the_network_does_not_have_is_refused() {
        assert_eq!(BlockSet::from_bytes(&[0b101], 2), None);
        assert_eq!(BlockSet::from_bytes(&[0b101], 3), Some([0, 2].into_iter().collect()));
    }

    proptest! {
        #[test]
        fn comes_back_out_of_its_bytes(blocks in proptest::collection::btree_set(0usize..200, 0..50)) {
            let set: BlockSet = blocks.iter().copied().collect();
            let bytes: Vec<u8> = set.to_bytes(200).collect();
            prop_assert_eq!(bytes.len(), 25);
            prop_assert_eq!(BlockSet::from_bytes(&bytes, 200), Some(set));
        }
    }
}
