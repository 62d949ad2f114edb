//! Which nodes a request can use, and which are near to what it needs.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
};

use super::{
    bucket::Buckets,
    geo::Cells,
    hot::Caps,
    list::List,
    names::{DataIx, FunctionIx, NodeIx, SiteIx, ZoneIx},
    segments::Segments,
    set::NodeSet,
};

/// Sets of capabilities that have a list each; nodes with further ones share the last, which every request looks at.
const MOST_KINDS: u32 = 256;

/// Nodes with the same capabilities.
#[derive(Debug, Default)]
struct Kind {
    caps: AtomicU64,
    nodes: List,
}

/// Where something lies that functions read.
#[derive(Debug)]
struct Data {
    bytes: AtomicU64,
    holders: NodeSet,
}

/// The indexes of a fleet.
#[derive(Debug)]
pub(crate) struct Index {
    kinds: Segments<Kind>,
    kind_count: AtomicU32,
    kind_changes: Mutex<()>,
    sites: Segments<List>,
    zones: Segments<List>,
    regions: Segments<List>,
    pub(crate) buckets: Buckets,
    pub(crate) cells: Cells,
    warm: Segments<OnceLock<Box<NodeSet>>>,
    data: Segments<OnceLock<Box<Data>>>,
}

/// A list that a node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Kind(u32),
    Site(SiteIx),
    Zone(ZoneIx),
    Region(ZoneIx),
}

impl Index {
    pub(crate) const fn new() -> Self {
        Self {
            kinds: Segments::new(),
            kind_count: AtomicU32::new(0),
            kind_changes: Mutex::new(()),
            sites: Segments::new(),
            zones: Segments::new(),
            regions: Segments::new(),
            buckets: Buckets::new(),
            cells: Cells::new(),
            warm: Segments::new(),
            data: Segments::new(),
        }
    }

    pub(crate) fn row(&self, row: Row) -> Option<&List> {
        match row {
            Row::Kind(kind) => self.kinds.get(kind as usize).map(|kind| &kind.nodes),
            Row::Site(site) => self.sites.get(site.index()),
            Row::Zone(zone) => self.zones.get(zone.index()),
            Row::Region(zone) => self.regions.get(zone.index()),
        }
    }

    pub(crate) fn make_row(&self, row: Row) -> &List {
        match row {
            Row::Kind(kind) => &self.kinds.make(kind as usize).nodes,
            Row::Site(site) => self.sites.make(site.index()),
            Row::Zone(zone) => self.zones.make(zone.index()),
            Row::Region(zone) => self.regions.make(zone.index()),
        }
    }

    /// The list of nodes with these capabilities.
    pub(crate) fn kind_of(&self, caps: Caps) -> u32 {
        let _change = self.kind_changes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.kind_count.load(SeqCst);
        let has = |kind: u32| self.kinds.get(kind as usize).is_some_and(|kind| kind.caps.load(SeqCst) == caps.0);
        if let Some(kind) = (0..count).find(|kind| has(*kind)) {
            return kind;
        }
        if count == MOST_KINDS {
            // What the last list says is widened to all that its nodes have between them.
            self.kinds.make(MOST_KINDS as usize - 1).caps.fetch_or(caps.0, SeqCst);
            return MOST_KINDS - 1;
        }
        self.kinds.make(count as usize).caps.store(caps.0, SeqCst);
        self.kind_count.store(count + 1, SeqCst);
        count
    }

    /// Gives the lists whose nodes may have what is needed.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (u32, Caps)> {
        let count = self.kind_count.load(SeqCst);
        (0..count).filter_map(|kind| Some((kind, Caps(self.kinds.get(kind as usize)?.caps.load(SeqCst)))))
    }

    pub(crate) fn kind_count(&self) -> u32 {
        self.kind_count.load(SeqCst)
    }

    pub(crate) fn set_warm(&self, function: FunctionIx, node: NodeIx, is_warm: bool) {
        let nodes = self.warm.make(function.index()).get_or_init(|| Box::new(NodeSet::new()));
        if is_warm { nodes.insert(node) } else { nodes.remove(node) }
    }

    #[inline]
    pub(crate) fn warm(&self, function: FunctionIx) -> Option<&NodeSet> {
        self.warm.get(function.index())?.get().map(|nodes| &**nodes)
    }

    pub(crate) fn set_data(&self, data: DataIx, bytes: u64) {
        let new = || Box::new(Data { bytes: AtomicU64::new(0), holders: NodeSet::new() });
        self.data.make(data.index()).get_or_init(new).bytes.store(bytes, SeqCst);
    }

    pub(crate) fn holders(&self, data: DataIx) -> Option<&NodeSet> {
        self.data.get(data.index())?.get().map(|data| &data.holders)
    }

    pub(crate) fn bytes(&self, data: DataIx) -> Option<u64> {
        self.data.get(data.index())?.get().map(|data| data.bytes.load(SeqCst))
    }
}
