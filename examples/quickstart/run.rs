//! Prepares the run and sends one frame after the other.

use std::{error::Error, time::Duration};

use scf::{
    ai::SplitTrace,
    core::{Bytes, FunctionName, Invocation, InvocationId, Name, NodeId, Outcome, Payload, Scope, StateStore},
    runtime::WorkflowFailure,
};
use serde_json::Value;

use crate::{
    arms::best_static,
    assemble::{CLASSIFIERS, Demo, WORKFLOW},
    record::{Frame, Run},
};

const PHOTOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/photos");
/// The key of the tally.
const CAMERA: &str = "camera-1";
/// Times every node runs the whole model before the first frame, so that the planner starts from measurements.
const WARM_UP: usize = 6;

/// A photo that the camera takes again and again.
pub(crate) struct Photo {
    pub(crate) name: &'static str,
    pub(crate) jpeg: Bytes,
}

impl Photo {
    /// The four photos.
    pub(crate) fn load() -> Result<Vec<Self>, std::io::Error> {
        let load = |name| Ok(Self { name, jpeg: std::fs::read(format!("{PHOTOS}/{name}"))?.into() });
        ["chelsea.jpg", "coffee.jpg", "camera.jpg", "rocket.jpg"].into_iter().map(load).collect()
    }
}

impl Demo {
    /// Deploys, waits for the links' first measurements, measures the blocks on every node and chooses the best
    /// static split; answers its name.
    pub(crate) async fn prepare(&self, photos: &[Photo]) -> Result<String, Box<dyn Error>> {
        self.deploy().await?;
        self.fabric.ready().await;
        let tensor = self.decode(&photos[0]).await?;
        for node in [&self.camera, &self.gateway, &self.cloud] {
            for _ in 0..WARM_UP {
                self.classify(1, tensor.clone(), Some(node)).await?;
            }
        }
        let nodes = self.fabric.nodes();
        let nodes: [_; 3] = nodes.try_into().map_err(|_| "the fabric has three nodes")?;
        let (split, name) = best_static(&self.graph, &self.profiler, &nodes)?;
        self.best_static.choose(split);
        Ok(name)
    }

    /// Sends `photo` through the workflow, then its tensor through the other arms, in an order that changes.
    pub(crate) async fn frame(
        &self,
        number: usize,
        weather: usize,
        at: Duration,
        photo: &Photo,
    ) -> Result<Frame, Box<dyn Error>> {
        let mut frame = Frame {
            weather,
            at,
            photo: photo.name,
            total: None,
            arms: [const { Err(String::new()) }; 4],
            label: String::new(),
            probability: 0.0,
            phase: "remote",
        };
        let tensor = self.workflow(number, photo, &mut frame).await?;
        let others = CLASSIFIERS.len() - 1;
        for turn in 0..others {
            let turn = if number.is_multiple_of(2) { turn } else { others - 1 - turn };
            let arm = 1 + (number / 2 + turn) % others;
            frame.arms[arm] = match self.classify(arm, tensor.clone(), None).await {
                Ok(outcome) => Ok(self.read(&outcome)),
                Err(error) => Err(error.to_string()),
            };
        }
        Ok(frame)
    }

    /// Runs the workflow for frame `number` and answers the decoded tensor.
    async fn workflow(&self, number: usize, photo: &Photo, frame: &mut Frame) -> Result<Payload, Box<dyn Error>> {
        let scope = Scope { function: FunctionName::new("tally")?, key: CAMERA.into() };
        frame.phase = self.state.phase(&scope).as_str();
        // The frame's number is its id: however often it is tried, it is counted once.
        let id = InvocationId::new(number as u128 + 1);
        let before = self.fabric.now();
        let result = self.fabric.run(&Name::new(WORKFLOW)?, &self.camera, id, Some(CAMERA), photo.jpeg.clone()).await;
        let done = match result {
            Ok(outcome) => {
                frame.total = Some(self.fabric.now().since(before));
                let counted: Value = serde_json::from_slice(&outcome.steps[3].payload.bytes)?;
                frame.label = counted["name"].as_str().unwrap_or_default().to_owned();
                frame.probability = counted["probability"].as_f64().unwrap_or_default();
                outcome.steps
            }
            // What was done before the step that failed is kept: a frame may be classified and not counted.
            Err(WorkflowFailure::Step { step, source, done, .. }) if step > 1 => {
                frame.label = format!("not counted: {}", chain(&source));
                done
            }
            Err(error) => return Err(error.into()),
        };
        frame.arms[0] = Ok(self.read(&done[1]));
        Ok(done[0].payload.clone())
    }

    async fn decode(&self, photo: &Photo) -> Result<Payload, Box<dyn Error>> {
        let decode = Invocation::new(self.fabric.new_id(), FunctionName::new("decode")?, photo.jpeg.clone());
        Ok(self.fabric.invoke_from(&self.camera, decode).await?.payload)
    }

    async fn classify(&self, arm: usize, tensor: Payload, on: Option<&NodeId>) -> Result<Outcome, Box<dyn Error>> {
        // The call begins where the photo is, unless the warm-up sends it elsewhere.
        let node = on.unwrap_or(&self.camera);
        let call = Invocation::new(self.fabric.new_id(), FunctionName::new(CLASSIFIERS[arm])?, tensor);
        Ok(self.fabric.invoke_from(node, call.on(node.clone())).await?)
    }

    fn read(&self, outcome: &Outcome) -> Run {
        let trace = SplitTrace::of(&outcome.receipt);
        let on = |node: &NodeId| trace.stretches.iter().filter(|s| s.node == *node).map(|s| s.blocks.len()).sum();
        Run {
            took: outcome.receipt.wall,
            wire: outcome.receipt.total_on_wire(),
            blocks: [on(&self.camera), on(&self.gateway), on(&self.cloud)],
            split: trace.to_string(),
        }
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
