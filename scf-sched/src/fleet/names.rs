//! Numbers that stand for names inside one fleet.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{PoisonError, RwLock},
};

macro_rules! number {
    ($(#[$doc:meta])* $type:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub(crate) $inner);

        impl $type {
            /// The number as a position: numbers count up from 0.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

number! {
    /// A node of a fleet, by position. Positions are never given to another node.
    NodeIx(u32)
}
number! {
    /// A place in the network.
    SiteIx(u16)
}
number! {
    /// A zone or a legal region.
    ZoneIx(u16)
}
number! {
    /// A kind of hardware.
    ClassIx(u16)
}
number! {
    /// A function, for warm sets and learned times.
    FunctionIx(u32)
}
number! {
    /// Something that functions read: a data set, an image, a model.
    DataIx(u32)
}

impl NodeIx {
    /// The node that joined a fleet as number `position`.
    #[must_use]
    pub const fn new(position: u32) -> Self {
        Self(position)
    }
}

impl ZoneIx {
    /// How a record says "none".
    pub(crate) const NONE: u16 = u16::MAX;

    pub(crate) const fn of_bits(bits: u16) -> Option<Self> {
        if bits == Self::NONE { None } else { Some(Self(bits)) }
    }
}

/// Numbers for names, counted up from 0.
#[derive(Debug)]
pub(crate) struct Numbers<K> {
    numbers: RwLock<HashMap<K, u32>>,
    most: u32,
}

impl<K: Clone + Eq + Hash> Numbers<K> {
    /// Numbers for at most `most` names.
    pub(crate) fn new(most: u32) -> Self {
        Self { numbers: RwLock::default(), most }
    }

    /// The number of a name, a new one if it has none; `None` when there are no more.
    pub(crate) fn number(&self, name: &K) -> Option<u32> {
        if let Some(number) = self.find(name) {
            return Some(number);
        }
        let mut numbers = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(numbers.len()).ok().filter(|next| *next < self.most);
        if let Some(number) = numbers.get(name) {
            return Some(*number);
        }
        numbers.insert(name.clone(), next?);
        next
    }

    pub(crate) fn find(&self, name: &K) -> Option<u32> {
        self.numbers.read().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }
}
