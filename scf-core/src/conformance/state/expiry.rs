//! Values that expire.

use super::*;

pub(super) async fn lets_values_expire_at_their_time(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    let until = clock.wall() + Duration::from_secs(10);
    let short = batch(backend, &scope).put_until("short", "1", until).put("stays", "2");
    if !backend.caps().expiry {
        let answer = backend.commit(short).await;
        assert!(matches!(answer, Err(StateError::Unsupported { .. })), "expiry is never silently ignored: {answer:?}");
        assert_eq!(values(backend, &scope).await, [], "what is refused changes nothing");
        return;
    }
    applied(backend.commit(short).await);
    let entry = Entry { value: Bytes::from("1"), version: Version::new(1), expires: Some(until) };
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(backend.get(&scope, "short").await, Ok(Some(entry.clone())), "a value is there until its time");
    let snapshot = backend.export(&scope).await.expect("readable");
    assert_eq!(snapshot.entries[0], ("short".to_owned(), entry), "a copy knows when a value expires");
    clock.advance(Duration::from_millis(1));
    assert_eq!(backend.get(&scope, "short").await, Ok(None), "a value is gone at its time");
    if let Some(read) = backend.try_get(&scope, "short") {
        assert_eq!(read, Ok(None), "try_get answers what get answers");
    }
    assert_eq!(values(backend, &scope).await, [("stays".to_owned(), Bytes::from("2"))], "nor is it in a copy");
    let page = backend.scan(&scope, "s", None, 10).await.expect("readable");
    assert_eq!(page.entries.len(), 1, "nor in a page");
    assert_eq!(version(backend, &scope, clock).await, Version::new(1), "expiring is no commit");
    let stale = batch(backend, &scope).guard("short", Some(Version::new(1))).put("short", "x");
    let refused = StateError::Guard {
        scope: Box::new(scope.clone()),
        key: "short".to_owned(),
        expected: Some(Version::new(1)),
        actual: None,
    };
    assert_eq!(backend.commit(stale).await, Err(refused), "a guard sees that it is gone");
    applied(backend.commit(batch(backend, &scope).guard("short", None).put("short", "3")).await);
    clock.advance(Duration::from_secs(3600));
    let wanted = [("short".to_owned(), Bytes::from("3")), ("stays".to_owned(), Bytes::from("2"))];
    assert_eq!(values(backend, &scope).await, wanted, "a value that is written anew lives by its own time");
}

pub(super) async fn lets_the_last_write_say_when_a_value_expires(backend: &dyn StateBackend, clock: &ManualClock) {
    if !backend.caps().expiry {
        return;
    }
    let scope = scope("a");
    let after = |seconds| clock.wall() + Duration::from_secs(seconds);
    let first = batch(backend, &scope).put_until("longer", "1", after(1)).put_until("stays", "1", after(1));
    applied(backend.commit(first.put_until("shorter", "1", after(100)).put_until("gone", "1", after(1))).await);
    let second = batch(backend, &scope).put_until("longer", "2", after(100)).put("stays", "2").delete("gone");
    applied(backend.commit(second.put_until("shorter", "2", after(1)).put_until("past", "2", after(0))).await);
    clock.advance(Duration::from_secs(2));
    let wanted = [("longer".to_owned(), Bytes::from("2")), ("stays".to_owned(), Bytes::from("2"))];
    assert_eq!(values(backend, &scope).await, wanted, "each lives by the last write");
    // More than a backend may remove at once, and commits that give it the occasion.
    for i in 0..200 {
        applied(backend.commit(batch(backend, &scope).put_until(format!("x{i:03}"), "1", after(1))).await);
    }
    clock.advance(Duration::from_secs(1));
    for _ in 0..8 {
        applied(backend.commit(batch(backend, &scope).put("tick", "")).await);
    }
    let there = values(backend, &scope).await.len();
    assert_eq!(there, 3, "what has expired is gone, however much");
}

pub(super) async fn keeps_to_leases_when_the_clock_is_set(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    clock.set_wall(crate::WallTime::from_millis(1_000_000_000));
    let fence = acquire(backend, &scope, "n1", clock).await.expect("unowned");
    for wall in [1_003_600_000, 900_000_000] {
        clock.set_wall(crate::WallTime::from_millis(wall));
        let refused = acquire(backend, &scope, "n2", clock).await;
        assert!(matches!(refused, Err(StateError::Held { .. })), "a set clock ends no lease: {refused:?}");
        applied(backend.commit(batch(backend, &scope).fence(fence).put("k", "1")).await);
    }
    clock.advance(LEASE);
    acquire(backend, &scope, "n2", clock).await.expect("nor does it prolong one");
    if backend.caps().expiry {
        let other = Scope { key: "b".to_owned(), ..scope };
        let until = clock.wall() + Duration::from_secs(60);
        applied(backend.commit(batch(backend, &other).put_until("k", "1", until)).await);
        clock.set_wall(until);
        assert_eq!(backend.get(&other, "k").await, Ok(None), "values live by the time that the clock says");
    }
}
