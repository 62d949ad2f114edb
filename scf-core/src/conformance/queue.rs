//! What every [`InvocationQueue`] promises.

use std::{future::Future, sync::Arc, time::Duration};

use super::handover::{
    gives_up_what_waits_to_be_offered_and_nothing_that_was, offers_a_call_to_its_destination_and_to_no_worker,
    offers_again_what_is_not_settled_and_goes_on_behind_what_is,
    offers_no_more_bytes_than_asked_for_and_nothing_that_is_held_back, takes_a_call_once_however_long_ago_it_was_done,
};
use crate::{
    Acceptance, CallState, Cause, Clock as _, Delivery, Due, FunctionName, Hold, InvocationId, InvocationQueue, Lease,
    LeaseAsk, ManualClock, Payload, QueueError, QueuedCall, Scope, Settle, WallTime,
};

const LEASE: Duration = Duration::from_secs(10);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// Longer than any delay before an attempt.
const LONG: Duration = Duration::from_secs(120);

/// Holds the queues that `make` gives against the contract of [`InvocationQueue`].
///
/// `make` is called once per promise, with the clock that the suite moves by hand and that the queue must tell the
/// time by. Each queue starts empty, has room for at least 64 calls, tries a call at least twice with at most
/// two minutes in between, and gives it up when it was due for longer than a day.
///
/// # Panics
/// At the first promise that is not kept.
pub async fn invocation_queue<F, Fut>(make: F)
where
    F: Fn(ManualClock) -> Fut,
    Fut: Future<Output = Arc<dyn InvocationQueue>>,
{
    macro_rules! hold {
        ($($promise:ident),* $(,)?) => {$({
            let clock = ManualClock::new();
            clock.set_wall(WallTime::from_millis(1_700_000_000_000));
            let queue = make(clock.clone()).await;
            $promise(&*queue, &clock).await;
        })*};
    }
    hold!(
        delivers_what_was_accepted_and_keeps_the_result,
        accepts_an_id_once,
        delivers_calls_of_a_key_one_at_a_time_in_order,
        lets_functions_take_turns,
        tries_again_later_and_gives_up_with_a_cause,
        a_call_that_waits_for_its_next_attempt_delays_its_own_key_alone,
        ends_a_lease_without_progress_and_no_other,
        takes_nothing_from_a_worker_that_lost_its_lease,
        a_postponed_call_has_lost_no_attempt,
        redrives_and_discards_dead_letters,
        a_delay_passes_with_time_and_not_by_setting_the_clock,
        a_time_of_day_follows_the_clock_and_comes_once,
        gives_up_what_was_due_for_too_long,
        a_timer_is_replaced_and_called_off_by_its_name,
        a_reminder_comes_again_until_it_is_called_off,
        holds_a_key_back_and_releases_it,
        calls_off_what_waits_and_nothing_else,
        offers_a_call_to_its_destination_and_to_no_worker,
        offers_again_what_is_not_settled_and_goes_on_behind_what_is,
        gives_up_what_waits_to_be_offered_and_nothing_that_was,
        offers_no_more_bytes_than_asked_for_and_nothing_that_is_held_back,
        takes_a_call_once_however_long_ago_it_was_done,
    );
}

async fn delivers_what_was_accepted_and_keeps_the_result(queue: &dyn InvocationQueue, _: &ManualClock) {
    assert_eq!(queue.status(id(1)).await, Ok(None), "a call that was never accepted has no status");
    accept(queue, call(1, "f")).await;
    assert_eq!(state(queue, 1).await, CallState::Waiting, "an accepted call waits");
    let delivery = one(queue).await;
    assert_eq!((delivery.call, delivery.attempt), (call(1, "f"), 1), "a call is delivered as it was accepted");
    assert_eq!(state(queue, 1).await, CallState::Running, "a leased call runs");
    assert_eq!(lease(queue, 8).await, [], "a leased call is nobody else's");
    settle(queue, delivery.lease, Settle::Completed("one".into())).await;
    assert_eq!(state(queue, 1).await, CallState::Completed(Some("one".into())), "a result is kept");
    assert_eq!(lease(queue, 8).await, [], "a completed call does not come again");
    let load = queue.load();
    assert_eq!((load.pending, load.running, load.bytes), (0, 0, 0), "nothing is left of it");
}

async fn accepts_an_id_once(queue: &dyn InvocationQueue, _: &ManualClock) {
    accept(queue, call(1, "f")).await;
    let again = |is: CallState, what: &'static str| async move {
        let twice = queue.accept(call(1, "f").payload("other")).await;
        let Ok(Acceptance::Known(status)) = twice else { panic!("{what}: {twice:?}") };
        assert_eq!((status.id, status.state), (id(1), is), "{what}");
    };
    again(CallState::Waiting, "a call that waits is known").await;
    let delivery = one(queue).await;
    assert_eq!(delivery.call.payload, Payload::new("1"), "what was accepted first is delivered");
    again(CallState::Running, "a call that runs is known").await;
    settle(queue, delivery.lease, Settle::Completed("done".into())).await;
    again(CallState::Completed(Some("done".into())), "a retry is given the stored result").await;
    assert_eq!(lease(queue, 8).await, [], "nothing was accepted twice");
    accept(queue, call(2, "f")).await;
    let delivery = one(queue).await;
    settle(queue, delivery.lease, Settle::Dead(Cause::refused("no"))).await;
    let twice = queue.accept(call(2, "f")).await;
    let is_dead =
        matches!(&twice, Ok(Acceptance::Known(status)) if status.state == CallState::Dead(Cause::refused("no")));
    assert!(is_dead, "a dead letter is known: {twice:?}");
}

async fn delivers_calls_of_a_key_one_at_a_time_in_order(queue: &dyn InvocationQueue, _: &ManualClock) {
    for i in 1..=3 {
        accept(queue, call(i, "f").key("a")).await;
        accept(queue, call(10 + i, "f").key("b")).await;
        accept(queue, call(20 + i, "g").key("a")).await;
    }
    for i in 1..=3 {
        let mut round = lease(queue, 64).await;
        round.sort_by_key(|delivery| delivery.call.id);
        let ids: Vec<_> = round.iter().map(|delivery| delivery.call.id).collect();
        assert_eq!(ids, [id(i), id(10 + i), id(20 + i)], "one call of each key, the next in order");
        assert_eq!(lease(queue, 64).await, [], "the others wait until it is settled");
        for delivery in round {
            settle(queue, delivery.lease, Settle::Completed(Payload::default())).await;
        }
    }
}

async fn lets_functions_take_turns(queue: &dyn InvocationQueue, _: &ManualClock) {
    for i in 0..20 {
        accept(queue, call(i, "busy")).await;
    }
    accept(queue, call(50, "quiet")).await;
    let two = lease(queue, 2).await;
    assert!(two.iter().any(|delivery| delivery.call.id == id(50)), "a full function does not delay another");
    let ask = LeaseAsk { calls: 64, functions: None, per_function: 3, lease: LEASE };
    let more = queue.lease(ask).await.expect("available");
    assert_eq!(more.len(), 2, "a function runs as often as is asked for, with what is leased already");
    accept(queue, call(51, "quiet")).await;
    let ask = LeaseAsk { calls: 64, functions: Some(vec![name("quiet")]), per_function: 64, lease: LEASE };
    let quiet: Vec<_> = queue.lease(ask).await.expect("available").iter().map(|delivery| delivery.call.id).collect();
    assert_eq!(quiet, [id(51)], "a worker is given calls of the functions that it runs");
    assert_eq!(lease(queue, 64).await.len(), 17, "the others wait for one that does");
}

async fn tries_again_later_and_gives_up_with_a_cause(queue: &dyn InvocationQueue, clock: &ManualClock) {
    accept(queue, call(1, "f")).await;
    let mut attempts = 0;
    loop {
        let round = lease(queue, 8).await;
        let Some(delivery) = round.into_iter().next() else { break };
        attempts += 1;
        assert_eq!(delivery.attempt, attempts, "attempts are counted");
        settle(queue, delivery.lease, Settle::Retry(Cause::failed(&format!("failure {attempts}")))).await;
        assert_eq!(lease(queue, 8).await, [], "a failed call waits before it is tried again");
        clock.advance(LONG);
        assert!(attempts < 1000, "attempts have a bound");
    }
    assert!(attempts > 1, "a call is tried more than once");
    let cause = Cause::failed(&format!("failure {attempts}"));
    let status = queue.status(id(1)).await.expect("available").expect("kept");
    assert_eq!((status.state, status.attempts), (CallState::Dead(cause.clone()), attempts), "it is a dead letter then");
    let letters = queue.dead_letters(None, 8).await.expect("available");
    assert_eq!(letters.len(), 1, "a call is one dead letter");
    assert_eq!((&letters[0].call, &letters[0].cause), (&call(1, "f"), &cause), "with its last cause");
    assert!(letters[0].at <= clock.wall(), "and when");
}

async fn a_call_that_waits_for_its_next_attempt_delays_its_own_key_alone(
    queue: &dyn InvocationQueue,
    clock: &ManualClock,
) {
    accept(queue, call(1, "f").key("a")).await;
    accept(queue, call(2, "f").key("a")).await;
    accept(queue, call(3, "f").key("b")).await;
    let first = lease(queue, 1).await.remove(0);
    settle(queue, first.lease, Settle::Retry(Cause::failed("once"))).await;
    let next = one(queue).await;
    assert_eq!(next.call.id, id(3), "another key goes on");
    clock.advance(LONG);
    let round = lease(queue, 8).await;
    assert_eq!(round.first().map(|delivery| delivery.call.id), Some(id(1)), "its own key goes on with itself");
}

async fn ends_a_lease_without_progress_and_no_other(queue: &dyn InvocationQueue, clock: &ManualClock) {
    accept(queue, call(1, "f")).await;
    accept(queue, call(2, "f")).await;
    let (slow, stuck) = match &lease(queue, 8).await[..] {
        [one, two] => (one.lease, two.lease),
        other => panic!("both calls are due, and these are leased: {other:?}"),
    };
    for _ in 0..10 {
        clock.advance(LEASE / 2);
        assert_eq!(queue.progress(slow).await, Ok(()), "a slow call that advances keeps its lease");
        // Whoever leases, finds out what has no progress.
        let _ = lease(queue, 0).await;
    }
    assert_eq!(
        queue.progress(stuck).await,
        Err(QueueError::NotLeased { id: stuck.id }),
        "one without progress does not"
    );
    assert_eq!(queue.settle(slow, Settle::Completed("slow".into())).await, Ok(()), "what advanced is settled");
    clock.advance(LONG);
    let again = one(queue).await;
    assert_eq!((again.call.id, again.attempt), (stuck.id, 2), "the other is tried again");
}

async fn takes_nothing_from_a_worker_that_lost_its_lease(queue: &dyn InvocationQueue, clock: &ManualClock) {
    accept(queue, call(1, "f")).await;
    let lost = one(queue).await.lease;
    clock.advance(LEASE);
    let _ = lease(queue, 0).await;
    clock.advance(LONG);
    let current = one(queue).await.lease;
    assert_ne!(lost, current, "every lease has its own token");
    let late = queue.settle(lost, Settle::Completed("late".into())).await;
    assert_eq!(late, Err(QueueError::NotLeased { id: id(1) }), "a completion under an old lease is refused");
    settle(queue, current, Settle::Completed("in time".into())).await;
    let twice = queue.settle(current, Settle::Dead(Cause::Cancelled)).await;
    assert_eq!(twice, Err(QueueError::NotLeased { id: id(1) }), "a lease is settled once");
    assert_eq!(state(queue, 1).await, CallState::Completed(Some("in time".into())), "what was settled stays");
}

async fn a_postponed_call_has_lost_no_attempt(queue: &dyn InvocationQueue, clock: &ManualClock) {
    accept(queue, call(1, "f")).await;
    for _ in 0..50 {
        let delivery = one(queue).await;
        assert_eq!(delivery.attempt, 1, "an attempt that was not begun is none");
        settle(queue, delivery.lease, Settle::Postpone(Duration::from_secs(1))).await;
        assert_eq!(lease(queue, 8).await, [], "a postponed call waits");
        clock.advance(Duration::from_secs(1));
    }
}

async fn redrives_and_discards_dead_letters(queue: &dyn InvocationQueue, clock: &ManualClock) {
    for i in 1..=3 {
        accept(queue, call(i, "f")).await;
        let delivery = one(queue).await;
        settle(queue, delivery.lease, Settle::Dead(Cause::refused("bad"))).await;
        clock.advance(Duration::from_secs(1));
    }
    let ids = |letters: Vec<crate::DeadLetter>| letters.iter().map(|letter| letter.call.id).collect::<Vec<_>>();
    let first = queue.dead_letters(None, 2).await.expect("available");
    assert_eq!(ids(first), [id(1), id(2)], "dead letters are listed in order");
    let rest = queue.dead_letters(Some(id(2)), 2).await.expect("available");
    assert_eq!(ids(rest), [id(3)], "and page by page");
    assert_eq!(queue.load().dead, 3, "and counted");

    assert_eq!(queue.redrive(id(2)).await, Ok(()), "a dead letter can be tried again");
    assert_eq!(queue.redrive(id(2)).await, Err(QueueError::NotFound { id: id(2) }), "it is none then");
    let delivery = one(queue).await;
    assert_eq!((delivery.call.id, delivery.attempt), (id(2), 1), "with all of its attempts");
    settle(queue, delivery.lease, Settle::Completed("better".into())).await;
    assert_eq!(
        queue.discard(id(2)).await,
        Err(QueueError::NotFound { id: id(2) }),
        "a completed call is no dead letter"
    );

    assert_eq!(queue.discard(id(1)).await, Ok(()), "a dead letter can be thrown away");
    assert_eq!(queue.status(id(1)).await, Ok(None), "and is gone then");
    assert_eq!(ids(queue.dead_letters(None, 8).await.expect("available")), [id(3)], "the others stay");
}

async fn a_delay_passes_with_time_and_not_by_setting_the_clock(queue: &dyn InvocationQueue, clock: &ManualClock) {
    accept(queue, call(1, "f").due(Due::After(HOUR))).await;
    for hours in [1, -1, 24, -24] {
        jump(clock, hours);
        assert_eq!(lease(queue, 8).await, [], "setting the clock by {hours} h passes no time");
    }
    clock.advance(HOUR - Duration::from_nanos(1));
    assert_eq!(lease(queue, 8).await, [], "a call is not early");
    clock.advance(Duration::from_nanos(1));
    let delivery = one(queue).await;
    for hours in [1, -1, 24, -24] {
        jump(clock, hours);
        assert_eq!(queue.progress(delivery.lease).await, Ok(()), "nor does it end a lease");
        assert_eq!(lease(queue, 8).await, [], "nor deliver a call again");
    }
    settle(queue, delivery.lease, Settle::Completed(Payload::default())).await;
}

async fn a_time_of_day_follows_the_clock_and_comes_once(queue: &dyn InvocationQueue, clock: &ManualClock) {
    let at = clock.wall() + HOUR;
    accept(queue, call(1, "f").due(Due::At(at))).await;
    jump(clock, -24);
    clock.advance(2 * HOUR);
    assert_eq!(lease(queue, 8).await, [], "by the clock that was set back it is not due");
    clock.set_wall(at);
    let delivery = one(queue).await;
    settle(queue, delivery.lease, Settle::Completed(Payload::default())).await;
    for hours in [-1, 1, -24, 24] {
        jump(clock, hours);
        assert_eq!(lease(queue, 8).await, [], "it comes once, however often its time does");
    }
}

async fn gives_up_what_was_due_for_too_long(queue: &dyn InvocationQueue, clock: &ManualClock) {
    accept(queue, call(1, "f").max_age(HOUR)).await;
    accept(queue, call(2, "f").max_age(HOUR).due(Due::After(HOUR))).await;
    accept(queue, call(3, "f").max_age(3 * HOUR)).await;
    jump(clock, 24);
    clock.advance(HOUR - Duration::from_nanos(1));
    let _ = lease(queue, 0).await;
    assert_eq!(state(queue, 1).await, CallState::Waiting, "nothing expires early");
    clock.advance(Duration::from_nanos(1));
    let _ = lease(queue, 0).await;
    assert_eq!(state(queue, 1).await, CallState::Dead(Cause::Expired { age: HOUR }), "what is too old is given up");
    let mut left: Vec<_> = lease(queue, 8).await.iter().map(|delivery| delivery.call.id).collect();
    left.sort();
    assert_eq!(left, [id(2), id(3)], "age counts from when a call was due");
}

async fn a_timer_is_replaced_and_called_off_by_its_name(queue: &dyn InvocationQueue, clock: &ManualClock) {
    let timer = |setter, name: &str, hours| {
        QueuedCall::timer(id(setter), scope(), name, 1, Due::After(HOUR * hours)).payload(format!("{name} {setter}"))
    };
    accept(queue, timer(1, "tea", 1)).await;
    let again = queue.accept(timer(1, "tea", 1)).await;
    assert!(matches!(again, Ok(Acceptance::Known(_))), "a call that is tried again sets the same timer: {again:?}");
    accept(queue, timer(2, "tea", 2)).await;
    accept(queue, timer(2, "egg", 1)).await;
    assert_eq!(queue.load().pending, 2, "one timer waits under a name");
    clock.advance(HOUR);
    let egg = one(queue).await;
    assert_eq!(egg.call.payload, Payload::new("egg 2"), "what was replaced does not come");
    assert_eq!(egg.call.scope(), scope(), "a timer is a call of its owner");
    settle(queue, egg.lease, Settle::Completed(Payload::default())).await;
    assert_eq!(queue.cancel_timer(&scope(), "tea").await, Ok(()), "a timer can be called off");
    assert_eq!(queue.cancel_timer(&scope(), "tea").await, Ok(()), "one that is not there too");
    clock.advance(HOUR * 9);
    assert_eq!(lease(queue, 8).await, [], "what was called off does not come");
    assert_eq!(queue.load().dead, 0, "nor is it a dead letter");
}

async fn a_reminder_comes_again_until_it_is_called_off(queue: &dyn InvocationQueue, clock: &ManualClock) {
    accept(queue, QueuedCall::timer(id(1), scope(), "beat", 1, Due::After(HOUR)).every(HOUR)).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        clock.advance(HOUR);
        let delivery = one(queue).await;
        seen.push(delivery.call.id);
        settle(queue, delivery.lease, Settle::Completed(Payload::default())).await;
        assert_eq!(lease(queue, 8).await, [], "once per period");
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "each time it is a call of its own");
    clock.advance(HOUR * 5 + HOUR / 2);
    let delivery = one(queue).await;
    settle(queue, delivery.lease, Settle::Completed(Payload::default())).await;
    assert_eq!(lease(queue, 8).await, [], "what was missed comes once");
    clock.advance(HOUR / 2);
    let delivery = one(queue).await;
    assert_eq!(queue.cancel_timer(&scope(), "beat").await, Ok(()), "a reminder can be called off while it runs");
    settle(queue, delivery.lease, Settle::Completed(Payload::default())).await;
    clock.advance(HOUR * 9);
    assert_eq!(lease(queue, 8).await, [], "it does not come again then");
}

async fn holds_a_key_back_and_releases_it(queue: &dyn InvocationQueue, clock: &ManualClock) {
    let keyed = |i: u128, key: &str| call(i, "f").key(key);
    accept(queue, keyed(1, "a")).await;
    let held = Scope { function: name("f"), key: "a".into() };
    assert_eq!(queue.hold(&held, Hold::Pause).await, Ok(()), "a key can be held back");
    accept(queue, keyed(2, "a")).await;
    accept(queue, keyed(3, "b")).await;
    let other = one(queue).await;
    assert_eq!(other.call.id, id(3), "other keys go on");
    assert_eq!(queue.hold(&held, Hold::Resume).await, Ok(()), "and let go");
    let hung = one(queue).await;
    assert_eq!(hung.call.id, id(1), "its calls come in order");
    assert_eq!(queue.release(&held).await, Ok(Some(id(1))), "an operator can take a call from its worker");
    assert_eq!(queue.release(&held).await, Ok(None), "once");
    assert_eq!(queue.progress(hung.lease).await, Err(QueueError::NotLeased { id: id(1) }), "who notices");
    clock.advance(LONG);
    let round = lease(queue, 8).await;
    assert!(round.iter().any(|delivery| delivery.call.id == id(1) && delivery.attempt == 2), "it is tried again");
}

async fn calls_off_what_waits_and_nothing_else(queue: &dyn InvocationQueue, _: &ManualClock) {
    accept(queue, call(1, "f").due(Due::After(HOUR))).await;
    accept(queue, call(2, "f")).await;
    let running = one(queue).await;
    assert_eq!(queue.cancel(id(1)).await, Ok(()), "a waiting call can be called off");
    assert_eq!(state(queue, 1).await, CallState::Dead(Cause::Cancelled), "it is a dead letter then");
    assert_eq!(queue.cancel(id(2)).await, Err(QueueError::NotFound { id: id(2) }), "a running one cannot");
    assert_eq!(queue.cancel(id(3)).await, Err(QueueError::NotFound { id: id(3) }), "nor one that never was");
    settle(queue, running.lease, Settle::Completed(Payload::default())).await;
}

pub(super) fn id(bits: u128) -> InvocationId {
    InvocationId::new(bits)
}

fn name(text: &str) -> FunctionName {
    FunctionName::new(text).expect("valid")
}

pub(super) fn scope() -> Scope {
    Scope { function: name("actor"), key: "k".into() }
}

pub(super) fn call(bits: u128, function: &str) -> QueuedCall {
    QueuedCall::new(id(bits), name(function), bits.to_string())
}

fn jump(clock: &ManualClock, hours: i64) {
    let millis = clock.wall().millis().saturating_add_signed(hours * 3_600_000);
    clock.set_wall(WallTime::from_millis(millis));
}

pub(super) async fn accept(queue: &dyn InvocationQueue, call: QueuedCall) {
    let accepted = queue.accept(call).await;
    assert_eq!(accepted, Ok(Acceptance::New(queue.durability())), "there is room for a new call");
}

pub(super) async fn lease(queue: &dyn InvocationQueue, calls: usize) -> Vec<Delivery> {
    queue.lease(LeaseAsk { calls, functions: None, per_function: usize::MAX, lease: LEASE }).await.expect("available")
}

pub(super) async fn one(queue: &dyn InvocationQueue) -> Delivery {
    let mut leased = lease(queue, 8).await;
    assert_eq!(leased.len(), 1, "one call can run now, and these are leased: {leased:?}");
    leased.remove(0)
}

pub(super) async fn settle(queue: &dyn InvocationQueue, lease: Lease, settle: Settle) {
    assert_eq!(queue.settle(lease, settle).await, Ok(()), "a lease that lasts is settled");
}

pub(super) async fn state(queue: &dyn InvocationQueue, bits: u128) -> CallState {
    queue.status(id(bits)).await.expect("available").expect("kept").state
}
