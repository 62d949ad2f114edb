//! The contracts, over the schedulers of this crate.

mod azure;
mod bind;
mod budget;
mod chunkfunc;
mod coverage;
mod erlang;
mod fleet;
mod gang;
mod keep_alive;
mod policies;
mod random;
mod scf;
mod support;

use std::sync::Arc;

use scf_core::conformance;
use scf_sched::{Pipeline, RoundRobin};

#[test]
fn the_pipeline_keeps_the_contract() {
    conformance::scheduler::scheduler(|| Arc::new(Pipeline::default()));
}

#[test]
fn a_pipeline_that_samples_one_node_keeps_the_contract() {
    conformance::scheduler::scheduler(|| Arc::new(Pipeline::default().sample(1)));
}

#[test]
fn round_robin_keeps_the_contract() {
    conformance::scheduler::scheduler(|| Arc::new(RoundRobin::default()));
}
