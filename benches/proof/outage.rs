//! Links that fail in the middle of calls.

use std::{sync::Arc, time::Duration};

use scf::{
    ai::{FixedSplit, LatencyOptimal},
    core::{Bandwidth, BoxError, Clock, Link},
    runtime::transport::LinkState,
};

use crate::{
    arm::{Arm, cloud, edge},
    clock::Stage,
    experiment::Labelled,
    processor::Processor,
    regime::{Moment, Random},
};

/// What the link is like before and after it fails: good enough to hand over.
const GOOD: Link = Link { latency: Duration::from_millis(5), bandwidth: Bandwidth::from_mbit_per_s(30) };
/// So slow that nothing arrives, though nothing says that it is cut.
const SILENT: Link = Link { latency: Duration::from_millis(5), bandwidth: Bandwidth::from_bits_per_s(1) };
/// Inputs before a failure and while it lasts.
const INPUTS: usize = 6;
/// How long the link is back before the next failure, for probes to see it.
const PAUSE: Duration = Duration::from_secs(6);
/// What a hop is waited for at least, and how many times longer than predicted: the rule of `scf_ai::ModelFactory::clock`.
const PATIENCE: (Duration, u32) = (Duration::from_millis(200), 4);

const SEED: u64 = 2;

/// What failures came to.
#[derive(Default)]
pub(crate) struct Outages {
    /// Inputs that a failure could touch, how many were answered, and how many as by the network that is not split.
    pub(crate) asked: usize,
    pub(crate) answered: usize,
    pub(crate) agree: usize,
    /// Calls that failures interrupted: more blocks ran on the edge than the calls before them left there.
    pub(crate) interrupted: usize,
    /// The most that one took longer than the edge alone computes, and what a hop was waited for at most.
    pub(crate) most_added: Duration,
    pub(crate) time_out: Duration,
}

impl Outages {
    /// The most that was added, in time-outs.
    pub(crate) fn added(&self) -> f64 {
        self.most_added.as_secs_f64() / self.time_out.as_secs_f64()
    }
}

/// Has the link fail `failures` times while a call may be on it: by turns cut, which both ends are told of, and silent.
pub(crate) async fn run(
    stage: &Stage,
    processor: &Processor,
    inputs: &[Labelled],
    failures: usize,
) -> Result<Outages, BoxError> {
    let good = Moment { link: GOOD, wait: Duration::ZERO, load: 1.0 };
    let (graph, assemble) = (processor.network(), |clock: &_| processor.graph(clock));
    let arm = Arm::assemble(stage, assemble, LatencyOptimal).await?;
    let alone = Arm::assemble(stage, assemble, FixedSplit::here()).await?;
    alone.meet(&good)?;
    let (mut outages, mut random) = (Outages::default(), Random(SEED));
    for failure in 0..failures {
        arm.meet(&good)?;
        arm.rest(PAUSE).await;
        let mut before = Vec::new();
        for input in inputs.iter().cycle().skip(failure).take(INPUTS) {
            before.push(arm.classify(&input.input).await?);
        }
        let usual = before[INPUTS - 1].took;
        let state = if failure % 2 == 0 { LinkState::Cut } else { LinkState::Shaped(SILENT) };
        let (clock, links, after) = (Arc::clone(&arm.clock), Arc::clone(&arm.links), usual.mul_f64(random.share()));
        tokio::spawn(async move {
            clock.sleep(after).await;
            drop(links.set_link(&edge(), &cloud(), state));
        });
        for input in inputs.iter().cycle().skip(failure).take(INPUTS) {
            let here = alone.classify(&input.input).await?.took;
            outages.asked += 1;
            let Ok(answer) = arm.classify(&input.input).await else { continue };
            outages.answered += 1;
            outages.agree += usize::from(input.judge(&answer).agrees);
            outages.interrupted += usize::from(answer.cut > before[INPUTS - 1].cut);
            // What the edge computed is known of a call that it finished; of the others, what it would have been.
            let computed = answer.receipt.spans.iter().map(|span| span.took).sum();
            let without = if answer.cut == graph.blocks().len() { computed } else { here };
            outages.most_added = outages.most_added.max(answer.took.saturating_sub(without));
            let time_out = (usual * PATIENCE.1).max(usual + here).max(PATIENCE.0);
            outages.time_out = outages.time_out.max(time_out);
        }
    }
    Ok(outages)
}
