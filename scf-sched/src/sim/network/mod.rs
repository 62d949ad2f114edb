//! Hosts, links, the ways between them, and who gets how much of them.

mod flow;
mod topology;

pub use flow::{FlowDue, FlowId, Flows};
pub use topology::{Host, Link, LinkKind, Locality, Topology, Vertex};
