//! Components as the templates of others give them, unmodified.

use axum::body::Body;
use scf_core::{Function, IsolateFactory, PrepareError};
use scf_runtime::WasmFactory;

use crate::support::{get, handler, ingress, request, send};

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
