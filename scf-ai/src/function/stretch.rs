//! Blocks on this node, on a thread that may compute.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use scf_core::{
    Activation, BlockGraph, BlockSet, ByteSize, Draw, Flow, Frontier, ModelError, Payload, Ran, Slowdown, SplitSpent,
    Usage, WireForm,
};
use smallvec::SmallVec;

use super::model::Model;
use crate::{
    codec::{self, CodecError, to_wire},
    split::spent,
    wire,
};

/// What is to be done.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) model: Arc<Model>,
    pub(super) input: Input,
    /// In an order in which they can run.
    pub(super) blocks: SmallVec<[usize; 32]>,
    pub(super) then: Then,
    /// Whether the run would be late if it went on: the nearest exit ends it.
    pub(super) late: bool,
    /// What the run had spent before, and who spends what from here on.
    pub(super) spending: Spending,
    /// CPU time that is left.
    pub(super) cpu: Duration,
}

/// What it is done with.
#[derive(Debug)]
pub(super) enum Input {
    /// An activation, maybe quantised, as it arrived, and the blocks that it has behind it.
    Activation(Activation, BlockSet),
    /// A run as it arrived.
    Run(wire::Run),
    /// What was kept of the part before, and what the run had spent behind it.
    Kept(Frontier, SplitSpent),
}

impl Input {
    /// The blocks that have run.
    pub(super) const fn done(&self) -> &BlockSet {
        match self {
            Self::Activation(_, done) => done,
            Self::Run(run) => &run.done,
            Self::Kept(frontier, _) => frontier.done(),
        }
    }

    /// What the run has spent before.
    pub(super) const fn spent(&self) -> SplitSpent {
        match self {
            Self::Activation(..) => SplitSpent::NOTHING,
            Self::Run(run) => run.spent,
            Self::Kept(_, spent) => *spent,
        }
    }

    /// Whether there is something to bring back into a block's memory.
    const fn is_encoded(&self) -> bool {
        match self {
            Self::Activation(activation, _) => activation.quantisation.is_some(),
            Self::Run(_) => true,
            Self::Kept(..) => false,
        }
    }

    fn restore(self, graph: &BlockGraph) -> Result<Frontier, Stopped> {
        match self {
            Self::Activation(activation, done) => {
                let mut activation = codec::restored(activation).map_err(Stopped::Codec)?;
                activation.resume = None;
                let tensors = graph.alive(&done).first().map(|&tensor| (tensor, activation));
                graph.resume(done, tensors.into_iter().collect()).map_err(Stopped::Model)
            }
            Self::Run(run) => run.restore(graph).map_err(Stopped::Codec),
            Self::Kept(frontier, _) => Ok(frontier),
        }
    }
}

/// What a run spends here and on its way to the next node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spending {
    pub(super) before: SplitSpent,
    pub(super) here: Draw,
    pub(super) slowdown: Slowdown,
    pub(super) next: Draw,
}

impl Spending {
    /// What the run has spent once this node has computed for `cpu` of this CPU's time.
    fn behind(&self, cpu: Duration) -> SplitSpent {
        self.before + spent(&self.here, self.slowdown.stretch(cpu), ByteSize::ZERO, ByteSize::ZERO)
    }
}

/// What happens to what the last block gives.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// It is the result.
    Finish,
    /// It travels on in a form, with all that is alive.
    Send(WireForm),
}

/// What was done.
#[derive(Debug)]
pub(super) struct Done {
    /// Where the run is, to go on from when nobody else does.
    pub(super) frontier: Frontier,
    /// What the run has spent up to there.
    pub(super) spent: SplitSpent,
    /// The same, or the result, encoded.
    pub(super) message: Payload,
    pub(super) decode: Option<Duration>,
    /// CPU time of each block, or how long it held an accelerator.
    pub(super) blocks: Vec<Duration>,
    /// What the blocks used.
    pub(super) used: Usage,
    pub(super) encode: Duration,
    /// Whether a block answered early, or gave the first part of an answer: the message is the result, wherever the
    /// run would have gone.
    pub(super) exited: bool,
}

impl Done {
    /// CPU time of everything.
    pub(super) fn cpu(&self) -> Duration {
        self.decode.unwrap_or_default() + self.used.cpu + self.encode
    }
}

/// Why it was not done.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Nobody waits for it any more.
    Cancelled,
    /// It used up its CPU time.
    OverCpu,
    Model(ModelError),
    Codec(CodecError),
}

/// Runs `work` on this thread, which must be one that may compute. Looks between blocks whether it is still
/// wanted.
pub(super) fn run(work: Work, cancelled: &AtomicBool) -> Result<Done, Stopped> {
    let mut last = thread_cpu();
    let mut lap = || {
        let now = thread_cpu();
        now.saturating_sub(std::mem::replace(&mut last, now))
    };
    let graph = &work.model.graph;
    let encoded = work.input.is_encoded();
    let mut frontier = work.input.restore(graph)?;
    let decode = encoded.then(&mut lap);
    let (mut blocks, mut used) = (Vec::with_capacity(work.blocks.len()), Usage::default());
    let mut answer = None;
    let mut left = &work.blocks[..];
    while answer.is_none() && !left.is_empty() {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Stopped::Cancelled);
        }
        let ran = offload(graph, &mut frontier, left).map_err(Stopped::Model)?;
        if let Some((early, ran)) = ran {
            (answer, left) = (early, &[]);
            used = ran.usage;
            used.cpu += lap();
            blocks.extend(ran.blocks);
        } else {
            let advance = if work.late { BlockGraph::hasten } else { BlockGraph::advance };
            answer = advance(graph, &mut frontier, left[0]).map_err(Stopped::Model)?;
            left = &left[1..];
            let took = lap();
            used.cpu += took;
            blocks.push(took);
        }
        if used.cpu > work.cpu {
            return Err(Stopped::OverCpu);
        }
    }
    let spent = work.spending.behind(decode.unwrap_or_default() + used.cpu + used.accelerator);
    let message = match (&answer, work.then) {
        (Some(answer), _) => to_wire(answer, WireForm::Exact),
        (None, Then::Send(form)) => {
            let ends = [&work.spending.here, &work.spending.next];
            work.model.message(&frontier, form, spent + work.model.hop_spends(frontier.done(), form, ends))
        }
        (None, Then::Finish) => frontier.tensors().first().map_or_else(
            || {
                let (model, problem) = (graph.model.clone(), "nothing is left");
                Err(ModelError::Cut { model, problem }.into())
            },
            |(_, result)| to_wire(result, WireForm::Exact),
        ),
    };
    let message = message.map_err(Stopped::Codec)?;
    Ok(Done { frontier, spent, message, decode, blocks, used, encode: lap(), exited: answer.is_some() })
}

/// Has the graph's runner run all of `blocks`, and moves `frontier` behind them; gives the answer where one of them
/// answers early, and what it took. None where the graph has no runner for them.
fn offload(
    graph: &BlockGraph,
    frontier: &mut Frontier,
    blocks: &[usize],
) -> Result<Option<(Option<Activation>, Ran)>, ModelError> {
    let (Some(&first), [(_, input)]) = (blocks.first(), frontier.tensors()) else { return Ok(None) };
    // In a chain they are consecutive.
    let end = first + blocks.len();
    let Ok(mut ran) = graph.offload(first..end, vec![input.clone()]) else { return Ok(None) };
    match ran.flows.remove(0)? {
        Flow::Continue(output) => {
            *frontier = graph.resume(BlockSet::first(end), vec![(end, output)])?;
            Ok(Some((None, ran)))
        }
        answer => Ok(Some((Some(answer.into_activation()), ran))),
    }
}

/// Cancels work when the future that waits for it is dropped.
#[derive(Debug, Default)]
pub(super) struct CancelOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
