use std::collections::BTreeMap;

use futures::FutureExt;
use scf_core::{ByteSize, InvokeError, Limits};
use scf_runtime::{Bill, Failures};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn told(fabric: &Fabric, function: &str, input: &str) -> Invocation {
    Invocation::new(fabric.new_id(), name(function), input.to_owned()).tenant(tenant("acme"))
}

fn bills(fabric: &Fabric) -> (Bill, Bill) {
    let tenants: BTreeMap<_, _> = fabric.tenant_bills().into_iter().collect();
    (fabric.bills()[0].1, tenants[&tenant("acme")])
}

#[tokio::test]
async fn what_a_call_used_is_billed_to_function_and_tenant_however_it_ends() {
    let fabric = alone(&Stage::new(), |builder| builder);
    fabric.deploy(native("f", "burn")).await.unwrap();
    let receipt = fabric.invoke(told(&fabric, "f", "4")).await.unwrap().receipt;
    assert!(receipt.usage.cpu >= 4 * MS);
    let (function, tenant) = bills(&fabric);
    assert_eq!((function.cpu, tenant.cpu), (receipt.usage.cpu, receipt.usage.cpu));
    for (end, at_least) in [("panics", 8), ("refuses", 12)] {
        fabric.invoke(told(&fabric, "f", &format!("4 {end}"))).await.unwrap_err();
        let (function, tenant) = bills(&fabric);
        assert!(function.cpu >= at_least * MS, "{end}: {function:?}");
        assert_eq!(function, tenant);
    }
    // Dropped while it runs, and ended at its deadline.
    assert!(fabric.invoke(told(&fabric, "f", "4 hangs")).now_or_never().is_none());
    let hangs = told(&fabric, "f", "4 hangs").patience(5 * MS);
    assert!(matches!(fabric.invoke(hangs).await, Err(InvokeError::Limit { .. })));
    let (function, tenant) = bills(&fabric);
    assert!(function.cpu >= 20 * MS, "{function:?}");
    assert_eq!(function, tenant);
    let mut failed = Failures::default();
    (failed.trapped, failed.refused, failed.given_up, failed.limit) = (1, 1, 1, 1);
    assert_eq!((function.calls, function.failures, function.failed), (1, 4, failed));
}

#[tokio::test]
async fn a_call_is_not_billed_for_the_calls_that_it_makes() {
    let fabric = alone(&Stage::new(), |builder| builder);
    fabric.deploy(native("outer", "outer")).await.unwrap();
    fabric.deploy(native("inner", "burn")).await.unwrap();
    let receipt = fabric.invoke(told(&fabric, "outer", "30")).await.unwrap().receipt;
    assert!(receipt.calls[0].usage.cpu >= 30 * MS);
    assert!(receipt.usage.cpu < 15 * MS, "{:?}", receipt.usage);
    assert!(receipt.host < 15 * MS && !receipt.host.is_zero(), "{:?}", receipt.host);
}

#[tokio::test]
async fn tenants_are_billed_for_their_own_calls_of_a_function_and_its_owner_for_the_rest() {
    let fabric = alone(&Stage::new(), |builder| builder);
    fabric.deploy(native("f", "echo").tenant(tenant("owner"))).await.unwrap();
    for (who, calls) in [(Some("acme"), 3), (Some("zeta"), 2), (None, 1)] {
        for _ in 0..calls {
            let mut call = Invocation::new(fabric.new_id(), name("f"), vec![7; 100]);
            call.tenant = who.map(tenant);
            let receipt = fabric.invoke(call).await.unwrap().receipt;
            assert_eq!(receipt.tenant, tenant(who.unwrap_or("owner")));
        }
    }
    let calls: Vec<_> =
        fabric.tenant_bills().iter().map(|(who, bill)| (who.to_string(), bill.calls, bill.bytes_in)).collect();
    let size = |calls: u64| ByteSize::from_bytes(calls * 100);
    assert_eq!(calls, [("acme".into(), 3, size(3)), ("owner".into(), 1, size(1)), ("zeta".into(), 2, size(2))]);
    assert_eq!(fabric.bills()[0].1.calls, 6);
}

#[tokio::test]
async fn what_the_host_does_for_calls_that_are_refused_is_billed_too() {
    let fabric = alone(&Stage::new(), |builder| builder);
    let limits = Limits { payload: ByteSize::from_bytes(10), ..Limits::default() };
    fabric.deploy(native("f", "echo").limits(limits)).await.unwrap();
    for _ in 0..100 {
        fabric.invoke(told(&fabric, "f", "far too long for it")).await.unwrap_err();
    }
    let (function, tenant) = bills(&fabric);
    assert_eq!(function, tenant);
    assert_eq!((function.failed.limit, function.cpu), (100, Duration::ZERO));
    assert!(!function.host.is_zero());
}

#[cfg(feature = "wasm")]
#[tokio::test]
async fn a_guest_that_is_given_up_or_goes_over_its_limit_is_billed_for_its_cpu_and_memory() {
    const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests/components/hostile.wasm");
    let wasm = scf_runtime::WasmFactory::builder().instances(8).build().unwrap();
    let fabric = alone(&Stage::new(), |builder| builder.isolates(Arc::new(wasm)));
    let limits = Limits { cpu: 20 * MS, ..Limits::default() };
    let spin = Function::component(name("spin"), std::fs::read(HOSTILE).unwrap(), "spin").limits(limits);
    fabric.deploy(spin).await.unwrap();
    fabric.invoke(told(&fabric, "spin", "")).await.unwrap_err();
    let (over, tenant) = bills(&fabric);
    assert_eq!(over, tenant);
    assert!(over.cpu >= 20 * MS, "{over:?}");
    // It yields after a tick and is dropped then.
    let mut call = Box::pin(fabric.invoke(told(&fabric, "spin", "")));
    while bills(&fabric).0.cpu == over.cpu {
        assert!(futures::poll!(call.as_mut()).is_pending());
        // It may be given up before its thread has begun.
        std::thread::yield_now();
        call = Box::pin(fabric.invoke(told(&fabric, "spin", "")));
    }
    drop(call);
    let (given_up, _) = bills(&fabric);
    assert!(given_up.failed.given_up > 0, "{given_up:?}");
}
