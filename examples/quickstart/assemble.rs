//! Three nodes, four functions, one workflow.

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use scf::{
    ai::{BlockProfiler, Device, FixedSplit, LatencyOptimal, ModelFactory, efficientnet_lite0},
    core::{
        BlockGraph, Clock, Function, FunctionName, MediaType, ModelName, Name, Node, NodeId, Slowdown, StateStore,
        Subject, Tier, Transport, WireForm, Workflow,
    },
    runtime::{Fabric, NativeFactory, SystemClock, WasmFactory, transport::InProcess},
    sched::Pipeline,
    state::{PhasedState, RedbState, RemoteState, SkiRental, StateServer},
};

use crate::{
    arms::ChosenLater,
    network::{ACCESS, UPLINK},
    tally::tally,
};

const ASSETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets");
const COMPONENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components");
/// The functions that classify, in the order of `record::ARMS`.
pub(crate) const CLASSIFIERS: [&str; 4] = ["classify", "classify-camera", "classify-cloud", "classify-static"];
/// The workflow.
pub(crate) const WORKFLOW: &str = "photos";

/// The assembled demonstration.
pub(crate) struct Demo {
    pub(crate) fabric: Fabric,
    pub(crate) network: Arc<InProcess>,
    pub(crate) camera: NodeId,
    pub(crate) gateway: NodeId,
    pub(crate) cloud: NodeId,
    pub(crate) state: Arc<PhasedState>,
    pub(crate) graph: BlockGraph,
    pub(crate) profiler: Arc<BlockProfiler>,
    pub(crate) best_static: ChosenLater,
}

/// How much slower than this CPU the camera and the gateway are.
#[derive(Clone, Copy)]
pub(crate) struct Slowdowns {
    pub(crate) camera: f32,
    pub(crate) gateway: f32,
}

impl Demo {
    /// Nodes, links, state on disk under `disk`, isolates, scheduler.
    pub(crate) fn assemble(disk: &Path, slow: Slowdowns) -> Result<Self, Box<dyn Error>> {
        let (camera, gateway, cloud) = (NodeId::new("camera")?, NodeId::new("gateway")?, NodeId::new("cloud")?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let network = InProcess::builder()
            .link(camera.clone(), gateway.clone(), ACCESS)
            .link(gateway.clone(), cloud.clone(), UPLINK)
            .build(clock.clone())?;
        let network = Arc::new(network);

        // The state's home is the cloud's disk; the camera has one of its own for the local phases.
        let server = StateServer::new(Arc::new(RedbState::open(disk.join("cloud.redb"))?), clock.clone());
        network.attach(&cloud, Subject::State, Arc::new(server))?;
        let home = RemoteState::new(network.clone(), camera.clone(), cloud.clone());
        let here = RedbState::open(disk.join("camera.redb"))?;
        // Calls that follow one another within 2.5 s are a burst.
        let policy = SkiRental { patience: Duration::from_millis(2500), ..SkiRental::default() };
        let (home, here, policy) = (Arc::new(home), Arc::new(here), Arc::new(policy));
        let state = PhasedState::new(camera.clone(), home, here, policy, clock.clone());
        let state = Arc::new(state);

        let graph =
            efficientnet_lite0(&std::fs::read(format!("{ASSETS}/efficientnet-lite0.safetensors"))?, Device::Cpu)?;
        let best_static = ChosenLater::default();
        let cloud_only = FixedSplit::here().hand_over(0, cloud.clone(), WireForm::Int8);
        let models = ModelFactory::new()
            .clock(clock.clone())
            .with_as(ModelName::new(CLASSIFIERS[0])?, &graph, LatencyOptimal)
            .with_as(ModelName::new(CLASSIFIERS[1])?, &graph, FixedSplit::here())
            .with_as(ModelName::new(CLASSIFIERS[2])?, &graph, cloud_only)
            .with_as(ModelName::new(CLASSIFIERS[3])?, &graph, best_static.clone());
        let profiler = models.profiler(&graph.model).cloned().ok_or("the model was just registered")?;
        let fabric = Fabric::builder()
            .node(Node::new(camera.clone(), Tier::Device).slowdown(Slowdown::new(slow.camera)))
            .node(Node::new(gateway.clone(), Tier::Edge).slowdown(Slowdown::new(slow.gateway)))
            .node(Node::new(cloud.clone(), Tier::Cloud))
            .transport(network.clone())
            .clock(clock)
            .scheduler(Arc::new(Pipeline::default()))
            .state(camera.clone(), Arc::clone(&state) as Arc<dyn StateStore>)
            .isolates(Arc::new(WasmFactory::builder().build()?))
            .isolates(Arc::new(NativeFactory::new().with("tally", tally)?))
            .isolates(Arc::new(models))
            .build()?;
        Ok(Self { fabric, network, camera, gateway, cloud, state, graph, profiler, best_static })
    }

    /// Deploys the functions and joins four of them to the workflow.
    pub(crate) async fn deploy(&self) -> Result<(), Box<dyn Error>> {
        let component = |name: &str| -> Result<Function, Box<dyn Error>> {
            let bytes = std::fs::read(format!("{COMPONENTS}/{name}.wasm"))?;
            Ok(Function::component(FunctionName::new(name)?, bytes, name))
        };
        // Photos stay on the camera that took them, and its tally where its frames are counted.
        let decode = component("decode")?.gives(MediaType::ACTIVATION).on([self.camera.clone()]);
        let label = component("label")?.takes(MediaType::ACTIVATION).gives(MediaType::JSON);
        let tally = Function::native(FunctionName::new("tally")?, Name::new("tally")?);
        let tally = tally.takes(MediaType::JSON).gives(MediaType::JSON).stateful().on([self.camera.clone()]);
        for function in [decode, label, tally] {
            self.fabric.deploy(function).await?;
        }
        for name in CLASSIFIERS {
            self.fabric.deploy(Function::model(FunctionName::new(name)?, ModelName::new(name)?)).await?;
        }
        let steps = ["decode", CLASSIFIERS[0], "label", "tally"];
        let workflow = steps.iter().try_fold(Workflow::new(Name::new(WORKFLOW)?), |workflow, step| {
            FunctionName::new(step).map(|function| workflow.then(function))
        })?;
        Ok(self.fabric.deploy_workflow(workflow)?)
    }
}
