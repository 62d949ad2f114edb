use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64},
};

use scf_core::{Bandwidth, InvocationId, InvokeError, Link, Node, Qualifier, Revision, Slowdown, Tier};
use scf_runtime::{DeployError, Lifecycle, SystemClock, TrafficError, transport::InProcess};

use super::*;
use crate::support::node;

fn revision(number: u64) -> Revision {
    Revision::new(number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_deployments_under_traffic_fail_no_call_and_every_call_meets_one_revision() {
    const CALLERS: usize = 4;
    let fabric = alone(&Stage::new(), |builder| builder);
    fabric.deploy(native("f", "echo")).await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (fabric, stop, done) = (fabric.clone(), stop.clone(), done.clone());
            tokio::spawn(async move {
                let mut met: BTreeMap<u64, u64> = BTreeMap::new();
                while !stop.load(Ordering::SeqCst) {
                    let outcome = fabric.call(&name("f"), "x").await.expect("no call fails");
                    *met.entry(outcome.receipt.revision.number()).or_default() += 1;
                    done.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
                met
            })
        })
        .collect();
    for at in 2..=51 {
        assert_eq!(fabric.deploy(native("f", "echo")).await.unwrap(), revision(at));
        let before = done.load(Ordering::SeqCst);
        while done.load(Ordering::SeqCst) < before + 20 {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    let mut all: BTreeMap<u64, u64> = BTreeMap::new();
    for caller in callers {
        for (revision, calls) in caller.await.unwrap() {
            *all.entry(revision).or_default() += calls;
        }
    }
    let (_, bill) = fabric.bills().remove(0);
    assert_eq!((bill.calls, bill.failures), (done.load(Ordering::SeqCst), 0));
    assert_eq!(all.values().sum::<u64>(), bill.calls);
    for revision in 2..=51 {
        // Twenty calls ended after each deployment, at most one per caller of them begun before it.
        assert!(all.get(&revision).is_some_and(|calls| *calls >= 20 - CALLERS as u64), "{revision}: {all:?}");
    }
    let kept: Vec<_> = fabric.status(&name("f")).iter().map(|status| status.revision.number()).collect();
    assert_eq!(kept, (44..=51).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_made_ready_is_refused_and_the_revision_before_stays() {
    let fabric = alone(&Stage::new(), |builder| builder);
    fabric.deploy(native("f", "echo")).await.unwrap();
    let error = fabric.deploy(native("f", "absent")).await.unwrap_err();
    assert!(matches!(error, DeployError::Prepare { .. }), "{error:?}");
    assert_eq!(fabric.call(&name("f"), "x").await.unwrap().receipt.revision, revision(1));
    assert_eq!(fabric.deploy(native("f", "echo")).await.unwrap(), revision(2));
}

#[cfg(feature = "wasm")]
#[tokio::test]
async fn a_module_that_is_none_is_refused_by_name_and_the_revision_before_stays() {
    let wasm = scf_runtime::WasmFactory::builder().instances(8).build().unwrap();
    let fabric = alone(&Stage::new(), |builder| builder.isolates(Arc::new(wasm)));
    fabric.deploy(native("f", "echo")).await.unwrap();
    let code = scf_core::Code::Component { bytes: b"\0asm but not much of it".to_vec().into(), export: "run".into() };
    let error = fabric.deploy(Function::new(name("f"), code)).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("function f: the code is not valid"), "{source}");
    assert_eq!(fabric.call(&name("f"), "x").await.unwrap().receipt.revision, revision(1));
}

#[tokio::test]
async fn published_revisions_are_reached_by_number_and_alias_and_get_live_traffic_when_told() {
    let fabric = alone(&Stage::new(), |builder| builder);
    let f = name("f");
    let met = async |qualifier: Qualifier| {
        let call = Invocation::new(InvocationId::new(7), name("f"), "x").qualifier(qualifier);
        fabric.invoke(call).await.map(|outcome| outcome.receipt.revision.number())
    };
    fabric.publish(native("f", "echo")).await.unwrap();
    assert_eq!(
        met(Qualifier::Live).await,
        Err(InvokeError::NoRevision { function: f.clone(), qualifier: Qualifier::Live })
    );
    fabric.traffic(&f, &[(revision(1), 1)]).unwrap();
    assert_eq!(fabric.publish(native("f", "echo")).await.unwrap(), revision(2));
    assert_eq!(met(Qualifier::Live).await, Ok(1));
    assert_eq!(met(Qualifier::Revision(revision(2))).await, Ok(2));
    let next = Name::new("next").unwrap();
    assert!(matches!(met(Qualifier::Alias(next.clone())).await, Err(InvokeError::NoRevision { .. })));
    fabric.alias(&f, &next, &[(revision(2), 1)]).unwrap();
    assert_eq!(met(Qualifier::Alias(next.clone())).await, Ok(2));
    let serving = TrafficError::Serving { function: f.clone(), revision: revision(2) };
    assert_eq!(fabric.retire(&f, revision(2)), Err(serving));
    assert_eq!(fabric.unalias(&f, &next), Ok(true));
    assert_eq!(fabric.retire(&f, revision(2)), Ok(()));
    assert!(matches!(met(Qualifier::Revision(revision(2))).await, Err(InvokeError::NoRevision { .. })));
    assert_eq!(fabric.rollback(&name("g")), Err(TrafficError::NotDeployed { function: name("g") }));
}

#[tokio::test]
async fn a_canary_gets_its_share_a_retry_meets_the_same_revision_and_a_rollback_ends_it_at_once() {
    let fabric = alone(&Stage::new(), |builder| builder);
    let f = name("f");
    fabric.deploy(native("f", "echo")).await.unwrap();
    fabric.publish(native("f", "echo")).await.unwrap();
    fabric.traffic(&f, &[(revision(1), 3), (revision(2), 1)]).unwrap();
    let met = async |id| {
        let call = Invocation::new(InvocationId::new(id), name("f"), "x");
        fabric.invoke(call).await.unwrap().receipt.revision
    };
    let mut canary = 0;
    for id in 0..2000 {
        let first = met(id).await;
        canary += u32::from(first == revision(2));
        assert_eq!(met(id).await, first);
    }
    assert!((400..600).contains(&canary), "{canary} of 2000 with a quarter of the traffic");
    assert_eq!(fabric.rollback(&f), Ok(revision(1)));
    for id in 0..2000 {
        assert_eq!(met(id).await, revision(1));
    }
    let weights: Vec<_> = fabric.status(&f).iter().map(|status| (status.revision.number(), status.weight)).collect();
    assert_eq!(weights, [(1, 1), (2, 0)]);
}

#[tokio::test]
async fn calls_of_a_revision_that_is_gone_are_finished_while_it_drains() {
    let stage = Stage::new();
    let fabric = alone(&stage, |builder| builder.revisions(2));
    fabric.deploy(native("f", "gate")).await.unwrap();
    let running = spawn(&fabric, to(&fabric, "f"));
    settle().await;
    for _ in 0..3 {
        fabric.deploy(native("f", "echo")).await.unwrap();
    }
    let draining = |fabric: &Fabric| {
        let status = fabric.status(&name("f"));
        let found = status.iter().find(|status| status.lifecycle == Lifecycle::Draining);
        found.map(|status| (status.revision.number(), status.running))
    };
    assert_eq!(draining(&fabric), Some((1, 1)));
    assert_eq!(fabric.call(&name("f"), "x").await.unwrap().receipt.revision, revision(4));
    stage.gate.add_permits(1);
    assert_eq!(running.await.unwrap().unwrap().receipt.revision, revision(1));
    assert_eq!(draining(&fabric), None);
}

#[tokio::test]
async fn deployments_at_the_same_time_are_revisions_of_their_own_and_the_last_that_is_ready_is_live() {
    let fabric = alone(&Stage::new(), |builder| builder.revisions(3));
    let deployed: Vec<_> = (0..20)
        .map(|_| {
            let fabric = fabric.clone();
            tokio::spawn(async move { fabric.deploy(native("f", "echo")).await.unwrap().number() })
        })
        .collect();
    let mut numbers = Vec::new();
    for deployed in deployed {
        numbers.push(deployed.await.unwrap());
    }
    let last = *numbers.last().unwrap();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    assert_eq!(fabric.call(&name("f"), "x").await.unwrap().receipt.revision.number(), last);
    assert_eq!(fabric.status(&name("f")).len(), 3);
    assert!(fabric.undeploy(&name("f")));
    assert!(!fabric.undeploy(&name("f")));
    assert!(matches!(fabric.call(&name("f"), "x").await, Err(InvokeError::NotFound { .. })));
}

#[tokio::test]
async fn a_call_on_another_node_is_of_the_revision_and_the_tenant_that_its_receipt_says() {
    let clock: Arc<dyn scf_core::Clock> = Arc::new(SystemClock::new());
    let link = Link { latency: Duration::from_micros(100), bandwidth: Bandwidth::from_mbit_per_s(1000) };
    let network = InProcess::builder().link(node("a"), node("b"), link).build(clock.clone()).unwrap();
    let slow = Node::new(node("b"), Tier::Edge).slowdown(Slowdown::NONE);
    let fabric = alone(&Stage::new(), |builder| {
        builder.node(Node::new(node("a"), Tier::Edge)).node(slow).transport(Arc::new(network)).clock(clock)
    });
    fabric.deploy(native("f", "echo").on([node("b")])).await.unwrap();
    fabric.publish(native("f", "echo").on([node("b")])).await.unwrap();
    fabric.ready().await;
    for number in [1, 2] {
        let call = to(&fabric, "f").qualifier(Qualifier::Revision(revision(number))).tenant(tenant("acme"));
        let receipt = fabric.invoke(call).await.unwrap().receipt;
        assert_eq!((receipt.revision, receipt.tenant, receipt.node), (revision(number), tenant("acme"), node("b")));
        assert!(!receipt.host.is_zero());
    }
    let bills: BTreeMap<_, _> = fabric.tenant_bills().into_iter().collect();
    let acme = &bills[&tenant("acme")];
    assert_eq!((acme.calls, acme.failures), (2, 0));
    assert!(acme.on_wire.bytes() > 0);
    assert_eq!(bills[&TenantName::default()].calls, 0);
}
