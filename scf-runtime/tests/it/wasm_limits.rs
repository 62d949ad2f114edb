//! Guests that run into each of the limits.

use std::{sync::Arc, time::Duration};

use scf_core::{ByteSize, Function, InvokeError, IsolateFactory, LimitKind, Limits, Payload, PrepareError, TenantName};
use scf_runtime::{Profile, WasmFactory};

use crate::{
    support::{self, Alone, run},
    wasm::{component, cpu, factory, fallible, guest, over},
};

fn tenant(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

async fn limit_of(factory: &WasmFactory, function: &Function) -> LimitKind {
    match run(factory, function, "").await {
        Err(InvokeError::Limit { limit, .. }) => limit,
        other => panic!("{other:?} is no limit"),
    }
}

#[tokio::test]
async fn recursion_without_end_is_ended_by_the_stack() {
    let recurses = fallible("1", "(func $again (call $again))", "(call $again) (i32.const 0)");
    assert_eq!(limit_of(&factory(), &recurses).await, LimitKind::Stack);
}

#[tokio::test]
async fn tables_grow_up_to_their_limit() {
    let grows = fallible(
        "1",
        "(table $t 0 funcref)
         (func $grow (param i32) (if (i32.lt_s (table.grow $t (ref.null func) (local.get 0)) (i32.const 0)) (then unreachable)))",
        "(call $grow (i32.const 10000)) (call $grow (i32.const 1)) (i32.const 0)",
    );
    assert_eq!(limit_of(&factory(), &grows).await, LimitKind::Table);
    // Each has no more than one may have, all together have more.
    let three = component(
        "f",
        r#"(component
          (core module $m (memory (export "memory") 0) (table 9000 funcref)
            (func (export "run") (param i32 i32) (result i32) (i32.const 0))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
          (core instance $i (instantiate $m)) (core instance $j (instantiate $m)) (core instance $k (instantiate $m))
          (func (export "f") (param "input" (list u8)) (result (list u8))
            (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#,
    );
    assert_eq!(limit_of(&factory(), &three).await, LimitKind::Table);
}

#[tokio::test]
async fn a_component_with_too_many_instances_is_refused_when_deployed() {
    let instances: String = (0..17).map(|n| format!("(core instance $i{n} (instantiate $m))")).collect();
    let many = component(
        "f",
        &format!(
            r#"(component
              (core module $m (memory (export "memory") 0)
                (func (export "run") (param i32 i32) (result i32) (i32.const 0))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
              {instances}
              (func (export "f") (param "input" (list u8)) (result (list u8))
                (canon lift (core func $i0 "run") (memory (core memory $i0 "memory")) (realloc (core func $i0 "realloc")))))"#
        ),
    );
    assert!(matches!(factory().prepare(&many).await, Err(PrepareError::InvalidCode { .. })));
}

#[tokio::test]
async fn handles_are_counted() {
    let hoards = component(
        "f",
        r#"(component
          (type $r (resource (rep i32)))
          (core func $new (canon resource.new $r))
          (core module $m
            (import "" "new" (func $new (param i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "run") (param i32 i32) (result i32)
              (loop $more (drop (call $new (i32.const 1))) (br $more)) (i32.const 0))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16)))
          (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
          (func (export "f") (param "input" (list u8)) (result (list u8))
            (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#,
    );
    assert_eq!(limit_of(&factory(), &hoards).await, LimitKind::Handles);
}

#[tokio::test]
async fn what_the_host_allocates_for_a_guest_is_bounded() {
    // Says that its output is 32 MiB long, which is all of its memory.
    let large = fallible("512", "", "(i32.store (i32.const 8) (i32.const 33554432)) (i32.const 0)");
    assert_eq!(limit_of(&factory(), &large).await, LimitKind::HostMemory);
}

#[tokio::test]
async fn a_tenant_has_its_memory_over_all_of_its_isolates_and_another_its_own() {
    let factory = WasmFactory::builder()
        .instances(4)
        .tenant_memory(tenant("small"), ByteSize::from_mib(3))
        .tenant_memory(tenant("large"), ByteSize::from_mib(64))
        .build()
        .unwrap();
    // Two memories of 2 MiB at the same time: the first guest waits for a tick, by running for longer.
    let spins = fallible("32", "", "(loop $again (br $again)) (i32.const 0)").limits(cpu(60_000));
    let asks = fallible("32", "", "(i32.const 0)");
    let prepared = factory.prepare(&spins).await.unwrap();
    let mut call = support::call(&spins, Alone::new());
    call.tenant = tenant("small");
    let holds = async {
        let mut isolate = prepared.instantiate().await.unwrap();
        isolate.invoke(&call, Payload::default()).await
    };
    let meanwhile = async {
        while factory.tenant_memory(&tenant("small")) == ByteSize::ZERO {
            tokio::task::yield_now().await;
        }
        let small = run(&factory, &asks.clone().tenant(tenant("small")), "").await;
        let large = run(&factory, &asks.clone().tenant(tenant("large")), "").await;
        (small, large)
    };
    tokio::select! {
        biased;
        ended = holds => panic!("{ended:?}"),
        (small, large) = meanwhile => {
            assert_eq!(small.unwrap_err(), over("f", LimitKind::TenantMemory));
            assert_eq!(large.unwrap().usage.memory, ByteSize::from_mib(2));
        }
    }
    // The guest that was given up may still be on its way to its next tick.
    let given_back = async {
        while factory.tenant_memory(&tenant("small")) != ByteSize::ZERO {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), given_back).await.expect("what it had is given back");
    assert_eq!(factory.tenant_memory(&tenant("large")), ByteSize::ZERO);
}

#[tokio::test]
async fn instructions_are_counted_alike_every_time_and_end_at_their_limit() {
    let factory = WasmFactory::builder().instances(2).fuel(1_000_000).build().unwrap();
    let echo = guest("echo", "echo");
    let first = run(&factory, &echo, "some bytes").await.unwrap().usage.fuel;
    assert!(first.is_some_and(|fuel| (1..1_000_000).contains(&fuel)), "{first:?}");
    assert_eq!(run(&factory, &echo, "some bytes").await.unwrap().usage.fuel, first);
    assert_eq!(limit_of(&factory, &guest("hostile", "spin")).await, LimitKind::Fuel);
    let uncounted = run(&crate::wasm::factory(), &echo, "x").await.unwrap();
    assert_eq!(uncounted.usage.fuel, None);
}

#[tokio::test]
async fn every_profile_runs_a_guest_and_ends_one_that_reads_outside_of_its_memory() {
    let limits = Limits { memory: ByteSize::from_mib(16), ..Limits::default() };
    for profile in [Profile::Gateway, Profile::Server, Profile::Tiny] {
        let factory = WasmFactory::builder().profile(profile).instances(2).build().unwrap();
        let reply = run(&factory, &guest("greet", "greet").limits(limits), "Zoë").await.unwrap();
        assert_eq!(reply.payload.bytes, "hello, Zoë", "{profile:?}");
        for address in [65536_u32, 0x7fff_0000, u32::MAX] {
            let body = format!("(i32.load8_u (i32.const {address}))");
            let ended = run(&factory, &fallible("1", "", &body).limits(limits), "").await.unwrap_err();
            assert!(
                matches!(&ended, InvokeError::Trapped { message, .. } if message.contains("out of bounds")),
                "{ended:?}"
            );
        }
    }
}

#[tokio::test]
async fn more_memory_than_a_profile_has_is_an_error_at_the_start() {
    let large = WasmFactory::builder().memory(ByteSize::from_mib(65)).instances(1).build().unwrap_err();
    assert_eq!(large.to_string(), "instances of up to 65.0 MiB where profile Gateway has at most 64.0 MiB");
    let server = WasmFactory::builder().profile(Profile::Server).memory(ByteSize::from_mib(256)).instances(1);
    assert_eq!(server.build().unwrap().instances(), 1);
}

/// On one thread, so that the two can only take turns; what is counted is who was done first.
#[tokio::test]
async fn a_tenant_of_more_weight_is_done_first_where_both_run_long() {
    let factory = WasmFactory::builder().instances(4).tenant_weight(tenant("heavy"), 4).build().unwrap();
    let spin = guest("hostile", "spin").limits(cpu(60));
    let prepared = factory.prepare(&spin).await.unwrap();
    let spins = |name: &'static str| {
        let prepared = Arc::clone(&prepared);
        let mut call = support::call(&spin, Alone::new());
        call.tenant = tenant(name);
        async move {
            let ended = prepared.instantiate().await.unwrap().invoke(&call, Payload::default()).await;
            assert_eq!(ended.unwrap_err(), over("hostile", LimitKind::Cpu));
            name
        }
    };
    let (light, heavy) = (spins("light"), spins("heavy"));
    let first = tokio::select! {
        biased;
        name = light => name,
        name = heavy => name,
    };
    assert_eq!(first, "heavy");
    assert!(Duration::from_millis(60) <= spin.limits.cpu);
}

#[tokio::test]
async fn what_a_fabric_is_told_of_a_tenant_holds_for_its_guests_unless_the_factory_knows_better() {
    for (own, expected) in [(None, Some(LimitKind::TenantMemory)), (Some(ByteSize::from_mib(4)), None)] {
        let mut wasm = WasmFactory::builder().instances(2);
        if let Some(memory) = own {
            wasm = wasm.tenant_memory(tenant("small"), memory);
        }
        let fabric = scf_runtime::Fabric::builder()
            .scheduler(Arc::new(scf_sched::RoundRobin::default()))
            .isolates(Arc::new(wasm.build().unwrap()))
            .tenant(scf_core::Tenant::new(tenant("small")).memory(ByteSize::from_mib(1)))
            .build()
            .unwrap();
        let two_mebibytes = fallible("32", "", "(i32.const 0)").tenant(tenant("small"));
        fabric.deploy(two_mebibytes.clone()).await.unwrap();
        let ended = fabric.call(&two_mebibytes.name, Payload::default()).await;
        let limit = match ended {
            Err(InvokeError::Limit { limit, .. }) => Some(limit),
            other => other.map(|_| None).unwrap(),
        };
        assert_eq!(limit, expected, "with {own:?} of its own");
    }
}
