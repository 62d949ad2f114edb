//! What goes wrong, and moves.

use super::{Rng, platform::stream};

/// Something that happens to nodes and ways.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "written by literal in models")]
pub enum Disturbance {
    /// A node stops answering; what it was doing is lost, its images too.
    Leave {
        /// By position.
        node: usize,
    },
    /// A node is back, empty.
    Join {
        /// By position.
        node: usize,
    },
    /// Nothing leaves or reaches a place.
    Cut {
        /// The place.
        zone: u16,
    },
    /// A place is reached again.
    Heal {
        /// The place.
        zone: u16,
    },
    /// A host goes to another place and is attached there. What is under way to it still arrives.
    Move {
        /// By position.
        node: usize,
        /// Where to.
        zone: u16,
    },
}

/// Nodes that leave after an exponentially distributed time with mean `up` and come back after one with mean `down`, both
/// in seconds, until `until`; sorted by time.
#[must_use]
pub fn churn(nodes: &[usize], up: f64, down: f64, until: f64, seed: u64) -> Vec<(f64, Disturbance)> {
    let mut all = Vec::new();
    for &node in nodes {
        let mut rng = Rng::of(seed, stream::DISTURBANCE, node as u64);
        let mut at = rng.exponential(up);
        while at < until {
            all.push((at, Disturbance::Leave { node }));
            at += rng.exponential(down);
            all.push((at, Disturbance::Join { node }));
            at += rng.exponential(up);
        }
    }
    sorted(all)
}

/// Hosts that stay in a place for an exponentially distributed time with mean `dwell` seconds and then go to another of
/// `zones`, until `until`; sorted by time.
#[must_use]
pub fn mobility(nodes: &[usize], zones: u16, dwell: f64, until: f64, seed: u64) -> Vec<(f64, Disturbance)> {
    let mut all = Vec::new();
    for &node in nodes {
        let mut rng = Rng::of(seed, stream::DISTURBANCE, node as u64 | 1 << 32);
        let mut at = rng.exponential(dwell);
        while at < until {
            let zone = rng.below(usize::from(zones)) as u16;
            all.push((at, Disturbance::Move { node, zone }));
            at += rng.exponential(dwell);
        }
    }
    sorted(all)
}

fn sorted(mut all: Vec<(f64, Disturbance)>) -> Vec<(f64, Disturbance)> {
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}
