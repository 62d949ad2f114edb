//! Three nodes, four functions, one workflow.

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use scf::{
    ai::{BlockProfiler, Device, FixedSplit, LatencyOptimal, ModelFactory, efficientnet_lite0},
    core::{
        BlockGraph, Clock, Function, FunctionName, Limits, MediaType, ModelName, Name, Node, NodeId, Scope, Slowdown,
        SplitPlanner, StateStore, Subject, Tier, Workflow,
    },
    runtime::{Fabric, NativeFactory, SystemClock, WasmFactory, transport::InProcess},
    sched::Pipeline,
    state::{PhasedState, RedbState, RemoteState, SkiRental, StateServer},
};

use crate::{
    arms::best_static,
    network::{ACCESS, UPLINK},
    tally::tally,
};

const ASSETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets");
const COMPONENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components");
/// The functions that classify, in the order of `record::ARMS`.
pub const CLASSIFIERS: [&str; 4] = ["classify", "classify-camera", "classify-cloud", "classify-static"];
/// Times every node runs the whole model before the first frame, so that the planner starts from measurements.
const WARM_UP: usize = 5;

/// The assembled demonstration.
pub struct Demo {
    pub fabric: Fabric,
    pub network: InProcess,
    pub camera: NodeId,
    pub gateway: NodeId,
    pub cloud: NodeId,
    pub state: Arc<PhasedState>,
    pub graph: BlockGraph,
}

/// How much slower than this CPU the camera and the gateway are.
#[derive(Clone, Copy)]
pub struct Slowdowns {
    pub camera: f32,
    pub gateway: f32,
}

impl Demo {
    /// Nodes, links, state on disk under `disk`, isolates, scheduler.
    pub fn assemble(disk: &Path, slow: Slowdowns) -> Result<(Self, Models), Box<dyn Error>> {
        let [camera, gateway, cloud] = ["camera", "gateway", "cloud"].map(NodeId::new);
        let (camera, gateway, cloud) = (camera?, gateway?, cloud?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let network = InProcess::builder()
            .link(camera.clone(), gateway.clone(), ACCESS)
            .link(gateway.clone(), cloud.clone(), UPLINK)
            .build(Arc::clone(&clock))?;
        let transport = Arc::new(network.clone());

        // The state's home is the cloud's disk; the camera has one of its own for the local phases.
        let home = Arc::new(RedbState::open(disk.join("cloud.redb"))?);
        let server = StateServer::new(home, Arc::clone(&clock));
        scf::core::Transport::attach(&network, &cloud, Subject::State, Arc::new(server))?;
        let remote = RemoteState::new(transport.clone(), camera.clone(), cloud.clone());
        let here = Arc::new(RedbState::open(disk.join("camera.redb"))?);
        let policy = SkiRental { patience: Duration::from_millis(1200), ..SkiRental::default() };
        let state = PhasedState::new(camera.clone(), Arc::new(remote), here, Arc::new(policy), Arc::clone(&clock));
        let state = Arc::new(state);

        let graph = efficientnet_lite0(&std::fs::read(format!("{ASSETS}/efficientnet-lite0.safetensors"))?, Device::Cpu)?;
        let models = Models { graph: graph.clone(), profiler: Arc::new(BlockProfiler::new()) };
        let fabric = Fabric::builder()
            .node(Node::new(camera.clone(), Tier::Device).slowdown(Slowdown::new(slow.camera)))
            .node(Node::new(gateway.clone(), Tier::Edge).slowdown(Slowdown::new(slow.gateway)))
            .node(Node::new(cloud.clone(), Tier::Cloud))
            .transport(transport)
            .clock(clock)
            .scheduler(Arc::new(Pipeline::default()))
            .state(camera.clone(), Arc::clone(&state) as Arc<dyn StateStore>)
            .isolates(Arc::new(WasmFactory::builder().build()?))
            .isolates(Arc::new(NativeFactory::new().with(Name::new("tally")?, tally)))
            .isolates(Arc::new(models.factory(&camera, &gateway, &cloud)?))
            .build()?;
        Ok((Self { fabric, network, camera, gateway, cloud, state, graph }, models))
    }
}
