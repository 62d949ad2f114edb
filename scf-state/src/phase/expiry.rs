//! Values that expire, in every phase.

use std::{sync::Arc, time::Duration};

use scf_core::{
    Batch, Bytes, Clock as _, Durability, FunctionName, InvocationId, ManualClock, NodeId, Opened, Phase, PhasePolicy,
    Scope, StateBackend, StateSession, StateStore, conformance::session::state_store,
};

use super::*;
use crate::MemoryState;

fn scope() -> Scope {
    Scope { function: FunctionName::new("door").unwrap(), key: "7".into() }
}

fn memory(clock: &ManualClock) -> Arc<MemoryState> {
    Arc::new(MemoryState::new().clock(Arc::new(clock.clone())))
}

fn store(home: &Arc<MemoryState>, clock: &ManualClock, policy: impl PhasePolicy) -> PhasedState {
    let (home, local) = (Arc::clone(home) as _, memory(clock));
    PhasedState::new(NodeId::new("edge").unwrap(), home, local, Arc::new(policy), Arc::new(clock.clone()))
}

async fn open(store: &PhasedState, id: u128) -> Box<dyn StateSession> {
    match store.open(&scope(), InvocationId::new(id)).await.unwrap() {
        Opened::Session(session) => session,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_value_that_was_taken_from_home_is_gone_at_its_time() {
    let clock = ManualClock::new();
    let home = memory(&clock);
    let until = clock.wall() + Duration::from_secs(10);
    let batch = Batch::new(scope()).durability(Durability::Memory);
    home.commit(batch.put_until("code", "1234", until).put("name", "west")).await.unwrap();
    let store = store(&home, &clock, AlwaysLocal);
    open(&store, 1).await.commit(Bytes::new()).await.unwrap();
    let session = open(&store, 2).await;
    assert!(matches!(session.phase(), Phase::Local(_)));
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(session.try_get("code"), Some(Ok(Some("1234".into()))), "it is there until its time");
    clock.advance(Duration::from_millis(1));
    assert_eq!(session.get("code").await, Ok(None), "it is gone at its time");
    assert_eq!(session.get("name").await, Ok(Some("west".into())));
}

#[tokio::test]
async fn sessions_keep_their_promises_in_every_phase() {
    let make = |clock: ManualClock| {
        let store = store(&memory(&clock), &clock, AlwaysRemote);
        async move { Arc::new(store) as Arc<dyn StateStore> }
    };
    state_store(make).await;
    let make = |clock: ManualClock| {
        let store = store(&memory(&clock), &clock, AlwaysLocal);
        async move { Arc::new(store) as Arc<dyn StateStore> }
    };
    state_store(make).await;
}

#[tokio::test]
async fn a_value_that_expires_goes_home_with_its_time() {
    let clock = ManualClock::new();
    let home = memory(&clock);
    let store = store(&home, &clock, AlwaysLocal);
    open(&store, 1).await.commit(Bytes::new()).await.unwrap();
    let until = clock.wall() + Duration::from_secs(1);
    let session = open(&store, 2).await;
    assert!(matches!(session.phase(), Phase::Local(_)));
    session.put_until("code", "1234".into(), until).unwrap();
    session.commit(Bytes::new()).await.unwrap();
    store.drain().await.unwrap();
    let entry = home.get(&scope(), "code").await.unwrap().expect("it was published");
    assert_eq!((entry.value, entry.expires), ("1234".into(), Some(until)));
    clock.advance(Duration::from_secs(1));
    assert_eq!(home.get(&scope(), "code").await, Ok(None));
}
