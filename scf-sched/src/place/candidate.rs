//! A request and a node, as the steps of a decision see them.

use smallvec::SmallVec;

use crate::{
    Input, Request, Source,
    fleet::{Fleet, HotView, NodeIx, Way},
};

/// Copies of an input that are reckoned with.
const COPIES: usize = 4;

/// A request over a fleet, with what every candidate is held against looked up once.
#[derive(Debug)]
#[non_exhaustive]
pub struct Scene<'a> {
    /// The nodes.
    pub fleet: &'a Fleet,
    /// What is to be placed.
    pub request: &'a Request<'a>,
    /// The caller.
    pub from: Option<(NodeIx, HotView)>,
    /// The steps that are placed already, in the order of the request; none where the node is not known.
    pub neighbours: SmallVec<[Option<(NodeIx, HotView)>; 4]>,
    /// For each input the nodes that it is read from.
    pub sources: SmallVec<[Sources; 4]>,
    /// Where the artefact of the function is fetched from, and its bytes.
    pub artefact: Option<(Sources, f32)>,
}

/// Nodes that something is read from.
pub type Sources = SmallVec<[(NodeIx, HotView); COPIES]>;

impl<'a> Scene<'a> {
    /// Looks up what every candidate for `request` is held against. Does not allocate for up to four neighbours and
    /// four inputs.
    #[must_use]
    pub fn new(fleet: &'a Fleet, request: &'a Request<'a>) -> Self {
        let known = |node: NodeIx| fleet.look(node).map(|hot| (node, hot));
        let artefact = request.demand.artefact.map(|data| {
            let sources = copies(fleet, Source::Data(data), request.seed);
            (sources, fleet.data_bytes(data) as f32)
        });
        Self {
            fleet,
            request,
            from: request.from.and_then(known),
            neighbours: request.neighbours.iter().map(|neighbour| known(neighbour.node)).collect(),
            sources: request.inputs.iter().map(|input| copies(fleet, input.source, request.seed)).collect(),
            artefact,
        }
    }

    /// The fastest way over which `candidate` gets something from one of its sources; `None` when no way is known.
    #[inline]
    #[must_use]
    pub fn nearest(&self, sources: &Sources, candidate: &Candidate, bytes: f32) -> Option<Way> {
        let ways = sources
            .iter()
            .filter_map(|(node, hot)| self.fleet.way_between((*node, hot), (candidate.node, &candidate.hot)));
        ways.min_by(|a, b| a.time_for(bytes).total_cmp(&b.time_for(bytes)))
    }

    /// The way between a candidate and another node: there and back.
    #[inline]
    #[must_use]
    pub fn ways(&self, other: &(NodeIx, HotView), candidate: &Candidate) -> Option<(Way, Way)> {
        let (there, here) = ((other.0, &other.1), (candidate.node, &candidate.hot));
        Some((self.fleet.way_between(there, here)?, self.fleet.way_between(here, there)?))
    }

    /// Seconds until an input has been read and what is written back is there; `None` when no way is known.
    #[inline]
    #[must_use]
    pub fn input_time(&self, input: &Input, sources: &Sources, candidate: &Candidate) -> Option<f32> {
        let moved = input.read + input.written;
        let is_holder = match input.source {
            Source::Node(node) => node == candidate.node,
            Source::Data(data) => self.fleet.is_holder(data, candidate.node),
        };
        if is_holder {
            return Some(0.0);
        }
        // A request, and the first bit of the answer.
        self.nearest(sources, candidate, moved).map(|way| way.delay + way.time_for(moved))
    }
}

/// A node that is looked at.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// The node.
    pub node: NodeIx,
    /// What was read of it.
    pub hot: HotView,
}

impl Candidate {
    /// Looks at a node.
    #[inline]
    #[must_use]
    pub fn look(fleet: &Fleet, node: NodeIx) -> Option<Self> {
        Some(Self { node, hot: fleet.look(node)? })
    }
}

fn copies(fleet: &Fleet, source: Source, seed: u64) -> Sources {
    let mut sources = Sources::new();
    let mut push = |node| {
        if let Some(hot) = fleet.look(node) {
            sources.push((node, hot));
        }
    };
    match source {
        Source::Node(node) => push(node),
        Source::Data(data) => fleet.holders(data, seed as usize, COPIES, push),
    }
    sources
}
