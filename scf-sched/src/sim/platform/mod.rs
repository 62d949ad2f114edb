//! A simulated platform: deployments, replicas, requests, and the policy that places them.

mod cluster;
mod events;
mod function;
mod report;

pub use cluster::{Cluster, ClusterError, Known, NodeState};
pub(crate) use events::stream;
pub use events::{Config, Platform};
pub use function::{Arrivals, Data, FunctionSpec};
pub use report::{Report, Timeline};
