use std::{sync::Arc, time::Duration};

use scf::{
    core::{Function, Invocation, InvokeError, LimitKind, Limits, Name, Payload},
    runtime::{Fabric, FabricBuilder, NativeFactory},
    sched::FixedConcurrency,
};
use tokio::sync::Semaphore;

use crate::support::{component, function};

/// A fabric with the function `gate`, whose calls wait until they are let through.
async fn gated(limits: Limits, with: impl FnOnce(FabricBuilder) -> FabricBuilder) -> (Fabric, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let native = NativeFactory::new().with("gate", move |_, input| {
        let gate = held.clone();
        Box::pin(async move {
            gate.acquire().await.expect("the gate is never closed").forget();
            Ok(input)
        })
    });
    let fabric = with(scf::fabric().unwrap().isolates(Arc::new(native.unwrap()))).build().unwrap();
    let function = Function::native(function("gate"), Name::new("gate").unwrap());
    fabric.deploy(function.limits(limits)).await.unwrap();
    (fabric, gate)
}

#[tokio::test]
async fn calls_beyond_slot_and_queue_are_refused_at_once_and_the_others_served() {
    let limits = Limits { concurrency: 1, queue: 1, ..Limits::default() };
    let (fabric, open) = gated(limits, |builder| builder).await;
    let name = function("gate");
    let admitted: Vec<_> = (0..2)
        .map(|_| {
            let (fabric, name) = (fabric.clone(), name.clone());
            tokio::spawn(async move { fabric.call(&name, "x").await })
        })
        .collect();
    // Both get as far as the gate or the queue before the third is made.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let error = fabric.call(&name, "x").await.unwrap_err();
    assert!(matches!(error, InvokeError::Overloaded { .. }), "{error:?}");
    assert!(error.is_retryable());
    open.add_permits(2);
    for call in admitted {
        assert_eq!(&call.await.unwrap().unwrap().payload.bytes[..], b"x");
    }
}

#[tokio::test]
async fn a_call_ends_with_its_patience_and_its_slot_is_free_again() {
    let (fabric, open) = gated(Limits { concurrency: 1, ..Limits::default() }, |builder| builder).await;
    let call = Invocation::new(fabric.new_id(), function("gate"), "x").patience(Duration::from_millis(20));
    let error = fabric.invoke(call).await.unwrap_err();
    assert_eq!(error, InvokeError::Limit { function: function("gate"), limit: LimitKind::Wall });
    open.add_permits(1);
    fabric.call(&function("gate"), "x").await.unwrap();
    let (_, bill) = fabric.bills().remove(0);
    assert_eq!((bill.calls, bill.failures), (1, 1));
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_before_it_runs() {
    let fabric = crate::support::alone();
    let limits = Limits { payload: scf::core::ByteSize::from_kib(1), ..Limits::default() };
    fabric.deploy(component("echo").limits(limits)).await.unwrap();
    let error = fabric.call(&function("echo"), vec![0u8; 2000]).await.unwrap_err();
    assert_eq!(error, InvokeError::Limit { function: function("echo"), limit: LimitKind::Input });
    fabric.call(&function("echo"), vec![0u8; 1000]).await.unwrap();
}

#[tokio::test]
async fn a_guest_that_spins_is_ended_and_its_neighbour_is_not() {
    let fabric = crate::support::alone();
    let limits = Limits { cpu: Duration::from_millis(20), ..Limits::default() };
    let hostile = component("hostile").code;
    let scf::core::Code::Component { bytes, .. } = hostile else { panic!("a component") };
    fabric.deploy(Function::component(function("spin"), bytes, "spin").limits(limits)).await.unwrap();
    fabric.deploy(component("greet")).await.unwrap();
    let (spin, greet) = (function("spin"), function("greet"));
    let (spun, greeted) = tokio::join!(fabric.call(&spin, ""), fabric.call(&greet, "Ada"));
    assert_eq!(spun.unwrap_err(), InvokeError::Limit { function: spin, limit: LimitKind::Cpu });
    assert_eq!(&greeted.unwrap().payload.bytes[..], b"hello, Ada");
}

#[tokio::test]
async fn an_autoscaler_holds_the_calls_that_run_at_once_below_the_functions_limit() {
    let limits = Limits { concurrency: 8, queue: 1, ..Limits::default() };
    let (fabric, gate) = gated(limits, |builder| builder.autoscaler(|_| Box::new(FixedConcurrency::new(2)))).await;
    let name = function("gate");
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let (fabric, name) = (fabric.clone(), name.clone());
            tokio::spawn(async move { fabric.call(&name, Payload::new("x")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    gate.add_permits(5);
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(InvokeError::Overloaded { .. }))).count();
    assert_eq!(refused, 2, "two run, one waits, two are refused: {outcomes:?}");
}
