//! Traces through calls, nodes, queues, timers and workflows, with what systems say about them.

use std::{
    num::NonZeroU128,
    sync::{Arc, Mutex},
    time::Duration,
};

use scf_core::{
    Bandwidth, Callee, Due, Function, Invocation, InvocationId, Link, Name, Node, Payload, Tier, TraceContext,
    TraceState, Workflow,
};
use scf_runtime::{Fabric, NativeFactory, SystemClock, transport::InProcess};
use scf_sched::Pipeline;

use crate::{
    actor::{HOUR, empty_kitchen, pass},
    support::{name, node},
};

const STATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";

fn trace() -> TraceContext {
    let context: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    context.with_state(TraceState::of([STATE]))
}

/// The traces that calls were in, in their order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Option<TraceContext>>>>);

impl Seen {
    /// `note` notes its trace; `outer` calls it; `alarm` notes its trace and sets a timer or a reminder of itself.
    fn natives(&self) -> NativeFactory {
        let (note, alarm) = (self.clone(), self.clone());
        NativeFactory::new()
            .with("note", move |call, input| {
                note.0.lock().unwrap().push(call.call().trace.clone());
                Box::pin(async move { Ok(input) })
            })
            .unwrap()
            .with("outer", |call, payload| {
                let callee = Callee { function: name("note"), node: None, key: None, payload };
                Box::pin(async move { call.invoke(callee).await })
            })
            .unwrap()
            .with("alarm", move |call, input| {
                alarm.0.lock().unwrap().push(call.call().trace.clone());
                Box::pin(async move {
                    match &input.bytes[..] {
                        b"timer" => call.set_timer("t", Due::After(HOUR), "ring")?,
                        b"reminder" => call.set_reminder("t", Due::After(HOUR), HOUR, "ring")?,
                        _ => {}
                    }
                    Ok(Payload::default())
                })
            })
            .unwrap()
    }

    fn take(&self) -> Vec<TraceContext> {
        std::mem::take(&mut *self.0.lock().unwrap()).into_iter().map(|trace| trace.expect("it has one")).collect()
    }
}

fn native(of: &str) -> Function {
    Function::native(name(of), Name::new(of).unwrap())
}

fn asks(function: &str, payload: &str) -> Invocation {
    Invocation::new(InvocationId::new(7), name(function), payload.to_owned()).trace(trace())
}

/// Whether `seen` is a step further in the trace of these tests, with all that is said about it.
fn is_further(seen: &TraceContext) -> bool {
    seen.trace_id() == trace().trace_id()
        && seen.span_id() != trace().span_id()
        && seen.is_sampled()
        && seen.state().as_str() == STATE
}

#[tokio::test]
async fn what_systems_say_about_a_trace_goes_to_called_functions_and_other_nodes() {
    let seen = Seen::default();
    let link = Link { latency: Duration::from_micros(50), bandwidth: Bandwidth::from_mbit_per_s(800) };
    let network = InProcess::builder().link(node("a"), node("b"), link).build(Arc::new(SystemClock::new())).unwrap();
    let fabric = Fabric::builder()
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(Arc::new(seen.natives()))
        .node(Node::new(node("a"), Tier::Edge))
        .node(Node::new(node("b"), Tier::Edge))
        .transport(Arc::new(network))
        .build()
        .unwrap();
    fabric.deploy(native("outer").on([node("a")])).await.unwrap();
    fabric.deploy(native("note").on([node("b")])).await.unwrap();
    fabric.ready().await;
    let outcome = fabric.invoke(asks("outer", "x")).await.unwrap();
    assert_eq!(outcome.receipt.calls[0].node, node("b"));
    assert!(matches!(&seen.take()[..], [seen] if is_further(seen)));
}

#[tokio::test]
async fn what_a_timer_does_belongs_to_the_trace_of_the_call_that_set_it() {
    let seen = Seen::default();
    let (fabric, queue, clock) = empty_kitchen(false, Arc::new(seen.natives())).await;
    fabric.deploy(native("alarm").stateful()).await.unwrap();
    fabric.invoke(asks("alarm", "timer").key("k")).await.unwrap();
    pass(&clock, &queue, HOUR).await;
    let seen = seen.take();
    let [setter, rung] = &seen[..] else { panic!("{seen:?}") };
    assert!(is_further(setter) && is_further(rung) && setter.span_id() != rung.span_id(), "{seen:?}");
}

#[tokio::test]
async fn each_time_that_a_reminder_comes_is_a_trace_of_its_own() {
    let seen = Seen::default();
    let (fabric, queue, clock) = empty_kitchen(false, Arc::new(seen.natives())).await;
    fabric.deploy(native("alarm").stateful()).await.unwrap();
    fabric.invoke(asks("alarm", "reminder").key("k")).await.unwrap();
    for _ in 0..3 {
        pass(&clock, &queue, HOUR).await;
    }
    let seen = seen.take();
    let mut traces: Vec<NonZeroU128> = seen.iter().map(TraceContext::trace_id).collect();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!((seen.len(), traces.len()), (4, 4), "{seen:?}");
    // What was said about the trace of the call that set it is not said of these.
    assert!(seen[1..].iter().all(|seen| seen.is_sampled() && seen.state().is_empty()), "{seen:?}");
}

#[tokio::test]
async fn the_steps_of_a_run_belong_to_the_trace_that_it_is_started_in() {
    let seen = Seen::default();
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(seen.natives()));
    let fabric = fabric.node(Node::new(node("here"), Tier::Edge)).build().unwrap();
    fabric.deploy(native("note")).await.unwrap();
    let twice = Name::new("twice").unwrap();
    fabric.deploy_workflow(Workflow::new(twice.clone()).then(name("note")).then(name("note"))).unwrap();
    let id = InvocationId::new(7);
    fabric.run_traced(&twice, &node("here"), id, None, "x", trace()).await.unwrap();
    let steps = seen.take();
    let [first, second] = &steps[..] else { panic!("{steps:?}") };
    assert!(is_further(first) && is_further(second) && first.span_id() != second.span_id(), "{steps:?}");
    fabric.run(&twice, &node("here"), id, None, "x").await.unwrap();
    assert_eq!(*seen.0.lock().unwrap(), [None, None]);
}
