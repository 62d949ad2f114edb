//! What is refused before it is compiled.

use std::{error::Error, fmt::Write};

use scf_core::{ByteSize, IsolateFactory, PrepareError};
use scf_runtime::{CodeLimits, ScreenError, WasmFactory};

use crate::wasm::component;

async fn refused(limits: CodeLimits, text: &str) -> PrepareError {
    let factory = WasmFactory::builder().instances(1).code_limits(limits).build().unwrap();
    let error = factory.prepare(&component("f", text)).await.unwrap_err();
    assert_eq!(factory.counters().compiled, 0);
    error
}

/// A component around the fields of a module.
fn module(fields: &str) -> String {
    format!("(component (core module {fields}))")
}

#[tokio::test]
async fn every_feature_that_is_left_out_is_refused_by_its_name() {
    let cases = [
        ("component-model-async", r#"(component (type (func async (param "x" u32))))"#.to_owned()),
        ("component-model-async", "(component (type (stream u8)))".to_owned()),
        ("component-model-async", "(component (type (future u8)))".to_owned()),
        ("component-model-async", "(component (core module $m (func (export \"f\"))) (core instance $i (instantiate $m)) (func (export \"f\") async (canon lift (core func $i \"f\") async)))".to_owned()),
        ("component-model error-context", "(component (type error-context))".to_owned()),
        ("component-model fixed-length-lists", "(component (type (list u8 4)))".to_owned()),
        ("component-model maps", "(component (type (map string u32)))".to_owned()),
        ("component-model values", "(component (import \"v\" (value string)))".to_owned()),
        ("gc", module("(type (struct (field i32)))")),
        ("gc", module("(type (array i8))")),
        ("gc types", module("(table 1 externref)")),
        ("function-references", module("(type $t (func)) (func (param (ref $t)))")),
        ("exceptions", module("(tag (param i32))")),
        ("exceptions", module("(func (try_table (nop)))")),
        ("threads", module("(memory 1 1 shared)")),
        ("threads", module("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))")),
        ("memory64", module("(memory i64 1)")),
        ("multi-memory", module("(memory 1) (memory 1)")),
        ("multi-memory", module("(memory $a 1) (memory $b 1) (func (drop (i32.load $b (i32.const 0))))")),
        ("tail-call", module("(func $f (return_call $f))")),
        ("relaxed-simd", module("(func (param v128 v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 1))))")),
        ("wide-arithmetic", module("(func (param i64 i64 i64 i64) (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)) drop drop)")),
        ("custom-page-sizes", module("(memory 1 (pagesize 1))")),
        ("stack-switching", module("(type $f (func)) (type $c (cont $f))")),
    ];
    for (feature, text) in cases {
        match refused(CodeLimits::DEFAULT, &text).await {
            PrepareError::Unsupported { feature: named, .. } => assert_eq!(named, feature, "{text}"),
            other => panic!("{text}: {other:?}, {:?}", other.source()),
        }
    }
}

#[tokio::test]
async fn memory_in_as_many_pieces_as_an_initialisation_leaves_is_taken() {
    let data: String = (0..10_000).map(|at| format!("(data (i32.const {}) \"x\")", at * 2)).collect();
    let text = module(&format!("(memory 1) (table 1 funcref) (elem (i32.const 0)) {data}"));
    let factory = WasmFactory::builder().instances(1).build().unwrap();
    let error = factory.prepare(&component("f", &text)).await.unwrap_err();
    assert!(matches!(error, PrepareError::Export { .. }), "all that it lacks is an export: {error}");
}

#[cfg(not(feature = "wasi-http"))]
#[tokio::test]
async fn http_without_its_feature_is_refused_by_the_features_name() {
    let error = refuses_import("wasi:http/types@0.2.6").await;
    assert!(
        matches!(&error, PrepareError::Unsupported { feature, .. } if feature.contains("`wasi-http`")),
        "{error:?}"
    );
}

#[cfg(not(feature = "wasi-nn"))]
#[tokio::test]
async fn models_without_their_feature_are_refused_by_the_features_name() {
    let error = refuses_import("wasi:nn/graph@0.2.0-rc-2024-10-28").await;
    assert!(matches!(&error, PrepareError::Unsupported { feature, .. } if feature.contains("`wasi-nn`")), "{error:?}");
}

#[cfg(not(all(feature = "wasi-http", feature = "wasi-nn")))]
async fn refuses_import(interface: &str) -> PrepareError {
    let factory = WasmFactory::builder().instances(1).build().unwrap();
    factory.prepare(&crate::wasm::importing(interface)).await.unwrap_err()
}

/// A component over one limit, and what of it is over.
fn over(what: &str) -> (CodeLimits, String, u64) {
    let few = CodeLimits::DEFAULT;
    match what {
        "functions" => (CodeLimits { functions: 3, ..few }, module("(func) (func) (func) (func)"), 4),
        "locals" => {
            (CodeLimits { locals: 9, ..few }, module("(func (local i32 i32 i32 i32 i32 i64 i64 i64 i64 i64))"), 10)
        }
        "body" => (CodeLimits { body: ByteSize::from_bytes(4), ..few }, module("(func nop nop nop)"), 5),
        "branches" => (CodeLimits { branches: 2, ..few }, module("(func (br_table 0 0 0 0 (i32.const 0)))"), 3),
        "types" => (CodeLimits { types: 1, ..few }, module("(type (func)) (type (func (param i32)))"), 2),
        "externs" => {
            (CodeLimits { externs: 1, ..few }, module(r#"(import "a" "b" (func)) (import "a" "c" (func))"#), 2)
        }
        "segments" => (CodeLimits { segments: 1, ..few }, module(r#"(memory 1) (data "a") (data "b")"#), 2),
        "elements" => {
            (CodeLimits { elements: 2, ..few }, module("(table 9 funcref) (func $f) (elem func $f $f $f)"), 3)
        }
        "globals" => (CodeLimits { globals: 1, ..few }, module("(global i32 (i32.const 0)) (memory 1)"), 2),
        "modules" => (CodeLimits { modules: 1, ..few }, "(component (core module) (core module))".to_owned(), 2),
        "depth" => (CodeLimits { depth: 2, ..few }, "(component (component (component (core module))))".to_owned(), 3),
        other => panic!("{other} is no limit"),
    }
}

#[tokio::test]
async fn every_limit_is_kept() {
    for what in [
        "functions",
        "locals",
        "body",
        "branches",
        "types",
        "externs",
        "segments",
        "elements",
        "globals",
        "modules",
        "depth",
    ] {
        let (limits, text, found) = over(what);
        let error = refused(limits, &text).await;
        let source = error.source().and_then(|source| source.downcast_ref::<ScreenError>());
        match source {
            Some(ScreenError::Limit { what: named, found: counted, .. }) => {
                assert_eq!((*named, *counted), (what, found));
            }
            other => panic!("{what}: {error:?}, {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_hundred_thousand_empty_functions_are_refused_uncompiled() {
    let mut fields = String::new();
    for _ in 0..100_000 {
        fields.write_str("(func)").unwrap();
    }
    let error = refused(CodeLimits::DEFAULT, &module(&fields)).await;
    assert_eq!(error.source().unwrap().to_string(), "functions: 100000, where 20000 is the limit");
}

#[tokio::test]
async fn the_size_is_the_builders() {
    let factory = WasmFactory::builder().instances(1).code_size(ByteSize::from_bytes(100)).build().unwrap();
    let error = factory.prepare(&crate::wasm::guest("echo", "echo")).await.unwrap_err();
    assert!(matches!(error, PrepareError::TooLarge { limit: 100, .. }), "{error:?}");
}
