//! Components as actors, by `scf:function/actor`.

use std::{sync::Arc, time::Duration};

use scf_core::{ByteSize, Invocation, InvocationQueue as _, Limits, ManualClock};
use scf_runtime::{Fabric, WasmFactory};
use scf_state::RedbQueue;

use crate::{
    actor::{HOUR, empty_kitchen, pass},
    support::name,
    wasm::guest,
};

/// `services`, which does what it is told, on a fabric with a queue.
async fn kitchen_of_components(is_local: bool) -> (Fabric, Arc<RedbQueue>, ManualClock) {
    let wasm = WasmFactory::builder().instances(16).build().unwrap();
    let (fabric, queue, clock) = empty_kitchen(is_local, Arc::new(wasm)).await;
    fabric.deploy(guest("services", "run").stateful()).await.unwrap();
    fabric.ready().await;
    (fabric, queue, clock)
}

/// What the component answers to a command of key `k`.
async fn asked(fabric: &Fabric, command: &str) -> String {
    let invocation = Invocation::new(fabric.new_id(), name("services"), command.to_owned()).key("k");
    let outcome = fabric.invoke(invocation).await.unwrap();
    str::from_utf8(&outcome.payload.bytes).unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn a_component_sets_timers_and_reminders_and_calls_them_off() {
    for is_local in [false, true] {
        let (fabric, queue, clock) = kitchen_of_components(is_local).await;
        assert_eq!(asked(&fabric, "timer egg 3600000 1 add scf:state rings 1").await, "done");
        pass(&clock, &queue, HOUR - Duration::from_nanos(1)).await;
        assert_eq!(asked(&fabric, "1 get scf:state rings").await, "none", "local: {is_local}");
        pass(&clock, &queue, Duration::from_nanos(1)).await;
        assert_eq!(asked(&fabric, "1 add scf:state rings 0").await, "1", "local: {is_local}");
        assert_eq!(asked(&fabric, "remind egg 3600000 1 add scf:state rings 1").await, "done");
        for times in ["2", "3"] {
            pass(&clock, &queue, HOUR).await;
            assert_eq!(asked(&fabric, "1 add scf:state rings 0").await, times, "local: {is_local}");
        }
        assert_eq!(asked(&fabric, "cancel egg").await, "done");
        pass(&clock, &queue, HOUR * 3).await;
        assert_eq!(asked(&fabric, "1 add scf:state rings 0").await, "3", "local: {is_local}");
        assert_eq!(queue.load().pending, 0);
        fabric.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_component_enqueues_calls_that_it_is_granted_when_it_commits() {
    let (fabric, queue, clock) = kitchen_of_components(false).await;
    let id = asked(&fabric, "later services other 1 add scf:state rings 1").await;
    assert_eq!(id.len(), fabric.new_id().to_string().len(), "{id}");
    pass(&clock, &queue, Duration::ZERO).await;
    let invocation = Invocation::new(fabric.new_id(), name("services"), "1 add scf:state rings 0".to_owned());
    let rings = fabric.invoke(invocation.key("other")).await.unwrap().payload.bytes;
    assert_eq!(&rings[..], b"1\n");
    assert!(asked(&fabric, "later egg k x").await.contains("Denied"));
    assert!(asked(&fabric, &format!("timer {} 1 x", "n".repeat(5000))).await.contains("Limit"));
    // A call that fails after it set a timer leaves none.
    let limits = Limits { payload: ByteSize::from_bytes(2000), ..Limits::default() };
    fabric.deploy(guest("services", "run").stateful().limits(limits)).await.unwrap();
    let over = format!("timer egg 1 x\n1 set scf:state k {}\n{}", "v".repeat(900), "1 get scf:state k\n".repeat(3));
    let invocation = Invocation::new(fabric.new_id(), name("services"), over).key("k");
    fabric.invoke(invocation).await.unwrap_err();
    assert_eq!(queue.load().pending, 0);
    fabric.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_a_component_writes_until_a_time_is_gone_then() {
    let (fabric, _queue, clock) = kitchen_of_components(false).await;
    assert_eq!(asked(&fabric, "until k 5000 here").await, "done");
    assert_eq!(asked(&fabric, "1 get scf:state k").await, "here");
    clock.advance(Duration::from_secs(6));
    assert_eq!(asked(&fabric, "1 get scf:state k").await, "none");
    fabric.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_component_without_state_has_no_timers() {
    let (fabric, _queue, _clock) = kitchen_of_components(false).await;
    fabric.deploy(guest("services", "run")).await.unwrap();
    fabric.ready().await;
    let invocation = Invocation::new(fabric.new_id(), name("services"), "timer egg 1 x\nlater services k x".to_owned());
    let answer = fabric.invoke(invocation).await.unwrap().payload.bytes;
    let answer = str::from_utf8(&answer).unwrap();
    assert_eq!(answer.matches("Stateless").count(), 2, "{answer}");
    fabric.shutdown().await.unwrap();
}
