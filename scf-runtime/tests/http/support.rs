//! What several tests need.

use std::{path::Path, sync::Arc, time::Duration};

use axum::body::Body;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use scf_core::{
    ClusterView, Function, FunctionName, Limits, Node, NodeId, Placement, PlacementRequest, Reuse, ScheduleError,
    Scheduler, Tier,
};
use scf_runtime::{
    Fabric, FabricBuilder, NativeFactory, WasmFactory,
    http::{AnswerBody, Ingress, IngressBuilder},
};
use serde_json::Value;
use tower_service::Service;

/// Places every call on the first node that the function allows.
#[derive(Debug)]
pub(crate) struct First;

impl Scheduler for First {
    fn schedule(&self, request: &PlacementRequest<'_>, view: &ClusterView) -> Result<Placement, ScheduleError> {
        let allowed = view.nodes().iter().find(|status| request.function.needs.allow(&status.node));
        let refused = || ScheduleError::Unplaceable { considered: view.nodes().len() as u32, refused: Vec::new() };
        let status = allowed.ok_or_else(refused)?;
        Ok(Placement { node: status.node.id.clone(), version: status.version })
    }
}

pub(crate) fn name(text: &str) -> FunctionName {
    FunctionName::new(text).unwrap()
}

pub(crate) fn node(text: &str) -> Node {
    Node::new(NodeId::new(text).unwrap(), Tier::Edge)
}

/// One of the example guests as a handler of requests.
pub(crate) fn handler(file: &str) -> Function {
    let components = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/guests/components");
    let bytes = std::fs::read(components.join(file).with_extension("wasm")).unwrap();
    Function::component(name(file), bytes, "wasi:http/incoming-handler")
}

/// The guest that does what the path says.
pub(crate) fn probe() -> Function {
    handler("http-probe")
}

pub(crate) const fn warm(max_idle: u32, max_calls: u32) -> Reuse {
    Reuse::Warm { max_idle, max_calls, max_age: Duration::from_secs(3600) }
}

/// A fabric under construction, with room for so many instances.
pub(crate) fn fabric(instances: u32) -> FabricBuilder {
    let wasm = WasmFactory::builder().instances(instances).build().unwrap();
    let native = NativeFactory::new()
        .with_sync("upper", |payload| {
            let upper = payload.bytes.to_ascii_uppercase();
            Ok(scf_core::Payload { bytes: upper.into(), media: payload.media })
        })
        .unwrap();
    Fabric::builder().scheduler(Arc::new(First)).isolates(Arc::new(wasm)).isolates(Arc::new(native))
}

/// An ingress to one function on one node, as `with` describes it further.
pub(crate) async fn ingress_with(
    function: Function,
    instances: u32,
    with: impl FnOnce(IngressBuilder) -> IngressBuilder,
) -> (Fabric, Ingress) {
    let fabric = fabric(instances).build().unwrap();
    let name = function.name.clone();
    fabric.deploy(function).await.unwrap();
    let ingress = with(Ingress::builder(fabric.clone()).route("/", name)).build().unwrap();
    (fabric, ingress)
}

pub(crate) async fn ingress(function: Function) -> Ingress {
    ingress_with(function, 16, |builder| builder).await.1
}

pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// A request to the host `localhost`.
pub(crate) fn request(method: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "localhost").body(body.into()).unwrap()
}

/// The head of a response, while its body may still come.
pub(crate) async fn begin(ingress: &Ingress, request: Request<Body>) -> Response<AnswerBody> {
    ingress.clone().call(request).await.unwrap_or_else(|never| match never {})
}

pub(crate) async fn send(ingress: &Ingress, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let (parts, body) = begin(ingress, request).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// The status and the body that `path` is answered with.
pub(crate) async fn get(ingress: &Ingress, path: &str) -> (u16, String) {
    let (status, _, body) = send(ingress, request("GET", path, Body::empty())).await;
    (status.as_u16(), body)
}

/// The status and the problem that a request is answered with.
pub(crate) async fn problem(ingress: &Ingress, request: Request<Body>) -> (u16, HeaderMap, Value) {
    let (status, headers, body) = send(ingress, request).await;
    assert_eq!(headers["content-type"], "application/problem+json");
    (status.as_u16(), headers, serde_json::from_str(&body).unwrap())
}
