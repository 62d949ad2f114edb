//! Components, well behaved and hostile.

use std::{path::Path, pin::pin, sync::Arc, time::Duration};

use futures::future::{Either, select};
use scf_core::{
    ByteSize, Function, Host, InvokeError, IsolateFactory, LimitKind, Limits, MediaType, Payload, PrepareError,
};
use scf_runtime::WasmFactory;

use crate::support::{self, Alone, name, run};

/// One of the example guests.
pub(crate) fn guest(file: &str, export: &str) -> Function {
    let components = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/guests/components");
    let bytes = std::fs::read(components.join(file).with_extension("wasm")).unwrap();
    Function::component(name(file), bytes, export)
}

/// A component written out.
pub(crate) fn component(export: &str, text: &str) -> Function {
    Function::component(name(export), wat::parse_str(text).unwrap(), export)
}

/// A component that exports `f: func(list<u8>) -> result<list<u8>, string>`, with a module that has `fields` in
/// addition to memory and allocator, and the `body` of the function, of which the result is where the result is.
pub(crate) fn fallible(memory: &str, fields: &str, body: &str) -> Function {
    component(
        "f",
        &format!(
            r#"(component
              (core module $m
                (memory (export "memory") {memory})
                (global $next (mut i32) (i32.const 4096))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                  (global.get $next)
                  (global.set $next (i32.add (global.get $next) (local.get 3))))
                {fields}
                (func (export "run") (param i32 i32) (result i32) {body}))
              (core instance $i (instantiate $m))
              (func (export "f") (param "input" (list u8)) (result (result (list u8) (error string)))
                (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#
        ),
    )
}

pub(crate) fn factory() -> WasmFactory {
    WasmFactory::builder().instances(16).build().unwrap()
}

pub(crate) fn cpu(ms: u64) -> Limits {
    Limits { cpu: Duration::from_millis(ms), ..Limits::default() }
}

pub(crate) fn over(function: &str, limit: LimitKind) -> InvokeError {
    InvokeError::Limit { function: name(function), limit }
}

async fn refused(function: &Function) -> PrepareError {
    factory().prepare(function).await.unwrap_err()
}

#[tokio::test]
async fn a_component_with_wasi_runs_with_nothing_granted() {
    let reply = run(&factory(), &guest("greet", "greet"), "Zoë").await.unwrap();
    assert_eq!(reply.payload.bytes, "hello, Zoë");
    assert!(reply.usage.memory >= ByteSize::from_kib(64), "{:?}", reply.usage);
}

#[tokio::test]
async fn a_guest_that_never_returns_is_ended_by_the_cpu_limit() {
    let host = Alone::new();
    let spin = guest("hostile", "spin").limits(cpu(20));
    let prepared = factory().prepare(&spin).await.unwrap();
    let call = support::call(&spin, Arc::clone(&host) as Arc<dyn Host>);
    let ended = prepared.instantiate().await.unwrap().invoke(&call, Payload::default()).await.unwrap_err();
    assert_eq!(ended, over("hostile", LimitKind::Cpu));
    assert!(host.paced() >= Duration::from_millis(20), "a failed call is accounted for: {:?}", host.paced());
}

#[tokio::test]
async fn a_start_function_that_never_returns_is_ended_too() {
    let endless = fallible("1", "(func $s (loop (br 0))) (start $s)", "(i32.const 0)");
    let ended = run(&factory(), &endless.limits(cpu(20)), "").await.unwrap_err();
    assert_eq!(ended, over("f", LimitKind::Cpu));
}

/// On one thread: only a guest that yields lets the test go on.
#[tokio::test]
async fn a_guest_that_never_returns_lets_others_run_and_leaves_when_it_is_dropped() {
    let factory = WasmFactory::builder().instances(1).build().unwrap();
    let (spin, echo) = (guest("hostile", "spin"), guest("echo", "echo"));
    let spinning = {
        let prepared = factory.prepare(&spin).await.unwrap();
        async move {
            let mut isolate = prepared.instantiate().await.unwrap();
            isolate.invoke(&support::call(&spin, Alone::new()), Payload::default()).await
        }
    };
    let meanwhile = async {
        tokio::task::yield_now().await;
        run(&factory, &echo, "x").await
    };
    let Either::Right((overloaded, spinning)) = select(Box::pin(spinning), pin!(meanwhile)).await else {
        panic!("spin does not return");
    };
    assert!(matches!(overloaded, Err(InvokeError::Overloaded { .. })), "{overloaded:?}");
    drop(spinning);
    assert_eq!(run(&factory, &echo, "x").await.unwrap().payload.bytes, "x");
}

#[tokio::test]
async fn memory_over_the_limit_is_refused() {
    let limits = Limits { memory: ByteSize::from_mib(8), ..Limits::default() };
    let ended = run(&factory(), &guest("hostile", "grow").limits(limits), "").await.unwrap_err();
    assert_eq!(ended, over("hostile", LimitKind::Memory));
}

#[tokio::test]
async fn the_memory_limit_is_that_of_all_memories_together() {
    let two = component(
        "f",
        r#"(component
          (core module $m (memory (export "memory") 48)
            (func (export "run") (param i32 i32) (result i32) (i32.const 0))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
          (core instance $i (instantiate $m))
          (core instance $j (instantiate $m))
          (func (export "f") (param "input" (list u8)) (result (list u8))
            (canon lift (core func $j "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#,
    );
    let limits = |mib| Limits { memory: ByteSize::from_mib(mib), ..Limits::default() };
    assert_eq!(run(&factory(), &two.clone().limits(limits(6)), "").await.unwrap().usage.memory, ByteSize::from_mib(6));
    assert_eq!(run(&factory(), &two.limits(limits(4)), "").await.unwrap_err(), over("f", LimitKind::Memory));
}

#[tokio::test]
async fn output_over_the_limit_is_no_output() {
    let limits = Limits { payload: ByteSize::from_bytes(10), ..Limits::default() };
    let ended = run(&factory(), &guest("echo", "echo").limits(limits), vec![0; 11]).await.unwrap_err();
    assert_eq!(ended, over("echo", LimitKind::Output));
}

#[tokio::test]
async fn what_a_guest_says_is_escaped() {
    let says = fallible(
        "1",
        r#"(data (i32.const 16) "\1b[31mred\n2026-01-01 INFO ok") (data (i32.const 0) "\01\00\00\00\10\00\00\00\18\00\00\00")"#,
        "(i32.const 0)",
    );
    let message = "\\u{1b}[31mred\\n2026-01-01 INFO".into();
    assert_eq!(run(&factory(), &says, "").await.unwrap_err(), InvokeError::Refused { function: name("f"), message });
}

#[tokio::test]
async fn a_trap_is_named() {
    let traps = |fields, body, trap: &'static str| async move {
        let InvokeError::Trapped { message, .. } = run(&factory(), &fallible("1", fields, body), "").await.unwrap_err()
        else {
            panic!("{body} traps");
        };
        assert!(message.contains(trap), "{message}");
    };
    traps("", "unreachable", "unreachable").await;
    traps("", "(i32.load (i32.const 65536))", "out of bounds").await;
}

#[tokio::test]
async fn a_slot_that_was_used_before_is_clean() {
    // Counts the bytes that are not zero between 8 KiB and 1 MiB, then fills them.
    let canary = fallible(
        "16",
        "",
        r"(local $at i32) (local $found i32)
          (local.set $at (i32.const 8192))
          (loop $scan
            (local.set $found (i32.add (local.get $found) (i32.ne (i32.load8_u (local.get $at)) (i32.const 0))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $scan (i32.lt_u (local.get $at) (i32.const 1048576))))
          (memory.fill (i32.const 8192) (i32.const 0xaa) (i32.const 1040384))
          (i32.store (i32.const 32) (local.get $found))
          (i32.store (i32.const 4) (i32.const 32))
          (i32.store (i32.const 8) (i32.const 4))
          (i32.const 0)",
    );
    let factory = WasmFactory::builder().instances(1).build().unwrap();
    let prepared = factory.prepare(&canary).await.unwrap();
    for _ in 0..20 {
        let call = support::call(&canary, Alone::new());
        let reply = prepared.instantiate().await.unwrap().invoke(&call, Payload::default()).await.unwrap();
        assert_eq!(*reply.payload.bytes, [0; 4]);
    }
}

#[tokio::test]
async fn bytes_that_are_no_component_are_refused() {
    let garbage = Function::component(name("f"), &b"\0asm garbage"[..], "f");
    assert!(matches!(refused(&garbage).await, PrepareError::InvalidCode { .. }));
    let module = Function::component(name("f"), wat::parse_str("(module)").unwrap(), "f");
    assert!(matches!(refused(&module).await, PrepareError::InvalidCode { .. }));
}

#[tokio::test]
async fn a_component_that_is_too_large_is_refused_before_it_is_read() {
    let size = (8 << 20) + 1;
    let large = Function::component(name("f"), vec![0; size], "f");
    assert!(matches!(refused(&large).await, PrepareError::TooLarge { size: found, .. } if found == size as u64));
}

#[tokio::test]
async fn an_export_that_is_not_there_is_named_and_those_that_are() {
    let PrepareError::Export { export, problem, .. } = refused(&guest("echo", "shout")).await else {
        panic!("the export is not there");
    };
    assert_eq!((export.as_str(), problem.as_str()), ("shout", "is not there; the component exports \"echo\""));
}

#[tokio::test]
async fn an_export_of_another_type_is_called_by_that_type() {
    let other = component(
        "f",
        r#"(component
          (core module $m (func (export "run") (param i32 i32) (result i32) (local.get 0)))
          (core instance $i (instantiate $m))
          (func (export "f") (param "x" (tuple u32 bool)) (result char)
            (canon lift (core func $i "run"))))"#,
    );
    let json = Payload::new("[90, true]").with_media(MediaType::JSON);
    assert_eq!(run(&factory(), &other, json).await.unwrap().payload.bytes, "\"Z\"");
}

#[tokio::test]
async fn an_import_that_is_not_provided_is_named() {
    for import in ["wasi:cli/environment@0.3.0", "wasi:keyvalue/watcher@0.2.0-draft", "acme:door/lock@1.0.0"] {
        let asks = importing(import);
        assert!(matches!(refused(&asks).await, PrepareError::Import { import: named, .. } if named == import));
    }
}

pub(crate) fn importing(import: &str) -> Function {
    component(
        "f",
        &format!(
            r#"(component
              (import "{import}" (instance))
              (core module $m (memory (export "memory") 1)
                (func (export "run") (param i32 i32) (result i32) (i32.const 0))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
              (core instance $i (instantiate $m))
              (func (export "f") (param "input" (list u8)) (result (list u8))
                (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#
        ),
    )
}

#[tokio::test]
async fn limits_that_cannot_be_had_are_refused_when_deployed() {
    let limits = |mib| Limits { memory: ByteSize::from_mib(mib), ..Limits::default() };
    let source = |error: PrepareError| std::error::Error::source(&error).unwrap().to_string();
    let asks_too_much = guest("echo", "echo").limits(limits(65));
    assert_eq!(
        source(refused(&asks_too_much).await),
        "a memory limit of 65.0 MiB where an instance has at most 64.0 MiB"
    );
    let begins_too_large = fallible("48", "", "(i32.const 0)").limits(limits(2));
    assert_eq!(
        source(refused(&begins_too_large).await),
        "the component begins with 3072.0 KiB of memory where 2048.0 KiB is the limit"
    );
}

#[tokio::test]
async fn what_outlives_its_factory_still_runs() {
    let echo = guest("echo", "echo");
    let prepared = factory().prepare(&echo).await.unwrap();
    let call = support::call(&echo, Alone::new());
    let reply = prepared.instantiate().await.unwrap().invoke(&call, "x".into()).await.unwrap();
    assert_eq!(reply.payload.bytes, "x");
}
