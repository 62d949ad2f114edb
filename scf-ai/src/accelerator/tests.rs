//! Models on accelerators as servers and callers meet them.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use scf_core::{DType, Inference, ManualClock, ModelInfo, ModelName, Name, Share, TensorSpec, Usage};

use super::*;
use crate::{
    DigitsCnn, Executor, ModelHost, ModelServer, Variant,
    lifecycle::{Network as _, Parameters},
};

/// What [`Held`] says that a block took.
pub(crate) const PER_BLOCK: Duration = Duration::from_millis(3);

/// Runs the blocks of a graph, says that each held a device for [`PER_BLOCK`], and notes from which to before which was
/// asked for.
#[derive(Debug)]
pub(crate) struct Held {
    graph: BlockGraph,
    pub(crate) asked: Mutex<Vec<(usize, usize)>>,
}

impl Held {
    /// `graph` behind a runner, and that.
    pub(crate) fn behind(graph: &BlockGraph) -> (BlockGraph, Arc<Self>) {
        let held = Arc::new(Self { graph: graph.clone(), asked: Mutex::default() });
        (graph.clone().behind(Arc::clone(&held) as Arc<dyn BlockRunner>), held)
    }
}

impl BlockRunner for Held {
    fn run(&self, blocks: Range<usize>, inputs: Vec<Activation>) -> Ran {
        self.asked.lock().unwrap().push((blocks.start, blocks.end));
        let reached = |input: &Activation| {
            let early = |end: usize| {
                !matches!(self.graph.step(blocks.start..end, input.clone()), Ok(scf_core::Flow::Continue(_)))
            };
            (blocks.start + 1..=blocks.end).find(|&end| early(end)).unwrap_or(blocks.end) - blocks.start
        };
        let times = vec![PER_BLOCK; inputs.iter().map(reached).max().unwrap_or(0)];
        let usage = Usage { accelerator: times.iter().sum(), ..Usage::default() };
        Ran { flows: self.graph.step_batch(blocks, inputs), blocks: times, usage }
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn digits(model: &str) -> ModelSource {
    let weights = Parameters::random(&DigitsCnn.shapes(), 1).to_bytes();
    ModelSource { model: ModelName::new(model).unwrap(), network: Network::DigitsCnn, weights }
}

fn picture() -> Activation {
    let spec = TensorSpec::new(DType::F32, &[1, 1, 8, 8]);
    let bytes: Vec<u8> = (0..64u8).flat_map(|i| (f32::from(i % 7) / 7.0).to_le_bytes()).collect();
    Activation::new(spec, bytes.into()).unwrap()
}

const LEASE: ByteSize = ByteSize::from_kib(64);

#[test]
fn in_this_process_it_runs_what_the_network_runs_and_gives_its_memory_back() {
    let cpu = InProcess::cpu(ByteSize::from_kib(100));
    let plain = Loaders::new().load(&digits("digits"), Device::Cpu).unwrap();
    let loaded = cpu.load(cpu.reserve(LEASE).unwrap(), &digits("digits")).unwrap();
    let Description { device, total, free, driver, .. } = cpu.describe();
    assert_eq!((device, total.bytes(), free.bytes(), driver), (Device::Cpu, 100 << 10, 36 << 10, None));
    let error = cpu.reserve(LEASE).unwrap_err();
    assert_eq!(error.to_string(), "accelerator cpu has 36.0 KiB of memory free of 100.0 KiB, not 64.0 KiB");
    let since = Instant::now();
    let Ran { mut flows, blocks, usage } = loaded.run(0..4, vec![picture()]);
    assert!(blocks.len() == 4 && blocks.iter().sum::<Duration>() <= since.elapsed());
    assert_eq!(usage, Usage::default(), "all of it is the calling thread's CPU time");
    let expected = plain.run(0..4, picture()).unwrap().bytes().unwrap();
    assert_eq!(flows.remove(0).unwrap().into_activation().bytes().unwrap(), expected);
    let graph = loaded.into_graph();
    assert_eq!(cpu.describe().free.bytes(), 36 << 10);
    drop(graph);
    assert_eq!(cpu.describe().free, cpu.describe().total);
}

#[test]
#[cfg(not(any(feature = "cuda", feature = "metal")))]
fn a_device_that_is_not_built_in_is_an_error_that_names_feature_and_driver() {
    let error = InProcess::open(Device::Cuda(0), LEASE).unwrap_err().to_string();
    let expected = "accelerator cuda:0 is not there: it needs the feature cuda and the driver libcuda.so.1; \
                    device cuda is not available: enable the feature cuda";
    assert_eq!(error, expected);
}

#[tokio::test]
async fn a_host_of_models_bills_the_device_for_whole_runs() {
    let (graph, held) = Held::behind(&Loaders::new().load(&digits("digits"), Device::Cpu).unwrap());
    let host = ModelHost::new().with(graph.clone());
    let inferred = host.run(&graph.model, picture()).await.unwrap();
    assert_eq!(inferred.usage.accelerator, 4 * PER_BLOCK);
    assert_eq!(*held.asked.lock().unwrap(), [(0, 4)]);
    let flat = Activation::new(TensorSpec::new(DType::F32, &[1]), vec![0; 4].into()).unwrap();
    assert!(matches!(host.run(&graph.model, flat).await, Err(ModelError::Shape { .. })));
}

#[tokio::test]
async fn variants_are_loaded_onto_their_accelerator_and_make_room_on_it() {
    // The server believes that both fit; the accelerator has room for one.
    let cpu = Arc::new(InProcess::cpu(ByteSize::from_kib(100)));
    let (spec, output) = (picture().spec, TensorSpec::new(DType::F32, &[1, 10]));
    let info = || ModelInfo { input: spec.clone(), output: output.clone() };
    let variant = |model: &str| {
        Variant::new(ModelName::new(model).unwrap(), name("digits"), Share::from_percent(90.0), ByteSize::from_kib(40))
    };
    let on = |model: &str| loader(Arc::clone(&cpu) as Arc<dyn Accelerator>, LEASE, digits(model));
    let server =
        ModelServer::new(Executor::new(name("cpu"), 1), ByteSize::from_kib(60), Arc::new(ManualClock::new()), 1)
            .variant(variant("a"), info(), on("a"))
            .variant(variant("b"), info(), on("b"));
    for model in ["a", "b", "a"] {
        let model = ModelName::new(model).unwrap();
        server.preload(&model).await.unwrap();
        assert_eq!(cpu.describe().free.bytes(), 36 << 10, "the one before has given its memory back");
        assert_eq!(Inference::run(&server, &model, picture()).await.unwrap().output.spec, output);
    }
    let full = cpu.reserve(ByteSize::from_kib(36)).unwrap();
    let crowded = ModelServer::new(Executor::new(name("cpu"), 1), LEASE, Arc::new(ManualClock::new()), 1).variant(
        variant("a"),
        info(),
        on("a"),
    );
    let error = crowded.preload(&ModelName::new("a").unwrap()).await.unwrap_err();
    let causes: Vec<String> = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source())
        .map(ToString::to_string)
        .collect();
    assert!(causes.iter().any(|cause| cause.starts_with("accelerator cpu has 0 B of memory free")), "{causes:?}");
    drop(full);
}
