//! Every arm on the same inputs, one input after the other.

use std::time::Duration;

use scf::{
    ai::{FixedSplit, LatencyOptimal},
    core::{Activation, BlockGraph, BoxError, Receipt, WireForm},
};

use crate::{
    arm::{Answer, Arm, best, cloud},
    clock::Stage,
    oracle::Oracle,
    processor::Processor,
    regime::Moment,
};

/// What came of one input on one arm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) took: Duration,
    pub(crate) cut: usize,
    /// Whether the best class is that of the network that is not split.
    pub(crate) agrees: bool,
    pub(crate) wire: u64,
    /// CPU time that was billed.
    pub(crate) cpu: Duration,
    /// Time that decisions took, and their number.
    pub(crate) planned: (Duration, u32),
}

/// What all arms did.
pub(crate) struct Record {
    /// The arm that plans every input, the input's answers in their order.
    pub(crate) dynamic: Vec<Run>,
    /// The arm that hands over before block `i` is at `i`; the last one keeps everything on the edge.
    pub(crate) fixed: Vec<Vec<Run>>,
    /// Of each input, the fixed arm that was best in hindsight.
    pub(crate) oracle: Vec<usize>,
    /// What everything takes on the cloud.
    pub(crate) whole: Duration,
}

impl Record {
    /// The mean latency of the fixed arm with the lowest one, and which it is.
    pub(crate) fn best_fixed(&self) -> (f64, usize) {
        let means = self.fixed.iter().map(|runs| mean(runs)).enumerate();
        means.map(|(cut, mean)| (mean, cut)).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::NAN, 0))
    }

    /// What the oracle's choices took.
    pub(crate) fn oracle_runs(&self) -> Vec<Run> {
        self.oracle.iter().enumerate().map(|(input, &cut)| self.fixed[cut][input]).collect()
    }

    /// How often the planned arm cut at each place.
    pub(crate) fn cuts(&self) -> Vec<usize> {
        let mut cuts = vec![0; self.fixed.len()];
        self.dynamic.iter().for_each(|run| cuts[run.cut] += 1);
        cuts
    }
}

/// Decisions' share of the CPU time of the requests that they were about. Of a decision the median counts: on a busy
/// machine another process runs in the middle of some.
pub(crate) fn planner_share(runs: &[Run]) -> f64 {
    let mut each: Vec<f64> =
        runs.iter().map(|run| run.planned.0.as_secs_f64() / f64::from(run.planned.1.max(1))).collect();
    each.sort_by(f64::total_cmp);
    let decisions: f64 = runs.iter().map(|run| f64::from(run.planned.1)).sum();
    let cpu: f64 = runs.iter().map(|run| run.cpu.as_secs_f64()).sum();
    each.get(each.len() / 2).copied().unwrap_or(f64::NAN) * decisions / cpu
}

/// Mean latency in milliseconds.
pub(crate) fn mean(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.took.as_secs_f64() * 1e3).sum::<f64>() / runs.len() as f64
}

/// The fixed splits of `graph`, whose input travels as `input`: one for each place to hand over, the last for none.
pub(crate) fn fixed_splits(graph: &BlockGraph, input: WireForm) -> Vec<FixedSplit> {
    let form = |block| if block == 0 { input } else { WireForm::Int8 };
    let hand_over = |block| FixedSplit::here().hand_over(block, cloud(), form(block));
    (0..graph.blocks().len()).map(hand_over).chain([FixedSplit::here()]).collect()
}

/// An input and the class that the network gives it when it is not split.
pub(crate) struct Labelled {
    pub(crate) input: Activation,
    class: usize,
}

impl Labelled {
    pub(crate) fn all(graph: &BlockGraph, inputs: Vec<Activation>) -> Result<Vec<Self>, BoxError> {
        let blocks = graph.blocks().len();
        let label = |input: Activation| {
            let class = best(&graph.run(0..blocks, input.clone())?)?;
            Ok(Self { input, class })
        };
        inputs.into_iter().map(label).collect()
    }

    /// What `answer` comes to.
    pub(crate) fn judge(&self, answer: &Answer) -> Run {
        let (mut time, mut decisions) = (Duration::ZERO, 0);
        plans(&answer.receipt, &mut |took| {
            time += took;
            decisions += 1;
        });
        Run {
            took: answer.took,
            cut: answer.cut,
            agrees: answer.class == self.class,
            wire: answer.receipt.total_on_wire().bytes(),
            cpu: answer.receipt.total_cpu(),
            planned: (time, decisions),
        }
    }
}

/// Tells of every decision that a bill lists.
fn plans(receipt: &Receipt, tell: &mut impl FnMut(Duration)) {
    receipt.spans.iter().filter(|span| span.name == "split.plan").for_each(|span| tell(span.took));
    receipt.calls.iter().for_each(|callee| plans(callee, tell));
}

/// Runs every arm on `moments`, each with one of `inputs`; `tick` is told after each moment.
pub(crate) async fn run(
    stage: &Stage,
    processor: &Processor,
    input_form: WireForm,
    inputs: &[Labelled],
    moments: &[Moment],
    tick: impl Fn(),
) -> Result<Record, BoxError> {
    let graph = processor.network();
    let splits = fixed_splits(graph, input_form);
    let assemble = |clock: &_| processor.graph(clock);
    let dynamic = Arm::assemble(stage, assemble, LatencyOptimal).await?;
    let mut fixed = Vec::new();
    for split in &splits {
        fixed.push(Arm::assemble(stage, assemble, split.clone()).await?);
    }
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); fixed.len()];
    let mut planned = Vec::new();
    for (number, moment) in moments.iter().enumerate() {
        let input = &inputs[number % inputs.len()];
        planned.push(answer(&dynamic, input, moment).await?);
        for (arm, runs) in fixed.iter().zip(&mut runs) {
            runs.push(answer(arm, input, moment).await?);
        }
        tick();
    }
    let oracle = Oracle::new(graph, processor.profile());
    let choices = moments.iter().map(|moment| oracle.choose(&splits, moment)).collect::<Result<_, _>>()?;
    Ok(Record { dynamic: planned, fixed: runs, oracle: choices, whole: oracle.whole() })
}

/// Plans `moments` on an arm whose blocks are computed in real time, as often as they are asked: what a decision takes
/// once a network has had the caches.
pub(crate) async fn decide(
    stage: &Stage,
    graph: &BlockGraph,
    inputs: &[Labelled],
    moments: &[Moment],
) -> Result<Vec<Run>, BoxError> {
    let arm = Arm::assemble(stage, |_| graph.clone(), LatencyOptimal).await?;
    let mut runs = Vec::new();
    for (moment, input) in moments.iter().zip(inputs.iter().cycle()) {
        runs.push(answer(&arm, input, moment).await?);
    }
    Ok(runs)
}

async fn answer(arm: &Arm, input: &Labelled, moment: &Moment) -> Result<Run, BoxError> {
    arm.meet(moment)?;
    Ok(input.judge(&arm.classify(&input.input).await?))
}
