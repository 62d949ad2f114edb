//! The worker's side.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use scf_core::{Activation, BlockGraph, Flow, ModelBlock};

use super::{
    ENTRY,
    link::{Link, LinkError, Received},
    memory::{self, SharedMemory},
    message::{Answer, Ask, BlockInfo, Described, MAX_PROBLEM, Opened, Output, Slot, SlotError, Spec, VERSION},
};
use crate::{
    accelerator::{
        Loaders, ModelSource,
        in_process::described,
        timed::{self, Timed},
    },
    device::Device,
    inference::thread_cpu,
    wire,
};

/// Serves the accelerator of a host if this process was started as its worker, and then ends it; returns at once
/// otherwise.
///
/// The program `scf-accelerator` calls it and nothing else. An integrator with networks of their own calls it first in
/// `main`, before threads start, with the `loaders` that make them, and gives that program to
/// [`Worker::of`](super::Worker::of). A block that panics ends the process, and so the calls that it had.
pub fn worker_main(loaders: &Loaders) {
    if std::env::var_os(ENTRY).is_none() {
        return;
    }
    let ended =
        io::stdin().as_fd().try_clone_to_owned().map_err(Into::into).and_then(|socket| {
            Served { link: Link::over(socket), loaders, device: None, models: HashMap::new() }.run()
        });
    std::process::exit(match ended {
        Ok(()) => 0,
        Err(error) => {
            // The host puts it into its error.
            drop(writeln!(io::stderr(), "{error:?}"));
            1
        }
    })
}

struct Served<'a> {
    link: Link,
    loaders: &'a Loaders,
    device: Option<Open>,
    models: HashMap<u32, BlockGraph>,
}

/// A device that was opened, and the memory for tensors.
struct Open {
    device: Device,
    candle: candle_core::Device,
    memory: SharedMemory,
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl Served<'_> {
    /// Answers until the host hangs up.
    fn run(mut self) -> Result<(), LinkError> {
        loop {
            let Received { number, body, file } = match self.link.receive::<Ask>(None) {
                Err(LinkError::Closed) => return Ok(()),
                received => received?,
            };
            let answer = self.answer(body, file).unwrap_or_else(Answer::Failed);
            match self.link.send(number, &answer, None) {
                Err(LinkError::TooLong) => {
                    self.link.send(
                        number,
                        &Answer::Failed("the answer is longer than messages may be".into()),
                        None,
                    )?;
                }
                sent => sent?,
            }
        }
    }

    /// What is said to `ask`, or why nothing is done.
    fn answer(&mut self, ask: Ask, file: Option<OwnedFd>) -> Result<Answer, String> {
        match ask {
            Ask::Open { version, device } => self.open(version, device, file.ok_or("there is no memory")?),
            Ask::Load { id, model, network } => {
                let weights = memory::map(file.ok_or("there is no file")?.as_fd()).map_err(told)?;
                let device = self.device.as_ref().ok_or("no device is open")?.device;
                let graph = self.loaders.load(&ModelSource { model, network, weights }, device).map_err(told)?;
                let answer = describe(&graph)?;
                self.models.insert(id, graph);
                Ok(answer)
            }
            Ask::Unload { id } => {
                self.models.remove(&id);
                Ok(Answer::Unloaded)
            }
            Ask::Shape { id, from, to, input } => {
                let graph = self.models.get(&id).ok_or("there is no such model")?;
                let blocks =
                    graph.blocks().get(usize::from(from)..usize::from(to)).ok_or("there are no such blocks")?;
                let input = input.restore().ok_or("that is no shape")?;
                let gives = blocks.iter().try_fold(input, |spec, block| block.output(&spec)).map_err(told)?;
                Ok(Answer::Shape(Spec::new(&gives).ok_or("the shape is too large")?))
            }
            Ask::Run { id, from, to, past_exits, inputs } => {
                self.blocks(id, usize::from(from)..usize::from(to), past_exits, &inputs)
            }
        }
    }

    fn open(&mut self, version: u16, device: Device, memory: OwnedFd) -> Result<Answer, String> {
        if version != VERSION {
            return Err(format!("it speaks version {VERSION} and the host {version}"));
        }
        let candle = device.open().map_err(told)?;
        let (name, driver) = described(&candle);
        let opened = Opened { version, device, name, driver, free: free(&candle) };
        self.device = Some(Open { device, candle, memory: SharedMemory::open(memory).map_err(told)? });
        Ok(Answer::Opened(opened))
    }

    fn blocks(&self, id: u32, blocks: Range<usize>, past_exits: bool, inputs: &[Slot]) -> Result<Answer, String> {
        let Open { candle, memory, .. } = self.device.as_ref().ok_or("no device is open")?;
        let graph = self.models.get(&id).ok_or("there is no such model")?;
        if blocks.is_empty() || blocks.end > graph.blocks().len() {
            return Err(format!("there are no blocks {blocks:?}"));
        }
        let (half, end) = (memory.len() / 2, memory.len());
        let before = thread_cpu();
        let inputs = inputs.iter().map(|slot| slot.take(memory, 0, half)).collect::<Result<Vec<_>, _>>();
        let inputs = inputs.map_err(|error| format!("an input was not taken: {error:?}"))?;
        let Timed { flows, blocks } =
            if past_exits { past(graph, blocks, inputs) } else { timed::run(graph, candle, blocks, inputs) };
        let mut at = half;
        let mut put = |activation: &Activation| {
            let (slot, next) = Slot::put(activation, memory, at, end)?;
            at = next;
            Ok(slot)
        };
        let outputs: Result<Vec<_>, SlotError> = flows
            .into_iter()
            .map(|flow| {
                Ok(match flow {
                    Ok(Flow::Continue(output)) => Output::Continue(put(&output)?),
                    Ok(Flow::Exit { scores, confidence }) => Output::Exit(put(&scores)?, confidence),
                    Ok(Flow::Stream(part)) => Output::Stream(put(&part)?),
                    Ok(other) => Output::Failed(format!("the worker knows no {other:?}")),
                    Err(error) => Output::Failed(told(error)),
                })
            })
            .collect();
        let outputs = match outputs {
            Ok(outputs) => outputs,
            Err(SlotError::NoRoom(needs)) => return Ok(Answer::NoRoom { needs: needs as u64 }),
            Err(SlotError::Invalid(part)) => return Err(format!("an output has a {part} that does not travel")),
        };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let cpu = nanos(thread_cpu().saturating_sub(before));
        Ok(Answer::Ran { outputs, blocks: blocks.into_iter().map(nanos).collect(), cpu })
    }
}

/// Runs `blocks` past every early exit.
fn past(graph: &BlockGraph, blocks: Range<usize>, inputs: Vec<Activation>) -> Timed {
    let run = |input| graph.run(blocks.clone(), input).map(Flow::Continue);
    Timed { flows: inputs.into_iter().map(run).collect(), blocks: Vec::new() }
}

/// The network without its weights.
fn describe(graph: &BlockGraph) -> Result<Answer, String> {
    if !graph.is_chain() {
        return Err("the network is no chain of blocks, and workers run chains alone".into());
    }
    let spec = |of| Spec::new(of).ok_or("a shape is too large");
    let info = |(i, block): (usize, &Arc<dyn ModelBlock>)| {
        let cost = graph.cost(i);
        Ok(BlockInfo {
            name: block.name().to_owned(),
            gives: spec(&graph.edges()[i + 1])?,
            flops: cost.flops,
            weights: cost.weights.bytes(),
            forms: block.wire_forms().iter().map(|&form| wire::code(form)).collect(),
        })
    };
    let blocks = graph.blocks().iter().enumerate().map(info).collect::<Result<Vec<_>, String>>()?;
    Ok(Answer::Loaded(Described { input: spec(&graph.input)?, blocks }))
}

/// Bytes of the device's memory that nobody has.
fn free(device: &candle_core::Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(cuda) => {
            cuda.cuda_stream().context().mem_get_info().ok().map(|(free, _)| free as u64)
        }
        candle_core::Device::Cpu => {
            let system = std::fs::read_to_string("/proc/meminfo").ok()?;
            let available = system.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
            available.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        }
        _ => None,
    }
}

/// An error and its causes in one line, not longer than may be said.
fn told(error: impl std::error::Error) -> String {
    let mut text = crate::causes::with_causes(&error);
    text.truncate(text.floor_char_boundary(MAX_PROBLEM));
    text
}
