//! Three edge nodes and a cloud, and the functions of a model's life on them.

use std::{error::Error, sync::Arc, time::Duration};

use scf::{
    ai::{
        Device, DigitsCnn, FixedSplit, ModelFactory,
        lifecycle::{
            ArtefactId, Bound, Catalogue, Draft, LifeCycle, Product, PublishedModels, Selector, Stage, StageFunction,
        },
    },
    core::{
        Bandwidth, Bytes, Clock, Durability, Function, FunctionName, Invocation, Limits, Link, MediaType, Name, Node,
        NodeId, ObjectStore, Payload, Revision, Slowdown, StateStore, Tier,
    },
    runtime::{Fabric, SystemClock, transport::InProcess},
    sched::Pipeline,
    state::{AlwaysRemote, MemoryState, PhaseConfig, PhasedState},
};
use serde::{Serialize, de::DeserializeOwned};

use super::functions::{Functions, MODEL};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The nodes that have pictures, and train.
pub(crate) const EDGES: [&str; 3] = ["edge-a", "edge-b", "edge-c"];
const CLOUD: &str = "cloud";
const UPLINK: Link = Link { latency: Duration::from_millis(5), bandwidth: Bandwidth::from_mbit_per_s(50) };
/// The function that answers.
pub(crate) const SERVE: &str = "classify";
/// The accuracy that a model needs to serve.
pub(crate) const ACCURATE: f64 = 0.85;

/// What outlives a fabric: objects, and the state of each node.
#[derive(Clone, Debug)]
pub(crate) struct Disks {
    pub(crate) objects: Arc<dyn ObjectStore>,
    states: Vec<Arc<MemoryState>>,
}

impl Disks {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, states: (0..=EDGES.len()).map(|_| Arc::new(MemoryState::new())).collect() }
    }
}

/// The assembled fabric.
pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) life: LifeCycle,
    pub(crate) edges: Vec<NodeId>,
    pub(crate) cloud: NodeId,
}

impl Site {
    /// Nodes, links, state, functions; edges compute half as fast as this CPU.
    pub(crate) async fn new(disks: &Disks) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let edges = EDGES.into_iter().map(NodeId::new).collect::<Result<Vec<_>, _>>()?;
        let cloud = NodeId::new(CLOUD)?;
        let network =
            edges.iter().fold(InProcess::builder(), |all, edge| all.link(edge.clone(), cloud.clone(), UPLINK));
        let catalogue = Arc::new(Catalogue::new(Arc::clone(&disks.objects)));
        let functions = Functions { catalogue: Arc::clone(&catalogue), objects: Arc::clone(&disks.objects) };
        let published = PublishedModels::new(Arc::clone(&catalogue)).with(Name::new(MODEL)?, |version, weights| {
            let graph = DigitsCnn::load(version.clone(), weights, Device::Cpu)?;
            Ok(ModelFactory::new().with(&graph, FixedSplit::here()))
        });
        let mut builder = Fabric::builder()
            .transport(Arc::new(network.build(Arc::clone(&clock))?))
            .clock(Arc::clone(&clock))
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(functions.natives()?))
            .isolates(Arc::new(published));
        for (id, disk) in edges.iter().chain([&cloud]).zip(&disks.states) {
            let (tier, slowdown) = if *id == cloud { (Tier::Cloud, 1.0) } else { (Tier::Edge, 2.0) };
            builder = builder.node(Node::new(id.clone(), tier).slowdown(Slowdown::new(slowdown)));
            // What a function keeps stays on the node that it runs on.
            let config = PhaseConfig { durability: Durability::Memory, ..PhaseConfig::default() };
            let (home, policy) = (Arc::clone(disk), Arc::new(AlwaysRemote));
            let spare = Arc::new(MemoryState::new());
            let store = PhasedState::with(id.clone(), home, spare, policy, Arc::clone(&clock), config)?;
            builder = builder.state(id.clone(), Arc::new(store) as Arc<dyn StateStore>);
        }
        let objects = Arc::clone(&disks.objects);
        let site = Self { fabric: builder.build()?, catalogue, objects, life: life()?, edges, cloud };
        site.life.check()?;
        site.deploy().await?;
        site.fabric.ready().await;
        Ok(site)
    }

    async fn deploy(&self) -> Result<(), Failure> {
        let native = |name: &str| -> Result<Function, Failure> {
            let function = Function::native(FunctionName::new(name)?, Name::new(name)?).limits(patient());
            Ok(function.takes(MediaType::JSON).gives(MediaType::JSON))
        };
        for function in [
            native("process")?.on([self.cloud.clone()]),
            native("train")?.on(self.edges.clone()).stateful(),
            native("federate")?.on([self.cloud.clone()]).stateful(),
            native("validate")?.on([self.cloud.clone()]),
            native("monitor")?.on([self.cloud.clone()]).stateful(),
        ] {
            self.fabric.deploy(function).await?;
        }
        Ok(())
    }

    /// Makes a version of the model ready as the next revision of the function that serves; without traffic yet, but
    /// for the first.
    pub(crate) async fn release(&self, model: &ArtefactId, is_first: bool) -> Result<Revision, Failure> {
        let function = Function::model(FunctionName::new(SERVE)?, model.served()?).limits(patient());
        Ok(if is_first { self.fabric.deploy(function).await? } else { self.fabric.publish(function).await? })
    }

    /// Calls a function of the life cycle, from the cloud.
    pub(crate) async fn call<O: DeserializeOwned>(
        &self,
        function: &str,
        key: Option<&str>,
        input: &impl Serialize,
    ) -> Result<O, Failure> {
        let payload = Payload::new(serde_json::to_vec(input)?).with_media(MediaType::JSON);
        let mut call = Invocation::new(self.fabric.new_id(), FunctionName::new(function)?, payload);
        call.key = key.map(str::to_owned);
        call.target = (function == "train").then(|| NodeId::new(key.unwrap_or(EDGES[0]))).transpose()?;
        let outcome = self.fabric.invoke_from(&self.cloud, call).await?;
        Ok(serde_json::from_slice(&outcome.payload.bytes)?)
    }

    /// Publishes data that comes from outside.
    pub(crate) async fn arrives(&self, name: &str, content: Bytes) -> Result<ArtefactId, Failure> {
        let draft = Draft::data(Name::new(name)?).tag(Name::new("task")?, MODEL).tag(Name::new("part")?, "raw");
        Ok(self.catalogue.publish(draft, content).await?.id)
    }

    /// The newest data that models are validated with.
    pub(crate) async fn validation(&self) -> Result<ArtefactId, Failure> {
        let selector = Selector::data().name(Name::new(&format!("{MODEL}-validation"))?);
        Ok(self.catalogue.find(&selector).await?.id)
    }

    /// What `function` consumes now.
    pub(crate) async fn consumed(&self, function: &str) -> Result<Vec<ArtefactId>, Failure> {
        let found = self.life.resolve(&self.catalogue, &FunctionName::new(function)?).await?;
        Ok(found.into_iter().map(|artefact| artefact.id).collect())
    }
}

/// Training takes long, and nothing here fails because the machine has other things to do.
fn patient() -> Limits {
    Limits { wall: Duration::from_secs(300), ..Limits::default() }
}

/// Which functions make what out of what.
fn life() -> Result<LifeCycle, Failure> {
    let (task, part) = (Name::new("task")?, Name::new("part")?);
    let data = |of: &str| Selector::data().tag(task.clone(), MODEL).tag(part.clone(), of);
    let made = |of: &str| -> Result<Product, Failure> {
        Ok(Product::data(Name::new(&format!("{MODEL}-{of}"))?).tag(task.clone(), MODEL).tag(part.clone(), of))
    };
    let model = || Selector::model().tag(task.clone(), MODEL);
    let stage = |name: &str, stage| Ok::<_, Failure>(StageFunction::new(FunctionName::new(name)?, stage));
    let (mut process, mut train) = (stage("process", Stage::Process)?, stage("federate", Stage::Train)?);
    process = process.consumes(data("raw")).produces(made("validation")?).produces(made("stream")?);
    for edge in EDGES {
        process = process.produces(made(edge)?);
        train = train.consumes(data(edge));
    }
    train = train.produces(Product::model(Name::new(MODEL)?).tag(task.clone(), MODEL));
    let validate = stage("validate", Stage::Validate)?.consumes(model()).consumes(data("validation"));
    let validate = validate.produces(Product::data(Name::new("digits-reference")?).tag(part.clone(), "reference"));
    let serve = stage(SERVE, Stage::Serve)?;
    let serve = serve.consumes(model().metric(Name::new("accuracy")?, Bound::AtLeast(ACCURATE)));
    let monitor = stage("monitor", Stage::Monitor)?.consumes(Selector::data().tag(part.clone(), "reference"));
    let raw = Product::data(Name::new("digits-raw")?).tag(task.clone(), MODEL).tag(part.clone(), "raw");
    Ok([process, train, validate, serve, monitor].into_iter().fold(LifeCycle::new().source(raw), LifeCycle::function))
}
