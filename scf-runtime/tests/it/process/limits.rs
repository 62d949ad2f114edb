//! Calls that end badly or go over a limit, and what they are billed.

use std::time::Duration;

use scf_core::{ByteSize, InvokeError, IsolateFactory, LimitKind, Limits, Payload, Reply};
use scf_runtime::process::{Jail, Layer};

use super::{factory, factory_in, invoke, invoke_on, process, refused, trapped, within};
use crate::support::{Alone, call, name, run};

#[tokio::test]
async fn each_bad_ending_is_one_failed_call_that_says_how() {
    let factory = factory();
    let prepared = factory.prepare(&process("behave")).await.unwrap();
    let endings = [
        ("exit", "exited with code 3"),
        ("panic", "seven is not\\u{1b}[31m a number"),
        ("overflow", "overflowed its stack"),
        ("abort", "ended by signal"),
        ("garbage", "sent what is no frame"),
        ("unknown", "sent a frame of a kind that is no answer"),
    ];
    for (how, said) in endings {
        let message = trapped(invoke(&*prepared, &process("behave"), how).await.unwrap_err());
        assert!(message.contains(said), "{how}: {message}");
    }
    assert_eq!(refused(invoke(&*prepared, &process("behave"), "refuse").await.unwrap_err()), "bad \\u{1b}[31minput");
    assert_eq!(invoke(&*prepared, &process("behave"), "print").await.unwrap().payload.bytes, "");
}

#[tokio::test]
async fn a_process_over_a_limit_is_ended_and_the_limit_is_named() {
    let factory = factory();
    let limits = Limits {
        memory: ByteSize::from_mib(48),
        cpu: Duration::from_millis(500),
        payload: ByteSize::from_mib(1),
        ..Limits::default()
    };
    let function = within("behave", limits);
    let prepared = factory.prepare(&function).await.unwrap();
    let cases = [
        ("spin", LimitKind::Cpu),
        ("spin in threads", LimitKind::Cpu),
        ("memory", LimitKind::Memory),
        ("oversize", LimitKind::Output),
        ("large", LimitKind::Output),
    ];
    for (how, limit) in cases {
        let host = Alone::new();
        let error = invoke_on(&*prepared, &function, how, &host).await.unwrap_err();
        assert_eq!(error, InvokeError::Limit { function: name("behave"), limit }, "{how}");
        assert!(host.paced() > Duration::ZERO, "{how} is billed");
        if limit == LimitKind::Cpu {
            assert!(host.paced() >= limits.cpu, "{how}: {:?}", host.paced());
        }
    }
}

#[tokio::test]
async fn memory_is_bounded_without_a_control_group_too() {
    let factory = factory_in(Jail::default().without(Layer::Cgroup));
    let function = within("behave", Limits { memory: ByteSize::from_mib(48), ..Limits::default() });
    let error = run(&factory, &function, "memory").await.unwrap_err();
    assert_eq!(error, InvokeError::Limit { function: name("behave"), limit: LimitKind::Memory });
}

#[tokio::test]
async fn the_peak_of_memory_is_on_the_bill() {
    let factory = factory();
    let Reply { usage, spans, .. } = run(&factory, &process("behave"), "use 20 MiB").await.unwrap();
    assert_eq!(spans.iter().map(|span| &*span.name).collect::<Vec<_>>(), ["init"], "its start is a part of the call");
    assert!((20..40).contains(&(usage.memory.bytes() >> 20)), "{}", usage.memory);
}

#[tokio::test]
async fn a_process_makes_no_more_threads_than_it_may_and_no_other_process() {
    let factory = factory_in(Jail::default().threads(20));
    let threads = run(&factory, &process("behave"), "threads").await.unwrap().payload;
    let threads: u32 = std::str::from_utf8(&threads.bytes).unwrap().parse().unwrap();
    assert!((10..20).contains(&threads), "{threads}");
    let error = run(&factory, &process("attack"), "run /bin/true").await.unwrap_err();
    assert!(refused(error).contains("not permitted"));
}

#[tokio::test]
async fn a_call_that_is_given_up_is_metered_all_the_same() {
    let factory = factory();
    let function = process("behave");
    let prepared = factory.prepare(&function).await.unwrap();
    let call = call(&function, Alone::new());
    let mut isolate = prepared.instantiate().await.unwrap();
    let spinning = isolate.invoke(&call, Payload::new("spin"));
    let enough = async {
        while call.meter.usage().cpu < Duration::from_millis(30) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ended = spinning => panic!("{ended:?}"),
        () = enough => {}
    }
    assert!(call.meter.usage().memory > ByteSize::ZERO);
}
