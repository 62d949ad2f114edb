//! What a fleet refuses.

use scf_core::{Name, NodeId, Zone};
use thiserror::Error;

/// Why a fleet does not take what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FleetError {
    /// A node of that name is there.
    #[error("node {node} has joined already")]
    Joined {
        /// The node.
        node: NodeId,
    },
    /// No node of that name or position is there.
    #[error("no node {node} has joined")]
    NoSuchNode {
        /// The node.
        node: NodeId,
    },
    /// As many are told apart as can be.
    #[error("{what}: {most} are told apart, and {name} would be one more")]
    TooMany {
        /// What there are too many of: sites, zones, labels, classes.
        what: &'static str,
        /// How many are told apart.
        most: u32,
        /// The one too many.
        name: Name,
    },
    /// A function needs more of something than any node can have.
    #[error("no node can have the {what} that is needed")]
    Impossible {
        /// What: processor, memory, slots, accelerator units.
        what: &'static str,
    },
    /// A function needs nodes of a zone or region that no node was ever in.
    #[error("no node is in zone {zone}")]
    NoSuchZone {
        /// The zone.
        zone: Zone,
    },
    /// A function needs a label that no node ever had.
    #[error("no node has the label {label}")]
    NoSuchLabel {
        /// The label.
        label: Name,
    },
}
