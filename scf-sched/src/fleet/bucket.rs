//! Nodes by how much of them is free.

use super::{amount::Amount, bitmap::Bitmap, names::NodeIx};

/// Powers of two that are told apart of each of processor and memory.
const STEPS: u32 = 8;
/// Below this the first step begins: an eighth of a core, 128 MiB.
const CPU_FIRST: u32 = 125;
const MEMORY_FIRST: u32 = 128;

/// For each of 8 x 8 powers of two of free processor and memory the nodes that have that much: from an eighth of a
/// core to 8 cores and more, from 128 MiB to 8 GiB and more. What is found here may be off for as long as a claim is
/// being made, so it is looked at before it is believed; once claims rest, every node is where it belongs.
#[derive(Debug)]
pub(crate) struct Buckets([Bitmap; (STEPS * STEPS) as usize]);

impl Buckets {
    pub(crate) const fn new() -> Self {
        Self([const { Bitmap::new() }; (STEPS * STEPS) as usize])
    }

    pub(crate) fn insert(&self, node: NodeIx, free: Amount) {
        self.0[bucket(free)].insert(node.index());
    }

    pub(crate) fn remove(&self, node: NodeIx) {
        self.0.iter().for_each(|bucket| bucket.remove(node.index()));
    }

    /// Notes that the free amount of a node changed. `now` reads what is free.
    ///
    /// Changes of one node may be noted in another order than they were made. Who clears a bit reads the word again
    /// and puts the node where it belongs by then, so the last to finish leaves it in its place.
    #[inline]
    pub(crate) fn moved(&self, node: NodeIx, before: Amount, after: Amount, now: impl Fn() -> Amount) {
        let (mut from, mut to) = (bucket(before), bucket(after));
        while from != to {
            self.0[to].insert(node.index());
            self.0[from].remove(node.index());
            from = to;
            to = bucket(now());
        }
    }

    /// The buckets in which some node may fit `need`, the tightest first.
    pub(crate) fn for_need(need: Amount) -> impl Iterator<Item = usize> {
        let (cpu, memory) = (step(need.milli(), CPU_FIRST), step(need.mib(), MEMORY_FIRST));
        (cpu..STEPS).flat_map(move |cpu| (memory..STEPS).map(move |memory| (cpu * STEPS + memory) as usize))
    }

    pub(crate) fn nodes(&self, bucket: usize) -> &Bitmap {
        &self.0[bucket]
    }
}

fn bucket(free: Amount) -> usize {
    (step(free.milli(), CPU_FIRST) * STEPS + step(free.mib(), MEMORY_FIRST)) as usize
}

const fn step(amount: u32, first: u32) -> u32 {
    let doublings = (amount / first + 1).ilog2();
    if doublings < STEPS { doublings } else { STEPS - 1 }
}

#[cfg(test)]
mod tests {
    use scf_core::{ByteSize, MilliCpu, Resources};

    use super::*;
    use crate::random::Random;

    fn amount(milli: usize, mib: usize) -> Amount {
        let resources = Resources { cpu: MilliCpu::new(milli as u32), memory: ByteSize::from_mib(mib as u64) };
        Amount::of_node(resources, 1)
    }

    #[test]
    fn what_fits_is_always_in_a_bucket_that_is_looked_at() {
        let mut random = Random::new(1);
        for _ in 0..10_000 {
            let (free, need) = [(); 2].map(|()| amount(random.below(20_000), random.below(20_000))).into();
            if free.fits(need) {
                assert!(Buckets::for_need(need).any(|at| at == bucket(free)), "{free:?} fits {need:?}");
            }
        }
    }

    #[test]
    fn a_change_that_is_noted_late_does_not_lose_the_node() {
        let buckets = Buckets::new();
        let (node, full, empty) = (NodeIx(70_000), amount(4000, 4096), amount(0, 0));
        buckets.insert(node, full);
        // Taken and given back; the taking is noted after the giving.
        buckets.moved(node, empty, full, || full);
        buckets.moved(node, full, empty, || full);
        let found = Buckets::for_need(full).any(|at| buckets.nodes(at).contains(node.index()));
        assert!(found, "the node is where its free amount says");
    }
}
