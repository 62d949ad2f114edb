//! A simulated platform: deployments, replicas, requests, and the policy that places them.

mod cluster;
mod events;
mod function;
mod report;

pub use cluster::{Ask, Cluster, NodeState};
pub(crate) use events::stream;
pub use events::{Config, Platform};
pub use function::{Arrivals, Data, FunctionSpec};
pub use report::{Report, Timeline};

/// What decides where replicas go in a [`Platform`].
pub trait Placer: std::fmt::Debug {
    /// What it is called in tables.
    fn name(&self) -> &str;

    /// A node for a replica, by its position, or `None` when none will do. Called for every replica; what is answered is
    /// taken at once.
    fn place(&mut self, ask: &Ask<'_>, cluster: &mut Cluster) -> Option<usize>;

    /// Called after every execution: a function of this profile took `seconds` on a device of this class, data not counted.
    fn observed(&mut self, profile: u16, device: u16, seconds: f64) {
        let _ = (profile, device, seconds);
    }
}
