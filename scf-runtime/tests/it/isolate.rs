//! Native isolates, and the contract that all isolates keep.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use scf_core::{
    Callee, Function, InvokeError, IsolateFactory, LimitKind, Limits, MediaType, Name, Payload, PrepareError,
    conformance::isolate::{Samples, isolate_factory},
};
use scf_runtime::{NativeError, NativeFactory};

use crate::support::{self, Alone, name};

fn native(entry: &str) -> Function {
    Function::native(name(entry), Name::new(entry).unwrap())
}

fn factory() -> NativeFactory {
    NativeFactory::new()
        .with_sync("echo", Ok)
        .unwrap()
        .with_sync("refuse", |_| Err(NativeError::refused("bad \u{1b}[31minput")))
        .unwrap()
        .with_sync("panic", |_| panic!("seven is not\na number"))
        .unwrap()
        .with("relay", |call, input| {
            async move {
                let callee = |function, payload| Callee { function, node: None, key: None, payload };
                let first = call.invoke(callee(name("other"), input)).await?;
                let second = call.invoke(callee(name("other"), first)).await?;
                call.span("relay", Duration::from_millis(3));
                Ok(second)
            }
            .boxed()
        })
        .unwrap()
        .with("lost", |call, payload| {
            async move { call.invoke(Callee { function: name("absent"), node: None, key: None, payload }).await }
                .boxed()
        })
        .unwrap()
        .with("remember", |call, _| async move { Ok(call.state()?.get("k").await?.unwrap_or_default().into()) }.boxed())
        .unwrap()
        .with("spin", |_, _| {
            async move {
                loop {
                    tokio::task::yield_now().await;
                }
            }
            .boxed()
        })
        .unwrap()
}

#[tokio::test]
async fn native_isolates_keep_the_contract() {
    let foreign = Function::component(name("other"), vec![0], "echo");
    let echo = native("echo").gives(MediaType::TEXT);
    let make = || async { Arc::new(factory()) as Arc<dyn IsolateFactory> };
    isolate_factory(make, &Samples { echo, count: None, foreign }).await;
}

#[cfg(feature = "wasm")]
#[tokio::test]
async fn components_keep_the_contract() {
    use crate::wasm::{component, guest};
    let echo = guest("echo", "echo").gives(MediaType::TEXT);
    let count = component("count", include_str!("wat/count.wat"));
    let make = || async { Arc::new(crate::wasm::factory()) as Arc<dyn IsolateFactory> };
    isolate_factory(make, &Samples { echo, count: Some(count), foreign: native("echo") }).await;
}

#[tokio::test]
async fn a_refusal_is_passed_on_escaped() {
    let refused = support::run(&factory(), &native("refuse"), "").await.unwrap_err();
    assert_eq!(refused, InvokeError::Refused { function: name("refuse"), message: "bad \\u{1b}[31minput".into() });
}

#[tokio::test]
async fn a_panic_ends_the_call_and_nothing_else() {
    let factory = factory();
    let trapped = support::run(&factory, &native("panic"), "").await.unwrap_err();
    assert_eq!(trapped, InvokeError::Trapped { function: name("panic"), message: "seven is not\\na number".into() });
    assert_eq!(support::run(&factory, &native("echo"), "on").await.unwrap().payload.bytes, "on");
}

#[tokio::test]
async fn calls_of_other_functions_are_counted_and_billed() {
    let reply = support::run(&factory(), &native("relay"), "x").await.unwrap();
    let [first, second] = [0, 1].map(|step| scf_core::InvocationId::new(1).child(step));
    assert_eq!(reply.payload.bytes, format!("{second} {first} x"));
    assert_eq!(reply.calls.iter().map(|bill| bill.function.as_str()).collect::<Vec<_>>(), ["other", "other"]);
    assert_eq!(
        reply.spans.iter().map(|span| (&*span.name, span.took)).collect::<Vec<_>>(),
        [("relay", Duration::from_millis(3))]
    );
}

#[tokio::test]
async fn a_callees_failure_is_passed_on_as_it_is() {
    let lost = support::run(&factory(), &native("lost"), "").await.unwrap_err();
    assert_eq!(lost, InvokeError::NotFound { function: name("absent") });
}

#[tokio::test]
async fn a_stateless_function_that_asks_for_state_is_told_so() {
    let trapped = support::run(&factory(), &native("remember"), "").await.unwrap_err();
    let message = "the function is deployed as stateless and asks for state".into();
    assert_eq!(trapped, InvokeError::Trapped { function: name("remember"), message });
}

#[tokio::test]
async fn a_native_function_that_never_ends_is_ended_by_the_cpu_limit_and_accounted_for() {
    let host = Alone::new();
    let spin = native("spin").limits(Limits { cpu: Duration::from_millis(5), ..Limits::default() });
    let prepared = factory().prepare(&spin).await.unwrap();
    let call = support::call(&spin, Arc::<Alone>::clone(&host));
    let ended = prepared.instantiate().await.unwrap().invoke(&call, Payload::default()).await.unwrap_err();
    assert_eq!(ended, InvokeError::Limit { function: name("spin"), limit: LimitKind::Cpu });
    assert!(host.paced() >= Duration::from_millis(5), "{:?}", host.paced());
}

#[tokio::test]
async fn output_over_the_limit_is_no_output() {
    let limits = Limits { payload: scf_core::ByteSize::from_bytes(10), ..Limits::default() };
    let ended = support::run(&factory(), &native("echo").limits(limits), Payload::new(vec![0; 11])).await.unwrap_err();
    assert_eq!(ended, InvokeError::Limit { function: name("echo"), limit: LimitKind::Output });
}

#[tokio::test]
async fn an_entry_that_is_not_registered_is_named() {
    let error = factory().prepare(&native("absent")).await.unwrap_err();
    assert!(matches!(error, PrepareError::NotRegistered { name, .. } if name == "absent"));
}
