//! Instances that serve more than one call.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::{Either, select};
use scf_core::{
    ByteSize, Function, InvokeError, Isolate, IsolateFactory, LimitKind, Limits, Payload, Prepared, Reply, Reuse,
    TenantName,
};
use scf_runtime::WasmFactory;

use crate::{
    support::{self, Alone},
    wasm::{cpu, factory, fallible, guest, over},
};

/// Counts its calls in its memory and does with the first byte of its input what that says: `t` traps, `s` never
/// returns, `g` asks for 32 MiB and goes on without, anything else answers with the count as a byte.
pub(crate) fn counter() -> Function {
    let body = r#"(local $op i32)
        (if (i32.ne (local.get 1) (i32.const 0)) (then (local.set $op (i32.load8_u (local.get 0)))))
        (i32.store8 (i32.const 64) (i32.add (i32.load8_u (i32.const 64)) (i32.const 1)))
        (if (i32.eq (local.get $op) (i32.const 0x74)) (then unreachable))
        (if (i32.eq (local.get $op) (i32.const 0x73)) (then (loop $again (br $again))))
        (if (i32.eq (local.get $op) (i32.const 0x67)) (then (drop (memory.grow (i32.const 512)))))
        (i32.store (i32.const 4) (i32.const 64))
        (i32.store (i32.const 8) (i32.const 1))
        (i32.const 0)"#;
    fallible("1", "", body)
}

fn warm(max_idle: u32, max_calls: u32, max_age: Duration) -> Reuse {
    Reuse::Warm { max_idle, max_calls, max_age }
}

const HOUR: Duration = Duration::from_secs(3600);

async fn call(prepared: &dyn Prepared, function: &Function, input: &'static str) -> Result<Reply, InvokeError> {
    let mut isolate: Box<dyn Isolate> = prepared.instantiate().await?;
    isolate.invoke(&support::call(function, Alone::new()), input.into()).await
}

/// The count that the guest answers with, and whether its isolate had served a call before.
async fn count(prepared: &dyn Prepared, function: &Function) -> (u8, bool) {
    let reply = call(prepared, function, "").await.unwrap();
    (reply.payload.bytes[0], reply.reused)
}

#[tokio::test]
async fn an_isolate_is_fresh_unless_the_function_asks_for_another() {
    let fresh = counter();
    let prepared = factory().prepare(&fresh).await.unwrap();
    for _ in 0..3 {
        assert_eq!(count(&*prepared, &fresh).await, (1, false));
    }
}

#[tokio::test]
async fn a_kept_isolate_serves_as_many_calls_as_it_may() {
    let kept = counter().reuse(warm(1, 3, HOUR));
    let prepared = factory().prepare(&kept).await.unwrap();
    let mut counts = Vec::new();
    for _ in 0..5 {
        counts.push(count(&*prepared, &kept).await);
    }
    assert_eq!(counts, [(1, false), (2, true), (3, true), (1, false), (2, true)]);
}

#[tokio::test]
async fn an_isolate_whose_call_did_not_end_well_is_not_used_again() {
    let kept = counter().reuse(warm(4, 100, HOUR)).limits(Limits { memory: ByteSize::from_mib(8), ..cpu(20) });
    let prepared = factory().prepare(&kept).await.unwrap();
    for (input, ended) in [("t", None), ("s", Some(LimitKind::Cpu))] {
        assert_eq!(count(&*prepared, &kept).await, (1, false));
        let error = call(&*prepared, &kept, input).await.unwrap_err();
        match ended {
            Some(limit) => assert_eq!(error, over("f", limit)),
            None => assert!(matches!(error, InvokeError::Trapped { .. }), "{error:?}"),
        }
    }
    // Also where the guest went on after it was refused memory.
    assert_eq!(count(&*prepared, &kept).await, (1, false));
    assert_eq!(call(&*prepared, &kept, "g").await.unwrap().payload.bytes[0], 2);
    assert_eq!(count(&*prepared, &kept).await, (1, false));
}

#[tokio::test]
async fn an_isolate_whose_call_was_given_up_is_not_used_again() {
    let kept = counter().reuse(warm(1, 100, HOUR));
    let prepared = factory().prepare(&kept).await.unwrap();
    assert_eq!(count(&*prepared, &kept).await, (1, false));
    let spins = Box::pin(call(&*prepared, &kept, "s"));
    let Either::Right((_, spins)) = select(spins, pin!(tokio::task::yield_now())).await else {
        panic!("it does not return");
    };
    drop(spins);
    assert_eq!(count(&*prepared, &kept).await, (1, false));
}

#[tokio::test]
async fn a_kept_isolate_that_ran_long_leaves_its_core_to_others() {
    let factory = factory();
    // The executor has one thread, and so there is one core for guests that run long.
    let (kept, fresh) = (guest("probe", "run").reuse(warm(1, 100, HOUR)), guest("probe", "run"));
    let (prepared, others) = (factory.prepare(&kept).await.unwrap(), factory.prepare(&fresh).await.unwrap());
    let long: &str = &"clock\n".repeat(50);
    for (prepared, function) in [(&prepared, &kept), (&others, &fresh), (&prepared, &kept)] {
        let mut isolate = prepared.instantiate().await.unwrap();
        let host = support::call(function, Alone::new());
        let reply = isolate.invoke(&host, long.to_owned().into());
        // It never ends where the core is not given back.
        tokio::time::timeout(Duration::from_secs(60), reply).await.expect("a core").unwrap();
    }
}

#[tokio::test]
async fn an_isolate_is_replaced_when_it_is_too_old() {
    let kept = counter().reuse(warm(1, 100, Duration::ZERO));
    let prepared = factory().prepare(&kept).await.unwrap();
    assert_eq!(count(&*prepared, &kept).await, (1, false));
    assert_eq!(count(&*prepared, &kept).await, (1, false));
}

#[tokio::test]
async fn isolates_can_be_started_before_they_are_called_and_retired() {
    let factory = factory();
    let kept = counter().reuse(warm(3, 100, HOUR));
    let prepared = factory.prepare(&kept).await.unwrap();
    let memory = || factory.tenant_memory(&TenantName::default());
    assert_eq!(prepared.keep(2).await.unwrap(), 2);
    assert_eq!(memory(), ByteSize::from_kib(128));
    assert_eq!(count(&*prepared, &kept).await, (1, false), "it had served no call");
    assert_eq!(prepared.keep(9).await.unwrap(), 3, "no more than the function asks for");
    assert_eq!(prepared.keep(0).await.unwrap(), 0);
    assert_eq!(memory(), ByteSize::ZERO);
    let fresh = factory.prepare(&counter()).await.unwrap();
    assert_eq!(fresh.keep(2).await.unwrap(), 0);
}

#[tokio::test]
async fn idle_isolates_make_room_for_a_call_of_another_function() {
    let factory = WasmFactory::builder().instances(2).build().unwrap();
    let (kept, other) = (counter().reuse(warm(2, 100, HOUR)), counter());
    let prepared = factory.prepare(&kept).await.unwrap();
    assert_eq!(prepared.keep(2).await.unwrap(), 2);
    let others = factory.prepare(&other).await.unwrap();
    assert_eq!(count(&*others, &other).await, (1, false));
    assert_eq!(prepared.keep(2).await.unwrap(), 2);
}

#[tokio::test]
async fn nothing_is_left_of_a_function_that_is_gone() {
    let factory = factory();
    let kept = counter().reuse(warm(2, 100, HOUR));
    let prepared = factory.prepare(&kept).await.unwrap();
    assert_eq!(prepared.keep(2).await.unwrap(), 2);
    drop(prepared);
    assert_eq!(factory.tenant_memory(&TenantName::default()), ByteSize::ZERO);
}

#[tokio::test]
async fn a_kept_isolate_is_charged_to_who_calls_it() {
    let (poor, factory) = (TenantName::new("poor").unwrap(), WasmFactory::builder().instances(4));
    let factory = factory.tenant_memory(poor.clone(), ByteSize::from_kib(1)).build().unwrap();
    let kept = counter().reuse(warm(1, 100, HOUR));
    let prepared = factory.prepare(&kept).await.unwrap();
    assert_eq!(count(&*prepared, &kept).await, (1, false));
    let mut by_another = support::call(&kept, Alone::new());
    by_another.tenant = poor;
    let refused = prepared.instantiate().await.unwrap().invoke(&by_another, Payload::default()).await;
    assert_eq!(refused.unwrap_err(), over("f", LimitKind::TenantMemory));
    assert_eq!(count(&*prepared, &kept).await, (2, true), "the isolate itself is as good as before");
}

#[tokio::test]
async fn the_limits_of_a_kept_isolate_are_those_of_each_call() {
    let kept = counter().reuse(warm(1, 100, HOUR));
    let factory = WasmFactory::builder().instances(1).fuel(10_000).build().unwrap();
    let prepared = factory.prepare(&kept).await.unwrap();
    let first = call(&*prepared, &kept, "").await.unwrap().usage;
    let second = call(&*prepared, &kept, "").await.unwrap().usage;
    assert!(second.fuel <= first.fuel, "{second:?}, after {first:?}");
    assert_eq!(second.memory, first.memory);
    assert!(Arc::strong_count(&prepared) == 1);
}
