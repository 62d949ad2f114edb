//! Components that keep state, which they open as the bucket `scf:state`.

use std::sync::Arc;

use scf_core::{
    Bandwidth, ByteSize, Clock, Function, Invocation, InvocationId, InvokeError, LimitKind, Limits, Link, MediaType,
    Node, Payload, PhasePolicy, StateStore, Tier,
};
use scf_runtime::{Fabric, SystemClock, WasmFactory, transport::InProcess};
use scf_sched::RoundRobin;
use scf_state::{AlwaysLocal, AlwaysRemote, MemoryState, PhasedState};

use crate::{
    support::{name, node},
    wasm::{component, guest},
};

/// Two nodes that share a home for state, with this function on both.
async fn two_nodes(policy: Arc<dyn PhasePolicy>, function: Function) -> Fabric {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let link = Link { latency: std::time::Duration::from_micros(100), bandwidth: Bandwidth::from_mbit_per_s(800) };
    let network = InProcess::builder().link(node("a"), node("b"), link).build(clock.clone()).unwrap();
    let home = Arc::new(MemoryState::new());
    let wasm = WasmFactory::builder().instances(16).build().unwrap();
    let mut builder = Fabric::builder()
        .node(Node::new(node("a"), Tier::Edge))
        .node(Node::new(node("b"), Tier::Edge))
        .transport(Arc::new(network))
        .clock(clock.clone())
        .scheduler(Arc::new(RoundRobin::default()))
        .isolates(Arc::new(wasm));
    for at in ["a", "b"] {
        let local = Arc::new(MemoryState::new());
        let store = PhasedState::new(node(at), home.clone(), local, policy.clone(), clock.clone());
        builder = builder.state(node(at), Arc::new(store) as Arc<dyn StateStore>);
    }
    let fabric = builder.build().unwrap();
    fabric.deploy(function).await.unwrap();
    fabric.ready().await;
    fabric
}

fn services() -> Function {
    guest("services", "run").stateful()
}

fn asks(id: u128, key: &str, commands: &str) -> Invocation {
    Invocation::new(InvocationId::new(id), name("services"), commands.to_owned()).key(key)
}

async fn answers(fabric: &Fabric, from: &str, call: Invocation) -> Vec<String> {
    let outcome = fabric.invoke_from(&node(from), call).await.unwrap();
    str::from_utf8(&outcome.payload.bytes).unwrap().lines().map(Into::into).collect()
}

#[tokio::test]
async fn a_counter_counts_each_call_once_however_often_it_is_tried_and_in_both_phases() {
    for policy in [Arc::new(AlwaysRemote) as Arc<dyn PhasePolicy>, Arc::new(AlwaysLocal)] {
        let fabric = two_nodes(policy.clone(), services()).await;
        // Of both nodes at the same time: in the remote phase they get into each other's way and are run again.
        let calls = (0..20).map(|id| {
            let (fabric, from) = (fabric.clone(), if id % 2 == 0 { "a" } else { "b" });
            tokio::spawn(async move { answers(&fabric, from, asks(id, "k", "1 add scf:state n 1")).await })
        });
        let mut counts = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            counts.push(call.await.unwrap()[0].parse::<u64>().unwrap());
        }
        let first = counts[0];
        counts.sort_unstable();
        assert_eq!(counts, (1..=20).collect::<Vec<_>>(), "{policy:?}");
        // The same invocation once more, from another node: the same answer, and nothing is counted.
        assert_eq!(answers(&fabric, "b", asks(0, "k", "1 add scf:state n 1")).await, [first.to_string()]);
        let commands = "2 get scf:state n\n1 get scf:state n";
        assert_eq!(answers(&fabric, "a", asks(100, "k", commands)).await, ["20", "20"]);
        assert_eq!(answers(&fabric, "a", asks(101, "other", commands)).await, ["none", "none"]);
        fabric.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_call_reads_what_it_wrote_and_a_refused_one_leaves_nothing() {
    let limits = Limits { payload: ByteSize::from_bytes(400), ..Limits::default() };
    let fabric = two_nodes(Arc::new(AlwaysRemote), services().limits(limits)).await;
    let commands = "1 set scf:state a one\n2 get scf:state a\n2 set scf:state b two\n1 delete scf:state a\n1 exists scf:state a\n\
                    swap scf:state b two three\nswap scf:state b two four\n2 many scf:state b no\n1 keys scf:state";
    let seen = answers(&fabric, "a", asks(1, "k", commands)).await;
    assert_eq!(seen[..7], ["done", "one", "done", "done", "false", "swapped", "swapped again, from two"]);
    assert_eq!(seen[7], r#"[("b", true), ("no", false)]"#);
    assert!(seen[8].contains("error"), "sessions cannot be listed: {seen:?}");
    // What it answers is too long, after it wrote.
    let get = "\n1 get scf:state c".repeat(2);
    let over =
        fabric.invoke_from(&node("a"), asks(2, "k", &format!("1 set scf:state c {}{get}", "x".repeat(250)))).await;
    assert!(matches!(over, Err(InvokeError::Limit { limit: LimitKind::Output, .. })), "{over:?}");
    assert_eq!(answers(&fabric, "a", asks(3, "k", "1 get scf:state c\n1 get scf:state b")).await, ["none", "four"]);
    fabric.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_one_call_writes_is_bounded() {
    let fabric = two_nodes(Arc::new(AlwaysRemote), services()).await;
    // Nine times two of a megabyte in one go each: 16 fit.
    let fill = "2 fill scf:state 2 1048000\n".repeat(9);
    let seen = answers(&fabric, "a", asks(1, "k", fill.trim_end())).await;
    assert!(seen[..7].iter().all(|answer| answer == "done"), "{seen:?}");
    assert!(seen[8].contains("16777216 are allowed"), "{seen:?}");
    fabric.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_kept_isolate_has_the_state_of_each_call_and_a_function_without_state_has_none() {
    let warm = scf_core::Reuse::Warm { max_idle: 1, max_calls: 100, max_age: std::time::Duration::MAX };
    let fabric = two_nodes(Arc::new(AlwaysRemote), services().reuse(warm)).await;
    for (id, key) in [(1, "k"), (2, "l"), (3, "k")] {
        let seen = answers(&fabric, "a", asks(id, key, "1 add scf:state n 1")).await;
        assert_eq!(seen, [if id == 3 { "2" } else { "1" }]);
    }
    fabric.shutdown().await.unwrap();
    let fabric = two_nodes(Arc::new(AlwaysRemote), guest("services", "run")).await;
    let seen = answers(&fabric, "a", asks(1, "k", "1 get scf:state n\n2 get scf:state n")).await;
    assert_eq!(seen, ["error Error::NoSuchStore"; 2]);
}

#[tokio::test]
async fn a_retry_has_the_media_type_of_the_first_answer() {
    let typed = component(
        "double",
        r#"(component
          (core module $m
            (memory (export "memory") 1)
            (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))
          (core instance $i (instantiate $m))
          (func (export "double") (param "number" u32) (result u32) (canon lift (core func $i "double"))))"#,
    );
    let fabric = two_nodes(Arc::new(AlwaysRemote), typed.stateful()).await;
    let input = Payload::new(r#"{"number": 21}"#).with_media(MediaType::JSON);
    let call = || Invocation::new(InvocationId::new(1), name("double"), input.clone()).key("k");
    let first = fabric.invoke_from(&node("a"), call()).await.unwrap().payload;
    assert_eq!((&first.media, &first.bytes[..]), (&MediaType::JSON, &b"42"[..]));
    assert_eq!(fabric.invoke_from(&node("b"), call()).await.unwrap().payload, first);
    fabric.shutdown().await.unwrap();
}
