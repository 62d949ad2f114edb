//! What calls are told of themselves, by `scf:function/context` and `Call`, and what of it they pass on.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use scf_core::{
    Bandwidth, Battery, Clock, ClockGrant, Durability, Energy, Function, Grants, Invocation, InvocationId,
    InvocationQueue as _, Limits, Link, Name, Node, Objectives, QueuedCall, Rates, RetryPolicy, Reuse, StateStore,
    Tier, TraceContext, Zone,
};
use scf_runtime::{Fabric, FabricBuilder, NativeFactory, SystemClock, transport::InProcess};
use scf_sched::{Pipeline, SloKeeper};
use scf_state::{AlwaysRemote, MemoryQueue, MemoryState, PhaseConfig, PhasedState, QueueConfig};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{
    support::{name, node},
    wasm::guest,
    world::builder,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn trace() -> TraceContext {
    format!("00-{TRACE}-{PARENT}-01").parse().unwrap()
}

/// The guest that says what it is told, under another name.
fn told(function: &str) -> Function {
    let mut told = guest("services", "run");
    told.name = name(function);
    told
}

/// One node with guests and what else is registered.
fn alone(natives: NativeFactory) -> FabricBuilder {
    let wasm = builder().build().unwrap();
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default()));
    fabric.isolates(Arc::new(wasm)).isolates(Arc::new(natives))
}

fn asks(id: u128, function: &str, command: &str) -> Invocation {
    Invocation::new(InvocationId::new(id), name(function), command.to_owned())
}

async fn answer(fabric: &Fabric, invocation: Invocation) -> String {
    let outcome = fabric.invoke(invocation).await.unwrap();
    str::from_utf8(&outcome.payload.bytes).unwrap().trim_end().to_owned()
}

/// What [`answer`] gives of `2 current`: attempt, start and traceparent.
async fn current(fabric: &Fabric, invocation: Invocation) -> [String; 3] {
    let answer = answer(fabric, invocation).await;
    let words: Vec<_> = answer.split(' ').map(String::from).collect();
    [1, 2, 3].map(|at: usize| words[at].clone())
}

/// The fields of the spans `faas.invoke`, by the name of the function.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<HashMap<String, Fields>>>);

#[derive(Clone, Default)]
struct Fields(HashMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name() == "faas.invoke"
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        self.0.lock().unwrap().insert(fields.0["faas.name"].clone(), fields);
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Spans {
    /// What `call` gives once there are spans of `functions`. A call site that another test registers at this moment
    /// has not heard of this subscriber yet.
    async fn of<T>(&self, functions: &[&str], call: impl AsyncFn() -> T) -> T {
        let all = async {
            loop {
                tracing::callsite::rebuild_interest_cache();
                let given = call().await;
                let seen = self.0.lock().unwrap();
                if functions.iter().all(|function| seen.contains_key(*function)) {
                    return given;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("calls have spans")
    }

    fn field(&self, function: &str, field: &str) -> Option<String> {
        self.0.lock().unwrap()[function].0.get(field).cloned()
    }
}

#[tokio::test]
async fn a_guest_is_told_of_its_attempt_and_of_its_key_to_what_was_done_before() {
    let fabric = alone(NativeFactory::new()).build().unwrap();
    fabric.deploy(told("f")).await.unwrap();
    let first = answer(&fabric, asks(0xabc, "f", "2 current")).await;
    let id = format!("{:032x}", 0xabc);
    assert!(first.starts_with(&format!("{id} 1 cold none f default none ")), "{first}");
    let second = answer(&fabric, asks(0xabc, "f", "2 current").attempt(2)).await;
    assert!(second.starts_with(&format!("{id} 2 cold none f ")), "{second}");
}

#[tokio::test]
async fn a_guest_is_told_whether_its_instance_was_made_for_the_call() {
    let fabric = alone(NativeFactory::new()).build().unwrap();
    let warm = Reuse::Warm { max_idle: 1, max_calls: 10, max_age: Duration::MAX };
    fabric.deploy(told("f").reuse(warm)).await.unwrap();
    for id in 0..3 {
        let outcome = fabric.invoke(asks(id, "f", "2 current")).await.unwrap();
        let text = String::from_utf8(outcome.payload.bytes.to_vec()).unwrap();
        let start = if outcome.receipt.cold { " cold " } else { " warm " };
        assert!(text.contains(start) && outcome.receipt.cold == (id == 0), "{id}: {text}");
    }
}

#[tokio::test]
async fn a_trace_goes_on_through_calls_of_calls_and_spans_say_where_each_stands() {
    let fabric = alone(NativeFactory::new()).build().unwrap();
    fabric.deploy(told("outer").grants(Grants { functions: vec![name("inner")], ..Grants::default() })).await.unwrap();
    fabric.deploy(told("inner")).await.unwrap();
    let spans = Spans::default();
    let guard = tracing::subscriber::set_default(spans.clone());
    let call = async || current(&fabric, asks(1, "outer", "call inner 2 current").trace(trace())).await;
    let [_, _, inner] = spans.of(&["outer", "inner"], call).await;
    drop(guard);
    let span = |function| spans.field(function, "span_id").unwrap();
    assert_eq!(inner, format!("00-{TRACE}-{}-01", span("inner")));
    for (function, parent) in [("outer", PARENT.to_owned()), ("inner", span("outer"))] {
        assert_eq!(spans.field(function, "trace_id").as_deref(), Some(TRACE));
        assert_eq!(spans.field(function, "parent_span_id"), Some(parent), "{function}");
    }
    assert_ne!(span("inner"), span("outer"));
}

#[tokio::test]
async fn a_call_that_nobody_traces_has_no_trace() {
    let fabric = alone(NativeFactory::new()).build().unwrap();
    fabric.deploy(told("f")).await.unwrap();
    let spans = Spans::default();
    let guard = tracing::subscriber::set_default(spans.clone());
    let [_, _, trace] = spans.of(&["f"], async || current(&fabric, asks(1, "f", "2 current")).await).await;
    drop(guard);
    assert_eq!(trace, "none");
    for field in ["trace_id", "span_id", "parent_span_id"] {
        assert_eq!(spans.field("f", field), None, "{field}");
    }
}

#[tokio::test]
async fn attempt_and_trace_travel_to_other_nodes() {
    let link = Link { latency: Duration::from_micros(50), bandwidth: Bandwidth::from_mbit_per_s(800) };
    let network = InProcess::builder().link(node("a"), node("b"), link).build(Arc::new(SystemClock::new())).unwrap();
    let builder = alone(NativeFactory::new()).node(Node::new(node("a"), Tier::Edge));
    let fabric = builder.node(Node::new(node("b"), Tier::Edge)).transport(Arc::new(network)).build().unwrap();
    fabric.deploy(told("f").on([node("b")])).await.unwrap();
    fabric.ready().await;
    let outcome = fabric.invoke(asks(1, "f", "2 current").attempt(3).trace(trace())).await.unwrap();
    let text = String::from_utf8(outcome.payload.bytes.to_vec()).unwrap();
    assert_eq!(outcome.receipt.node, node("b"));
    assert!(text.contains(&format!(" 3 cold 00-{TRACE}-")) && !text.contains(PARENT), "{text}");
}

#[tokio::test]
async fn calls_out_of_a_queue_are_counted_and_stay_in_their_trace() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let retry =
        RetryPolicy { base: Duration::from_millis(2), longest: Duration::from_millis(20), ..RetryPolicy::default() };
    let queue = Arc::new(MemoryQueue::new(clock, QueueConfig { retry, ..QueueConfig::default() }));
    let seen: Arc<Mutex<Vec<(u32, _)>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let native = NativeFactory::new().with("third", move |call, input| {
        let (attempt, trace) = (call.call().attempt, call.call().trace.clone());
        noted.lock().unwrap().push((attempt, trace));
        Box::pin(async move {
            assert!(attempt >= 3, "not yet");
            Ok(input)
        })
    });
    let fabric = alone(native.unwrap()).queue(queue.clone()).build().unwrap();
    fabric.deploy(Function::native(name("third"), Name::new("third").unwrap())).await.unwrap();
    let id = InvocationId::new(1);
    fabric.enqueue(QueuedCall::new(id, name("third"), "x").trace(trace())).await.unwrap();
    assert_eq!(fabric.settled(id).await.unwrap().unwrap().attempts, 3);
    assert_eq!(queue.load().pending, 0);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>(), [1, 2, 3]);
    let mut spans: Vec<_> = seen.iter().map(|(_, trace)| trace.as_ref().unwrap().span_id()).collect();
    assert!(seen.iter().all(|(_, seen)| seen.as_ref().unwrap().trace_id() == trace().trace_id()));
    spans.dedup();
    assert_eq!(spans.len(), 3, "each attempt has a span of its own");
}

#[tokio::test]
async fn a_run_after_the_state_has_moved_on_is_another_attempt() {
    let fabric: Arc<OnceLock<Fabric>> = Arc::default();
    let other = Arc::clone(&fabric);
    let native = NativeFactory::new().with("overtaken", move |call, input| {
        let other = other.clone();
        Box::pin(async move {
            let (attempt, state) = (call.call().attempt, call.state()?);
            state.get("k").await?;
            state.put("k", input.bytes.clone());
            if &input.bytes[..] == b"slow" && attempt == 1 {
                let fabric = other.get().expect("it is set before the call");
                fabric.invoke(asks(2, "overtaken", "fast").key("k")).await?;
            }
            Ok(attempt.to_string().into())
        })
    });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (home, local) = (Arc::new(MemoryState::new()), Arc::new(MemoryState::new()));
    // Two calls of a key may run side by side.
    let config = PhaseConfig { beside: 2, durability: Durability::Memory, ..PhaseConfig::default() };
    let policy = Arc::new(AlwaysRemote);
    let store = PhasedState::with(node("here"), home, local, policy, clock.clone(), config).unwrap();
    let builder = alone(native.unwrap()).node(Node::new(node("here"), Tier::Edge)).clock(clock);
    let built = builder.state(node("here"), Arc::new(store) as Arc<dyn StateStore>).build().unwrap();
    built.deploy(Function::native(name("overtaken"), Name::new("overtaken").unwrap()).stateful()).await.unwrap();
    let built = fabric.get_or_init(|| built);
    assert_eq!(answer(built, asks(1, "overtaken", "slow").key("k")).await, "2");
}

#[tokio::test]
async fn a_guest_is_told_what_is_left_as_far_as_it_may_know_the_time() {
    let rates = Rates { joules: 4.0, ..Rates::default() };
    let battery = Battery { watt_hours: 10, percent: 80 };
    let here = Node::new(node("here"), Tier::Device).zone(Zone::new("z").unwrap()).rates(rates).battery(battery);
    let fabric = alone(NativeFactory::new()).node(here).slo(Arc::new(SloKeeper::default())).build().unwrap();
    let limits = Limits { cpu: Duration::from_secs(20), ..Limits::default() };
    let promised = Objectives::none().energy(Energy::from_joules(50.0));
    let left = async |clock: ClockGrant, objectives: Objectives| {
        let function = told("f").limits(limits).objectives(objectives).grants(Grants { clock, ..Grants::default() });
        fabric.deploy(function).await.unwrap();
        answer(&fabric, Invocation::new(fabric.new_id(), name("f"), "spin 3000000")).await
    };
    assert_eq!(left(ClockGrant::Stopped, promised.clone()).await, "20000000 Some(50000000)");
    let precise = left(ClockGrant::Precise, promised).await;
    let (cpu, energy) = precise.split_once(" Some(").unwrap();
    let (cpu, energy): (u64, u64) = (cpu.parse().unwrap(), energy.trim_end_matches(')').parse().unwrap());
    assert!(cpu < 20_000_000, "{precise}");
    // A core draws 4 µJ in a microsecond; both are rounded down.
    assert!((50_000_000 - energy).abs_diff((20_000_000 - cpu) * 4) <= 4, "{precise}");
    assert!(left(ClockGrant::Precise, Objectives::none()).await.ends_with(" None"));
    let place = answer(&fabric, Invocation::new(fabric.new_id(), name("f"), "2 where\n2 leave z\n2 quality")).await;
    assert_eq!(place.lines().next(), Some("here Tier::Device z Some(80)"));
}

#[tokio::test]
async fn a_native_function_is_told_what_is_left() {
    let native = NativeFactory::new().with("left", |call, _| {
        Box::pin(async move {
            let before = call.cpu_left();
            (0..3_000_000).for_each(|round| {
                std::hint::black_box(round);
            });
            let (after, energy) = (call.cpu_left(), call.energy_left());
            Ok(format!("{} {} {energy:?}", call.is_cold(), before > after).into())
        })
    });
    let fabric = alone(native.unwrap()).build().unwrap();
    fabric.deploy(Function::native(name("left"), Name::new("left").unwrap())).await.unwrap();
    assert_eq!(answer(&fabric, asks(1, "left", "")).await, "true true None");
}
