//! Stateful functions as actors: timers inside the state's transaction, and state that a new revision takes over.

use std::{sync::Arc, time::Duration};

use scf_core::{
    ByteSize, Clock, Due, Function, FunctionName, Invocation, InvocationQueue, InvokeError, IsolateFactory, LeaseAsk,
    ManualClock, Name, Payload, QueueLoad, Scope, StateBackend as _, StateError, TenantName,
};
use scf_runtime::{Fabric, NativeError, NativeFactory};
use scf_sched::Pipeline;
use scf_state::{AlwaysLocal, AlwaysRemote, MemoryDisk, PhasedState, QueueConfig, Quotas, RedbQueue, RedbState};

use crate::support::{name, node};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// `egg` sets a timer for itself and counts how often it rings; `beat` one that comes again.
fn natives() -> NativeFactory {
    NativeFactory::new()
        .with("egg", |call, input| {
            Box::pin(async move {
                let state = call.state()?;
                let rings = state.get("rings").await?.unwrap_or_default();
                match &input.bytes[..] {
                    b"boil" => call.set_timer("egg", Due::After(HOUR), "ring")?,
                    b"burn" => {
                        call.set_timer("egg", Due::After(HOUR), "ring")?;
                        return Err(NativeError::refused("burnt"));
                    }
                    b"stop" => call.cancel_timer("egg")?,
                    b"beat" => call.set_reminder("egg", Due::After(HOUR), HOUR, "ring")?,
                    b"ring" => state.put("rings", [&rings[..], b"|"].concat().into()),
                    _ => {}
                }
                Ok(Payload::new(rings))
            })
        })
        .unwrap()
}

async fn kitchen(is_local: bool) -> (Fabric, Arc<RedbQueue>, ManualClock) {
    let (fabric, queue, clock) = empty_kitchen(is_local, Arc::new(natives())).await;
    fabric.deploy(Function::native(name("egg"), Name::new("egg").unwrap()).stateful()).await.unwrap();
    (fabric, queue, clock)
}

pub(crate) async fn empty_kitchen(
    is_local: bool,
    isolates: Arc<dyn IsolateFactory>,
) -> (Fabric, Arc<RedbQueue>, ManualClock) {
    let clock = ManualClock::new();
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let state = RedbState::builder().clock(Arc::clone(&shared)).on(Arc::new(MemoryDisk::new())).unwrap();
    let state = Arc::new(state);
    let queue = RedbQueue::open(Arc::clone(&state), Arc::clone(&shared), QueueConfig::default()).await.unwrap();
    let queue = Arc::new(queue);
    let policy: Arc<dyn scf_core::PhasePolicy> = if is_local { Arc::new(AlwaysLocal) } else { Arc::new(AlwaysRemote) };
    let phased =
        PhasedState::new(node("local"), Arc::clone(&state) as _, Arc::clone(&state) as _, policy, Arc::clone(&shared));
    let fabric = Fabric::builder()
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(isolates)
        .state(node("local"), Arc::new(phased))
        .clock(shared)
        .queue(Arc::clone(&queue) as _)
        .build()
        .unwrap();
    (fabric, queue, clock)
}

async fn tell(fabric: &Fabric, what: &str) -> Result<Payload, InvokeError> {
    let invocation = Invocation::new(fabric.new_id(), name("egg"), what.to_owned()).key("k");
    fabric.invoke(invocation).await.map(|outcome| outcome.payload)
}

async fn rings(fabric: &Fabric) -> usize {
    tell(fabric, "look").await.unwrap().bytes.len()
}

/// Moves the clock, and returns once what was due by then is done.
pub(crate) async fn pass(clock: &ManualClock, queue: &RedbQueue, time: Duration) {
    clock.advance(time);
    // What is due is taken in by whoever leases, the dispatcher or this.
    let nothing = || LeaseAsk { calls: 0, functions: None, per_function: 0, lease: HOUR };
    queue.lease(nothing()).await.unwrap();
    // One look at a time: between two the dispatcher may have leased what was ready.
    let is_busy = |load: QueueLoad| load.running > 0 || !load.ready.is_empty();
    while is_busy(queue.load()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_timer_rings_once_when_its_time_has_come_in_either_phase() {
    for is_local in [false, true] {
        let (fabric, queue, clock) = kitchen(is_local).await;
        for _ in 0..3 {
            tell(&fabric, "look").await.unwrap();
        }
        tell(&fabric, "boil").await.unwrap();
        pass(&clock, &queue, HOUR - Duration::from_nanos(1)).await;
        assert_eq!(rings(&fabric).await, 0, "local: {is_local}");
        pass(&clock, &queue, Duration::from_nanos(1)).await;
        assert_eq!(rings(&fabric).await, 1, "local: {is_local}");
        pass(&clock, &queue, HOUR * 9).await;
        assert_eq!(rings(&fabric).await, 1, "local: {is_local}");
    }
}

#[tokio::test]
async fn a_timer_is_set_and_called_off_with_the_state_or_not_at_all() {
    let (fabric, queue, clock) = kitchen(false).await;
    tell(&fabric, "burn").await.unwrap_err();
    assert_eq!(queue.load().pending, 0, "a call that fails sets no timer");
    tell(&fabric, "boil").await.unwrap();
    tell(&fabric, "boil").await.unwrap();
    assert_eq!(queue.load().pending, 1, "a name has one timer");
    tell(&fabric, "stop").await.unwrap();
    assert_eq!(queue.load().pending, 0);
    pass(&clock, &queue, HOUR * 2).await;
    assert_eq!(rings(&fabric).await, 0);
}

#[tokio::test]
async fn a_reminder_rings_every_time_until_it_is_called_off() {
    let (fabric, queue, clock) = kitchen(false).await;
    tell(&fabric, "beat").await.unwrap();
    for times in 1..=4 {
        pass(&clock, &queue, HOUR).await;
        assert_eq!(rings(&fabric).await, times);
    }
    tell(&fabric, "stop").await.unwrap();
    pass(&clock, &queue, HOUR * 3).await;
    assert_eq!(rings(&fabric).await, 4);
}

#[tokio::test]
async fn the_state_of_a_key_is_brought_to_a_new_layout_once() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let state = Arc::new(RedbState::on(Arc::new(MemoryDisk::new())).unwrap());
    let tally = |factory: NativeFactory, entry: &'static str, unit: &'static str| {
        factory
            .with(entry, move |call, _| {
                Box::pin(async move {
                    let state = call.state()?;
                    let before = state.get(unit).await?.unwrap_or_default();
                    let after = [&before[..], b"|"].concat();
                    state.put(unit, after.clone().into());
                    Ok(Payload::new(after))
                })
            })
            .unwrap()
    };
    let natives = tally(tally(NativeFactory::new(), "old", "count"), "new", "tally");
    let natives = natives
        .with_upgrade("new", 2, |state, from| {
            Box::pin(async move {
                assert_eq!(from, 0);
                let count = state.get("count").await?.unwrap_or_default();
                state.put("tally", [&count[..], b"+"].concat().into());
                state.delete("count");
                Ok(())
            })
        })
        .unwrap();
    let policy = Arc::new(AlwaysRemote);
    let phased =
        PhasedState::new(node("local"), Arc::clone(&state) as _, Arc::clone(&state) as _, policy, Arc::clone(&clock));
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(natives));
    let fabric = fabric.state(node("local"), Arc::new(phased)).clock(clock).build().unwrap();
    let deploy = |entry: &str| fabric.deploy(Function::native(name("f"), Name::new(entry).unwrap()).stateful());
    let call = || async { fabric.invoke(Invocation::new(fabric.new_id(), name("f"), "").key("k")).await };
    deploy("old").await.unwrap();
    call().await.unwrap();
    assert_eq!(call().await.unwrap().payload.bytes, "||");
    let retried = Invocation::new(fabric.new_id(), name("f"), "").key("k");
    assert_eq!(fabric.invoke(retried.clone()).await.unwrap().payload.bytes, "|||");
    deploy("new").await.unwrap();
    let answer = fabric.invoke(retried.clone()).await.unwrap();
    assert_eq!(answer.payload.bytes, "|||", "a retry has the answer of its first try, whatever was deployed since");
    assert_eq!(call().await.unwrap().payload.bytes, "|||+|");
    assert_eq!(call().await.unwrap().payload.bytes, "|||+||");
    assert_eq!(fabric.invoke(retried).await.unwrap().payload.bytes, "|||");
    let scope = Scope { function: FunctionName::new("f").unwrap(), key: "k".into() };
    assert_eq!(state.get(&scope, "count").await.unwrap(), None);
}

#[tokio::test]
async fn a_tenant_that_keeps_all_that_it_may_is_refused_by_name_and_the_others_go_on() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let tenant = |name: &str| TenantName::new(name).unwrap();
    let quotas = Quotas::new(|function| TenantName::new(function.as_str().split('-').next()?).ok());
    let limit = ByteSize::from_bytes(1000);
    let state = RedbState::builder().quotas(quotas.limit(tenant("small"), limit)).on(Arc::new(MemoryDisk::new()));
    let state = Arc::new(state.unwrap());
    let natives = NativeFactory::new().with("keep", |call, input| {
        Box::pin(async move {
            call.state()?.put("kept", input.bytes);
            Ok(Payload::new("kept"))
        })
    });
    let policy = Arc::new(AlwaysRemote);
    let phased =
        PhasedState::new(node("local"), Arc::clone(&state) as _, Arc::clone(&state) as _, policy, Arc::clone(&clock));
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(natives.unwrap()));
    let fabric = fabric.state(node("local"), Arc::new(phased)).clock(clock).build().unwrap();
    for function in ["small-a", "small-b", "large"] {
        let keep = Function::native(name(function), Name::new("keep").unwrap()).stateful();
        fabric.deploy(keep.tenant(tenant(function.split('-').next().unwrap()))).await.unwrap();
    }
    let keep = async |function: &str, size: usize| {
        fabric.invoke(Invocation::new(fabric.new_id(), name(function), vec![0; size]).key("k")).await
    };
    keep("small-a", 600).await.unwrap();
    let refused = keep("small-b", 400).await.unwrap_err();
    let InvokeError::State { function, source, .. } = &refused else { panic!("{refused:?}") };
    let is_full = matches!(&**source, StateError::Quota { tenant: of, limit: most, .. }
        if *of == tenant("small") && *most == limit);
    assert!(is_full && *function == name("small-b"), "{refused:?}");
    keep("large", 5000).await.unwrap();
    keep("small-b", 100).await.unwrap();
}
