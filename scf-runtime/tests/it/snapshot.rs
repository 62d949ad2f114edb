//! Components that begin where their initialisation ended.

use bytes::Bytes;
use scf_core::{ByteSize, Function, InvokeError, LimitKind, Limits, Payload};
use scf_runtime::{ArtefactSigner, SnapshotError, WasmBuilder, WasmFactory};

use crate::{
    support::run,
    wasm::{component, cpu, over},
};

/// A guest that initialises itself when it first needs to: a loop, four globals, a memory that grows. It answers how
/// often it has done so, whether in this call, the sizes of memory and table, what the table's second function gives,
/// and what the last byte of its memory and the globals are.
const LAZY: &str = r#"(component
  (core module $m
    (memory (export "memory") 1)
    (global $inits (mut i32) (i32.const 0))
    (global $wide (mut i64) (i64.const 0))
    (global $single (mut f32) (f32.const 0))
    (global $double (mut f64) (f64.const 0))
    (type $number (func (result i32)))
    (table $t 2 funcref)
    (elem (i32.const 0) func $one $two)
    (func $one (result i32) (i32.const 1))
    (func $two (result i32) (i32.const 2))
    (func $init (export "init") (local $left i32)
      (local.set $left (i32.const 100000))
      (loop $again
        (i32.store (i32.const 4096) (i32.add (i32.load (i32.const 4096)) (local.get $left)))
        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (drop (memory.grow (i32.const 2)))
      (i32.store8 (i32.const 196607) (i32.const 77))
      (global.set $wide (i64.const 5000000000))
      (global.set $single (f32.const 1.5))
      (global.set $double (f64.const -2.5))
      (global.set $inits (i32.add (global.get $inits) (i32.const 1))))
    (func $put (param $at i32) (param $value i32)
      (i32.store8 (i32.add (i32.const 1024) (local.get $at)) (local.get $value)))
    (func (export "run") (param i32 i32) (result i32) (local $ran i32)
      (if (i32.eqz (global.get $inits)) (then (call $init) (local.set $ran (i32.const 1))))
      (call $put (i32.const 0) (global.get $inits))
      (call $put (i32.const 1) (local.get $ran))
      (call $put (i32.const 2) (memory.size))
      (call $put (i32.const 3) (table.size $t))
      (call $put (i32.const 4) (call_indirect $t (type $number) (i32.const 1)))
      (call $put (i32.const 5) (i32.load8_u (i32.const 196607)))
      (call $put (i32.const 6) (i64.eq (global.get $wide) (i64.const 5000000000)))
      (call $put (i32.const 7) (f32.eq (global.get $single) (f32.const 1.5)))
      (call $put (i32.const 8) (f64.eq (global.get $double) (f64.const -2.5)))
      (i32.store (i32.const 512) (i32.const 1024))
      (i32.store (i32.const 516) (i32.const 9))
      (i32.const 512))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 2048)))
  (core instance $i (instantiate $m))
  (func (export "init") (canon lift (core func $i "init")))
  (func (export "run") (param "input" (list u8)) (result (list u8))
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#;

/// What an instance that is initialised answers.
const READY: [u8; 9] = [1, 0, 3, 2, 2, 77, 1, 1, 1];

fn builder() -> WasmBuilder {
    WasmFactory::builder().instances(4).fuel(1 << 40)
}

async fn snapshot(factory: &WasmFactory, function: &Function) -> Result<Bytes, SnapshotError> {
    factory.snapshot(function, "init", Payload::default()).await
}

fn of(bytes: Bytes) -> Function {
    Function::component(crate::support::name("f"), bytes, "run")
}

#[tokio::test]
async fn an_isolate_of_a_snapshot_has_its_initialisation_behind_it() {
    let factory = builder().build().unwrap();
    let lazy = component("run", LAZY);
    let slow = run(&factory, &lazy, "").await.unwrap();
    assert_eq!(slow.payload.bytes[..2], [1, 1], "without a snapshot each call initialises");
    let ready = of(snapshot(&factory, &lazy).await.unwrap());
    for _ in 0..2 {
        let fast = run(&factory, &ready, "").await.unwrap();
        assert_eq!(fast.payload.bytes[..], READY);
        let (fast, slow) = (fast.usage.fuel.unwrap(), slow.usage.fuel.unwrap());
        assert!(fast * 1000 < slow, "{fast} instructions, {slow} with the initialisation");
    }
}

#[tokio::test]
async fn a_snapshot_of_a_snapshot_goes_on_from_there() {
    let factory = builder().build().unwrap();
    let first = of(snapshot(&factory, &component("run", LAZY)).await.unwrap());
    let second = of(snapshot(&factory, &first).await.unwrap());
    let reply = run(&factory, &second, "").await.unwrap();
    // `init` was called again: it counts, and grew the memory.
    assert_eq!(reply.payload.bytes[..5], [2, 0, 5, 2, 2]);
}

#[tokio::test]
async fn a_function_can_be_warmed_up_by_serving() {
    let factory = builder().build().unwrap();
    let lazy = component("run", LAZY);
    let warmed = factory.snapshot(&lazy, "run", "x".into()).await.unwrap();
    assert_eq!(run(&factory, &of(warmed), "").await.unwrap().payload.bytes[..], READY);
}

#[tokio::test]
async fn a_signed_snapshot_runs_where_its_key_is_trusted() {
    let factory = WasmFactory::builder().instances(1).build().unwrap();
    let bytes = snapshot(&factory, &component("run", LAZY)).await.unwrap();
    let signer = ArtefactSigner::new(&[3; 32]);
    let signed = signer.sign(&bytes).unwrap();
    let gateway = WasmFactory::builder().instances(1).trust(signer.verifying_key()).build().unwrap();
    assert_eq!(run(&gateway, &of(signed.clone().into()), "").await.unwrap().payload.bytes[..], READY);
    assert_eq!((gateway.counters().verified, gateway.counters().compiled), (1, 0));
    let error = snapshot(&gateway, &of(signed.into())).await.unwrap_err();
    assert!(
        matches!(&error, SnapshotError::Unsupported { problem, .. } if problem.contains("machine code")),
        "{error}"
    );
}

#[tokio::test]
async fn an_initialisation_keeps_to_the_functions_limits() {
    let factory = WasmFactory::builder().instances(2).build().unwrap();
    let limits = |memory| Limits { memory: ByteSize::from_kib(memory), ..Limits::default() };
    let ended = |error| match error {
        SnapshotError::Init(error) => error,
        other => panic!("{other}"),
    };
    // Three pages fit, and are read although not a page is left then.
    assert!(snapshot(&factory, &component("run", LAZY).limits(limits(192))).await.is_ok());
    let small = component("run", LAZY).limits(limits(128));
    assert_eq!(ended(snapshot(&factory, &small).await.unwrap_err()), over("run", LimitKind::Memory));
    let endless = LAZY.replace("(br_if $again", "(br $again) (br_if $again");
    let endless = component("run", &endless).limits(cpu(20));
    assert_eq!(ended(snapshot(&factory, &endless).await.unwrap_err()), over("run", LimitKind::Cpu));
    let traps = LAZY.replace("(global.set $double (f64.const -2.5))", "unreachable");
    let error = ended(snapshot(&factory, &component("run", &traps)).await.unwrap_err());
    assert!(matches!(&error, InvokeError::Trapped { .. }), "{error}");
}

#[tokio::test]
async fn a_snapshot_over_the_size_of_a_component_is_refused() {
    let full = LAZY.replace(
        "(i32.store8 (i32.const 196607)",
        "(memory.fill (i32.const 65536) (i32.const 1) (i32.const 131072)) (i32.store8 (i32.const 196607)",
    );
    let factory = WasmFactory::builder().instances(2).code_size(ByteSize::from_kib(64)).build().unwrap();
    let error = snapshot(&factory, &component("run", &full)).await.unwrap_err();
    let SnapshotError::TooLarge { size, limit, .. } = error else { panic!("{error}") };
    assert!(limit == ByteSize::from_kib(64) && size > ByteSize::from_kib(128), "{size}");
}

#[tokio::test]
async fn what_a_snapshot_cannot_keep_is_named() {
    let factory = WasmFactory::builder().instances(2).build().unwrap();
    let problem = async |component_text: &str| {
        let error = snapshot(&factory, &component("run", component_text)).await.unwrap_err();
        let SnapshotError::Unsupported { problem, .. } = error else { panic!("{error}") };
        problem
    };
    let table = LAZY.replace("(global.set $wide", "(table.set $t (i32.const 0) (ref.func $two)) (global.set $wide");
    assert!(problem(&table).await.contains("table.set"));
    let resource = LAZY.replace(
        "(core instance $i (instantiate $m))",
        "(core instance $i (instantiate $m)) (type $r (resource (rep i32))) (core func $new (canon resource.new $r))",
    );
    assert!(problem(&resource).await.contains("resources"));
}

#[tokio::test]
async fn a_guest_that_has_something_open_of_the_hosts_is_refused() {
    let opens = |then: &str| {
        format!(
            r#"(component
              (import "wasi:io/streams@0.2.0" (instance $streams (export "output-stream" (type (sub resource)))))
              (alias export $streams "output-stream" (type $stream))
              (import "wasi:cli/stdout@0.2.0" (instance $stdout
                (alias outer 1 $stream (type $outer))
                (export "output-stream" (type $s (eq $outer)))
                (export "get-stdout" (func (result (own $s))))))
              (core func $get (canon lower (func $stdout "get-stdout")))
              (core func $drop (canon resource.drop $stream))
              (core instance $host (export "get" (func $get)) (export "drop" (func $drop)))
              (core module $m
                (import "host" "get" (func $get (result i32)))
                (import "host" "drop" (func $drop (param i32)))
                (memory (export "memory") 1)
                (func (export "init") (call $get) {then})
                (func (export "run") (param i32 i32) (result i32) (i32.const 0))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
              (core instance $i (instantiate $m (with "host" (instance $host))))
              (func (export "init") (canon lift (core func $i "init")))
              (func (export "run") (param "input" (list u8)) (result (list u8))
                (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#
        )
    };
    let factory = WasmFactory::builder().instances(2).build().unwrap();
    let error = snapshot(&factory, &component("run", &opens("drop"))).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Open { .. }), "{error}");
    assert!(snapshot(&factory, &component("run", &opens("(call $drop)"))).await.is_ok(), "it was closed again");
}
