//! Three nodes and the functions of the quickstart.

use std::{sync::Arc, time::Duration};

use scf::{
    ai::{Device, FixedSplit, ModelFactory, efficientnet_lite0},
    core::{
        Bandwidth, BlockGraph, Bytes, Clock, Function, FunctionName, Invocation, InvokeError, Link, MediaType,
        ModelName, Name, Node, NodeId, Outcome, Payload, Scope, SplitPlanner, StateBackend, StateStore, Subject, Tier,
        Transport, Workflow,
    },
    runtime::{Fabric, NativeFactory, SystemClock, WasmFactory, transport::InProcess},
    sched::Pipeline,
    state::{AlwaysRemote, PhasedState, RedbState, RemoteState, StateServer},
};
use serde_json::Value;

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn function(name: &str) -> FunctionName {
    FunctionName::new(name).unwrap()
}

pub(crate) fn photo(name: &str) -> Bytes {
    std::fs::read(format!("{ROOT}/examples/assets/photos/{name}.jpg")).unwrap().into()
}

pub(crate) fn component(name: &str) -> Function {
    let bytes = std::fs::read(format!("{ROOT}/examples/guests/components/{name}.wasm")).unwrap();
    Function::component(function(name), bytes, name)
}

pub(crate) fn lite0() -> BlockGraph {
    let weights = std::fs::read(format!("{ROOT}/examples/assets/efficientnet-lite0.safetensors")).unwrap();
    efficientnet_lite0(&weights, Device::Cpu).unwrap()
}

/// Camera, gateway and cloud; the tally's state is at home on the gateway.
pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    pub(crate) network: Arc<InProcess>,
    pub(crate) home: Arc<dyn StateBackend>,
    pub(crate) graph: BlockGraph,
    _disk: tempfile::TempDir,
}

impl Site {
    /// With `planner` for the function `classify` and a planner that keeps everything on the camera for
    /// `classify-here`.
    pub(crate) async fn new(planner: impl SplitPlanner) -> Self {
        Self::with_home(planner, |home| home).await
    }

    /// As [`Site::new`], with something around the store that the tally's state is at home in.
    pub(crate) async fn with_home(
        planner: impl SplitPlanner,
        around: impl FnOnce(Arc<dyn StateBackend>) -> Arc<dyn StateBackend>,
    ) -> Self {
        let disk = tempfile::tempdir().unwrap();
        let (camera, gateway, cloud) = (node("camera"), node("gateway"), node("cloud"));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let network = InProcess::builder()
            .link(camera.clone(), gateway.clone(), link(1))
            .link(gateway.clone(), cloud.clone(), link(2))
            .build(clock.clone())
            .unwrap();
        let network = Arc::new(network);
        let home: Arc<dyn StateBackend> = Arc::new(RedbState::open(disk.path().join("home.redb")).unwrap());
        let home = around(home);
        let server = StateServer::new(home.clone(), clock.clone());
        network.attach(&gateway, Subject::State, Arc::new(server)).unwrap();
        let graph = lite0();
        let models = ModelFactory::new()
            .clock(clock.clone())
            .with_as(ModelName::new("classify").unwrap(), &graph, planner)
            .with_as(ModelName::new("classify-here").unwrap(), &graph, FixedSplit::here());
        let mut builder = Fabric::builder()
            .node(Node::new(camera.clone(), Tier::Device))
            .node(Node::new(gateway.clone(), Tier::Edge))
            .node(Node::new(cloud, Tier::Cloud))
            .transport(network.clone())
            .clock(clock.clone())
            .seed(1)
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(WasmFactory::builder().build().unwrap()))
            .isolates(Arc::new(NativeFactory::new().with("tally", tally).unwrap()))
            .isolates(Arc::new(models));
        for at in [&camera, &gateway] {
            let backend: Arc<dyn StateBackend> = if *at == gateway {
                home.clone()
            } else {
                Arc::new(RemoteState::new(network.clone(), at.clone(), gateway.clone()))
            };
            let (local, policy) =
                (Arc::new(RedbState::open(disk.path().join(format!("{at}.redb"))).unwrap()), Arc::new(AlwaysRemote));
            let store = PhasedState::new(at.clone(), backend, local, policy, clock.clone());
            builder = builder.state(at.clone(), Arc::new(store) as Arc<dyn StateStore>);
        }
        let site = Self { fabric: builder.build().unwrap(), network, home, graph, _disk: disk };
        site.deploy().await;
        site.fabric.ready().await;
        site
    }

    async fn deploy(&self) {
        let tally = Function::native(function("tally"), Name::new("tally").unwrap());
        let functions = [
            component("decode").gives(MediaType::ACTIVATION).on([node("camera")]),
            component("label").takes(MediaType::ACTIVATION).gives(MediaType::JSON),
            tally.takes(MediaType::JSON).gives(MediaType::JSON).stateful().on([node("camera"), node("gateway")]),
            Function::model(function("classify"), ModelName::new("classify").unwrap()),
            Function::model(function("classify-here"), ModelName::new("classify-here").unwrap()),
        ];
        for function in functions {
            self.fabric.deploy(function).await.unwrap();
        }
        let steps = ["decode", "classify", "label", "tally"];
        let name = Name::new("photos").unwrap();
        let workflow = steps.iter().fold(Workflow::new(name), |workflow, step| workflow.then(function(step)));
        self.fabric.deploy_workflow(workflow).unwrap();
    }

    /// Returns once every way was measured.
    pub(crate) async fn measured(&self) {
        for at in ["camera", "gateway", "cloud"] {
            self.network.probe(&node(at)).await;
        }
    }

    pub(crate) async fn call(&self, name: &str, payload: impl Into<Payload>) -> Result<Outcome, InvokeError> {
        let call = Invocation::new(self.fabric.new_id(), function(name), payload);
        self.fabric.invoke_from(&node("camera"), call).await
    }

    /// How often `label` was counted for `camera-1`.
    pub(crate) async fn counted(&self, label: &str) -> u64 {
        let scope = Scope { function: function("tally"), key: "camera-1".into() };
        let entry = self.home.get(&scope, label).await.unwrap();
        entry.map_or(0, |entry| serde_json::from_slice(&entry.value).unwrap())
    }
}

pub(crate) fn link(ms: u64) -> Link {
    Link { latency: Duration::from_millis(ms), bandwidth: Bandwidth::from_mbit_per_s(1000) }
}

/// The best class of `label`'s answer and its probability.
pub(crate) fn best(answer: &Outcome) -> (u64, f64) {
    let answer: Value = serde_json::from_slice(&answer.payload.bytes).unwrap();
    (answer["top5"][0]["class"].as_u64().unwrap(), answer["top5"][0]["probability"].as_f64().unwrap())
}

/// A fabric of one node with the default parts.
pub(crate) fn alone() -> Fabric {
    scf::fabric().unwrap().build().unwrap()
}

#[path = "../../examples/quickstart/tally.rs"]
mod tally;
pub(crate) use tally::tally;
