//! Where a network is cut: split planners and what a cut costs.

mod budget;
mod fixed;
mod flow;
mod latency;
mod meter;
mod mincut;
mod network;

use std::time::Duration;

use scf_core::{FormCost, PlanError, Segment, SplitProblem};

pub(crate) use meter::spent;

pub use budget::{BudgetOptimal, WithinBudget};
pub use fixed::FixedSplit;
pub use latency::LatencyOptimal;
pub use mincut::{DagBlock, DagCut, DagProblem, MinCut};
pub use network::MinCutSplit;

/// Checks that the tables of `problem` have the sizes that it says.
fn check(problem: &SplitProblem<'_>) -> Result<(), PlanError> {
    let (n, b) = (problem.nodes, problem.blocks);
    let malformed = |table| Err(PlanError::Malformed { table });
    if n == 0 || problem.names.len() != n || problem.slowdowns.len() != n {
        return malformed("nodes");
    }
    if b == 0 || problem.edges.len() != b || problem.edges.iter().any(|edge| edge.forms.is_empty()) {
        return malformed("edges");
    }
    if problem.waits.len() != n {
        return malformed("waits");
    }
    if Some(problem.times.len()) != n.checked_mul(b) {
        return malformed("times");
    }
    if Some(problem.paths.len()) != n.checked_mul(n) {
        return malformed("paths");
    }
    if !problem.draws.is_empty() && problem.draws.len() != n {
        return malformed("draws");
    }
    Ok(())
}

/// Nanoseconds; infinite where something cannot be had.
fn nanos(time: Duration) -> f64 {
    if time == Duration::MAX { f64::INFINITY } else { time.as_secs() as f64 * 1e9 + f64::from(time.subsec_nanos()) }
}

fn duration(nanos: f64) -> Duration {
    Duration::from_nanos(nanos as u64)
}

/// What one form of an activation costs, as numbers that hops multiply.
#[derive(Clone, Copy, Debug)]
struct Sending {
    bytes: f64,
    /// In nanoseconds, without slowdown.
    codec: f64,
}

impl Sending {
    fn of(form: &FormCost) -> Self {
        Self { bytes: form.size.bytes() as f64, codec: nanos(form.codec) }
    }
}

/// What sending from one node to another costs, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Hop {
    /// Delay of the activation, of the result on its way back, and the result's time on the wire.
    fixed: f64,
    /// Per byte of the activation.
    per_byte: f64,
    /// Per nanosecond of codec time without slowdown.
    codec: f64,
}

impl Hop {
    /// The hop between two nodes; infinitely long without a way there and back.
    fn between(problem: &SplitProblem<'_>, from: usize, to: usize) -> Self {
        let there = problem.paths[from * problem.nodes + to];
        let back = problem.paths[to * problem.nodes + from];
        let codec = f64::from(problem.slowdowns[from].factor() + problem.slowdowns[to].factor()) / 2.0;
        let (Some(there), Some(back)) = (there, back) else {
            return Self { fixed: f64::INFINITY, per_byte: 0.0, codec };
        };
        // At a rate of zero a byte takes infinitely long.
        let per_byte = |bits: u64| 8e9 / bits as f64;
        let reply = problem.result.bytes() as f64 * per_byte(back.bandwidth.bits_per_s());
        let fixed = nanos(there.latency) + nanos(back.latency) + reply;
        Self { fixed, per_byte: per_byte(there.bandwidth.bits_per_s()), codec }
    }

    /// Time of the activation before a block, in one of its forms.
    fn time(&self, sending: Sending) -> f64 {
        self.fixed + sending.bytes * self.per_byte + sending.codec * self.codec
    }
}

/// Predicts the time of `segments`, in nanoseconds: what a plan of any planner is worth under `problem`.
fn price(problem: &SplitProblem<'_>, segments: &[Segment]) -> Result<f64, PlanError> {
    let (mut at, mut total) = (0, 0.0);
    for (i, segment) in segments.iter().enumerate() {
        let blocks = segment.from - problem.first..segment.to - problem.first;
        let times = &problem.times[segment.node * problem.blocks..][..problem.blocks];
        let mut time = nanos(problem.waits[segment.node]);
        time += times[blocks.clone()].iter().map(|&t| nanos(t)).sum::<f64>();
        if i > 0 || segment.node != 0 {
            let forms = problem.edges[blocks.start].forms;
            let form = forms.iter().find(|f| f.form == segment.form);
            let form = form.ok_or(PlanError::NoForm { block: segment.from, form: segment.form })?;
            time += Hop::between(problem, at, segment.node).time(Sending::of(form));
        }
        if time.is_nan() || time == f64::INFINITY {
            let (from, to) = (problem.names[at].clone(), problem.names[segment.node].clone());
            return Err(PlanError::NoWay { from, to, block: segment.from });
        }
        total += time;
        at = segment.node;
    }
    Ok(total)
}
