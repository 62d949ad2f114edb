//! One process of the fleet: a node, its links to the others, and what runs on it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use scf::{
    ai::{Device, LatencyOptimal, ModelFactory, efficientnet_lite0},
    core::{ByteSize, Bytes, Clock, ModelName, Node, NodeId, ObjectError, ObjectId, Slowdown, Tier},
    runtime::{Fabric, Puller, SystemClock, WasmFactory, transport::DataPlane},
    sched::Pipeline,
    state::{NatsBlobs, NatsOptions},
};

use crate::{Result, camera, process::abandoned};

/// The first argument of a process that is a node.
pub(crate) const WORD: &str = "node";
/// The model, which the camera has on its disk, and which the others pull by its hash.
const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/efficientnet-lite0.safetensors");
const HASH: &str = "889ee61206aecd2563c500fba5b6c19ae647a4fedacbfda8fd36778ce9741734";
/// Between looks for it.
const PAUSE: Duration = Duration::from_millis(100);
/// The largest model that is taken.
const LARGEST: ByteSize = ByteSize::from_mib(64);
/// The function that is split, and its model.
pub(crate) const CLASSIFY: &str = "classify";

/// Which node a process is.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) name: &'static str,
    pub(crate) slowdown: f32,
    /// Where it finds the broker: the link to it.
    pub(crate) broker: SocketAddr,
    /// Where it takes tensors.
    pub(crate) listen: SocketAddr,
    /// Where the others send them: the link to it.
    pub(crate) told: SocketAddr,
}

impl Role {
    const NAMES: [&str; 3] = ["camera", "gateway", "cloud"];

    /// The arguments of the process.
    pub(crate) fn words(&self) -> Vec<String> {
        let Self { name, slowdown, broker, listen, told } = self;
        vec![
            WORD.into(),
            (*name).into(),
            slowdown.to_string(),
            broker.to_string(),
            listen.to_string(),
            told.to_string(),
        ]
    }

    /// The role that has these arguments.
    pub(crate) fn read(words: &[String]) -> Result<Self> {
        let [name, slowdown, broker, listen, told] = words else { return Err("a node has five arguments".into()) };
        let name = Self::NAMES.into_iter().find(|known| known == name).ok_or("no such node")?;
        let (broker, listen, told) = (broker.parse()?, listen.parse()?, told.parse()?);
        Ok(Self { name, slowdown: slowdown.parse()?, broker, listen, told })
    }

    fn tier(&self) -> Tier {
        match self.name {
            "camera" => Tier::Device,
            "gateway" => Tier::Edge,
            _ => Tier::Cloud,
        }
    }
}

/// Is a node until whoever started it has ended.
pub(crate) async fn run(role: Role) -> Result<()> {
    let mut abandoned = abandoned();
    tokio::select! {
        done = serve(&role) => done,
        _ = abandoned.recv() => Ok(()),
    }
}

async fn serve(role: &Role) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let broker = NatsOptions::new([format!("nats://{}", role.broker)]).connect().await?;
    let puller = Arc::new(Puller::new(Arc::new(NatsBlobs::at(broker.clone()).open().await?)));
    let graph = efficientnet_lite0(&weights(role, &puller).await?, Device::Cpu)?;
    let models = ModelFactory::new().clock(clock.clone()).with_as(ModelName::new(CLASSIFY)?, &graph, LatencyOptimal);
    let id = NodeId::new(role.name)?;
    let plane = DataPlane::new(role.listen).address(role.told.to_string());
    let nats = scf::nats(&broker).node(id.clone()).data_plane(plane).join().await?;
    let fabric = Fabric::builder()
        .node(Node::new(id, role.tier()).slowdown(Slowdown::new(role.slowdown)))
        .clock(clock)
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(Arc::new(WasmFactory::builder().build()?))
        .isolates(Arc::new(models))
        .join(Arc::new(nats))
        .pull(puller)
        .build()?;
    println!("{}", serde_json::json!({"joined": role.name}));
    if role.name == "camera" {
        return camera::run(&fabric).await;
    }
    // What it runs is asked of it by the others.
    std::future::pending().await
}

/// The model's file: the camera leaves it for the others, who wait for it.
async fn weights(role: &Role, puller: &Puller) -> Result<Bytes> {
    if role.name == "camera" {
        let weights = Bytes::from(std::fs::read(WEIGHTS)?);
        puller.publish(weights.clone()).await?;
        return Ok(weights);
    }
    let hash: ObjectId = HASH.parse()?;
    loop {
        match puller.pull(hash, LARGEST).await {
            Err(ObjectError::NotFound { .. }) => tokio::time::sleep(PAUSE).await,
            pulled => {
                println!("{}", serde_json::json!({"pulled": role.name}));
                return Ok(pulled?);
            }
        }
    }
}
