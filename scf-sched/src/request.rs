//! What is to be placed, and what was decided.

use scf_core::Timestamp;
use smallvec::SmallVec;

use crate::{
    Demand,
    demand::{Bound, LinkBound},
    fleet::{DataIx, NodeIx},
};

/// Nodes that a decision names at most.
pub const MOST_CHOICES: usize = 16;

/// One call, or several equal ones, that a node is wanted for.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct Request<'a> {
    /// What the function needs.
    pub demand: &'a Demand,
    /// Where the call comes from; none: from outside, and ways to it do not count.
    pub from: Option<NodeIx>,
    /// Bytes that travel from there.
    pub payload: f32,
    /// Bytes that travel back.
    pub reply: f32,
    /// What else the call reads.
    pub inputs: &'a [Input],
    /// Steps of the same workflow that are placed already.
    pub neighbours: &'a [Neighbour],
    /// The class of its input, for learned times: a user's class, or the logarithm of its size to base 2.
    pub input_class: u8,
    /// CPU seconds of the call on a node without slowdown, where nothing was learned; 0 when unknown.
    pub work: f32,
    /// Equal calls that are to be placed together; each takes the need once.
    pub tasks: u32,
    /// How soon the reply is wanted, and how surely; none: as soon as can be.
    pub objective: Option<Objective>,
    /// What the caller bids for it, in the operator's currency; only auctions ask.
    pub bid: f32,
    /// Randomness of this decision.
    pub seed: u64,
    /// The time.
    pub now: Timestamp,
}

impl<'a> Request<'a> {
    /// One call from outside without payload, inputs or neighbours.
    #[must_use]
    pub const fn new(demand: &'a Demand, seed: u64, now: Timestamp) -> Self {
        Self {
            demand,
            from: None,
            payload: 0.0,
            reply: 0.0,
            inputs: &[],
            neighbours: &[],
            input_class: 0,
            work: 0.0,
            tasks: 1,
            objective: None,
            bid: 0.0,
            seed,
            now,
        }
    }
}

/// A time that a share of the calls is to be within. Nodes where it is probably missed count as slower than all
/// others; of those where it is probably met the cheapest wins.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that it is")]
pub struct Objective {
    /// Seconds from the call to the reply.
    pub within: f32,
    /// The share of calls, from 0 to 1.
    pub share: f32,
}

/// Something that a call reads from, or writes to, where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct Input {
    /// Where it lies.
    pub source: Source,
    /// Bytes that are read.
    pub read: f32,
    /// Bytes that are written back there.
    pub written: f32,
    /// Seconds that both may take, and what it costs when they take longer; none: only the time counts.
    pub within: Option<Bound<f32>>,
}

/// Where an input lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an input lies on a node or wherever copies of it are")]
pub enum Source {
    /// On this node.
    Node(NodeIx),
    /// On every node that holds a copy; the nearest counts.
    Data(DataIx),
}

/// A step of the same workflow that is placed already, or is about to be with the rest of its gang.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct Neighbour {
    /// Where it is placed.
    pub node: NodeIx,
    /// Bytes from there to this step.
    pub incoming: f32,
    /// Bytes from this step to there.
    pub outgoing: f32,
    /// What the way between them must be like.
    pub link: Option<Bound<LinkBound>>,
}

/// A node for a request.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "policies of integrators write it as a literal")]
pub struct Choice {
    /// The node.
    pub node: NodeIx,
    /// What it costs there, in seconds; of policies without such a cost, whatever they rank by.
    pub cost: f32,
}

/// How the nodes of a decision are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binding {
    /// The first of them that can be claimed takes the call, the others are for when it cannot: MultiBind (Pusztai et
    /// al.: Vela, IC2E 2023). Of several tasks the first takes the first, and so on.
    #[default]
    Early,
    /// Each is given a reservation, and the first that gets to it asks for the task: late binding (Ousterhout et al.:
    /// Sparrow, SOSP 2013).
    Late {
        /// Whether the others are told when the last task has started.
        cancels: bool,
    },
}

/// What a policy decided; reused from decision to decision so that none allocates.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Decision {
    /// Nodes, the best first.
    pub choices: SmallVec<[Choice; MOST_CHOICES]>,
    /// How they are used.
    pub binding: Binding,
    /// Nodes that were looked at.
    pub evaluated: u32,
    /// Messages that finding them took or takes where nodes are asked over the network.
    pub messages: u32,
    /// Why nodes were refused, and how many were for each reason.
    pub refused: SmallVec<[(Reason, u32); 16]>,
}

impl Decision {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it for the next decision; what it allocated stays.
    pub fn clear(&mut self) {
        self.choices.clear();
        self.refused.clear();
        (self.evaluated, self.messages, self.binding) = (0, 0, Binding::Early);
    }

    /// The best node.
    #[must_use]
    pub fn best(&self) -> Option<NodeIx> {
        self.choices.first().map(|choice| choice.node)
    }

    /// Counts a refused node.
    #[inline]
    pub fn refuse(&mut self, reason: Reason) {
        match self.refused.iter_mut().find(|(counted, _)| std::ptr::eq(counted.0, reason.0) || *counted == reason) {
            Some((_, nodes)) => *nodes += 1,
            None => self.refused.push((reason, 1)),
        }
    }

    /// Adds a node, and keeps the choices sorted by cost and their number at most `most`.
    #[inline]
    pub fn offer(&mut self, choice: Choice, most: usize) {
        if self.choices.len() >= most {
            if self.choices.last().is_none_or(|worst| choice.cost >= worst.cost) {
                return;
            }
            self.choices.pop();
        }
        let at = self.choices.iter().position(|other| choice.cost < other.cost).unwrap_or(self.choices.len());
        self.choices.insert(at, choice);
    }
}

/// Why a node is not used, in a word or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reason(&'static str);

impl Reason {
    /// A reason of an integrator's own filter.
    #[must_use]
    pub const fn new(reason: &'static str) -> Self {
        Self(reason)
    }

    /// The words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}
