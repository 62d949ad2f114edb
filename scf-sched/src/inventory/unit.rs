//! What can be provided, watched and taken away.

use std::{sync::Arc, time::Duration};

use scf_core::{Accelerator, LinkQuality, Name, Node, NodeId, Rates};

use super::suspicion::Standing;

/// What a unit is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum UnitKind {
    /// A machine.
    Node(Arc<Node>),
    /// Something that computes on a node and is listed by itself: a GPU, an NPU.
    Accelerator {
        /// Its kind.
        kind: Accelerator,
        /// How many can be held.
        units: u16,
    },
    /// One direction of a way between two sites, as it is described.
    Link {
        /// From where.
        from: Name,
        /// To where.
        to: Name,
        /// As described; what is measured takes its place.
        quality: LinkQuality,
    },
    /// A part above nodes: a broker, a state server, a model host, another fabric's gateway.
    Component {
        /// What it offers, as schedulers and operators name it.
        offers: Vec<Name>,
    },
}

/// A resource unit: everything that can be provided, watched and taken away is one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Unit {
    /// Its name; of a node that of the node.
    pub id: Name,
    /// What it is.
    pub kind: UnitKind,
    /// The unit that it is a part of or runs on, with which it comes and goes; none for one by itself.
    pub on: Option<Name>,
    /// What its work costs beside time; of a node those of the node.
    pub rates: Rates,
    /// How often it is heard of.
    pub heartbeat: Duration,
}

impl Unit {
    /// A machine, heard of every second.
    #[must_use]
    pub fn node(node: Arc<Node>) -> Option<Self> {
        let (id, rates) = (name_of(&node.id)?, node.rates);
        Some(Self { id, kind: UnitKind::Node(node), on: None, rates, heartbeat: Duration::from_secs(1) })
    }

    /// Another unit, by itself, heard of every second, without cost.
    #[must_use]
    pub fn new(id: Name, kind: UnitKind) -> Self {
        Self { id, kind, on: None, rates: Rates::default(), heartbeat: Duration::from_secs(1) }
    }

    /// The unit that it is a part of or runs on; default none.
    #[must_use]
    pub fn on(mut self, unit: Name) -> Self {
        self.on = Some(unit);
        self
    }

    /// What its work costs beside time; default nothing.
    #[must_use]
    pub const fn rates(mut self, rates: Rates) -> Self {
        self.rates = rates;
        self
    }

    /// How often it is heard of; default every second.
    #[must_use]
    pub const fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }
}

fn name_of(node: &NodeId) -> Option<Name> {
    Name::new(node.as_str()).ok()
}

/// What an operator wants of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Intent {
    /// It works.
    #[default]
    Serve,
    /// It gets nothing new; what it has goes on.
    Cordon,
    /// It gets nothing new, and what it has is to move away, so that it can leave.
    Drain,
}

/// What a unit says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct Heartbeat {
    /// Calls that run or wait on a node.
    pub queued: u32,
    /// How long the next is expected to wait.
    pub wait: Duration,
    /// What is left of a battery in per cent; none on mains.
    pub charge: Option<u8>,
}

/// A unit as it stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UnitStatus {
    /// The unit.
    pub unit: Unit,
    /// What is wanted of it.
    pub intent: Intent,
    /// Whether it is there.
    pub standing: Standing,
    /// Of a link, how it is by what was measured.
    pub quality: Option<LinkQuality>,
}

/// What changed about a unit by time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StandingChange {
    /// The unit.
    pub unit: Name,
    /// What it was.
    pub from: Standing,
    /// What it is.
    pub to: Standing,
}
