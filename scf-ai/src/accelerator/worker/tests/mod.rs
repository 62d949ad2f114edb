//! Workers that do what they should, and workers that do not.

mod behaved;
mod liar;

use std::{env, path::Path, sync::Arc, time::Duration};

use scf_core::{
    Activation, BlockCost, BlockGraph, ByteSize, DType, Flow, ModelBlock, ModelError, ModelName, Name, TensorSpec,
    WireForm,
};

use super::{ENTRY, Worker, WorkerSettings, worker_main};
use crate::{
    accelerator::{Accelerator, AcceleratorError, Loaded, Loaders, ModelSource, Network},
    device::Device,
    tensor,
};

/// What is set aside for a model.
const LEASE: ByteSize = ByteSize::from_kib(1);
/// The memory of each worker.
const MEMORY: ByteSize = ByteSize::from_kib(4);

/// Where the processes of these tests begin; an ordinary run returns at once.
#[test]
fn guest() {
    if env::var_os(ENTRY).is_none() {
        return;
    }
    match env::args().find_map(|argument| argument.strip_prefix("lie=").map(str::to_owned)) {
        Some(lie) => liar::serve(&lie),
        None => worker_main(&loaders()),
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A worker that is this program.
fn settings(device: Device) -> WorkerSettings {
    let guest = ["--exact", "accelerator::worker::tests::guest", "--nocapture"];
    Worker::of(env::current_exe().unwrap(), device).arguments(guest).memory(MEMORY)
}

fn worker() -> Worker {
    settings(Device::Cpu).start().unwrap()
}

/// The network of these tests out of a file that says how it behaves.
fn loaders() -> Loaders {
    Loaders::new().with(name("steps"), |model, file, _| {
        match &file[..] {
            b"abort" => std::process::abort(),
            b"refuse" => return Err(ModelError::Weight { weight: "w".into(), problem: "is missing".into() }),
            _ => {}
        }
        // A file that can be loaded once.
        if let Some(path) = std::str::from_utf8(&file).unwrap().strip_prefix("once ")
            && std::fs::File::create_new(Path::new(path)).is_err()
        {
            std::process::abort();
        }
        let wide = if &file[..] == b"wide" { 100 } else { 1 };
        let weights = if &file[..] == b"heavy" { 2000 } else { 100 };
        let block = |by: usize| -> Arc<dyn ModelBlock> {
            let times = if by == 3 { wide } else { 1 };
            Arc::new(Step { name: format!("step{by}"), by: by as f32, times, weights })
        };
        BlockGraph::chain(model.clone(), input(&[0.0; 4]).spec, (1..=3).map(block).collect())
    })
}

fn source(file: &str) -> ModelSource {
    let model = ModelName::new(&format!("steps-{}", file.split(' ').next().unwrap_or_default())).unwrap();
    ModelSource { model, network: Network::Other(name("steps")), weights: file.to_owned().into() }
}

fn load(worker: &Worker, file: &str) -> Result<Loaded, AcceleratorError> {
    worker.load(worker.reserve(LEASE)?, &source(file))
}

fn input(elements: &[f32]) -> Activation {
    let spec = TensorSpec::new(DType::F32, &[1, elements.len()]);
    Activation::new(spec, tensor::little_endian(elements)).unwrap()
}

fn floats(activation: &Activation) -> Vec<f32> {
    tensor::with_floats(activation, <[f32]>::to_vec).unwrap()
}

fn run(loaded: &Loaded, first: f32) -> Result<Vec<f32>, ModelError> {
    let flow = loaded.graph().step(0..3, input(&[first, 1.0, 2.0, 3.0]))?;
    Ok(floats(&flow.into_activation()))
}

/// What a run failed with.
fn fault(loaded: &Loaded, first: f32) -> AcceleratorError {
    match run(loaded, first) {
        Err(ModelError::Block { source, .. }) => *source.downcast().unwrap(),
        other => panic!("{first}: {other:?}"),
    }
}

const ABORT: f32 = -1.0;
const HANG: f32 = -2.0;
const GARBAGE: f32 = -3.0;
const PANIC: f32 = -4.0;
const FAIL: f32 = -5.0;
const EXIT: f32 = -6.0;
const KILL: f32 = -7.0;

/// Adds a number to each element; the second of its network does what its first input says, where that is negative.
#[derive(Debug)]
struct Step {
    name: String,
    by: f32,
    /// How many times longer its output is.
    times: usize,
    weights: u64,
}

impl ModelBlock for Step {
    fn name(&self) -> &str {
        &self.name
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        match input.shape[..] {
            [1, n] if n <= 4000 && input.dtype == DType::F32 => Ok(TensorSpec::new(DType::F32, &[1, n * self.times])),
            _ => Err(ModelError::Shape { block: self.name.clone(), takes: "rows".into(), given: input.clone() }),
        }
    }

    fn cost(&self, _: &TensorSpec) -> BlockCost {
        BlockCost { flops: 4, weights: ByteSize::from_bytes(self.weights) }
    }

    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact, WireForm::Int8]
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        self.step(input).map(Flow::into_activation)
    }

    fn step(&self, x: Activation) -> Result<Flow, ModelError> {
        self.output(&x.spec)?;
        let x = floats(&x);
        // The first block has added 1.
        match x[0] - 1.0 {
            what if self.by != 2.0 || what >= 0.0 => {}
            ABORT => std::process::abort(),
            HANG => loop {
                std::thread::park();
            },
            KILL => rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap(),
            GARBAGE => {
                rustix::net::send(std::io::stdin(), b"HTTP/1.1 200 OK", rustix::net::SendFlags::empty()).unwrap();
            }
            PANIC => panic!("seven is no number"),
            EXIT => return Ok(Flow::Exit { scores: input(&[9.0; 4]), confidence: 0.5 }),
            _ => return Err(ModelError::Absent { block: self.name.clone() }),
        }
        let sum: Vec<f32> = x.iter().map(|v| v + self.by).collect();
        Ok(Flow::Continue(input(&sum.repeat(self.times))))
    }
}
