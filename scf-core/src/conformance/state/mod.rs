//! What every [`StateBackend`] promises.

mod delta;
mod expiry;
mod linear;
mod page;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    Batch, Clock as _, Commit, Durability, Entry, Fence, FunctionName, InvocationId, ManualClock, NodeId, Page, Scope,
    Snapshot, StateBackend, StateError, Version, Watched,
};

const LEASE: Duration = Duration::from_secs(10);

/// Holds the backends that `make` gives against the contract of [`StateBackend`].
///
/// `make` is called once per promise, with the clock that the suite moves by hand, for a backend that measures
/// leases, or lets values expire, on a clock of its own. Each backend starts empty.
///
/// # Panics
/// At the first promise that is not kept.
pub async fn state_backend<F, Fut>(make: F)
where
    F: Fn(ManualClock) -> Fut,
    Fut: Future<Output = Arc<dyn StateBackend>>,
{
    macro_rules! hold {
        ($($promise:ident),* $(,)?) => {$({
            let clock = ManualClock::new();
            let backend = make(clock.clone()).await;
            $promise(&*backend, &clock).await;
        })*};
    }
    hold!(
        reads_what_was_written,
        applies_a_batch_in_order_and_counts_it_once,
        refuses_a_batch_that_rests_on_another_version,
        refuses_a_batch_whose_entries_are_not_as_it_rests_on,
        applies_an_invocation_once,
        refuses_more_durability_than_it_has,
        keeps_scopes_apart,
        takes_commits_of_the_owner_alone,
        holds_a_scope_until_the_lease_has_run_out,
        moves_a_scope_with_its_results,
        lets_one_of_several_writers_win,
        lets_one_of_several_nodes_acquire,
        forgets_the_oldest_results_first,
    );
    use delta::{brings_a_copy_up_to_date, tells_watchers_what_changes_or_that_it_cannot};
    use expiry::{
        keeps_to_leases_when_the_clock_is_set, lets_the_last_write_say_when_a_value_expires,
        lets_values_expire_at_their_time,
    };
    use linear::is_linearizable_under_callers_at_the_same_time;
    use page::{gives_pages_in_the_order_of_keys, refuses_what_is_larger_than_it_takes};
    hold!(
        lets_values_expire_at_their_time,
        lets_the_last_write_say_when_a_value_expires,
        keeps_to_leases_when_the_clock_is_set,
        gives_pages_in_the_order_of_keys,
        refuses_what_is_larger_than_it_takes,
        brings_a_copy_up_to_date,
        tells_watchers_what_changes_or_that_it_cannot,
        is_linearizable_under_callers_at_the_same_time,
    );
}

async fn reads_what_was_written(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    assert_eq!(backend.get(&scope, "k").await, Ok(None), "a value that was never written is absent");
    let head = backend.head(&scope, clock.now()).await.expect("a fresh scope has a head");
    assert_eq!((head.version, head.owner), (Version::new(0), None), "a fresh scope is at version 0 and unowned");
    let written = backend.commit(batch(backend, &scope).put("k", "one").put("empty", "")).await;
    assert_eq!(applied(written), Version::new(1), "the first commit leads to version 1");
    let entry = |value: &'static str, version| Entry::new(Bytes::from(value), Version::new(version));
    assert_eq!(backend.get(&scope, "k").await, Ok(Some(entry("one", 1))), "a committed value is read back");
    assert_eq!(backend.get(&scope, "empty").await, Ok(Some(entry("", 1))), "an empty value is a value");
    if let Some(read) = backend.try_get(&scope, "k") {
        assert_eq!(read, Ok(Some(entry("one", 1))), "try_get answers what get answers");
    }
    applied(backend.commit(batch(backend, &scope).put("k", "two")).await);
    assert_eq!(backend.get(&scope, "k").await, Ok(Some(entry("two", 2))), "the last committed value is read");
    assert_eq!(backend.get(&scope, "empty").await, Ok(Some(entry("", 1))), "an entry keeps the version that wrote it");
    let odd = "käse\u{0}/..%";
    applied(backend.commit(batch(backend, &scope).put(odd, "odd").put("", "none")).await);
    assert_eq!(backend.get(&scope, odd).await, Ok(Some(entry("odd", 3))), "every text is a key");
    assert_eq!(backend.get(&scope, "").await, Ok(Some(entry("none", 3))), "the empty text is a key");
}

async fn applies_a_batch_in_order_and_counts_it_once(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    applied(backend.commit(batch(backend, &scope).put("gone", "x").put("kept", "x")).await);
    let ops = batch(backend, &scope).put("k", "1").put("k", "2").delete("gone").delete("never").delete("back");
    assert_eq!(applied(backend.commit(ops.put("back", "3")).await), Version::new(2), "a batch counts as one commit");
    let values = values(backend, &scope).await;
    let wanted = [("back", "3"), ("k", "2"), ("kept", "x")].map(|(k, v)| (k.to_owned(), Bytes::from(v)));
    assert_eq!(values, wanted, "the changes of a batch apply in their order");
    assert_eq!(applied(backend.commit(batch(backend, &scope)).await), Version::new(3), "an empty batch is a commit");
    assert_eq!(version(backend, &scope, clock).await, Version::new(3), "the head counts the commits");
}

async fn refuses_a_batch_that_rests_on_another_version(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    applied(backend.commit(batch(backend, &scope).expect(Version::new(0)).put("k", "1")).await);
    for expected in [Version::new(0), Version::new(2)] {
        let answer = backend.commit(batch(backend, &scope).expect(expected).put("k", "lost").put("other", "x")).await;
        let conflict = StateError::Conflict { scope: scope.clone(), expected, actual: Version::new(1) };
        assert_eq!(answer, Err(conflict), "a batch resting on another version conflicts");
    }
    assert_eq!(values(backend, &scope).await, [("k".to_owned(), Bytes::from("1"))], "a conflict changes nothing");
    assert_eq!(version(backend, &scope, clock).await, Version::new(1), "a conflict is no commit");
    applied(backend.commit(batch(backend, &scope).expect(Version::new(1)).put("k", "2")).await);
}

async fn refuses_a_batch_whose_entries_are_not_as_it_rests_on(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    let at = |version| Some(Version::new(version));
    applied(backend.commit(batch(backend, &scope).guard("k", None).put("k", "1").put("other", "x")).await);
    applied(backend.commit(batch(backend, &scope).put("other", "y")).await);
    for (key, expected, actual) in [("k", None, at(1)), ("k", at(2), at(1)), ("gone", at(1), None)] {
        let rests = batch(backend, &scope).guard("other", at(2)).guard(key, expected).put("k", "lost").put("gone", "x");
        let refused = StateError::Guard { scope: Box::new(scope.clone()), key: key.to_owned(), expected, actual };
        assert_eq!(backend.commit(rests).await, Err(refused), "the entry is named, with what it is");
    }
    assert_eq!(version(backend, &scope, clock).await, Version::new(2), "a guard that does not hold changes nothing");
    let inside = batch(backend, &scope).put("k", "2").delete("other").guard("k", at(1)).guard("other", at(2));
    applied(backend.commit(inside).await);
    let wanted = [("k".to_owned(), Bytes::from("2"))];
    assert_eq!(values(backend, &scope).await, wanted, "guards hold before the first change, wherever they stand");
    let racing = (0..4u8).map(|w| backend.commit(batch(backend, &scope).guard("once", None).put("once", vec![w])));
    let won = join(racing).await.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(won, 1, "one of several creates an entry");
}

async fn applies_an_invocation_once(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    let id = InvocationId::new(7);
    assert_eq!(backend.result_of(&scope, id).await, Ok(None), "an invocation that never came has no result");
    applied(backend.commit(batch(backend, &scope).put("k", "1").invocation(id, "first")).await);
    assert_eq!(backend.result_of(&scope, id).await, Ok(Some(Bytes::from("first"))), "the result is kept");
    for expected in [None, Some(Version::new(0))] {
        let mut again = batch(backend, &scope).put("k", "2").invocation(id, "second");
        again.expect = expected;
        let duplicate = Ok(Commit::Duplicate { result: Bytes::from("first") });
        assert_eq!(backend.commit(again).await, duplicate, "a repeated invocation gets the first result");
    }
    assert_eq!(values(backend, &scope).await, [("k".to_owned(), Bytes::from("1"))], "a duplicate changes nothing");
    assert_eq!(version(backend, &scope, clock).await, Version::new(1), "a duplicate is no commit");
    let refused = InvocationId::new(8);
    let conflict = batch(backend, &scope).expect(Version::new(0)).invocation(refused, "never");
    assert!(backend.commit(conflict).await.is_err(), "a stale batch conflicts, with an invocation too");
    assert_eq!(backend.result_of(&scope, refused).await, Ok(None), "a refused batch leaves no result");
    applied(backend.commit(batch(backend, &scope).invocation(refused, "now")).await);
}

async fn refuses_more_durability_than_it_has(backend: &dyn StateBackend, _: &ManualClock) {
    let scope = scope("a");
    let given = backend.caps().durability;
    let replicated = Durability::Replicated(2);
    for asked in [Durability::Memory, Durability::OsBuffered, Durability::Durable, replicated] {
        let answer = backend.commit(Batch::new(scope.clone()).put("k", "1").durability(asked)).await;
        if asked > given {
            assert_eq!(answer, Err(StateError::Durability { asked, given }), "durability is never silently less");
        } else {
            let Ok(Commit::Applied { durability, .. }) = answer else { panic!("{asked:?} is within {given:?}") };
            assert!(durability >= asked && durability <= given, "{durability:?} is given where {asked:?} is asked");
        }
    }
}

async fn keeps_scopes_apart(backend: &dyn StateBackend, clock: &ManualClock) {
    // Pairs that fall together when a backend joins the parts with a separator.
    let scopes = [("f", "a"), ("f", "b"), ("f-a", ""), ("f", ""), ("f", "a\u{0}k"), ("f", "a/k"), ("g", "a")]
        .map(|(function, key)| Scope { function: FunctionName::new(function).expect("valid"), key: key.to_owned() });
    for (i, scope) in scopes.iter().enumerate() {
        let value = Bytes::from(i.to_string());
        let id = InvocationId::new(1);
        applied(backend.commit(batch(backend, scope).put("k", value.clone()).invocation(id, value)).await);
    }
    for (i, scope) in scopes.iter().enumerate() {
        let value = Bytes::from(i.to_string());
        assert_eq!(values(backend, scope).await, [("k".to_owned(), value.clone())], "{scope} holds its own alone");
        assert_eq!(backend.result_of(scope, InvocationId::new(1)).await, Ok(Some(value)), "{scope} keeps its results");
        assert_eq!(version(backend, scope, clock).await, Version::new(1), "{scope} counts its own commits");
    }
    let fence = acquire(backend, &scopes[0], "n1", clock).await.expect("unowned");
    applied(backend.commit(batch(backend, &scopes[1]).put("k", "free")).await);
    let foreign = backend.commit(batch(backend, &scopes[1]).put("k", "x").fence(fence)).await;
    assert!(matches!(foreign, Err(StateError::Fenced { .. })), "a fence of one scope is none of another: {foreign:?}");
}

async fn takes_commits_of_the_owner_alone(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    let first = acquire(backend, &scope, "n1", clock).await.expect("unowned");
    let fenced = |answer: Result<Commit, StateError>, epoch, why: &str| {
        assert_eq!(answer, Err(StateError::Fenced { scope: scope.clone(), epoch }), "{why}");
    };
    let unfenced = backend.commit(batch(backend, &scope).put("k", "x")).await;
    fenced(unfenced, first.epoch, "nobody else commits to an owned scope");
    let forged = Fence { nonce: first.nonce ^ 1, ..first };
    let answer = backend.commit(batch(backend, &scope).put("k", "x").fence(forged)).await;
    fenced(answer, first.epoch, "an epoch without its nonce is no fence");
    applied(backend.commit(batch(backend, &scope).put("k", "1").fence(first)).await);

    let again = acquire(backend, &scope, "n1", clock).await.expect("the owner may acquire again");
    assert!(again.epoch > first.epoch && again.nonce != first.nonce, "an acquisition gives a new fence");
    clock.advance(LEASE);
    let second = acquire(backend, &scope, "n2", clock).await.expect("the lease has run out");
    for stale in [first, again] {
        let answer = backend.commit(batch(backend, &scope).put("k", "stale").fence(stale)).await;
        fenced(answer, second.epoch, "a former owner commits nothing, however late");
        let renewed = backend.renew(&scope, stale, LEASE, clock.now()).await;
        assert!(matches!(renewed, Err(StateError::Fenced { .. })), "a former owner renews nothing: {renewed:?}");
        let imported = backend.import(&scope, stale, Snapshot::default()).await;
        assert!(matches!(imported, Err(StateError::Fenced { .. })), "a former owner imports nothing: {imported:?}");
        assert_eq!(backend.release(&scope, stale).await, Ok(()), "a former owner's release does nothing");
    }
    applied(backend.commit(batch(backend, &scope).put("k", "2").fence(second)).await);
    assert_eq!(values(backend, &scope).await, [("k".to_owned(), Bytes::from("2"))], "only owners' commits are there");

    assert_eq!(backend.release(&scope, second).await, Ok(()), "the owner gives the scope up");
    let answer = backend.commit(batch(backend, &scope).put("k", "late").fence(second)).await;
    fenced(answer, second.epoch, "a fence ends with the release");
    applied(backend.commit(batch(backend, &scope).put("k", "free")).await);
    let third = acquire(backend, &scope, "n1", clock).await.expect("released");
    assert!(third.epoch > second.epoch, "epochs count on after a release");
}

async fn holds_a_scope_until_the_lease_has_run_out(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    let fence = acquire(backend, &scope, "n1", clock).await.expect("unowned");
    clock.advance(LEASE / 2);
    let refused = acquire(backend, &scope, "n2", clock).await;
    let held = StateError::Held { scope: scope.clone(), owner: node("n1"), remaining: LEASE / 2 };
    assert_eq!(refused, Err(held), "others wait while the lease lasts");
    let owner = backend.head(&scope, clock.now()).await.expect("readable").owner.expect("owned");
    assert_eq!((owner.node, owner.epoch, owner.remaining), (node("n1"), fence.epoch, LEASE / 2), "the head says whose");

    assert_eq!(backend.renew(&scope, fence, LEASE, clock.now()).await, Ok(()), "the owner extends its lease");
    clock.advance(LEASE - Duration::from_nanos(1));
    let refused = acquire(backend, &scope, "n2", clock).await;
    assert!(matches!(refused, Err(StateError::Held { .. })), "a renewed lease lasts: {refused:?}");
    clock.advance(Duration::from_nanos(1));
    let owner = backend.head(&scope, clock.now()).await.expect("readable").owner.expect("owned");
    assert_eq!((owner.node, owner.remaining), (node("n1"), Duration::ZERO), "a lease that ran out changes no owner");
    applied(backend.commit(batch(backend, &scope).put("k", "1").fence(fence)).await);
    let second = acquire(backend, &scope, "n2", clock).await.expect("the lease has run out");
    assert_eq!(backend.release(&scope, second).await, Ok(()), "the owner gives the scope up");
    assert_eq!(backend.head(&scope, clock.now()).await.expect("readable").owner, None, "a released scope is unowned");
    acquire(backend, &scope, "n1", clock).await.expect("a release ends the lease");
}

async fn moves_a_scope_with_its_results(backend: &dyn StateBackend, clock: &ManualClock) {
    let (from, to) = (scope("from"), scope("to"));
    assert_eq!(backend.export(&from).await, Ok(Snapshot::default()), "a fresh scope exports nothing");
    for i in 1..=3u8 {
        let id = InvocationId::new(u128::from(i));
        let ops = batch(backend, &from).put(format!("k{i}"), vec![i; usize::from(i)]);
        applied(backend.commit(ops.invocation(id, vec![i])).await);
    }
    let snapshot = backend.export(&from).await.expect("readable");
    let entry = |i: u8| (format!("k{i}"), Entry::new(vec![i; usize::from(i)].into(), Version::new(u64::from(i))));
    let result = |i: u8| (InvocationId::new(u128::from(i)), Bytes::from(vec![i]));
    let wanted = Snapshot {
        version: Version::new(3),
        entries: [1, 2, 3].map(entry).to_vec(),
        results: [1, 2, 3].map(result).to_vec(),
    };
    assert_eq!(snapshot, wanted, "an export is everything, by key and by age");

    applied(backend.commit(batch(backend, &to).put("old", "x").invocation(InvocationId::new(9), "old")).await);
    let fence = acquire(backend, &to, "n1", clock).await.expect("unowned");
    for round in ["an import", "a repeated import"] {
        assert_eq!(backend.import(&to, fence, snapshot.clone()).await, Ok(()), "the owner imports");
        assert_eq!(backend.export(&to).await, Ok(wanted.clone()), "{round} replaces everything");
    }
    assert_eq!(backend.result_of(&to, InvocationId::new(9)).await, Ok(None), "what was there before is gone");
    let retry = batch(backend, &to).fence(fence).put("k1", "twice").invocation(InvocationId::new(2), "twice");
    let duplicate = Ok(Commit::Duplicate { result: Bytes::from(vec![2]) });
    assert_eq!(backend.commit(retry).await, duplicate, "an invocation happens once, wherever the scope moves");
    let next = batch(backend, &to).fence(fence).expect(Version::new(3)).put("k1", "on");
    assert_eq!(applied(backend.commit(next).await), Version::new(4), "versions count on after an import");
    assert_eq!(backend.export(&from).await, Ok(wanted), "an export is a copy");
}

async fn lets_one_of_several_writers_win(backend: &dyn StateBackend, clock: &ManualClock) {
    const WRITERS: u8 = 8;
    let scope = scope("a");
    for round in 0..4 {
        let expected = version(backend, &scope, clock).await;
        let commits = (0..WRITERS).map(|writer| {
            backend
                .commit(batch(backend, &scope).expect(expected).put("winner", vec![writer]).put("count", vec![round]))
        });
        let answers = join(commits).await;
        let winners: Vec<u8> = (0..WRITERS).filter(|&w| answers[usize::from(w)].is_ok()).collect();
        assert_eq!(winners.len(), 1, "one of {WRITERS} commits that rest on one version wins, not {winners:?}");
        for answer in answers.into_iter().filter(Result::is_err) {
            let conflict = StateError::Conflict { scope: scope.clone(), expected, actual: expected.next() };
            assert_eq!(answer, Err(conflict), "the others are told where the scope is now");
        }
        let winner = backend.get(&scope, "winner").await.expect("readable").expect("written");
        assert_eq!(winner.value, winners, "the winner's value is there");
    }
    let id = InvocationId::new(1);
    let same = (0..WRITERS).map(|w| backend.commit(batch(backend, &scope).put("w", vec![w]).invocation(id, vec![w])));
    let answers = join(same).await;
    let applied = answers.iter().filter(|a| matches!(a, Ok(Commit::Applied { .. }))).count();
    let duplicates = answers.iter().filter(|a| matches!(a, Ok(Commit::Duplicate { .. }))).count();
    assert_eq!((applied, duplicates), (1, usize::from(WRITERS) - 1), "one invocation sent at once happens once");
}

async fn lets_one_of_several_nodes_acquire(backend: &dyn StateBackend, clock: &ManualClock) {
    let scope = scope("a");
    let nodes: Vec<NodeId> = (0..6).map(|i| node(&format!("n{i}"))).collect();
    let answers = join(nodes.iter().map(|node| backend.acquire(&scope, node, LEASE, clock.now()))).await;
    let winners: Vec<usize> = (0..nodes.len()).filter(|&i| answers[i].is_ok()).collect();
    assert_eq!(winners.len(), 1, "one of several nodes gets a scope, not {winners:?}");
    let owner = backend.head(&scope, clock.now()).await.expect("readable").owner.expect("owned");
    assert_eq!(owner.node, nodes[winners[0]], "the head names the winner");
    for answer in answers.into_iter().filter(Result::is_err) {
        let held = StateError::Held { scope: scope.clone(), owner: owner.node.clone(), remaining: LEASE };
        assert_eq!(answer, Err(held), "the others are told who holds it");
    }
}

async fn forgets_the_oldest_results_first(backend: &dyn StateBackend, _: &ManualClock) {
    let scope = scope("a");
    // A backend that keeps more than this would be asked for too much here; the bound still shows.
    let kept = backend.caps().results_per_scope.min(1024);
    assert!(kept > 0, "a backend keeps at least one result per scope");
    for i in 0..kept + 2 {
        let id = InvocationId::new(i as u128);
        applied(backend.commit(batch(backend, &scope).invocation(id, i.to_string())).await);
    }
    let first_kept = if backend.caps().results_per_scope == kept { 2 } else { 0 };
    for i in [first_kept, kept + 1] {
        let result = backend.result_of(&scope, InvocationId::new(i as u128)).await;
        assert_eq!(result, Ok(Some(Bytes::from(i.to_string()))), "the last {kept} results are kept");
    }
    if first_kept == 2 {
        assert_eq!(backend.result_of(&scope, InvocationId::new(1)).await, Ok(None), "no more than {kept} are kept");
    }
    let results = backend.export(&scope).await.expect("readable").results;
    assert_eq!(results.first().map(|(id, _)| id.bits()), Some(first_kept as u128), "the export begins with the oldest");
}

fn scope(key: &str) -> Scope {
    Scope { function: FunctionName::new("suite").expect("valid"), key: key.to_owned() }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("valid")
}

fn batch(backend: &dyn StateBackend, scope: &Scope) -> Batch {
    Batch::new(scope.clone()).durability(backend.caps().durability)
}

fn applied(answer: Result<Commit, StateError>) -> Version {
    match answer {
        Ok(Commit::Applied { version, .. }) => version,
        other => panic!("nothing stands against this commit, yet the answer is {other:?}"),
    }
}

async fn acquire(
    backend: &dyn StateBackend,
    scope: &Scope,
    owner: &str,
    clock: &ManualClock,
) -> Result<Fence, StateError> {
    backend.acquire(scope, &node(owner), LEASE, clock.now()).await
}

async fn version(backend: &dyn StateBackend, scope: &Scope, clock: &ManualClock) -> Version {
    backend.head(scope, clock.now()).await.expect("readable").version
}

async fn values(backend: &dyn StateBackend, scope: &Scope) -> Vec<(String, Bytes)> {
    let snapshot = backend.export(scope).await.expect("readable");
    snapshot.entries.into_iter().map(|(key, entry)| (key, entry.value)).collect()
}

/// Runs `futures` side by side on this task.
async fn join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, output) in running.iter_mut().zip(&mut done) {
            if output.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *output = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
