//! How long the caller will wait.

use std::time::Duration;

use scf_core::{ClusterView, PlacementRequest};

use super::Score;
use crate::Candidate;

/// What a call of unknown work is taken for, so that load and slowdown count.
const UNKNOWN_WORK: Duration = Duration::from_millis(1);
/// What a way that is not known is taken for: the data would have to be fetched by other means.
const NO_WAY: f64 = 3600.0;

/// The time until the reply: payload and data to the node, the calls before this one, the call, the way back.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct Latency;

impl Score for Latency {
    fn cost(&self, request: &PlacementRequest<'_>, view: &ClusterView, candidate: Candidate<'_>) -> f64 {
        let Candidate { status, position, from } = candidate;
        let there = view.path(from, position).map_or(NO_WAY, |path| {
            (path.time_for(request.payload).min(Duration::from_secs(3600)) + path.latency).as_secs_f64()
        });
        let data = |input: &scf_core::DataInput| {
            let path = view.position(&input.node).and_then(|at| view.path(at, position));
            path.map_or(NO_WAY, |path| path.time_for(input.size).as_secs_f64().min(NO_WAY))
        };
        // Inputs are fetched at the same time: the slowest counts.
        let fetch = request.data.iter().map(data).fold(0.0, f64::max);
        let work = if request.work.is_zero() { UNKNOWN_WORK } else { request.work };
        let work = status.node.slowdown.stretch(work).as_secs_f64();
        let cores = (f64::from(status.node.resources.cpu.milli()) / 1000.0).max(0.001);
        let wait = work * f64::from(status.load) / cores;
        there + fetch + wait + work
    }
}
