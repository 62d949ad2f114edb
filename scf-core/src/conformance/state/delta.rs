//! Copies that are brought up to date.

use super::*;

pub(super) async fn brings_a_copy_up_to_date(backend: &dyn StateBackend, clock: &ManualClock) {
    let (from, to) = (scope("from"), scope("to"));
    for i in 1..=4u8 {
        let ops = batch(backend, &from).put(format!("k{i}"), vec![i]);
        applied(backend.commit(ops.invocation(InvocationId::new(u128::from(i)), vec![i])).await);
    }
    let copy = backend.export(&from).await.expect("readable");
    let fence = acquire(backend, &to, "n1", clock).await.expect("unowned");
    assert_eq!(backend.import(&to, fence, copy.clone()).await, Ok(()), "the owner imports");
    assert_eq!(backend.export(&to).await, Ok(copy.clone()), "and has the copy, of which another may be made");
    let ops = batch(backend, &from).put("k1", "new").delete("k2").put("k5", "5").put("k6", "6");
    applied(backend.commit(ops.invocation(InvocationId::new(5), "five")).await);
    applied(backend.commit(batch(backend, &from).delete("k6")).await);
    let wanted = backend.export(&from).await.expect("readable");

    let stale = crate::Delta { since: Version::new(3), version: Version::new(9), ..crate::Delta::default() };
    let refused = backend.import_since(&to, fence, stale).await;
    let conflict = StateError::Conflict { scope: to.clone(), expected: Version::new(3), actual: copy.version };
    assert_eq!(refused, Err(conflict), "a delta to another version is refused");
    if let Some(delta) = backend.export_since(&from, copy.version).await.expect("readable") {
        assert_eq!((delta.since, delta.version), (copy.version, wanted.version), "a delta says whence and whither");
        let mut by_hand = copy.clone();
        delta.clone().apply(&mut by_hand);
        assert_eq!(by_hand, wanted, "a copy and the delta are what is there");
        assert_eq!(
            backend.import_since(&to, fence, delta.clone()).await,
            Ok(()),
            "the owner brings its copy up to date"
        );
        assert_eq!(backend.export(&to).await, Ok(wanted.clone()), "and has what is there");
        if let Some(onward) = backend.export_since(&to, copy.version).await.expect("readable") {
            let mut by_hand = copy.clone();
            onward.apply(&mut by_hand);
            assert_eq!(by_hand, wanted, "a delta of what a delta brought has its results too");
        }
        let retry = batch(backend, &to).fence(fence).invocation(InvocationId::new(5), "twice");
        let duplicate = Ok(Commit::Duplicate { result: Bytes::from("five") });
        assert_eq!(backend.commit(retry).await, duplicate, "results since come along");
        let other = Fence { nonce: fence.nonce ^ 1, ..fence };
        let unowned = backend.import_since(&to, other, delta).await;
        assert!(matches!(unowned, Err(StateError::Fenced { .. })), "nobody else does: {unowned:?}");
        let none = backend.export_since(&from, wanted.version).await.expect("readable").expect("it is known");
        assert_eq!((none.entries, none.results), (Vec::new(), Vec::new()), "nothing happened since the last");
    }
    let ahead = backend.export_since(&from, Version::new(99)).await.expect("readable");
    assert_eq!(ahead, None, "of a version that never was nothing is known");
    let fence = acquire(backend, &from, "n1", clock).await.expect("unowned");
    assert_eq!(backend.import(&from, fence, copy.clone()).await, Ok(()), "the owner imports");
    let across = backend.export_since(&from, Version::new(1)).await.expect("readable");
    assert_eq!(across, None, "across an import nothing is known");
}

pub(super) async fn tells_watchers_what_changes_or_that_it_cannot(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    if !backend.caps().watch {
        let answer = backend.watch(&scope, "", Version::default()).await;
        assert!(matches!(answer, Err(StateError::Unsupported { .. })), "not watching is said: {answer:?}");
        return;
    }
    applied(backend.commit(batch(backend, &scope).put("a/1", "x").put("b", "x")).await);
    let mut watch = backend.watch(&scope, "a/", Version::new(1)).await.expect("watchable");
    let mut late = backend.watch(&scope, "a/", Version::new(0)).await.expect("watchable");
    match late.next().await {
        Ok(Watched::Change { version, keys }) => {
            assert_eq!((version, keys), (Version::new(1), vec!["a/1".to_owned()]), "what was before is told");
        }
        other => assert_eq!(other, Ok(Watched::Gap { version: Version::new(1) }), "or that it is not known"),
    }
    applied(backend.commit(batch(backend, &scope).put("b", "y")).await);
    applied(backend.commit(batch(backend, &scope).put("b", "z").put("a/2", "x").delete("a/1")).await);
    for watch in [&mut watch, &mut late] {
        let Ok(Watched::Change { version, mut keys }) = watch.next().await else { panic!("the change is at hand") };
        keys.sort_unstable();
        let wanted = (Version::new(3), vec!["a/1".to_owned(), "a/2".to_owned()]);
        assert_eq!((version, keys), wanted, "changes under the prefix are told, others are not");
    }
    let fence = acquire(backend, &scope, "n1", clock).await.expect("unowned");
    let snapshot = Snapshot { version: Version::new(9), ..Snapshot::default() };
    assert_eq!(backend.import(&scope, fence, snapshot).await, Ok(()), "the owner imports");
    let told = watch.next().await;
    assert_eq!(told, Ok(Watched::Gap { version: Version::new(9) }), "when everything is replaced, everything is read");
    let mut ahead = backend.watch(&scope, "", Version::new(99)).await.expect("watchable");
    let told = ahead.next().await;
    assert_eq!(told, Ok(Watched::Gap { version: Version::new(9) }), "who has seen what is not there reads again");
}
