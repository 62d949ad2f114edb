//! The camera: deploys once, and classifies one photo after the other.

use std::{collections::BTreeMap, time::Duration};

use scf::{
    ai::SplitTrace,
    core::{Bytes, Function, FunctionName, Health, InvocationId, MediaType, ModelName, Name, NodeId, Workflow},
    runtime::{Fabric, transport::Presence},
};
use serde_json::{Value, json};

use crate::{Result, node::CLASSIFY};

const PHOTOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/photos");
const COMPONENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components");
const NAMES: [&str; 4] = ["chelsea.jpg", "coffee.jpg", "camera.jpg", "rocket.jpg"];
/// How often a photo is tried that could not be classified, always as the same call.
const TRIES: u32 = 5;
/// Between them, and between looks at the others.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs until it is ended from outside. What happens it prints, one line of JSON each.
pub(crate) async fn run(fabric: &Fabric) -> Result<()> {
    let here = NodeId::new("camera")?;
    for other in ["gateway", "cloud"] {
        meet(fabric, &here, other).await?;
    }
    let workflow = deploy(fabric, &here).await?;
    println!("{}", json!({"deployed": [CLASSIFY, "decode", "label"]}));
    let photos = NAMES.map(|name| std::fs::read(format!("{PHOTOS}/{name}")).map(Bytes::from));
    let mut known = BTreeMap::new();
    for number in 0.. {
        tell_of_peers(fabric, &mut known);
        let (name, photo) = (NAMES[number % NAMES.len()], &photos[number % NAMES.len()]);
        let photo = photo.as_ref().map_err(|error| format!("{name}: {error}"))?;
        println!("{}", json!({"asked": number}));
        let done = classify(fabric, &workflow, &here, InvocationId::new(number as u128 + 1), photo).await?;
        println!("{}", json!({"answered": number, "photo": name, "call": done}));
    }
    Ok(())
}

/// Waits until calls may go to a node of another process.
async fn meet(fabric: &Fabric, here: &NodeId, other: &str) -> Result<()> {
    let other = NodeId::new(other)?;
    loop {
        let is_ready = |peer: &scf::runtime::PeerStatus| {
            let is_it = peer.status.node.id == other;
            is_it && peer.presence == Presence::Alive && peer.status.health == Health::Ready
        };
        if fabric.peers().iter().any(is_ready) && fabric.path(here, &other).is_some() {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deploys the functions, here alone: the other processes are given the one that they run when they run it.
async fn deploy(fabric: &Fabric, here: &NodeId) -> Result<Name> {
    let component = |name: &str| -> Result<Function> {
        let bytes = std::fs::read(format!("{COMPONENTS}/{name}.wasm"))?;
        Ok(Function::component(FunctionName::new(name)?, bytes, name).on([here.clone()]))
    };
    // Photos stay on the camera that took them.
    fabric.deploy(component("decode")?.gives(MediaType::ACTIVATION)).await?;
    fabric.deploy(component("label")?.takes(MediaType::ACTIVATION).gives(MediaType::JSON)).await?;
    fabric.deploy(Function::model(FunctionName::new(CLASSIFY)?, ModelName::new(CLASSIFY)?)).await?;
    let name = Name::new("photos")?;
    let steps = ["decode", CLASSIFY, "label"];
    let workflow = steps.iter().try_fold(Workflow::new(name.clone()), |workflow, step| {
        FunctionName::new(step).map(|function| workflow.then(function))
    })?;
    fabric.deploy_workflow(workflow)?;
    Ok(name)
}

/// One photo through the workflow; how it went.
async fn classify(fabric: &Fabric, workflow: &Name, here: &NodeId, id: InvocationId, photo: &Bytes) -> Result<Value> {
    let begun = fabric.now();
    let mut tries = 1;
    loop {
        match fabric.run(workflow, here, id, None, photo.clone()).await {
            Ok(outcome) => {
                let answer: Value = serde_json::from_slice(&outcome.steps[2].payload.bytes)?;
                let best = &answer["top5"][0];
                let trace = SplitTrace::of(&outcome.steps[1].receipt);
                let nodes: Vec<_> = trace.stretches.iter().map(|stretch| stretch.node.as_str()).collect();
                let took = fabric.now().since(begun).as_secs_f64() * 1e3;
                return Ok(json!({
                    "label": best["name"], "probability": best["probability"],
                    "split": trace.to_string(), "nodes": nodes, "ms": took, "tries": tries,
                }));
            }
            Err(error) if tries == TRIES => return Ok(json!({"error": error.to_string(), "tries": tries})),
            Err(_) => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Prints what is new about the other nodes.
fn tell_of_peers(fabric: &Fabric, known: &mut BTreeMap<String, (Presence, bool)>) {
    for peer in fabric.peers() {
        let has_it = peer.warm.iter().any(|function| function.as_str() == CLASSIFY);
        let (node, now) = (peer.status.node.id.to_string(), (peer.presence, has_it));
        if known.insert(node.clone(), now) != Some(now) {
            println!("{}", json!({"peer": node, "presence": format!("{:?}", peer.presence), "has_it": has_it}));
        }
    }
}
