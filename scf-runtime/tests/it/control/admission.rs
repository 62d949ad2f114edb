use scf_core::{InvokeError, LimitKind, Limits, ManualClock, Tenant};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn overloaded(result: &Result<scf_core::Outcome, InvokeError>) -> Option<Duration> {
    match result {
        Err(InvokeError::Overloaded { retry_after, .. }) => Some(*retry_after),
        _ => None,
    }
}

fn wide() -> Limits {
    Limits { concurrency: 1000, queue: 1000, ..Limits::default() }
}

#[tokio::test]
async fn tenants_share_the_room_of_a_node_by_weight_and_a_flood_holds_up_nobody_else() {
    let stage = Stage::new();
    let fabric = alone(&stage, |builder| {
        builder.concurrency(1).tenant(Tenant::new(tenant("heavy")).weight(3)).tenant(Tenant::new(tenant("light")))
    });
    fabric.deploy(native("f", "gate").limits(wide())).await.unwrap();
    let first = spawn(&fabric, to(&fabric, "f"));
    settle().await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut calls = Vec::new();
    for (name, count) in [("flood", 200), ("heavy", 30), ("light", 10)] {
        for _ in 0..count {
            let (fabric, order) = (fabric.clone(), order.clone());
            let call = to(&fabric, "f").tenant(tenant(name));
            calls.push(tokio::spawn(async move {
                fabric.invoke(call).await.unwrap();
                order.lock().unwrap().push(name);
            }));
        }
    }
    settle().await;
    for _ in 0..51 {
        stage.gate.add_permits(1);
        settle().await;
    }
    first.await.unwrap().unwrap();
    let served = |name| order.lock().unwrap().iter().filter(|served| **served == name).count();
    assert_eq!((served("flood"), served("heavy"), served("light")), (10, 30, 10));
    assert_eq!(stage.most.load(Ordering::SeqCst), 1, "the node has room for one");
    stage.gate.add_permits(1000);
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(fabric.bills()[0].1.calls, 241);
}

#[tokio::test]
async fn a_tenants_queue_and_concurrency_bound_that_tenant_alone() {
    let stage = Stage::new();
    let small = Tenant::new(tenant("small")).concurrency(1).queue(2);
    let fabric = alone(&stage, |builder| builder.tenant(small));
    fabric.deploy(native("f", "gate").limits(wide())).await.unwrap();
    let of = |name| to(&fabric, "f").tenant(tenant(name));
    let admitted: Vec<_> = (0..3).map(|_| spawn(&fabric, of("small"))).collect();
    settle().await;
    assert_eq!(stage.entered(), 1);
    assert!(overloaded(&fabric.invoke(of("small")).await).is_some());
    let other = spawn(&fabric, of("other"));
    settle().await;
    assert_eq!(stage.entered(), 2, "another tenant has room");
    stage.gate.add_permits(4);
    for call in admitted.into_iter().chain([other]) {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_call_that_would_be_too_late_is_refused_at_once_and_served_when_it_comes_back_as_told() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let fabric = alone(&stage, |builder| builder.clock(Arc::new(clock.clone())));
    let limits = Limits { concurrency: 1, ..wide() };
    fabric.deploy(native("f", "gate").limits(limits)).await.unwrap();
    let serve_one = async || {
        clock.advance(10 * MS);
        stage.gate.add_permits(1);
        settle().await;
    };
    for _ in 0..20 {
        let call = spawn(&fabric, to(&fabric, "f"));
        settle().await;
        serve_one().await;
        call.await.unwrap().unwrap();
    }
    // Calls take 10 ms; one runs and five wait.
    let ahead: Vec<_> = (0..6).map(|_| spawn(&fabric, to(&fabric, "f"))).collect();
    settle().await;
    let before = stage.entered();
    let hasty = || to(&fabric, "f").patience(45 * MS);
    let retry_after =
        overloaded(&fabric.invoke(hasty()).await).expect("what runs, five times 10 ms and its own are ahead of it");
    assert!(retry_after >= 23 * MS && retry_after <= 27 * MS, "{retry_after:?}");
    assert_eq!(stage.entered(), before, "it did not run");
    let patient = spawn(&fabric, to(&fabric, "f").patience(1000 * MS));
    settle().await;
    assert!(!patient.is_finished(), "who can wait is let in");
    patient.abort();
    for _ in 0..3 {
        serve_one().await;
    }
    let hasty = spawn(&fabric, hasty());
    settle().await;
    assert!(!hasty.is_finished(), "it came back when it was told to and is let in");
    for _ in 0..4 {
        serve_one().await;
    }
    for call in ahead.into_iter().chain([hasty]) {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_call_whose_time_is_over_when_its_turn_comes_does_not_run() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let fabric = alone(&stage, |builder| builder.clock(Arc::new(clock.clone())));
    fabric.deploy(native("f", "gate").limits(Limits { concurrency: 1, ..wide() })).await.unwrap();
    let first = spawn(&fabric, to(&fabric, "f"));
    let late = spawn(&fabric, to(&fabric, "f").patience(5 * MS));
    let last = spawn(&fabric, to(&fabric, "f"));
    settle().await;
    clock.advance(6 * MS);
    stage.gate.add_permits(2);
    let error = late.await.unwrap().unwrap_err();
    assert_eq!(error, InvokeError::Limit { function: name("f"), limit: LimitKind::Wall });
    first.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    assert_eq!(stage.entered(), 2);
    assert_eq!(fabric.bills()[0].1.failed.limit, 1);
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_the_queue_and_loses_no_room() {
    let stage = Stage::new();
    let fabric = alone(&stage, |builder| builder.concurrency(1));
    fabric.deploy(native("f", "gate").limits(Limits { queue: 4, ..wide() })).await.unwrap();
    let first = spawn(&fabric, to(&fabric, "f"));
    settle().await;
    for _ in 0..100 {
        let waiting: Vec<_> = (0..4).map(|_| spawn(&fabric, to(&fabric, "f"))).collect();
        settle().await;
        assert!(overloaded(&fabric.invoke(to(&fabric, "f")).await).is_some());
        for call in waiting {
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
    }
    let status = fabric.status(&name("f"));
    assert_eq!((status[0].running, status[0].waiting), (1, 0));
    stage.gate.add_permits(2);
    first.await.unwrap().unwrap();
    fabric.invoke(to(&fabric, "f")).await.unwrap();
    let (_, bill) = fabric.bills().remove(0);
    assert_eq!((bill.calls, bill.failed.given_up, bill.failed.overloaded), (2, 400, 100));
}

#[tokio::test]
async fn who_gives_up_at_its_turn_hands_the_room_on() {
    let stage = Stage::new();
    let fabric = alone(&stage, |builder| builder.concurrency(1));
    fabric.deploy(native("f", "gate").limits(wide())).await.unwrap();
    let first = spawn(&fabric, to(&fabric, "f"));
    settle().await;
    let (second, third) = (spawn(&fabric, to(&fabric, "f")), spawn(&fabric, to(&fabric, "f")));
    settle().await;
    // The second is called while the first ends, and given up before it hears of it.
    stage.gate.add_permits(1);
    first.await.unwrap().unwrap();
    second.abort();
    stage.gate.add_permits(2);
    third.await.unwrap().unwrap();
    assert_eq!(fabric.status(&name("f"))[0].running, 0);
}

#[tokio::test]
async fn a_call_that_another_makes_runs_in_its_room() {
    let fabric = alone(&Stage::new(), |builder| builder.concurrency(1));
    fabric.deploy(native("outer", "outer")).await.unwrap();
    fabric.deploy(native("inner", "echo")).await.unwrap();
    let outcome = fabric.invoke(to(&fabric, "outer").tenant(tenant("acme"))).await.unwrap();
    assert_eq!(&outcome.payload.bytes[..], b"x");
    let [inner] = &outcome.receipt.calls[..] else { panic!("{:?}", outcome.receipt) };
    assert_eq!(inner.tenant, tenant("acme"), "it is made on behalf of the same tenant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_a_storm_every_call_is_served_or_refused_and_no_room_is_lost() {
    let fabric = alone(&Stage::new(), |builder| builder.concurrency(3));
    fabric.deploy(native("f", "burn").limits(Limits { concurrency: 2, queue: 8, ..wide() })).await.unwrap();
    fabric.deploy(native("g", "echo").limits(Limits { queue: 8, ..wide() })).await.unwrap();
    let callers: Vec<_> = (0..32)
        .map(|at| {
            let fabric = fabric.clone();
            tokio::spawn(async move {
                let (mut served, mut refused) = (0u64, 0u64);
                for round in 0..60 {
                    let function = if (at + round) % 3 == 0 { "f" } else { "g" };
                    let call =
                        Invocation::new(fabric.new_id(), name(function), "0").tenant(tenant(&format!("t{}", at % 4)));
                    match fabric.invoke(call).await {
                        Ok(_) => served += 1,
                        Err(InvokeError::Overloaded { .. }) => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                    tokio::task::yield_now().await;
                }
                (served, refused)
            })
        })
        .collect();
    let (mut served, mut refused) = (0, 0);
    for caller in callers {
        let (more, less) = caller.await.unwrap();
        (served, refused) = (served + more, refused + less);
    }
    assert_eq!(served + refused, 32 * 60);
    let bills = fabric.tenant_bills();
    assert_eq!(bills.iter().map(|(_, bill)| bill.calls).sum::<u64>(), served);
    assert_eq!(bills.iter().map(|(_, bill)| bill.failed.overloaded).sum::<u64>(), refused);
    for function in ["f", "g"] {
        let status = &fabric.status(&name(function))[0];
        assert_eq!((status.running, status.waiting), (0, 0));
        fabric.call(&name(function), "0").await.unwrap();
    }
}
