//! Functions of a fabric that are compared and called by their types.

use std::sync::Arc;

use scf_core::{
    ClusterView, InvocationId, InvokeError, MediaType, Name, NodeId, Payload, Placement, PlacementRequest,
    ScheduleError, Scheduler, Value, Workflow,
};
use scf_runtime::{CheckError, Fabric, NativeFactory};

use crate::{
    support::name,
    wasm::{factory, guest},
};

/// Places everything on the first node.
#[derive(Debug)]
struct First;

impl Scheduler for First {
    fn schedule(&self, _: &PlacementRequest<'_>, view: &ClusterView) -> Result<Placement, ScheduleError> {
        let first = &view.nodes()[0];
        Ok(Placement { node: first.node.id.clone(), version: first.version })
    }
}

/// A fabric with a function in Rust that gives a record, two in C that take records of their own, one on bytes
/// and one that is no component.
async fn fabric() -> Fabric {
    let natives = NativeFactory::new().with_sync("same", Ok).unwrap();
    let fabric = Fabric::builder().scheduler(Arc::new(First)).isolates(Arc::new(factory()));
    let fabric = fabric.isolates(Arc::new(natives)).build().unwrap();
    for (called, file, export) in [
        ("largest", "frames", "scf:frames/select#largest"),
        ("caption", "caption", "caption"),
        ("caption-small", "caption", "caption-small"),
        ("echo", "echo", "echo"),
    ] {
        let mut function = guest(file, export);
        function.name = name(called);
        fabric.deploy(function).await.unwrap();
    }
    fabric.deploy(scf_core::Function::native(name("same"), Name::new("same").unwrap())).await.unwrap();
    fabric
}

fn steps(functions: [&str; 2]) -> Workflow {
    let [first, second] = functions.map(name);
    Workflow::new(Name::new("captions").unwrap()).then(first).then(second)
}

fn frame(camera: &str, width: u32) -> Value {
    Value::record([
        ("camera", Value::from(camera)),
        ("width", Value::from(width)),
        ("height", Value::from(2u32)),
        ("kind", Value::Enum("colour".into())),
        ("label", Value::none()),
    ])
}

#[tokio::test]
async fn a_function_is_called_with_values_through_the_fabric() {
    let fabric = fabric().await;
    let frames = [frame("a", 1), frame("b", 7)].into_iter().collect();
    let choice = fabric.call_values(&name("largest"), &[frames]).await.unwrap().unwrap();
    assert_eq!(choice.field("area"), Some(&Value::from(14u64)));
    let caption = fabric.call_values(&name("caption"), &[choice]).await.unwrap();
    assert_eq!(caption, Some(Value::from("b: 7x2 in colour, the largest of 2")));
    let error = fabric.call_values(&name("caption"), &[]).await.unwrap_err();
    let (path, problem) = ("input".into(), "expected 1 values, found 0".into());
    assert_eq!(error, InvokeError::Input { function: name("caption"), path, problem });
}

#[tokio::test]
async fn a_result_says_what_it_is_as_the_call_did() {
    let fabric = fabric().await;
    let json = Payload::new(r#"{"frames": []}"#).with_media(MediaType::JSON);
    let error = fabric.call(&name("largest"), json).await.unwrap_err();
    assert_eq!(error.to_string(), "function largest refused its input: no frames to choose from");
    let frames = r#"[{"camera": "a", "width": 1, "height": 1, "kind": "grey", "label": null}]"#;
    let outcome = fabric.call(&name("largest"), Payload::new(frames).with_media(MediaType::JSON)).await.unwrap();
    assert_eq!(outcome.payload.media, MediaType::JSON);
}

#[tokio::test]
async fn what_a_typed_step_gives_the_next_is_given() {
    let fabric = fabric().await;
    fabric.deploy_workflow(steps(["largest", "caption"])).unwrap();
    let frames = r#"[{"camera": "a", "width": 3, "height": 1, "kind": "grey", "label": "gate"}]"#;
    let (workflow, node) = (Name::new("captions").unwrap(), NodeId::new("local").unwrap());
    let json = Payload::new(frames).with_media(MediaType::JSON);
    let outcome = fabric.run(&workflow, &node, InvocationId::new(1), None, json).await.unwrap();
    assert_eq!(outcome.payload().unwrap().bytes, "\"gate: 3x1 in grey, the largest of 1\"");
}

#[cfg(feature = "check")]
#[tokio::test]
async fn records_of_components_built_apart_fit_by_structure() {
    assert_eq!(fabric().await.check(&name("largest"), &name("caption")), Ok(()));
}

#[cfg(feature = "check")]
#[tokio::test]
async fn the_field_that_does_not_fit_is_named() {
    let error = fabric().await.check(&name("largest"), &name("caption-small")).unwrap_err();
    let CheckError::Mismatch { problem, .. } = &error else { panic!("{error}") };
    assert_eq!(problem, "mismatched type for record field `area`: expected u32, found u64");
    let error = fabric().await.check(&name("caption"), &name("largest")).unwrap_err();
    assert_eq!(error.to_string(), "largest does not take what caption gives: expected list, found string");
}

#[cfg(feature = "check")]
#[tokio::test]
async fn a_workflow_whose_steps_do_not_fit_is_refused_with_step_and_field() {
    let fabric = fabric().await;
    let error = fabric.deploy_workflow(steps(["largest", "caption-small"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "workflow captions, step 1: caption-small does not take what largest gives: mismatched type for record field \
         `area`: expected u32, found u64"
    );
    // Bytes are what their media type says.
    fabric.deploy_workflow(steps(["largest", "echo"])).unwrap();
    fabric.deploy_workflow(steps(["same", "largest"])).unwrap();
}

#[cfg(feature = "check")]
#[tokio::test]
async fn what_has_no_types_is_named() {
    let fabric = fabric().await;
    let absent = fabric.check(&name("absent"), &name("echo"));
    assert_eq!(absent, Err(CheckError::NotDeployed { function: name("absent") }));
    let native = fabric.check(&name("echo"), &name("same"));
    assert_eq!(native, Err(CheckError::NotTyped { function: name("same"), kind: "native" }));
    let none = r#"(component
        (core module $m (func (export "run")))
        (core instance $i (instantiate $m))
        (func (export "f") (canon lift (core func $i "run"))))"#;
    fabric.deploy(crate::wasm::component("f", none)).await.unwrap();
    let problem = |from: &str, to: &str| fabric.check(&name(from), &name(to)).unwrap_err().to_string();
    assert_eq!(problem("f", "echo"), "echo does not take what f gives: there is no value");
    assert_eq!(problem("echo", "f"), "f does not take what echo gives: it takes 0 parameters, and is given one value");
    assert_eq!(fabric.call_values(&name("f"), &[]).await, Ok(None));
}

#[cfg(not(feature = "check"))]
#[tokio::test]
async fn a_build_without_the_feature_says_so() {
    assert_eq!(fabric().await.check(&name("largest"), &name("caption")), Err(CheckError::NotBuiltIn));
}
