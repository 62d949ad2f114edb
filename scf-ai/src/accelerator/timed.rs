//! Blocks run one by one, with what each took.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use candle_core::Device;
use scf_core::{Activation, BlockGraph, Flow, ModelError};

use crate::{fixed, inference::thread_cpu};

/// What running blocks on a device came to.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) flows: Vec<Result<Flow, ModelError>>,
    /// Of a processor CPU time, of any other device how long it was held.
    pub(super) blocks: Vec<Duration>,
}

/// Runs `blocks` of a chain for each of `inputs`, up to the first block that answers it early or fails on it.
pub(super) fn run(graph: &BlockGraph, device: &Device, blocks: Range<usize>, inputs: Vec<Activation>) -> Timed {
    let mut times = Vec::with_capacity(blocks.len());
    let mut flows: Vec<_> = inputs.into_iter().map(|input| Ok(Flow::Continue(input))).collect();
    for block in blocks {
        let going = |flow: &Result<Flow, ModelError>| matches!(flow, Ok(Flow::Continue(_)));
        let places: Vec<usize> = (0..flows.len()).filter(|&place| going(&flows[place])).collect();
        if places.is_empty() {
            break;
        }
        let inputs = places.iter().filter_map(|&place| match &flows[place] {
            Ok(Flow::Continue(input)) => Some(input.clone()),
            _ => None,
        });
        let since = Lap::begin(device);
        let outputs = graph.step_batch(block..block + 1, inputs.collect());
        match since.end(device) {
            Ok(took) => times.push(took),
            Err(error) => {
                let name = graph.blocks()[block].name();
                let why = error.to_string();
                places.iter().for_each(|&place| flows[place] = Err(fixed::failed(name)(why.clone())));
                break;
            }
        }
        places.into_iter().zip(outputs).for_each(|(place, flow)| flows[place] = flow);
    }
    Timed { flows, blocks: times }
}

/// The time that a block takes.
enum Lap {
    Cpu(Duration),
    Held(Instant),
}

impl Lap {
    fn begin(device: &Device) -> Self {
        if device.is_cpu() { Self::Cpu(thread_cpu()) } else { Self::Held(Instant::now()) }
    }

    /// Once the device is done with it: a GPU computes while its caller goes on.
    fn end(self, device: &Device) -> candle_core::Result<Duration> {
        match self {
            Self::Cpu(before) => Ok(thread_cpu().saturating_sub(before)),
            Self::Held(since) => {
                device.synchronize()?;
                Ok(since.elapsed())
            }
        }
    }
}
