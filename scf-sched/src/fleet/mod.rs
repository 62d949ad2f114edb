//! The nodes that are decided about, and what is free on them.

mod amount;
mod bitmap;
mod bucket;
mod claim;
mod error;
mod feed;
mod find;
mod geo;
mod hold;
mod hot;
mod index;
mod list;
mod member;
mod names;
mod network;
mod segments;
mod set;
mod take;

use std::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
};

use scf_core::{FunctionName, Name, NodeId, Rates, Zone};

pub use self::{
    amount::{Amount, Need, Units},
    claim::Conflict,
    error::FleetError,
    feed::{Delta, Feed},
    find::Pool,
    hold::{Claim, Hold, HoldError},
    hot::{Caps, HotView},
    names::{ClassIx, DataIx, FunctionIx, NodeIx, SiteIx, ZoneIx},
    network::{Evenness, Spot, Way},
};
use self::{hold::Holds, hot::Hot, index::Index, member::Cold, names::Numbers, network::Network};
pub(crate) use self::{index::Row, segments::Segments};

/// Holds that are open at the same time; more are refused.
const HOLDS: usize = 1 << 16;

/// The nodes of a fabric as its schedulers share them: a record of 64 bytes for each, what is free on it changed by
/// compare-and-set, and indexes that find the nodes a request can use.
///
/// One fleet is shared by any number of schedulers in a process (`&Fleet` is all they need). Nothing in it reads a
/// clock or waits: production and simulation use the same one. It keeps a position for every node that ever joined.
#[derive(Debug)]
pub struct Fleet {
    hot: Segments<Hot>,
    cold: Segments<Cold>,
    len: AtomicU32,
    /// Held by whoever lets a node join, leave or change its description.
    membership: Mutex<()>,
    names: Names,
    classes: Segments<ClassRecord>,
    index: Index,
    network: Network,
    feeds: feed::Feeds,
    holds: Holds,
    tokens: AtomicU64,
}

/// Numbers for the names of a fleet.
#[derive(Debug)]
struct Names {
    nodes: Numbers<NodeId>,
    sites: Numbers<Name>,
    zones: Numbers<Zone>,
    classes: Numbers<ClassKey>,
    labels: Numbers<Name>,
    functions: Numbers<FunctionName>,
    data: Numbers<Name>,
}

/// What makes a class: name, slowdown and rates, the floats by their bits.
type ClassKey = (Name, [u32; 4]);

/// How fast and how dear a kind of hardware is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Class {
    /// How many times slower than this CPU it computes.
    pub slowdown: f32,
    /// What its work costs beside time.
    pub rates: Rates,
}

impl Default for Class {
    /// As fast as this CPU, for nothing.
    fn default() -> Self {
        Self { slowdown: 1.0, rates: Rates::default() }
    }
}

/// The same in words: slowdown | money, joules | carbon.
#[derive(Debug, Default)]
struct ClassRecord(AtomicU64, AtomicU64);

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

impl Fleet {
    /// A fleet without nodes, for up to 65,536 open holds.
    #[must_use]
    pub fn new() -> Self {
        Self::with_holds(HOLDS)
    }

    /// A fleet without nodes that keeps `most` holds open at the same time; at the bound a hold is refused with
    /// [`Conflict::TooManyHolds`].
    #[must_use]
    pub fn with_holds(most: usize) -> Self {
        Self {
            hot: Segments::new(),
            cold: Segments::new(),
            len: AtomicU32::new(0),
            membership: Mutex::new(()),
            names: Names {
                nodes: Numbers::new(u32::MAX),
                sites: Numbers::new(network::MOST_SITES),
                zones: Numbers::new(u32::from(ZoneIx::NONE)),
                classes: Numbers::new(u32::from(u16::MAX)),
                labels: Numbers::new(hot::LABELS),
                functions: Numbers::new(u32::MAX),
                data: Numbers::new(u32::MAX),
            },
            classes: Segments::new(),
            index: Index::new(),
            network: Network::new(),
            feeds: feed::Feeds::new(),
            holds: Holds::new(most),
            tokens: AtomicU64::new(1),
        }
    }

    /// Nodes that ever joined; positions count up to it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(SeqCst) as usize
    }

    /// Whether no node ever joined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of a node; `None` when no node has that position.
    #[inline]
    #[must_use]
    pub fn look(&self, node: NodeIx) -> Option<HotView> {
        self.hot.get(node.index()).filter(|_| node.index() < self.len()).map(Hot::read)
    }

    /// How fast and how dear a kind of hardware is.
    #[inline]
    #[must_use]
    pub fn class(&self, class: ClassIx) -> Class {
        self.classes.get(class.index()).map_or_else(Class::default, ClassRecord::read)
    }

    /// The way from one node to another; `None` when none is known.
    #[must_use]
    pub fn way(&self, from: NodeIx, to: NodeIx) -> Option<Way> {
        self.network.way(&self.spot(from)?, &self.spot(to)?)
    }

    /// Where a node is in the network.
    #[must_use]
    pub fn spot(&self, node: NodeIx) -> Option<Spot> {
        Some(Spot::of(node, &self.look(node)?))
    }

    pub(crate) const fn feeds(&self) -> &feed::Feeds {
        &self.feeds
    }

    pub(crate) const fn network(&self) -> &Network {
        &self.network
    }

    pub(crate) const fn index(&self) -> &Index {
        &self.index
    }
}

impl ClassRecord {
    fn write(&self, class: Class) {
        let Rates { money, joules, carbon } = class.rates;
        let pair = |high: f32, low: f32| u64::from(high.to_bits()) << 32 | u64::from(low.to_bits());
        self.0.store(pair(class.slowdown, money), SeqCst);
        self.1.store(pair(joules, carbon), SeqCst);
    }

    fn read(&self) -> Class {
        let parts = |word: u64| (f32::from_bits((word >> 32) as u32), f32::from_bits(word as u32));
        let (slowdown, money) = parts(self.0.load(SeqCst));
        let (joules, carbon) = parts(self.1.load(SeqCst));
        Class { slowdown, rates: Rates { money, joules, carbon } }
    }
}
