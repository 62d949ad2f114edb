//! Finding nodes for a demand: at random, near to something, or every one that fits.

use scf_core::Area;
use smallvec::SmallVec;

use super::{
    Fleet, Row,
    bucket::Buckets,
    list::List,
    names::{DataIx, FunctionIx, NodeIx, SiteIx},
};
use crate::{Demand, random::Random};

/// The nodes among which those are that can satisfy a demand: a zone's, a region's, those with its capabilities, or
/// the ones that it names. Made once per decision.
#[derive(Debug)]
pub struct Pool<'a> {
    named: &'a [NodeIx],
    /// Each list with the number of nodes in it and in those before it.
    lists: SmallVec<[(&'a List, usize); 8]>,
}

impl Pool<'_> {
    /// How many nodes it has; those that changed lists meanwhile may count twice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lists.last().map_or(self.named.len(), |(_, len)| *len)
    }

    /// Whether it has no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The node at a position below [`len`](Self::len); `None` when one left meanwhile.
    #[inline]
    #[must_use]
    pub fn get(&self, at: usize) -> Option<NodeIx> {
        let mut before = 0;
        for (list, until) in &self.lists {
            if at < *until {
                return list.get(at - before);
            }
            before = *until;
        }
        self.named.get(at).copied()
    }

    /// A node, each with the same chance; `None` when there are none.
    #[inline]
    pub fn draw(&self, random: &mut Random) -> Option<NodeIx> {
        let len = self.len();
        if len == 0 { None } else { self.get(random.below(len)) }
    }

    /// Its nodes, beginning at one that `turn` decides.
    pub fn every(&self, turn: usize) -> impl Iterator<Item = NodeIx> {
        let len = self.len();
        let start = if len == 0 { 0 } else { turn % len };
        (start..len).chain(0..start).filter_map(|at| self.get(at))
    }
}

impl Fleet {
    /// The nodes among which those are that can satisfy `demand`.
    #[must_use]
    pub fn pool<'a>(&'a self, demand: &'a Demand) -> Pool<'a> {
        let mut lists = SmallVec::new();
        if demand.nodes.is_empty() {
            let mut len = 0;
            for list in self.rows_of(demand).filter_map(|row| self.index().row(row)) {
                len += list.len();
                lists.push((list, len));
            }
        }
        Pool { named: &demand.nodes, lists }
    }

    /// Nodes that by their free processor and memory may fit `demand`, those with the least to spare first, in each
    /// step of it beginning at one that `turn` decides. Until `each` says to stop.
    pub fn with_room(&self, demand: &Demand, turn: usize, each: impl FnMut(NodeIx) -> bool) {
        self.with_room_spread(demand, turn, usize::MAX, each);
    }

    /// The same with at most `per_step` nodes of each step, so that those with more to spare come too.
    pub(crate) fn with_room_spread(
        &self,
        demand: &Demand,
        turn: usize,
        per_step: usize,
        mut each: impl FnMut(NodeIx) -> bool,
    ) {
        let len = self.len();
        let start = if len == 0 { 0 } else { turn % len };
        for bucket in Buckets::for_need(demand.need.amount) {
            let nodes = self.index().buckets.nodes(bucket);
            let mut left = per_step;
            for (from, end) in [(start, len), (0, start)] {
                let mut at = from;
                while let Some(found) = nodes.next(at, end).filter(|_| left > 0) {
                    left -= 1;
                    if !each(NodeIx(found as u32)) {
                        return;
                    }
                    at = found + 1;
                }
            }
        }
    }

    /// Up to `most` nodes that have the function started, beginning at one that `turn` decides.
    pub fn warm_nodes(&self, function: FunctionIx, turn: usize, most: usize, each: impl FnMut(NodeIx)) {
        if let Some(nodes) = self.index().warm(function) {
            nodes.some(turn, most).for_each(each);
        }
    }

    /// Up to `most` nodes that hold a copy, beginning at one that `turn` decides.
    pub fn holders(&self, data: DataIx, turn: usize, most: usize, each: impl FnMut(NodeIx)) {
        if let Some(nodes) = self.index().holders(data) {
            nodes.some(turn, most).for_each(each);
        }
    }

    /// Whether a node holds a copy.
    #[must_use]
    pub fn is_holder(&self, data: DataIx, node: NodeIx) -> bool {
        self.index().holders(data).is_some_and(|nodes| nodes.contains(node))
    }

    /// The size of what functions read, in bytes; 0 when it is not known.
    #[must_use]
    pub fn data_bytes(&self, data: DataIx) -> u64 {
        self.index().bytes(data).unwrap_or(0)
    }

    /// Nodes of the cells that touch an area, until `each` says to stop. Some of them stand outside of it.
    pub fn around(&self, area: &Area, turn: usize, each: impl FnMut(NodeIx) -> bool) {
        self.index().cells.around(area, turn, each);
    }

    /// How many nodes are at a site.
    #[must_use]
    pub fn site_len(&self, site: SiteIx) -> usize {
        self.index().row(Row::Site(site)).map_or(0, List::len)
    }

    /// A node of a site, each with the same chance.
    #[inline]
    pub fn draw_of_site(&self, site: SiteIx, random: &mut Random) -> Option<NodeIx> {
        let list = self.index().row(Row::Site(site))?;
        let len = list.len();
        if len == 0 { None } else { list.get(random.below(len)) }
    }

    /// The node at a position among those of a site.
    #[must_use]
    pub fn node_of_site(&self, site: SiteIx, at: usize) -> Option<NodeIx> {
        self.index().row(Row::Site(site)).filter(|list| at < list.len())?.get(at)
    }
}
