//! Consecutive blocks on this node, on a thread that may compute.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use scf_core::{Activation, BlockGraph, Flow, ModelError, Payload, WireForm};

use crate::codec::{self, CodecError, to_wire};

/// What is to be done.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) graph: BlockGraph,
    /// As it arrived, maybe quantised.
    pub(super) input: Activation,
    pub(super) blocks: Range<usize>,
    pub(super) then: Then,
    /// CPU time that is left.
    pub(super) cpu: Duration,
}

/// What happens to the activation behind the last block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// It is the result.
    Finish,
    /// It travels on in a form.
    Send(WireForm),
}

/// What was done.
#[derive(Debug)]
pub(super) struct Done {
    /// The activation behind the last block, to go on from when nobody else does.
    pub(super) activation: Activation,
    /// The same, encoded.
    pub(super) message: Payload,
    pub(super) decode: Option<Duration>,
    /// CPU time of each block.
    pub(super) blocks: Vec<Duration>,
    pub(super) encode: Duration,
    /// Whether a block answered early, or gave the first part of an answer: the message is the result, wherever the
    /// run would have gone.
    pub(super) exited: bool,
}

impl Done {
    /// CPU time of everything.
    pub(super) fn cpu(&self) -> Duration {
        self.decode.unwrap_or_default() + self.blocks.iter().sum::<Duration>() + self.encode
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
    let quantised = work.input.quantisation.is_some();
    let mut activation = codec::restored(work.input).map_err(Stopped::Codec)?;
    activation.resume = None;
    let mut left = work.cpu;
    let decode = quantised.then(&mut lap);
    let mut blocks = Vec::with_capacity(work.blocks.len());
    let mut exited = false;
    for block in work.blocks.clone() {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Stopped::Cancelled);
        }
        let flow = work.graph.step(block..block + 1, activation).map_err(Stopped::Model)?;
        exited = !matches!(flow, Flow::Continue(_));
        activation = flow.into_activation();
        let took = lap();
        left = left.checked_sub(took).ok_or(Stopped::OverCpu)?;
        blocks.push(took);
        if exited {
            break;
        }
    }
    let message = match work.then {
        _ if exited => to_wire(&activation, WireForm::Exact),
        Then::Finish => to_wire(&activation, WireForm::Exact),
        Then::Send(form) => {
            // There are never as many blocks as do not fit: a graph of them would not fit into memory.
            let next = u32::try_from(work.blocks.end).unwrap_or(u32::MAX);
            let marked = activation.clone().resume(next);
            match to_wire(&marked, form) {
                // Such elements travel only as they are; the answer is the one that this node alone would give.
                Err(CodecError::NotFinite) => to_wire(&marked, WireForm::Exact),
                sent => sent,
            }
        }
    };
    let message = message.map_err(Stopped::Codec)?;
    Ok(Done { activation, message, decode, blocks, encode: lap(), exited })
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
