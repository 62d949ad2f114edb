use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use scf::{
    ai::{Executor, ModelHost, ModelServer, Variant},
    core::{
        Accelerator, Activation, ByteSize, Function, Grants, Inference, InvokeError, ManualClock, MediaType, ModelInfo,
        Name, Node, Payload, Share, Tier,
    },
    runtime::{Fabric, WasmFactory},
    sched::Pipeline,
};

use crate::support::{component, function, lite0, node};

/// A fabric of one node that hosts Lite0, with the guest that asks for it by `wasi:nn`.
async fn site(node: Node, grants: Grants) -> Fabric {
    site_with(Arc::new(ModelHost::new().with(lite0())), node, grants).await
}

async fn site_with(models: Arc<dyn Inference>, node: Node, grants: Grants) -> Fabric {
    let wasm = WasmFactory::builder().inference(models).build().unwrap();
    let fabric = Fabric::builder().node(node).scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm));
    let fabric = fabric.build().unwrap();
    fabric.deploy(component("infer").gives(MediaType::ACTIVATION).grants(grants)).await.unwrap();
    fabric
}

fn local() -> Node {
    Node::new(node("local"), Tier::Edge)
}

fn granted() -> Grants {
    Grants { models: vec![lite0().model], ..Grants::default() }
}

fn request(model: &str, tensor: &Activation) -> Payload {
    let message = tensor.encode().unwrap().bytes;
    Payload::new([model.as_bytes(), b"\n", &message].concat())
}

fn picture() -> Activation {
    let spec = lite0().input;
    let values = (0..spec.elements().unwrap()).map(|at| (at % 255) as f32 / 255.0);
    Activation::new(spec, values.flat_map(f32::to_le_bytes).collect::<Vec<_>>().into()).unwrap()
}

async fn refusal(fabric: &Fabric, model: &str) -> String {
    match fabric.call(&function("infer"), request(model, &picture())).await.unwrap_err() {
        InvokeError::Refused { message, .. } => message,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_guest_gets_from_a_resident_model_what_the_model_gives() {
    let fabric = site(local(), granted()).await;
    let graph = lite0();
    let expected = graph.run(0..graph.blocks().len(), picture()).unwrap();
    let answer = fabric.call(&function("infer"), request(graph.model.as_str(), &picture())).await.unwrap();
    let given = Activation::decode(&answer.payload).unwrap();
    assert_eq!(given.bytes().unwrap(), expected.bytes().unwrap());
}

#[tokio::test]
async fn guests_share_a_served_model_that_is_loaded_when_the_first_asks_and_late_ones_are_refused() {
    let (graph, loads, clock) = (lite0(), Arc::new(AtomicUsize::new(0)), ManualClock::new());
    let info = ModelInfo { input: graph.input.clone(), output: graph.edges().last().unwrap().clone() };
    let variant = Variant::new(
        graph.model.clone(),
        Name::new("classify").unwrap(),
        Share::from_percent(75.1),
        ByteSize::from_mib(32),
    )
    .expect(Duration::from_millis(20), Duration::from_millis(100));
    let executor = Executor::new(Name::new("cpu").unwrap(), 1);
    let server = ModelServer::new(executor, ByteSize::from_mib(32), Arc::new(clock), 1).variant(variant, info, {
        let loads = Arc::clone(&loads);
        move || {
            loads.fetch_add(1, Ordering::Relaxed);
            Ok(lite0())
        }
    });
    let hasty = site_with(Arc::new(server.clone().within(Duration::from_millis(19))), local(), granted()).await;
    let message = refusal(&hasty, graph.model.as_str()).await;
    assert!(message.starts_with("ErrorCode::"), "{message}");
    assert_eq!(loads.load(Ordering::Relaxed), 0, "what would be late is not even loaded");
    let fabric = site_with(Arc::new(server), local(), granted()).await;
    let expected = graph.run(0..graph.blocks().len(), picture()).unwrap();
    for _ in 0..2 {
        let answer = fabric.call(&function("infer"), request(graph.model.as_str(), &picture())).await.unwrap();
        let given = Activation::decode(&answer.payload).unwrap();
        assert_eq!(given.bytes().unwrap(), expected.bytes().unwrap());
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1, "each call had a new isolate, and all of them one model");
}

#[tokio::test]
async fn what_inference_uses_is_billed_to_the_call() {
    let fabric = site(local(), granted()).await;
    let host = ModelHost::new().with(lite0());
    let alone = Inference::run(&host, &lite0().model, picture()).await.unwrap().usage.cpu;
    let answer = fabric.call(&function("infer"), request(lite0().model.as_str(), &picture())).await.unwrap();
    // Half, since one run may have met cold caches.
    assert!(answer.receipt.usage.cpu > alone / 2, "{:?} of {alone:?}", answer.receipt.usage.cpu);
}

#[tokio::test]
async fn a_model_that_is_not_granted_or_not_there_is_refused_by_name() {
    let fabric = site(local(), granted()).await;
    assert_eq!(refusal(&fabric, "other").await, "ErrorCode::Security: model other is not in the function's grants");
    assert!(refusal(&fabric, "NO NAME").await.starts_with("ErrorCode::NotFound"));
}

#[tokio::test]
async fn a_grant_of_a_model_that_is_not_resident_is_refused_when_the_function_is_deployed() {
    let wasm = WasmFactory::builder().build().unwrap();
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm)).build().unwrap();
    let error = fabric.deploy(component("infer").grants(granted())).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("WasmBuilder::inference"), "{cause}");
}

#[tokio::test]
async fn a_gpu_that_is_not_there_is_an_error_that_says_so_and_not_the_cpu() {
    let fabric = site(local(), granted()).await;
    let message = refusal(&fabric, "gpu:lite0").await;
    assert_eq!(message, "ErrorCode::UnsupportedOperation: node local has no GPU");
    let fabric = site(local().accelerator(Accelerator::Cuda), granted()).await;
    assert!(refusal(&fabric, "gpu:lite0").await.ends_with("load them by name"));
}

#[tokio::test]
async fn a_tensor_of_another_shape_is_refused_by_the_block_that_does_not_take_it() {
    let fabric = site(local(), granted()).await;
    let flat = Activation::new(scf::core::TensorSpec::new(scf::core::DType::F32, &[2]), vec![0u8; 8].into()).unwrap();
    let model = lite0().model;
    let error = fabric.call(&function("infer"), request(model.as_str(), &flat)).await.unwrap_err();
    assert!(error.to_string().contains("InvalidArgument"), "{error}");
}

#[tokio::test]
async fn a_component_that_asks_for_models_without_any_grant_deploys_and_is_refused_when_it_asks() {
    let fabric = site(local(), Grants::default()).await;
    let _: Function = component("infer");
    assert!(refusal(&fabric, lite0().model.as_str()).await.starts_with("ErrorCode::Security"));
}
