//! Asynchronous calls as those who embed a fabric make them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use scf_core::{
    Acceptance, CallState, CallStatus, Cause, Clock, Function, Hold, InvocationId, InvocationQueue, Limits,
    ManualClock, Name, Payload, QueuedCall, RetryPolicy, StateStore,
};
use scf_runtime::{EnqueueError, Fabric, FabricBuilder, Lifecycle, NativeError, NativeFactory, SystemClock};
use scf_sched::Pipeline;
use scf_state::{AlwaysRemote, MemoryDisk, MemoryQueue, MemoryState, PhasedState, QueueConfig, RedbQueue, RedbState};
use tokio::sync::Semaphore;

use crate::support::{name, node};

/// Retries that follow at once.
const EAGER: RetryPolicy = RetryPolicy {
    attempts: 5,
    base: Duration::from_millis(2),
    longest: Duration::from_millis(20),
    budget: 100,
    floor: 1_000_000,
};

#[derive(Clone, Debug)]
struct Stage {
    /// Calls of `wait` wait here.
    gate: Arc<Semaphore>,
    /// How often each payload was given to a function.
    runs: Arc<Mutex<HashMap<String, u32>>>,
    flaky: Arc<AtomicU32>,
}

impl Stage {
    fn new() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), runs: Arc::default(), flaky: Arc::default() }
    }

    fn runs(&self, payload: &str) -> u32 {
        self.runs.lock().unwrap().get(payload).copied().unwrap_or_default()
    }

    fn ran(&self, input: &Payload) {
        let text = String::from_utf8_lossy(&input.bytes).into_owned();
        *self.runs.lock().unwrap().entry(text).or_default() += 1;
    }

    fn natives(&self) -> NativeFactory {
        let (echo, trap, refuse, flaky, wait) = (self.clone(), self.clone(), self.clone(), self.clone(), self.clone());
        NativeFactory::new()
            .with_sync("echo", move |input| {
                echo.ran(&input);
                Ok(input)
            })
            .unwrap()
            .with_sync("trap", move |input| {
                trap.ran(&input);
                panic!("poisoned")
            })
            .unwrap()
            .with_sync("refuse", move |input| {
                refuse.ran(&input);
                Err(NativeError::refused("not for me"))
            })
            .unwrap()
            .with_sync("flaky", move |input| {
                flaky.ran(&input);
                assert!(flaky.flaky.fetch_add(1, SeqCst) >= 2, "not yet");
                Ok(input)
            })
            .unwrap()
            .with("wait", move |_, input| {
                let stage = wait.clone();
                Box::pin(async move {
                    stage.ran(&input);
                    stage.gate.acquire().await.expect("the gate is never closed").forget();
                    Ok(input)
                })
            })
            .unwrap()
            .with("count", |call, _| {
                Box::pin(async move {
                    let state = call.state()?;
                    let before = state.get("n").await?.map_or(0, |bytes| bytes.len());
                    state.put("n", vec![b'|'; before + 1].into());
                    Ok(Payload::new((before + 1).to_string()))
                })
            })
            .unwrap()
    }

    fn builder(&self, queue: Arc<dyn InvocationQueue>) -> FabricBuilder {
        Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(self.natives())).queue(queue)
    }
}

fn function(entry: &str) -> Function {
    Function::native(name(entry), Name::new(entry).unwrap())
}

fn memory() -> Arc<dyn InvocationQueue> {
    let config = QueueConfig { retry: EAGER, ..QueueConfig::default() };
    Arc::new(MemoryQueue::new(Arc::new(SystemClock::new()), config))
}

async fn enqueue(fabric: &Fabric, entry: &str, payload: &str) -> InvocationId {
    let id = fabric.new_id();
    let accepted = fabric.enqueue(QueuedCall::new(id, name(entry), payload.to_owned())).await;
    assert!(matches!(accepted, Ok(Acceptance::New(_))), "{accepted:?}");
    id
}

async fn settled(fabric: &Fabric, id: InvocationId) -> CallStatus {
    fabric.settled(id).await.unwrap().expect("it was accepted")
}

#[tokio::test]
async fn an_accepted_call_runs_and_its_result_can_be_asked_for() {
    let fabric = Stage::new().builder(memory()).build().unwrap();
    fabric.deploy(function("echo")).await.unwrap();
    let id = enqueue(&fabric, "echo", "hello").await;
    assert_eq!(settled(&fabric, id).await.state, CallState::Completed(Some("hello".into())));
    let again = fabric.enqueue(QueuedCall::new(id, name("echo"), "other")).await;
    let is_known =
        matches!(&again, Ok(Acceptance::Known(status)) if status.state == CallState::Completed(Some("hello".into())));
    assert!(is_known, "{again:?}");
    assert_eq!(fabric.outcome(fabric.new_id()).await, Ok(None));
}

#[tokio::test]
async fn a_call_of_nothing_or_into_nothing_is_not_accepted() {
    let fabric = Stage::new().builder(memory()).build().unwrap();
    let refused = fabric.enqueue(QueuedCall::new(fabric.new_id(), name("echo"), "")).await;
    assert_eq!(refused, Err(EnqueueError::NotFound { function: name("echo") }));
    let without = Fabric::builder().scheduler(Arc::new(Pipeline::default()));
    let without = without.isolates(Arc::new(Stage::new().natives())).build().unwrap();
    let id = without.new_id();
    assert_eq!(without.enqueue(QueuedCall::new(id, name("echo"), "")).await, Err(EnqueueError::NoQueue { id }));
    let (id, node) = (fabric.new_id(), node("hub"));
    let refused = fabric.enqueue(QueuedCall::new(id, name("echo"), "").destination(node.clone())).await;
    assert_eq!(refused, Err(EnqueueError::Alone { id, node }));
}

#[tokio::test]
async fn a_poisoned_call_is_tried_five_times_and_others_go_on() {
    let stage = Stage::new();
    let fabric = stage.builder(memory()).build().unwrap();
    fabric.deploy(function("trap")).await.unwrap();
    fabric.deploy(function("echo")).await.unwrap();
    let poisons: Vec<_> = join((0..20).map(|i| {
        let fabric = &fabric;
        async move { enqueue(fabric, "trap", &format!("poison {i}")).await }
    }))
    .await;
    for i in 0..200 {
        let id = enqueue(&fabric, "echo", &i.to_string()).await;
        assert!(matches!(settled(&fabric, id).await.state, CallState::Completed(_)));
    }
    for (i, id) in poisons.into_iter().enumerate() {
        let status = settled(&fabric, id).await;
        let CallState::Dead(Cause::Failed { message }) = status.state else { panic!("{:?}", status.state) };
        assert!(message.contains("poisoned"), "{message}");
        assert_eq!((status.attempts, stage.runs(&format!("poison {i}"))), (5, 5));
    }
    let queue = fabric.queue().unwrap();
    assert_eq!(queue.dead_letters(None, 64).await.unwrap().len(), 20);
}

async fn join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    futures::future::join_all(futures).await
}

#[tokio::test]
async fn what_is_refused_is_a_dead_letter_at_once_and_what_fails_for_a_while_completes() {
    let stage = Stage::new();
    let fabric = stage.builder(memory()).build().unwrap();
    fabric.deploy(function("refuse")).await.unwrap();
    fabric.deploy(function("flaky")).await.unwrap();
    let refused = settled(&fabric, enqueue(&fabric, "refuse", "r").await).await;
    assert!(matches!(refused.state, CallState::Dead(Cause::Refused { .. })), "{refused:?}");
    assert_eq!(stage.runs("r"), 1);
    let flaky = settled(&fabric, enqueue(&fabric, "flaky", "f").await).await;
    assert_eq!((flaky.state, flaky.attempts), (CallState::Completed(Some("f".into())), 3));
}

#[tokio::test]
async fn a_hung_call_holds_its_key_no_longer_than_its_functions_limit() {
    let stage = Stage::new();
    let fabric = stage.builder(memory()).build().unwrap();
    let limits = Limits { wall: Duration::from_millis(20), ..Limits::default() };
    fabric.deploy(function("wait").limits(limits)).await.unwrap();
    fabric.deploy(function("echo")).await.unwrap();
    let hung = fabric.new_id();
    fabric.enqueue(QueuedCall::new(hung, name("wait"), "hung").key("k")).await.unwrap();
    let behind = fabric.new_id();
    fabric.enqueue(QueuedCall::new(behind, name("wait"), "behind").key("k")).await.unwrap();
    let status = settled(&fabric, hung).await;
    assert!(matches!(status.state, CallState::Dead(Cause::Failed { .. })), "{status:?}");
    assert_eq!((status.attempts, stage.runs("hung")), (5, 5));
    stage.gate.add_permits(1);
    assert_eq!(settled(&fabric, behind).await.state, CallState::Completed(Some("behind".into())));
}

#[tokio::test]
async fn one_function_whose_calls_hang_leaves_room_for_the_others() {
    let stage = Stage::new();
    let fabric = stage.builder(memory()).build().unwrap();
    fabric.deploy(function("wait")).await.unwrap();
    fabric.deploy(function("echo")).await.unwrap();
    for i in 0..200 {
        enqueue(&fabric, "wait", &format!("w{i}")).await;
    }
    let id = enqueue(&fabric, "echo", "through").await;
    assert_eq!(settled(&fabric, id).await.state, CallState::Completed(Some("through".into())));
    assert!(fabric.queue().unwrap().load().running <= 32);
    stage.gate.add_permits(200);
}

#[tokio::test]
async fn a_dormant_function_is_woken_by_what_is_queued_for_it() {
    let clock = ManualClock::new();
    let queue = Arc::new(MemoryQueue::new(Arc::new(clock.clone()), QueueConfig::default()));
    let fabric = Stage::new().builder(queue).clock(Arc::new(clock.clone())).build().unwrap();
    fabric.deploy(function("echo")).await.unwrap();
    settled(&fabric, enqueue(&fabric, "echo", "first").await).await;
    let is_dormant = || {
        let status = fabric.status(&name("echo"));
        status.iter().all(|status| status.lifecycle == Lifecycle::Dormant)
    };
    while !is_dormant() {
        clock.advance(Duration::from_secs(30));
        tokio::task::yield_now().await;
    }
    let id = enqueue(&fabric, "echo", "second").await;
    assert_eq!(settled(&fabric, id).await.state, CallState::Completed(Some("second".into())));
}

#[tokio::test]
async fn what_was_accepted_before_a_shutdown_runs_after_it_and_takes_effect_once() {
    let disk = Arc::new(MemoryDisk::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut ids: Vec<InvocationId> = Vec::new();
    for round in 0..5 {
        let state = Arc::new(RedbState::on(Arc::clone(&disk) as _).unwrap());
        let config = QueueConfig { retry: EAGER, ..QueueConfig::default() };
        let queue = Arc::new(RedbQueue::open(Arc::clone(&state), Arc::clone(&clock), config).await.unwrap());
        let store = PhasedState::new(
            node("local"),
            Arc::clone(&state) as _,
            Arc::new(MemoryState::new()),
            Arc::new(AlwaysRemote),
            Arc::clone(&clock),
        );
        let stage = Stage::new();
        let fabric =
            stage.builder(Arc::clone(&queue) as _).state(node("local"), Arc::new(store) as Arc<dyn StateStore>);
        let fabric = fabric.build().unwrap();
        let held = scf_core::Scope { function: name("count"), key: "k0".into() };
        match round {
            0 => queue.hold(&held, Hold::Pause).await.unwrap(),
            4 => queue.hold(&held, Hold::Resume).await.unwrap(),
            _ => assert!(queue.load().pending >= 10 * round, "what is held back is still there, and held back"),
        }
        fabric.deploy(function("count").stateful()).await.unwrap();
        for i in 0..40 {
            let id = fabric.new_id();
            let call = QueuedCall::new(id, name("count"), "").key(format!("k{}", i % 4));
            fabric.enqueue(call).await.unwrap();
            ids.push(id);
        }
        if round == 4 {
            for id in &ids {
                assert!(matches!(settled(&fabric, *id).await.state, CallState::Completed(_)));
            }
            for i in 0..4 {
                let scope = scf_core::Scope { function: name("count"), key: format!("k{i}") };
                let entry = scf_core::StateBackend::get(&*state, &scope, "n").await.unwrap().unwrap();
                assert_eq!(entry.value.len(), 50, "each of 50 calls of a key took effect once");
            }
        }
        fabric.shutdown().await.unwrap();
        assert_eq!(fabric.queue().unwrap().load().running, 0, "a shutdown waits for what runs");
    }
}
