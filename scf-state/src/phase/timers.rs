//! Timers of a scope that moves.

use std::{sync::Arc, time::Duration};

use scf_core::{
    Bytes, Commit, Delivery, Due, FunctionName, InvocationId, InvocationQueue as _, LeaseAsk, ManualClock, NodeId,
    Opened, Payload, Phase, QueuedCall, Scope, Settle, StateError, StateSession, StateStore,
};

use super::*;
use crate::{MemoryDisk, QueueConfig, RedbQueue, RedbState};

fn scope() -> Scope {
    Scope { function: FunctionName::new("door").unwrap(), key: "7".into() }
}

fn store(name: &str, home: &Arc<RedbState>, local: Arc<RedbState>, clock: &ManualClock) -> PhasedState {
    let (node, home) = (NodeId::new(name).unwrap(), Arc::clone(home) as _);
    PhasedState::new(node, home, local, Arc::new(AlwaysLocal), Arc::new(clock.clone()))
}

async fn queue(state: &Arc<RedbState>, clock: &ManualClock) -> RedbQueue {
    RedbQueue::open(Arc::clone(state), Arc::new(clock.clone()), QueueConfig::default()).await.unwrap()
}

async fn open(store: &PhasedState, id: InvocationId) -> Box<dyn StateSession> {
    match store.open(&scope(), id).await.unwrap() {
        Opened::Session(session) => session,
        other => panic!("{other:?}"),
    }
}

async fn due(queue: &RedbQueue) -> Vec<Delivery> {
    let lease = Duration::from_secs(1);
    queue.lease(LeaseAsk { calls: 8, functions: None, per_function: 8, lease }).await.unwrap()
}

#[tokio::test]
async fn a_timer_that_was_set_before_a_move_has_its_effect_once_at_the_new_owner() {
    let clock = ManualClock::new();
    let redb = || Arc::new(RedbState::on(Arc::new(MemoryDisk::new())).unwrap());
    let (home, disk) = (redb(), Arc::new(MemoryDisk::new()));
    let local = Arc::new(RedbState::on(Arc::clone(&disk) as _).unwrap());
    let first_queue = queue(&local, &clock).await;
    let (first, second) = (store("first", &home, local, &clock), store("second", &home, redb(), &clock));
    open(&first, InvocationId::new(1)).await.commit(Bytes::new()).await.unwrap();
    let setter = InvocationId::new(2);
    let session = open(&first, setter).await;
    let Phase::Local(fence) = session.phase() else { panic!("it is local from the second call on") };
    let timer = QueuedCall::timer(setter, scope(), "close", fence.epoch, Due::After(Duration::from_secs(5)));
    let id = timer.id;
    session.enqueue(timer).unwrap();
    session.commit(Bytes::new()).await.unwrap();
    first.hand_over(&scope(), &second).await.unwrap();

    assert_eq!(due(&first_queue).await, [], "it is not due");
    clock.advance(Duration::from_secs(5));
    let delivered = due(&first_queue).await;
    assert_eq!(delivered.iter().map(|delivery| delivery.call.id).collect::<Vec<_>>(), [id]);
    let away = first.open(&scope(), id).await;
    let owner = NodeId::new("second").unwrap();
    assert!(matches!(&away, Err(StateError::Held { owner: held, .. }) if *held == owner), "{away:?}");
    let session = open(&second, id).await;
    session.put("closed", "1".into());
    assert!(matches!(session.commit("closed".into()).await, Ok(Commit::Applied { .. })));

    // The node that delivered it ends before it settles.
    let image = Arc::new(disk.power_cut(3));
    drop((first, first_queue));
    let again = queue(&Arc::new(RedbState::on(image).unwrap()), &clock).await;
    clock.advance(Duration::from_secs(60));
    let delivered = due(&again).await;
    assert_eq!(delivered.iter().map(|delivery| delivery.call.id).collect::<Vec<_>>(), [id], "it was not settled");
    let Ok(Opened::Done(result)) = second.open(&scope(), id).await else { panic!("it ran twice") };
    again.settle(delivered[0].lease, Settle::Completed(Payload::from(result))).await.unwrap();
    clock.advance(Duration::from_secs(60));
    assert_eq!(due(&again).await, [], "it is done");
}
