//! What every [`StateStore`] promises of the sessions that it opens.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    Clock as _, Commit, FunctionName, InvocationId, ManualClock, Opened, Scope, StateError, StateSession, StateStore,
};

/// Calls of each promise, so that a store which changes phase between them keeps it in each.
const CALLS: u64 = 4;

/// Holds the stores that `make` gives against the contract of [`StateSession`].
///
/// `make` is called once per promise, with the clock that the suite moves by hand, by which the store and its
/// backends let values expire. Each store starts empty.
///
/// # Panics
/// At the first promise that is not kept.
pub async fn state_store<F, Fut>(make: F)
where
    F: Fn(ManualClock) -> Fut,
    Fut: Future<Output = Arc<dyn StateStore>>,
{
    macro_rules! hold {
        ($($promise:ident),* $(,)?) => {$({
            let clock = ManualClock::new();
            let store = make(clock.clone()).await;
            $promise(&*store, &clock).await;
        })*};
    }
    hold!(
        shows_a_call_its_own_changes_and_drops_them_with_it,
        answers_a_call_that_was_committed_with_its_result,
        lets_values_expire_at_their_time,
    );
}

async fn shows_a_call_its_own_changes_and_drops_them_with_it(store: &dyn StateStore, _: &ManualClock) {
    for id in 0..CALLS {
        let before = id.checked_sub(1).map(|before| Bytes::from(before.to_string()));
        let dropped = session(store, id).await;
        dropped.put("k", "lost".into());
        assert_eq!(dropped.get("k").await, Ok(Some("lost".into())), "a call reads what it wrote");
        dropped.delete("k");
        assert_eq!(dropped.get("k").await, Ok(None), "a call does not read what it removed");
        drop(dropped);
        let kept = session(store, id).await;
        assert_eq!(kept.get("k").await, Ok(before), "what was not committed is undone");
        kept.put("k", id.to_string().into());
        commit(kept).await;
    }
}

async fn answers_a_call_that_was_committed_with_its_result(store: &dyn StateStore, _: &ManualClock) {
    for id in 0..CALLS {
        commit(session(store, id).await).await;
        for done in 0..=id {
            match store.open(&scope(), InvocationId::new(done.into())).await {
                Ok(Opened::Done(result)) => assert_eq!(result, "done", "a call that is repeated has its first result"),
                other => panic!("a call runs once: {other:?}"),
            }
        }
    }
}

async fn lets_values_expire_at_their_time(store: &dyn StateStore, clock: &ManualClock) {
    for call in 0..CALLS {
        let id = call * 3;
        let until = clock.wall() + Duration::from_secs(10);
        let first = session(store, id).await;
        match first.put_until("short", "1".into(), until) {
            Ok(()) => {}
            Err(StateError::Unsupported { .. }) => return,
            Err(other) => panic!("a store that lets no value expire says so: {other:?}"),
        }
        first.put_until("longer", "1".into(), until).expect("it was possible just now");
        first.put_until("past", "1".into(), clock.wall()).expect("it was possible just now");
        assert_eq!(first.get("short").await, Ok(Some("1".into())), "a call reads what it wrote");
        assert_eq!(first.get("past").await, Ok(None), "what has expired when it is written is not there");
        commit(first).await;
        let second = session(store, id + 1).await;
        second.put("longer", "2".into());
        commit(second).await;
        clock.advance(Duration::from_millis(9_999));
        let third = session(store, id + 2).await;
        assert_eq!(third.get("short").await, Ok(Some("1".into())), "a value is there until its time");
        clock.advance(Duration::from_millis(1));
        assert_eq!(third.get("short").await, Ok(None), "a value is gone at its time, if it was read before too");
        assert_eq!(third.get("longer").await, Ok(Some("2".into())), "the last write says when a value expires");
        commit(third).await;
    }
}

fn scope() -> Scope {
    let function = FunctionName::new("conformance").expect("the suite's names are names");
    Scope { function, key: "k".to_owned() }
}

async fn session(store: &dyn StateStore, id: u64) -> Box<dyn StateSession> {
    match store.open(&scope(), InvocationId::new(id.into())).await {
        Ok(Opened::Session(session)) => session,
        other => panic!("a call that was not committed runs: {other:?}"),
    }
}

async fn commit(session: Box<dyn StateSession>) {
    let answer = session.commit("done".into()).await;
    assert!(matches!(answer, Ok(Commit::Applied { .. })), "the only writer commits: {answer:?}");
}
