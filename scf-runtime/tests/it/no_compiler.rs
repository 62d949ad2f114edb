//! A build without a compiler.

use scf_core::{Function, IsolateFactory, PrepareError};
use scf_runtime::{WasmError, WasmFactory};

use crate::support::name;

#[tokio::test]
async fn a_component_is_refused_with_what_to_do() {
    let factory = WasmFactory::builder().instances(1).build().unwrap();
    let component = Function::component(name("f"), wat::parse_str("(component)").unwrap(), "f");
    let error = factory.prepare(&component).await.unwrap_err();
    assert!(matches!(error, PrepareError::NoFactory { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("feature `wasm` of scf-runtime") && text.contains("ArtefactSigner"), "{text}");
    assert_eq!(factory.counters().deserialised, 0);
}

#[tokio::test]
async fn an_artefact_that_nobody_trusted_signed_is_refused() {
    let factory = WasmFactory::builder().instances(1).build().unwrap();
    let artefact = Function::component(name("f"), [&b"SCFX\x01"[..], &[0; 200]].concat(), "f");
    let error = factory.prepare(&artefact).await.unwrap_err();
    assert!(matches!(error, PrepareError::Artefact { .. }), "{error:?}");
    assert_eq!(factory.counters().deserialised, 0);
}

#[test]
fn a_cache_is_refused_by_the_feature_it_comes_with() {
    let dir = tempfile::tempdir().unwrap();
    let error = WasmFactory::builder().instances(1).cache(dir.path()).build().unwrap_err();
    assert!(matches!(error, WasmError::NotBuiltIn { feature: "wasm", .. }), "{error:?}");
}
