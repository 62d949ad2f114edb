//! Processes that are kept from call to call.

use std::{future::poll_fn, path::Path, pin::Pin, task::Poll, time::Duration};

use scf_core::{Function, InvokeError, IsolateFactory, Payload, Reuse};
use scf_runtime::process::{ProcessFactory, current};

use super::{PYTHON, factory, invoke, process, this, trapped};
use crate::support::{Alone, call};

fn warm(max_idle: u32, max_calls: u32, max_age: Duration) -> Function {
    process("count").reuse(Reuse::Warm { max_idle, max_calls, max_age })
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_warm_process_serves_so_many_calls_and_no_more() {
    let factory = factory();
    let function = warm(1, 3, LONG);
    let prepared = factory.prepare(&function).await.unwrap();
    let mut replies = Vec::new();
    for _ in 0..7 {
        let reply = invoke(&*prepared, &function, "").await.unwrap();
        assert!(reply.usage.cpu > Duration::ZERO);
        replies.push((String::from_utf8(reply.payload.bytes.to_vec()).unwrap(), reply.reused));
    }
    let texts: Vec<_> = replies.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["1", "2", "3", "1", "2", "3", "1"]);
    assert_eq!(
        replies.iter().map(|(_, reused)| *reused).collect::<Vec<_>>(),
        [false, true, true, false, true, true, false]
    );
}

#[tokio::test]
async fn a_process_is_told_of_its_call_and_of_the_attempt() {
    let factory = factory();
    for (entry, ask) in [("behave", "current"), ("python", "attempt")] {
        if entry == "python" && !Path::new(PYTHON).exists() {
            println!("skipped: no {PYTHON}");
            continue;
        }
        let function = process(entry).reuse(Reuse::Warm { max_idle: 1, max_calls: 100, max_age: LONG });
        let prepared = factory.prepare(&function).await.unwrap();
        for attempt in [1, 3, 300] {
            let mut call = call(&function, Alone::new());
            call.attempt = attempt;
            let reply = prepared.instantiate().await.unwrap().invoke(&call, Payload::new(ask)).await.unwrap();
            let told = String::from_utf8(reply.payload.bytes.to_vec()).unwrap();
            match entry {
                "python" => assert_eq!(told, attempt.to_string()),
                _ => assert_eq!(told, format!("Some(GuestCall {{ id: {:?}, attempt: {attempt} }})", call.id)),
            }
        }
    }
    assert_eq!(current(), None, "this is no jailed child");
}

#[tokio::test]
async fn a_process_that_is_too_old_or_has_failed_is_not_used_again() {
    let factory = factory();
    let old = warm(1, 100, Duration::ZERO);
    let prepared = factory.prepare(&old).await.unwrap();
    for _ in 0..2 {
        assert_eq!(invoke(&*prepared, &old, "").await.unwrap().payload.bytes, "1");
    }
    let fails = process("behave").reuse(Reuse::Warm { max_idle: 4, max_calls: 100, max_age: LONG });
    let prepared = factory.prepare(&fails).await.unwrap();
    trapped(invoke(&*prepared, &fails, "exit").await.unwrap_err());
    // A refusal is an answer; the process has done nothing wrong.
    for reused in [false, true] {
        let error = invoke(&*prepared, &fails, "refuse").await.unwrap_err();
        assert!(matches!(error, InvokeError::Refused { .. }), "{reused}");
    }
    assert!(invoke(&*prepared, &fails, "print").await.unwrap().reused);
}

#[tokio::test]
async fn as_many_processes_as_asked_for_are_kept_ready() {
    let factory = factory();
    let function = warm(3, 100, LONG);
    let prepared = factory.prepare(&function).await.unwrap();
    assert_eq!(prepared.keep(8).await.unwrap(), 3, "no more than may be idle");
    let mut isolates = Vec::new();
    for _ in 0..3 {
        isolates.push(prepared.instantiate().await.unwrap());
    }
    assert_eq!(prepared.keep(0).await.unwrap(), 0);
    for isolate in &mut isolates {
        let reply = isolate.invoke(&call(&function, Alone::new()), Payload::default()).await.unwrap();
        assert_eq!((reply.payload.bytes.as_ref(), reply.reused), (b"1".as_slice(), false));
    }
}

#[tokio::test]
async fn where_all_processes_are_at_work_a_call_is_refused_and_an_idle_one_makes_room() {
    let factory = ProcessFactory::builder().with("count", this()).with("behave", this()).processes(1).build().unwrap();
    let idle = warm(1, 100, LONG);
    let prepared = factory.prepare(&idle).await.unwrap();
    assert_eq!(invoke(&*prepared, &idle, "").await.unwrap().payload.bytes, "1");
    // The process of the one function waits for calls and makes room for that of the other.
    let behave = factory.prepare(&process("behave")).await.unwrap();
    let (function, host) = (process("behave"), Alone::new());
    let call = call(&function, host);
    let mut isolate = behave.instantiate().await.unwrap();
    let mut hanging = isolate.invoke(&call, Payload::new("hang"));
    poll_until_started(&mut hanging).await;
    let refused = invoke(&*prepared, &idle, "").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Overloaded { .. }), "{refused:?}");
}

/// Polls a call that never ends until its process has a number of its own.
async fn poll_until_started<F: Future + Unpin>(call: &mut F) {
    for _ in 0..100 {
        let is_ready = poll_fn(|cx| Poll::Ready(Pin::new(&mut *call).poll(cx).is_ready())).await;
        assert!(!is_ready);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
