//! A model in a worker.

use std::{
    io, mem,
    ops::Range,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use scf_core::{Activation, BlockRunner, ByteSize, Flow, ModelError, ModelName, Ran, TensorSpec, Usage};

use super::{
    Host, Lease, Settings, State, memory,
    message::{Answer, Ask, BlockInfo, Described, MAX_INPUTS, MAX_PROBLEM, Output, Slot, SlotError, Spec},
    process::Process,
};
use crate::{
    accelerator::{AcceleratorError, ModelSource, Network},
    device::Device,
    fixed,
};

/// A model's file, sealed, and how it is read: kept so that it can be loaded again.
#[derive(Debug)]
struct Source {
    model: ModelName,
    network: Network,
    file: OwnedFd,
}

impl Source {
    /// Gives the file to `process` as model `id`.
    fn put(&self, settings: &Settings, process: &mut Process, id: u32) -> Result<Described, AcceleratorError> {
        let ask = Ask::Load { id, model: self.model.clone(), network: self.network.clone() };
        match process.ask(settings, &ask, Some(&self.file))? {
            Answer::Loaded(described) => {
                process.loaded.insert(id);
                Ok(described)
            }
            Answer::Failed(problem) => {
                let source = Arc::new(fixed::failed(self.model.as_str())(shortened(problem)));
                Err(AcceleratorError::Load { model: self.model.clone(), device: settings.device, source })
            }
            _ => Err(process.garbage(settings, ask.verb(), "kind")),
        }
    }
}

/// A model that a worker has, or gets again when it is asked for after the worker had ended.
#[derive(Debug)]
pub(super) struct Remote {
    host: Arc<Host>,
    id: u32,
    source: Source,
    described: Described,
    /// What the first block takes and what each gives.
    edges: Vec<TensorSpec>,
    /// None once the model is lost.
    lease: Mutex<Option<Lease>>,
    lost: OnceLock<Arc<AcceleratorError>>,
}

/// An input that is to be run, and what is to come of it.
struct Going {
    place: usize,
    input: Activation,
    gives: TensorSpec,
}

/// What came of some inputs that were sent together.
enum Piece {
    Done {
        flows: Vec<Result<Flow, ModelError>>,
        blocks: Vec<Duration>,
        cpu: Duration,
    },
    /// So many of them were too many; one output, or the one input, takes so many bytes.
    TooMany {
        sent: usize,
        needs: usize,
    },
}

impl Remote {
    /// Loads `model` into the worker of `host`.
    pub(super) fn load(host: &Arc<Host>, lease: Lease, model: &ModelSource) -> Result<Self, AcceleratorError> {
        let (settings, device) = (&host.settings, host.settings.device);
        let sealing = |source: io::Error| AcceleratorError::System {
            device,
            what: "sealing a model's file",
            source: source.into(),
        };
        let file = memory::seal(&model.weights).map_err(sealing)?;
        let source = Source { model: model.model.clone(), network: model.network.clone(), file };
        let (id, described) = host.with(|state| {
            let id = state.next;
            state.next = id.wrapping_add(1);
            Ok((id, source.put(settings, host.process(state)?, id)?))
        })?;
        let Some(edges) = described.edges() else {
            host.let_go(id, lease);
            return Err(AcceleratorError::Garbage { device, asked: "load a model", field: "description" });
        };
        let (lease, lost) = (Mutex::new(Some(lease)), OnceLock::new());
        Ok(Self { host: Arc::clone(host), id, source, described, edges, lease, lost })
    }

    pub(super) fn input(&self) -> &TensorSpec {
        &self.edges[0]
    }

    pub(super) fn blocks(&self) -> &[BlockInfo] {
        &self.described.blocks
    }

    /// The worker with this model in it.
    fn ready<'a>(&self, state: &'a mut State) -> Result<&'a mut Process, AcceleratorError> {
        let device = self.host.settings.device;
        let lost = |source: &Arc<AcceleratorError>| AcceleratorError::Lost {
            model: self.source.model.clone(),
            device,
            source: Arc::clone(source),
        };
        if let Some(source) = self.lost.get() {
            return Err(lost(source));
        }
        let process = self.host.process(state)?;
        if process.loaded.contains(&self.id) {
            return Ok(process);
        }
        let error = match self.source.put(&self.host.settings, process, self.id) {
            Ok(described) if described == self.described => return Ok(process),
            Ok(_) => process.garbage(&self.host.settings, "load a model", "description"),
            Err(error) => error,
        };
        // Not tried again: a file that ends its worker would end it at every call, and others' models with it.
        tracing::warn!(model = %self.source.model, %device, %error, "a model was not loaded again");
        process.loaded.remove(&self.id);
        drop(self.lease().take());
        Err(lost(self.lost.get_or_init(|| Arc::new(error))))
    }

    fn lease(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the blocks of `blocks` give for `input`; asked of the worker where it is not the usual.
    pub(super) fn gives(&self, blocks: &Range<usize>, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        if *input == self.edges[blocks.start] {
            return Ok(self.edges[blocks.end].clone());
        }
        let name = || self.described.blocks[blocks.start].name.clone();
        let other = |takes: String| ModelError::Shape { block: name(), takes, given: input.clone() };
        let settings = &self.host.settings;
        let spec = Spec::new(input).ok_or_else(|| other("fewer and smaller dimensions".into()))?;
        let (from, to) = (blocks.start as u16, blocks.end as u16);
        let ask = Ask::Shape { id: self.id, from, to, input: spec };
        let answered = self.host.with(|state| {
            let process = self.ready(state)?;
            match process.ask(settings, &ask, None)? {
                Answer::Shape(spec) => match spec.restore() {
                    Some(gives) => Ok(Ok(gives)),
                    None => Err(process.garbage(settings, ask.verb(), "shape")),
                },
                Answer::Failed(problem) => Ok(Err(shortened(problem))),
                _ => Err(process.garbage(settings, ask.verb(), "kind")),
            }
        });
        match answered {
            Ok(Ok(gives)) => Ok(gives),
            Ok(Err(_)) => Err(other(format!("{:?}", self.edges[blocks.start]))),
            Err(error) => Err(self.failed(blocks)(error)),
        }
    }

    /// Makes a [`ModelError`] of what happened to the blocks of `blocks`.
    fn failed(&self, blocks: &Range<usize>) -> impl Fn(AcceleratorError) -> ModelError {
        let block = self.described.blocks[blocks.start].name.clone();
        move |error| ModelError::Block { block: block.clone(), source: error.into() }
    }

    /// Runs the blocks of `blocks` for each of `inputs`, in as many pieces as they need.
    pub(super) fn pass(&self, blocks: Range<usize>, past_exits: bool, inputs: Vec<Activation>) -> Ran {
        let failed = self.failed(&blocks);
        let settings = &self.host.settings;
        let mut flows: Vec<Option<Result<Flow, ModelError>>> = Vec::with_capacity(inputs.len());
        let mut going = Vec::with_capacity(inputs.len());
        for (place, input) in inputs.into_iter().enumerate() {
            match self.gives(&blocks, &input.spec) {
                Ok(gives) => {
                    going.push(Going { place, input, gives });
                    flows.push(None);
                }
                Err(error) => flows.push(Some(Err(error))),
            }
        }
        let (mut times, mut cpu, mut most) = (Vec::<Duration>::new(), Duration::ZERO, MAX_INPUTS);
        let mut rest = &going[..];
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(most)];
            let done = match self.host.with(|state| self.piece(state, &blocks, past_exits, piece)) {
                Ok(Piece::Done { flows: done, blocks: took, cpu: used }) => {
                    cpu += used;
                    times.resize(times.len().max(took.len()), Duration::ZERO);
                    times.iter_mut().zip(took).for_each(|(sum, took)| *sum += took);
                    done
                }
                Ok(Piece::TooMany { sent: 0 | 1, needs }) => {
                    let room = ByteSize::from_bytes(settings.shared as u64 / 2);
                    let needs = ByteSize::from_bytes(needs as u64);
                    vec![Err(failed(AcceleratorError::TooLarge { device: settings.device, needs, room }))]
                }
                Ok(Piece::TooMany { sent, .. }) => {
                    most = sent / 2;
                    continue;
                }
                Err(error) => rest.iter().map(|_| Err(failed(error.clone()))).collect(),
            };
            let (answered, left) = rest.split_at(done.len());
            answered.iter().zip(done).for_each(|(Going { place, .. }, flow)| flows[*place] = Some(flow));
            rest = left;
        }
        let accelerator = if settings.device == Device::Cpu { Duration::ZERO } else { times.iter().sum() };
        let flows = flows.into_iter().flatten().collect();
        Ran { flows, blocks: times, usage: Usage { cpu, accelerator, ..Usage::default() } }
    }

    /// Sends as many of `going` as there is room for, and takes what comes of them.
    fn piece(
        &self,
        state: &mut State,
        blocks: &Range<usize>,
        past_exits: bool,
        going: &[Going],
    ) -> Result<Piece, AcceleratorError> {
        let settings = &self.host.settings;
        let process = self.ready(state)?;
        let half = process.memory.len() / 2;
        let (mut inputs, mut at) = (Vec::with_capacity(going.len()), 0);
        for Going { input, .. } in going {
            match Slot::put(input, &process.memory, at, half) {
                Ok((slot, next)) => {
                    inputs.push(slot);
                    at = next;
                }
                Err(SlotError::NoRoom(needs)) if inputs.is_empty() => return Ok(Piece::TooMany { sent: 0, needs }),
                Err(SlotError::NoRoom(_)) => break,
                Err(SlotError::Invalid(part)) if inputs.is_empty() => {
                    let problem = format!("an input has a {part} that does not travel to a worker");
                    let flows = vec![Err(self.failed(blocks)(AcceleratorError::Block { problem }))];
                    return Ok(Piece::Done { flows, blocks: Vec::new(), cpu: Duration::ZERO });
                }
                Err(SlotError::Invalid(_)) => break,
            }
        }
        let (sent, going) = (inputs.len(), &going[..inputs.len()]);
        let (from, to) = (blocks.start as u16, blocks.end as u16);
        let ask = Ask::Run { id: self.id, from, to, past_exits, inputs };
        let since = Instant::now();
        let answer = process.ask(settings, &ask, None)?;
        let elapsed = since.elapsed();
        let (outputs, times, cpu) = match answer {
            Answer::Ran { outputs, blocks, cpu } => (outputs, blocks, cpu),
            Answer::NoRoom { needs } => {
                return Ok(Piece::TooMany { sent, needs: usize::try_from(needs).unwrap_or(usize::MAX) });
            }
            Answer::Failed(problem) => return Err(AcceleratorError::Block { problem: shortened(problem) }),
            _ => return Err(process.garbage(settings, ask.verb(), "kind")),
        };
        if outputs.len() != sent || times.len() > blocks.len() {
            return Err(process.garbage(settings, ask.verb(), "number of outputs"));
        }
        let mut flows = Vec::with_capacity(sent);
        for (output, Going { gives, .. }) in outputs.into_iter().zip(going) {
            match self.flow(process, output, gives, blocks) {
                Ok(flow) => flows.push(flow),
                Err(field) => return Err(process.garbage(settings, ask.verb(), field)),
            }
        }
        state.deaths.worked();
        // Together no longer than it was waited for, whatever the worker says.
        let mut left = elapsed;
        let bounded = |nanos| {
            let time = Duration::from_nanos(nanos).min(left);
            left -= time;
            time
        };
        let blocks = times.into_iter().map(bounded).collect();
        Ok(Piece::Done { flows, blocks, cpu: Duration::from_nanos(cpu).min(elapsed) })
    }

    /// What a worker says came of an input that was to give `gives`, or the part of it that cannot be.
    fn flow(
        &self,
        process: &Process,
        output: Output,
        gives: &TensorSpec,
        blocks: &Range<usize>,
    ) -> Result<Result<Flow, ModelError>, &'static str> {
        let (memory, answer) = (&process.memory, &self.edges[self.edges.len() - 1]);
        let take = |slot: &Slot, spec: &TensorSpec| match slot.take(memory, memory.len() / 2, memory.len()) {
            Ok(activation) if activation.spec == *spec => Ok(activation),
            Ok(_) => Err("shape"),
            Err(SlotError::NoRoom(_)) => Err("place"),
            Err(SlotError::Invalid(part)) => Err(part),
        };
        Ok(Ok(match output {
            Output::Continue(slot) => Flow::Continue(take(&slot, gives)?),
            Output::Exit(slot, confidence) => Flow::Exit { scores: take(&slot, answer)?, confidence },
            Output::Stream(slot) => Flow::Stream(take(&slot, answer)?),
            Output::Failed(problem) => {
                return Ok(Err(self.failed(blocks)(AcceleratorError::Block { problem: shortened(problem) })));
            }
        }))
    }
}

impl BlockRunner for Remote {
    fn run(&self, blocks: Range<usize>, inputs: Vec<Activation>) -> Ran {
        self.pass(blocks, false, inputs)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let lease = mem::take(&mut *self.lease());
        if let Some(lease) = lease {
            self.host.let_go(self.id, lease);
        }
    }
}

/// What a worker reports, no longer than it may say.
fn shortened(mut problem: String) -> String {
    problem.truncate(problem.floor_char_boundary(MAX_PROBLEM));
    problem
}
