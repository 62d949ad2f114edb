//! A simulator of fabrics: discrete events in virtual time, driving the policies that production runs.
//!
//! | part | what it is |
//! |---|---|
//! | [`Engine`], [`Event`], [`EventLog`] | events by (time, order of scheduling), and the hash of all that happened |
//! | [`Rng`], [`Distribution`] | a stream of random numbers per entity |
//! | [`Topology`], [`Flows`] | hosts, links and ways; flows that share links max-min fairly |
//! | [`Summary`] | what was measured |
mod calls;
mod distribution;
mod disturbance;
mod engine;
mod log;
mod metric;
mod network;
mod platform;
mod profile;
mod rng;
mod station;
pub mod topology;
pub mod workload;

pub use calls::{CallKind, Calls, CallsReport, Origin};
pub use distribution::Distribution;
pub use disturbance::{Disturbance, churn, mobility};
pub use engine::{Engine, Event};
pub use log::EventLog;
pub use metric::Summary;
pub use network::{FlowDue, FlowId, Flows, Host, Link, LinkKind, Locality, Topology, Vertex};
pub use platform::{
    Arrivals, Cluster, ClusterError, Config, Data, FunctionSpec, Known, NodeState, Platform, Report, Timeline,
};
pub use profile::Profiles;
pub use rng::Rng;
pub use station::Station;
