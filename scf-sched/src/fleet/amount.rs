//! What is free on a node and what is taken of it, in one word each.

use scf_core::{Accelerator, AcceleratorUnits, ByteSize, MilliCpu, Resources};

const SLOT_BITS: u32 = 13;
const MEMORY_BITS: u32 = 22;
const CPU_BITS: u32 = 21;
const MEMORY_AT: u32 = SLOT_BITS;
const CPU_AT: u32 = SLOT_BITS + MEMORY_BITS;
const EPOCH_AT: u32 = CPU_AT + CPU_BITS;
const AMOUNT: u64 = (1 << EPOCH_AT) - 1;

/// Most slots that are told apart.
pub(crate) const MOST_SLOTS: u16 = (1 << SLOT_BITS) - 1;

/// Processor, memory and slots in one word, so that one compare-and-set changes all three: 21 bits of
/// thousandths of a core, 22 bits of MiB, 13 bits of slots. The 8 bits above are the epoch of a node's word and
/// zero elsewhere.
///
/// Nodes with more than 2,097 cores or 4 TiB count as having that much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Amount(u64);

impl Amount {
    /// What is there: memory is rounded down, so that no more is promised than there is.
    pub(crate) fn of_node(resources: Resources, slots: u16) -> Self {
        let mib = resources.memory.bytes() >> 20;
        Self::pack(u64::from(resources.cpu.milli()), mib, u64::from(slots))
    }

    /// What a call or a task takes: memory is rounded up.
    ///
    /// `None` when it is more than any node can have.
    pub(crate) fn of_need(resources: Resources, slots: u16) -> Option<Self> {
        let mib = resources.memory.bytes().div_ceil(1 << 20);
        let milli = u64::from(resources.cpu.milli());
        let can_be = milli < 1 << CPU_BITS && mib < 1 << MEMORY_BITS && slots <= MOST_SLOTS;
        can_be.then(|| Self::pack(milli, mib, u64::from(slots)))
    }

    fn pack(milli: u64, mib: u64, slots: u64) -> Self {
        let held = |amount: u64, bits: u32| amount.min((1 << bits) - 1);
        Self(held(milli, CPU_BITS) << CPU_AT | held(mib, MEMORY_BITS) << MEMORY_AT | held(slots, SLOT_BITS))
    }

    /// Thousandths of a core.
    #[must_use]
    pub const fn milli(self) -> u32 {
        (self.0 >> CPU_AT) as u32 & ((1 << CPU_BITS) - 1)
    }

    /// Memory in MiB.
    #[must_use]
    pub const fn mib(self) -> u32 {
        (self.0 >> MEMORY_AT) as u32 & ((1 << MEMORY_BITS) - 1)
    }

    /// Calls and tasks at once.
    #[must_use]
    pub const fn slots(self) -> u16 {
        (self.0 & ((1 << SLOT_BITS) - 1)) as u16
    }

    /// Processor and memory.
    #[must_use]
    pub const fn resources(self) -> Resources {
        Resources { cpu: MilliCpu::new(self.milli()), memory: ByteSize::from_mib(self.mib() as u64) }
    }

    /// Whether `need` fits into this.
    #[inline]
    #[must_use]
    pub const fn fits(self, need: Self) -> bool {
        need.milli() <= self.milli() && need.mib() <= self.mib() && need.slots() <= self.slots()
    }

    /// This and `other`; held below what a word can say.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self::pack(
            u64::from(self.milli()) + u64::from(other.milli()),
            u64::from(self.mib()) + u64::from(other.mib()),
            u64::from(self.slots()) + u64::from(other.slots()),
        )
    }

    /// What is left of this after `other` is taken away, nothing below nothing.
    pub(crate) fn minus(self, other: Self) -> Self {
        Self::pack(
            u64::from(self.milli().saturating_sub(other.milli())),
            u64::from(self.mib().saturating_sub(other.mib())),
            u64::from(self.slots().saturating_sub(other.slots())),
        )
    }

    /// The word of a node whose free amount this is.
    pub(crate) const fn word(self, epoch: u32) -> u64 {
        self.0 | (epoch as u64 & 0xff) << EPOCH_AT
    }

    /// What a node's word says to be free.
    #[inline]
    pub(crate) const fn of_word(word: u64) -> Self {
        Self(word & AMOUNT)
    }

    /// The low 8 bits of the epoch in a node's word.
    pub(crate) const fn epoch_of(word: u64) -> u8 {
        (word >> EPOCH_AT) as u8
    }
}

/// Kinds of accelerators that are counted.
const KINDS: u32 = 4;
const KIND_BITS: u32 = 14;
const KIND: u64 = (1 << KIND_BITS) - 1;

/// Counted units of accelerators in one word, 14 bits for each of four kinds, and 8 bits of a node's epoch above
/// them. Nodes with more than 16,383 units of a kind count as having that many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Units(u64);

impl Units {
    pub(crate) fn of_node(accelerators: &[AcceleratorUnits]) -> Self {
        accelerators.iter().fold(Self::default(), |all, has| all.plus(Self::of(has.kind, has.units)))
    }

    /// `units` of one kind.
    pub(crate) const fn of(kind: Accelerator, units: u16) -> Self {
        let held = if units as u64 > KIND { KIND } else { units as u64 };
        Self(held << (KIND_BITS * Self::position(kind)))
    }

    /// The place of a kind in the word. Kinds that scf-core adds later share the last.
    pub(crate) const fn position(kind: Accelerator) -> u32 {
        match kind {
            Accelerator::Cuda => 0,
            Accelerator::Metal => 1,
            Accelerator::Npu => 2,
            _ => 3,
        }
    }

    /// Units of one kind.
    #[must_use]
    pub const fn count(self, kind: Accelerator) -> u16 {
        self.at(Self::position(kind)) as u16
    }

    const fn at(self, kind: u32) -> u64 {
        (self.0 >> (KIND_BITS * kind)) & KIND
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether `need` fits into this.
    #[inline]
    #[must_use]
    pub fn fits(self, need: Self) -> bool {
        need.is_none() || (0..KINDS).all(|kind| need.at(kind) <= self.at(kind))
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.each(other, |a, b| (a + b).min(KIND))
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    fn each(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let kinds = 0..KINDS;
        Self(kinds.fold(0, |all, kind| all | join(self.at(kind), other.at(kind)) << (KIND_BITS * kind)))
    }

    /// The word of a node whose free units these are.
    pub(crate) const fn word(self, epoch: u32) -> u64 {
        self.0 | (epoch as u64 & 0xff) << EPOCH_AT
    }

    /// What a node's word says to be free.
    #[inline]
    pub(crate) const fn of_word(word: u64) -> Self {
        Self(word & AMOUNT)
    }
}

/// What a hold takes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Need {
    /// Processor, memory and slots.
    pub amount: Amount,
    /// Accelerators.
    pub units: Units,
}

impl Need {
    /// Processor, memory and slots, no accelerator; `None` when it is more than any node can have.
    #[must_use]
    pub fn new(resources: Resources, slots: u16) -> Option<Self> {
        Some(Self { amount: Amount::of_need(resources, slots)?, units: Units::default() })
    }

    /// Adds `units` of an accelerator.
    #[must_use]
    pub fn with(mut self, kind: Accelerator, units: u16) -> Self {
        self.units = self.units.plus(Units::of(kind, units));
        self
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { amount: self.amount.plus(other.amount), units: self.units.plus(other.units) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(milli: u32, mib: u64, slots: u16) -> Amount {
        Amount::of_node(Resources { cpu: MilliCpu::new(milli), memory: ByteSize::from_mib(mib) }, slots)
    }

    #[test]
    fn what_is_packed_is_read_again() {
        let packed = amount(16_000, 65_536, 64);
        assert_eq!((packed.milli(), packed.mib(), packed.slots()), (16_000, 65_536, 64));
        let word = packed.word(0x1_23);
        assert_eq!((Amount::of_word(word), Amount::epoch_of(word)), (packed, 0x23));
    }

    #[test]
    fn every_part_must_fit() {
        let free = amount(1000, 1024, 1);
        assert!(free.fits(amount(1000, 1024, 1)));
        for more in [amount(1001, 0, 0), amount(0, 1025, 0), amount(0, 0, 2)] {
            assert!(!free.fits(more), "{more:?}");
        }
    }

    #[test]
    fn memory_is_rounded_against_the_one_who_asks() {
        let bytes = |bytes| Resources { cpu: MilliCpu::new(0), memory: ByteSize::from_bytes(bytes) };
        assert_eq!(Amount::of_node(bytes((1 << 20) + 1), 0).mib(), 1);
        assert_eq!(Amount::of_need(bytes((1 << 20) + 1), 0).unwrap().mib(), 2);
        assert_eq!(Amount::of_need(bytes(1 << 50), 0), None);
    }

    #[test]
    fn units_are_counted_per_kind() {
        let has = Units::of(Accelerator::Cuda, 4).plus(Units::of(Accelerator::Npu, 1));
        assert!(has.fits(Units::of(Accelerator::Cuda, 4)));
        assert!(!has.fits(Units::of(Accelerator::Metal, 1)));
        let left = has.minus(Units::of(Accelerator::Cuda, 3));
        assert_eq!((left.count(Accelerator::Cuda), left.count(Accelerator::Npu)), (1, 1));
    }
}
