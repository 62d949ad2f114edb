//! A request and a node, as the steps of a decision see them.

use smallvec::SmallVec;

use crate::{
    Input, Request, Source,
    fleet::{Fleet, HotView, NodeIx, Spot, Way},
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
    pub from: Option<Spot>,
    /// The steps that are placed already, in the order of the request; none where the node is not known.
    pub neighbours: SmallVec<[Option<Spot>; 4]>,
    /// For each input the nodes that it is read from.
    pub sources: SmallVec<[Sources; 4]>,
    /// Where the artefact of the function is fetched from, and its bytes.
    pub artefact: Option<(Sources, f32)>,
}

/// Nodes that something is read from.
pub type Sources = SmallVec<[Spot; COPIES]>;

impl<'a> Scene<'a> {
    /// Looks up what every candidate for `request` is held against. Does not allocate for up to four neighbours and
    /// four inputs.
    #[must_use]
    pub fn new(fleet: &'a Fleet, request: &'a Request<'a>) -> Self {
        let known = |node: NodeIx| fleet.spot(node);
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
        let ways = sources.iter().filter_map(|spot| self.fleet.network().way(spot, &candidate.spot));
        ways.min_by(|a, b| a.time_for(bytes).total_cmp(&b.time_for(bytes)))
    }

    /// The ways between a candidate and another node: to the candidate and back.
    #[inline]
    #[must_use]
    pub fn ways(&self, other: &Spot, candidate: &Candidate) -> Option<(Way, Way)> {
        self.fleet.network().ways(other, &candidate.spot)
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
    /// Where it is in the network.
    pub spot: Spot,
    /// The ways from the caller and back to it; none where none is known.
    pub ways: Option<(Way, Way)>,
}

impl Candidate {
    /// A node of which `hot` was read.
    #[inline]
    #[must_use]
    pub fn new(scene: &Scene<'_>, node: NodeIx, hot: HotView) -> Self {
        let seen = Self { node, hot, spot: Spot::of(node, &hot), ways: None };
        let ways = scene.from.as_ref().map_or(Some((Way::HERE, Way::HERE)), |from| scene.ways(from, &seen));
        Self { ways, ..seen }
    }
}

fn copies(fleet: &Fleet, source: Source, seed: u64) -> Sources {
    let mut sources = Sources::new();
    let mut push = |node| {
        if let Some(spot) = fleet.spot(node) {
            sources.push(spot);
        }
    };
    match source {
        Source::Node(node) => push(node),
        Source::Data(data) => fleet.holders(data, seed as usize, COPIES, push),
    }
    sources
}
