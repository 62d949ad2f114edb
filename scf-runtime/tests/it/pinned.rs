//! `Reuse::Pinned`: isolates and slots of single keys, while their state is local.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::poll;
use scf_core::{
    Clock, Function, Invocation, InvocationId, InvokeError, Limits, Name, Node, Outcome, Payload, Phase, PhaseChoice,
    PhasePolicy, PhaseRule, PhaseStats, Qualifier, Reuse, Revision, Scope, StateStore, Tier,
};
use scf_runtime::{Fabric, NativeCall, NativeError, NativeFactory, NativeFuture, SystemClock};
use scf_sched::Pipeline;
use scf_state::{AlwaysLocal, AlwaysRemote, MemoryState, PhasedState};
use tokio::sync::Semaphore;

use crate::support::{name, node};

/// Remembers what it was given in the memory of its isolate, and says where its state is and what it remembers.
/// Refuses `!`, and waits at `gate` where it is given `?`.
fn remember<'a>(call: &'a NativeCall<'a>, input: Payload, gate: Arc<Semaphore>) -> NativeFuture<'a> {
    Box::pin(async move {
        let state = call.state()?;
        if &input.bytes[..] == b"?" {
            gate.acquire().await.expect("the gate is never closed").forget();
        }
        let mut seen = call.kept::<String>().map_or_else(String::new, |seen| *seen);
        seen.push_str(&String::from_utf8_lossy(&input.bytes));
        state.put("last", input.bytes.clone());
        let answer = format!("{} {seen}", state.phase().as_str());
        call.keep(Box::new(seen));
        match &input.bytes[..] {
            b"!" => Err(NativeError::refused("it was told to")),
            _ => Ok(answer.into()),
        }
    })
}

/// One node with state of its own beside a home.
struct Site {
    fabric: Fabric,
    store: Arc<PhasedState>,
    gate: Arc<Semaphore>,
}

impl Site {
    async fn new(policy: Arc<dyn PhasePolicy>, limits: Limits) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (home, local) = (Arc::new(MemoryState::new()), Arc::new(MemoryState::new()));
        let store = Arc::new(PhasedState::new(node("here"), home, local, policy, clock.clone()));
        let gate = Arc::new(Semaphore::new(0));
        let waits = Arc::clone(&gate);
        let native = NativeFactory::new();
        let native = native.with("remember", move |call, input| remember(call, input, Arc::clone(&waits))).unwrap();
        let builder = Fabric::builder().node(Node::new(node("here"), Tier::Edge)).clock(clock);
        let builder = builder.scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(native));
        #[cfg(feature = "wasm")]
        let builder = builder.isolates(Arc::new(crate::wasm::factory()));
        let fabric = builder.state(node("here"), store.clone() as Arc<dyn StateStore>).build().unwrap();
        let site = Self { fabric, store, gate };
        site.fabric.deploy(function(limits)).await.unwrap();
        site
    }

    async fn local() -> Self {
        Self::new(Arc::new(AlwaysLocal), Limits::default()).await
    }

    fn invocation(&self, key: &str, input: &str) -> Invocation {
        Invocation::new(self.fabric.new_id(), name("remember"), input.to_owned()).key(key)
    }

    async fn call(&self, key: &str, input: &str) -> Result<Outcome, InvokeError> {
        self.fabric.invoke(self.invocation(key, input)).await
    }

    /// What the function answers to each of `inputs` in turn.
    async fn answers(&self, key: &str, inputs: &[&str]) -> Vec<String> {
        let mut answers = Vec::new();
        for input in inputs {
            answers.push(text(&self.call(key, input).await.unwrap()));
        }
        answers
    }

    /// Slots that are taken.
    fn running(&self) -> u32 {
        self.fabric.status(&name("remember")).iter().map(|status| status.running).sum()
    }
}

fn function(limits: Limits) -> Function {
    let function = Function::native(name("remember"), Name::new("remember").unwrap());
    function.stateful().reuse(Reuse::Pinned).limits(limits)
}

fn text(outcome: &Outcome) -> String {
    String::from_utf8(outcome.payload.bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn memory_is_kept_from_call_to_call_while_the_state_of_the_key_is_local() {
    let site = Site::local().await;
    let mut colds = Vec::new();
    for (input, answer) in [("a", "remote a"), ("b", "local b"), ("c", "local bc"), ("d", "local bcd")] {
        let outcome = site.call("k", input).await.unwrap();
        assert_eq!(text(&outcome), answer);
        colds.push(outcome.receipt.cold);
    }
    assert_eq!(colds, [true, true, false, false]);
    assert_eq!(site.answers("other", &["e", "f", "g"]).await, ["remote e", "local f", "local fg"]);
    assert_eq!(site.answers("k", &["h"]).await, ["local bcdh"], "the keys do not see each other");
    assert_eq!(site.running(), 2, "each key has a slot of its own");
}

#[tokio::test]
async fn isolates_of_keys_with_remote_state_keep_nothing() {
    let site = Site::new(Arc::new(AlwaysRemote), Limits::default()).await;
    assert_eq!(site.answers("k", &["a", "b", "c"]).await, ["remote a", "remote b", "remote c"]);
    assert_eq!(site.running(), 0);
}

#[tokio::test]
async fn a_call_that_fails_takes_the_memory_of_its_key_along() {
    let site = Site::local().await;
    assert_eq!(site.answers("k", &["a", "b", "c"]).await[2], "local bc");
    assert!(matches!(site.call("k", "!").await, Err(InvokeError::Refused { .. })));
    assert_eq!(site.answers("k", &["d", "e"]).await, ["local d", "local de"]);
}

#[tokio::test]
async fn an_invocation_that_is_repeated_is_answered_and_not_remembered_twice() {
    let site = Site::local().await;
    assert_eq!(site.answers("k", &["a", "b"]).await[1], "local b");
    let call = || Invocation::new(InvocationId::new(7), name("remember"), "c").key("k");
    for _ in 0..2 {
        assert_eq!(text(&site.fabric.invoke(call()).await.unwrap()), "local bc");
    }
    assert_eq!(site.answers("k", &["d"]).await, ["local bcd"]);
}

#[tokio::test]
async fn memory_that_the_state_has_moved_on_from_is_not_used() {
    let site = Site::local().await;
    assert_eq!(site.answers("k", &["a", "b", "c"]).await[2], "local bc");
    // The next revision works on the same state and has isolates of its own.
    site.fabric.deploy(function(Limits::default())).await.unwrap();
    assert_eq!(site.answers("k", &["d", "e"]).await, ["local d", "local de"]);
    let first = Qualifier::Revision(Revision::new(1));
    let outcome = site.fabric.invoke(site.invocation("k", "f").qualifier(first)).await.unwrap();
    assert_eq!(text(&outcome), "local f");
    assert_eq!(site.answers("k", &["g"]).await, ["local g"]);
}

#[tokio::test]
async fn keys_leave_one_slot_to_the_others() {
    let site = Site::new(Arc::new(AlwaysLocal), Limits { concurrency: 2, ..Limits::default() }).await;
    assert_eq!(site.answers("k", &["a", "b", "c"]).await[2], "local bc");
    assert_eq!(site.answers("l", &["a", "b", "c"]).await, ["remote a", "local b", "local c"]);
    assert_eq!(site.answers("m", &["a"]).await, ["remote a"]);
    assert_eq!(site.answers("k", &["d"]).await, ["local bcd"]);
    assert_eq!(site.running(), 1);
}

#[tokio::test]
async fn calls_of_a_key_wait_for_its_slot_as_many_as_the_queue_holds_and_others_do_not() {
    let site = Site::new(Arc::new(AlwaysLocal), Limits { concurrency: 2, queue: 1, ..Limits::default() }).await;
    assert_eq!(site.answers("k", &["a", "b"]).await[1], "local b");
    let (mut runs, mut waits) = (Box::pin(site.call("k", "?")), Box::pin(site.call("k", "c")));
    assert!(poll!(&mut runs).is_pending());
    assert!(poll!(&mut waits).is_pending());
    assert!(matches!(site.call("k", "d").await, Err(InvokeError::Overloaded { .. })));
    assert_eq!(site.answers("other", &["e"]).await, ["remote e"], "a key in its own slot keeps nobody waiting");
    site.gate.add_permits(1);
    let (ran, waited) = futures::join!(runs, waits);
    assert_eq!((text(&ran.unwrap()), text(&waited.unwrap())), ("local b?".into(), "local b?c".into()));
}

#[tokio::test]
async fn a_node_that_is_drained_takes_isolates_and_slots_from_all_keys() {
    let site = Site::local().await;
    for key in ["k", "l"] {
        assert_eq!(site.answers(key, &["a", "b", "c"]).await[2], "local bc");
    }
    assert_eq!(site.running(), 2);
    site.fabric.drain(&node("here")).await.unwrap();
    assert_eq!(site.running(), 0);
    site.fabric.uncordon(&node("here")).unwrap();
    assert_eq!(site.answers("k", &["d", "e"]).await, ["local d", "local de"]);
    assert_eq!(site.running(), 1);
}

/// Wants scopes to be local until it is told that they go.
#[derive(Clone, Debug, Default)]
struct UntilTold(Arc<AtomicBool>);

impl PhasePolicy for UntilTold {
    fn rule(&self, _: u64) -> Box<dyn PhaseRule> {
        Box::new(self.clone())
    }
}

impl PhaseRule for UntilTold {
    fn after_call(&mut self, _: &PhaseStats) -> PhaseChoice {
        match self.0.load(SeqCst) {
            true => PhaseChoice::Remote,
            false => PhaseChoice::Local { idle: Duration::MAX },
        }
    }
}

#[tokio::test]
async fn state_that_goes_back_takes_isolate_and_slot_of_its_key_along() {
    let policy = UntilTold::default();
    let site = Site::new(Arc::new(policy.clone()), Limits::default()).await;
    assert_eq!(site.answers("k", &["a", "b", "c"]).await[2], "local bc");
    policy.0.store(true, SeqCst);
    assert_eq!(site.answers("k", &["d"]).await, ["local bcd"]);
    let scope = Scope { function: name("remember"), key: "k".into() };
    let goes_back = async {
        while site.store.phase(&scope) != Phase::Remote {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), goes_back).await.expect("the state goes back");
    assert_eq!(site.answers("k", &["e", "f"]).await, ["remote e", "remote f"]);
    assert_eq!(site.running(), 0);
}

#[cfg(feature = "wasm")]
#[tokio::test]
async fn a_component_keeps_its_memory_for_its_key_and_loses_it_with_a_call_that_traps() {
    let site = Site::local().await;
    site.fabric.deploy(crate::wasm_warm::counter().stateful().reuse(Reuse::Pinned)).await.unwrap();
    let call = async |key: &str, input: &str| {
        let invocation = Invocation::new(site.fabric.new_id(), name("f"), input.to_owned()).key(key);
        site.fabric.invoke(invocation).await.map(|outcome| (outcome.payload.bytes[0], outcome.receipt.cold))
    };
    // The first runs on remote state.
    for counted in [(1, true), (1, true), (2, false), (3, false)] {
        assert_eq!(call("k", "").await, Ok(counted));
    }
    assert_eq!(call("other", "").await, Ok((1, true)));
    assert!(matches!(call("k", "t").await, Err(InvokeError::Trapped { .. })));
    for counted in [(1, true), (2, false)] {
        assert_eq!(call("k", "").await, Ok(counted));
    }
}
