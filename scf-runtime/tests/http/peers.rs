//! Components as the templates of others give them, unmodified.

use std::{path::Path, sync::Arc, time::Duration};

use axum::body::Body;
use http::Request;
use scf_core::{ByteSize, Function, IsolateFactory, PrepareError, Reuse};
use scf_runtime::{Fabric, Profile, WasmFactory, http::Ingress};

use crate::support::{First, get, handler, ingress, limits, name, request, send, warm};

#[tokio::test]
async fn a_component_of_wasmtimes_bindings_runs() {
    let ingress = ingress(handler("http-hello")).await;
    let (status, headers, body) = send(&ingress, request("GET", "/", Body::empty())).await;
    assert_eq!((status.as_u16(), &*body), (200, "Hello, world!\n"));
    assert_eq!(headers["content-type"], "text/plain");
}

#[tokio::test]
async fn a_component_of_wasmtimes_template_runs() {
    let ingress = ingress(handler("http-wstd")).await;
    assert_eq!(get(&ingress, "/").await, (200, "Hello, wasi:http/proxy world!\n".into()));
    assert_eq!(get(&ingress, "/wait").await.0, 200);
    assert_eq!(get(&ingress, "/elsewhere").await, (404, "not found\n".into()));
    let (_, _, body) = send(&ingress, request("POST", "/echo", "there and back")).await;
    assert_eq!(body, "there and back");
}

#[tokio::test]
async fn a_component_of_spins_template_runs() {
    let ingress = ingress(handler("http-spin")).await;
    assert_eq!(get(&ingress, "/").await, (200, "Hello, Spin!".into()));
}

#[tokio::test]
async fn a_component_of_wasmclouds_template_runs() {
    let ingress = ingress(handler("http-wasmcloud")).await;
    assert_eq!(get(&ingress, "/").await, (200, "Hello from wasmCloud!\n".into()));
}

#[tokio::test]
async fn a_version_that_the_component_does_not_export_is_refused_and_its_own_is_not() {
    let with = |export: &str| {
        let mut function = handler("http-hello");
        if let scf_core::Code::Component { export: of, .. } = &mut function.code {
            *of = export.into();
        }
        function
    };
    let factory = WasmFactory::builder().instances(8).build().unwrap();
    let prepare = async |function: Function| factory.prepare(&function).await;
    assert!(prepare(with("wasi:http/incoming-handler@0.2.12")).await.is_ok());
    let error = prepare(with("wasi:http/incoming-handler@0.2.1")).await.unwrap_err();
    assert!(matches!(&error, PrepareError::Export { export, .. } if export.ends_with("@0.2.1")), "{error:?}");
}

/// Room for the engine of a language and what it is given.
const MEMORY: ByteSize = ByteSize::from_mib(128);

/// An ingress to a handler that `examples/guests/build --large` made.
async fn interpreted(file: &str, reuse: Reuse) -> Ingress {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/guests/target/large").join(file);
    let bytes = std::fs::read(built.with_extension("wasm")).expect("run examples/guests/build --large first");
    let wasm = WasmFactory::builder().profile(Profile::Server).instances(16).memory(MEMORY);
    let wasm = wasm.code_size(ByteSize::from_mib(40)).build().unwrap();
    let fabric = Fabric::builder().scheduler(Arc::new(First)).isolates(Arc::new(wasm)).build().unwrap();
    // As much time as a busy machine takes.
    let large = limits(|limits| (limits.memory, limits.wall) = (MEMORY, Duration::from_secs(600)));
    let function = Function::component(name(file), bytes, "wasi:http/incoming-handler");
    fabric.deploy(function.limits(large).reuse(reuse)).await.unwrap();
    Ingress::builder(fabric).route("/", name(file)).build().unwrap()
}

async fn handles(ingress: &Ingress) {
    assert_eq!(get(ingress, "/?name=Zo%C3%AB").await, (200, "hello, Zoë\n".into()));
    assert_eq!(get(ingress, "/elsewhere").await, (404, "not found\n".into()));
    let large = "there and back ".repeat(10_000);
    let post = Request::builder().method("POST").uri("/echo").header("host", "localhost");
    let post = post.header("content-type", "text/x-echo").body(Body::from(large.clone())).unwrap();
    let (status, headers, body) = send(ingress, post).await;
    assert_eq!((status.as_u16(), &headers["content-type"]), (200, &"text/x-echo".parse().unwrap()));
    assert!(body == large, "{} bytes of {}", body.len(), large.len());
    assert!(get(ingress, "/throw").await.0 >= 500);
    assert_eq!(get(ingress, "/").await, (200, "hello, world\n".into()), "the next request is served");
}

#[tokio::test]
#[ignore = "needs examples/guests/build --large"]
async fn a_handler_in_javascript_runs_as_it_was_built() {
    // Its engine serves one request.
    let ingress = interpreted("http-javascript", Reuse::Fresh).await;
    handles(&ingress).await;
    for _ in 0..2 {
        assert_eq!(get(&ingress, "/seen").await, (200, "1".into()));
    }
}

#[tokio::test]
#[ignore = "needs examples/guests/build --large"]
async fn a_handler_in_python_runs_as_it_was_built() {
    let ingress = interpreted("http-python", warm(1, 1000)).await;
    handles(&ingress).await;
    let mut seen = Vec::new();
    // The instance is there again a little after its response was.
    while seen.last().is_none_or(|seen| seen == "1") && seen.len() < 100 {
        seen.push(get(&ingress, "/seen").await.1);
    }
    assert_eq!(seen.last().unwrap(), "2");
}
