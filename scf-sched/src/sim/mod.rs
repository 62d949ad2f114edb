//! A simulator of fabrics: discrete events in virtual time, driving the policies that production runs.
//!
//! | part | what it is |
//! |---|---|
//! | [`Engine`], [`Event`], [`EventLog`] | events by (time, order of scheduling), and the hash of all that happened |
//! | [`Rng`], [`Distribution`] | a stream of random numbers per entity |
//! | [`Topology`], [`Flows`] | hosts, links and ways; flows that share links max-min fairly |
//! | [`Station`] | a worker with slots and a queue, for queueing models |
//! | [`Workers`], [`Technique`] | Sparrow's cluster: jobs of many short tasks, and ways to spread them |
//! | [`SharedState`], [`supercluster`] | schedulers that claim what others may have taken meanwhile; Vela's clusters |
//! | [`TrafficMonitoring`] | Polaris' cluster, and its service graph with quality of service on the links |
//! | [`Auction`] | AuctionWhisk's nodes, which let their room and processors to those who bid most |
//! | [`Summary`] | what was measured |
//! | [`Platform`], [`Cluster`], [`Report`] | deployments, replicas, images, data and disturbances over a [`Fleet`](crate::Fleet) |
//! | [`Calls`] | calls placed one by one, for a million nodes |
//! | [`Scenario`] | a TOML file of all that, and the policies to compare |
//! | [`topology`], [`workload`] | where and what |
//!
//! [`Engine`], [`Rng`], [`Station`] and [`Summary`] know nothing of the rest: other models are built on them.
//!
//! ```
//! use scf_sched::sim::Scenario;
//!
//! let scenario = Scenario::shipped("urban-sensing").expect("it comes with the crate")?.with_invocations(500);
//! let report = scenario.run(scenario.policies()[0], 1, |_done| ())?;
//! assert_eq!(report.invocations(), 500);
//! # Ok::<(), scf_sched::sim::ScenarioError>(())
//! ```
mod auction;
mod calls;
mod distribution;
mod disturbance;
mod engine;
mod java_random;
mod log;
mod metric;
mod network;
mod platform;
mod profile;
mod rng;
mod scenario;
mod shared_state;
mod station;
mod supercluster;
pub mod topology;
mod traffic;
mod workers;
pub mod workload;

pub use auction::{Auction, AuctionReport, Eviction};
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
pub use scenario::{Made, PolicyKind, Prepared, Scenario, ScenarioError, Times, TunedFor};
pub use shared_state::{Commit, ConflictTest, SharedState, SharedStateReport};
pub use station::Station;
pub use supercluster::{SUPERCLUSTER_TASKS, supercluster};
pub use traffic::TrafficMonitoring;
pub use workers::{Technique, Workers, WorkersReport};
