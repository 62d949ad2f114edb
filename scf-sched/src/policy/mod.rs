//! Ways to choose nodes.

mod auction;
mod batch;
mod ch_bl;
mod ch_rlu;
mod draw;
mod idle_first;
mod kube;
mod pack_then_spread;
mod points;
mod polaris;
mod power_of_d;
mod ring;
mod skippy;
mod uniform;
mod uplink;
mod vela;

pub use self::{
    auction::Auction,
    batch::BatchSampling,
    ch_bl::BoundedLoads,
    ch_rlu::RandomLoadUpdates,
    idle_first::IdleFirst,
    kube::Kube,
    pack_then_spread::PackThenSpread,
    polaris::Polaris,
    power_of_d::PowerOfD,
    skippy::{Skippy, Weights},
    uniform::UniformRandom,
    uplink::{UplinkBudget, UplinkPrice},
    vela::TwoSmart,
};

use std::fmt::Debug;

use scf_core::Timestamp;

use crate::{
    Decision, Request,
    fleet::{Fleet, NodeIx},
};

/// A way to choose nodes for requests: the same object in production and in the simulator.
///
/// Synchronous and without a clock: the same sequence of fleets, requests and events gives the same decisions. It
/// works on whatever fleet it is given: the one that the process shares, a copy taken some time ago, a replica that
/// is told of changes. It claims nothing: whoever drives it claims what it chose, and asks again when that conflicts.
pub trait Policy: Debug + Send + 'static {
    /// A short name for tables and logs.
    fn name(&self) -> &'static str;

    /// Chooses nodes for `request` and leaves them in `decision`, which it is given empty. No choice: no node
    /// satisfies every need, and `decision.refused` says why, or the policy gave up and is to be asked again.
    ///
    /// Called once per decision; does not allocate once it has run for a while.
    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision);

    /// Leaves nodes that satisfy `request` in `decision`, which it is given empty: all of them, or the best `most` when
    /// there are more, the best first. For who weighs several requests against each other, as
    /// [`Placer::place_all`](crate::Placer::place_all) does where they cannot be decided one by one. Default: those that
    /// [`decide`](Self::decide) names.
    fn rank(&mut self, fleet: &Fleet, request: &Request<'_>, _most: usize, decision: &mut Decision) {
        self.decide(fleet, request, decision);
    }

    /// Takes note of what became of its decisions. Default: does not care.
    fn note(&mut self, _fleet: &Fleet, _event: &Event) {}
}

const _: fn(&mut dyn Policy) = |_| {};

/// What becomes of decisions.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A node was claimed for a request.
    Claimed {
        /// The node.
        node: NodeIx,
        /// When.
        now: Timestamp,
    },
    /// A chosen node could not be claimed.
    Conflicted {
        /// The node.
        node: NodeIx,
        /// When.
        now: Timestamp,
    },
    /// A call ended and its node has room again.
    Finished {
        /// The node.
        node: NodeIx,
        /// When.
        now: Timestamp,
        /// Seconds from its start to its end.
        took: f32,
        /// Calls that still run or wait there, as the node said with the reply.
        queued: u32,
    },
    /// A node has nothing to do and offers itself.
    Idle {
        /// The node.
        node: NodeIx,
        /// When.
        now: Timestamp,
    },
}
