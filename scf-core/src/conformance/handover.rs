//! What every [`InvocationQueue`] promises of calls that go to another node, and that come from one.

use super::queue::{HOUR, accept, call, id, lease, one, scope, settle, state};
use crate::{
    Acceptance, ByteSize, CallState, Cause, Due, Handover, Hold, InvocationId, InvocationQueue, ManualClock, NodeId,
    OfferAsk, Payload, QueueError, QueuedCall, Settle,
};

/// More than any retention of results.
const WEEK: u32 = 24 * 7;

pub(super) async fn offers_a_call_to_its_destination_and_to_no_worker(
    queue: &dyn InvocationQueue,
    clock: &ManualClock,
) {
    accept(queue, abroad(1).due(Due::After(HOUR))).await;
    accept(queue, abroad(2)).await;
    accept(queue, abroad(3).key("k")).await;
    accept(queue, abroad(4).destination(other("far"))).await;
    clock.advance(HOUR);
    assert_eq!(lease(queue, 8).await, [], "no worker here is given what belongs elsewhere");
    let offered = offer(queue, None, 8).await;
    assert_eq!(ids(&offered), [2, 3, 1], "calls are offered in the order in which they became due");
    let as_if_made_there = QueuedCall { key: Some("k".into()), ..call(3, "actor") };
    assert_eq!(offered[1], as_if_made_there, "what only mattered here is left out");
    assert_eq!(state(queue, 2).await, CallState::Waiting, "a call that was offered is not done");
    let mut outbox = queue.load().outbox;
    outbox.sort();
    assert_eq!(outbox, [(other("far"), 1), (other("hub"), 3)]);
}

pub(super) async fn offers_again_what_is_not_settled_and_goes_on_behind_what_is(
    queue: &dyn InvocationQueue,
    clock: &ManualClock,
) {
    for bits in 1..=5 {
        accept(queue, abroad(bits)).await;
    }
    assert_eq!(ids(&offer(queue, None, 3).await), [1, 2, 3]);
    clock.advance(HOUR);
    assert_eq!(ids(&offer(queue, None, 8).await), [1, 2, 3], "of what was offered nothing is decided here");
    // There was no room for the third one.
    assert_eq!(ids(&offer(queue, Some(vec![taken(1), taken(2)]), 2).await), [3, 4]);
    assert_eq!(state(queue, 2).await, CallState::Forwarded { to: other("hub") });
    let again = queue.accept(abroad(1)).await;
    let is_known = matches!(&again, Ok(Acceptance::Known(status)) if status.state == state(queue, 1).await);
    assert!(is_known, "a call that is at its destination is known here: {again:?}");
    let refused = Cause::refused("too large");
    let settled = vec![(id(3), Handover::Refused(refused.clone())), taken(4)];
    assert_eq!(ids(&offer(queue, Some(settled), 8).await), [5], "a refused call holds none back");
    assert_eq!(state(queue, 3).await, CallState::Dead(refused), "a call that is not taken anywhere is a dead letter");
    assert_eq!(ids(&offer(queue, Some(vec![taken(5), taken(1)]), 8).await), [], "everything is there");
    assert_eq!((queue.load().pending, queue.load().outbox), (0, vec![]));
}

pub(super) async fn gives_up_what_waits_to_be_offered_and_nothing_that_was(
    queue: &dyn InvocationQueue,
    clock: &ManualClock,
) {
    for bits in 1..=4 {
        accept(queue, abroad(bits).max_age(2 * HOUR)).await;
    }
    clock.advance(HOUR);
    let offered = offer(queue, None, 2).await;
    assert_eq!(offered[0].max_age, Some(HOUR), "its age goes with a call");
    assert_eq!(queue.cancel(id(1)).await, Err(QueueError::NotFound { id: id(1) }), "it may run there");
    assert_eq!(queue.cancel(id(3)).await, Ok(()));
    clock.advance(HOUR);
    assert_eq!(ids(&offer(queue, None, 8).await), [1, 2], "what was offered does not expire");
    assert_eq!(state(queue, 4).await, CallState::Dead(Cause::Expired { age: 2 * HOUR }));
    assert_eq!(ids(&offer(queue, Some(vec![taken(1)]), 8).await), [], "it was not taken, and is too old by now");
    assert_eq!(state(queue, 2).await, CallState::Dead(Cause::Expired { age: 2 * HOUR }));
}

pub(super) async fn offers_no_more_bytes_than_asked_for_and_nothing_that_is_held_back(
    queue: &dyn InvocationQueue,
    _: &ManualClock,
) {
    for bits in 1..=4 {
        accept(queue, abroad(bits).payload(vec![0; 100])).await;
    }
    let ask = |bytes, settled| OfferAsk { to: other("hub"), settled, calls: 8, bytes: ByteSize::from_bytes(bytes) };
    let offered = queue.offer(ask(250, None)).await.expect("available");
    assert_eq!(ids(&offered), [1, 2]);
    let offered = queue.offer(ask(1, Some(vec![taken(1), taken(2)]))).await.expect("available");
    assert_eq!(ids(&offered), [3], "one that is larger goes alone");
    accept(queue, abroad(5).key(scope().key)).await;
    assert_eq!(queue.hold(&scope(), Hold::Pause).await, Ok(()));
    assert_eq!(ids(&offer(queue, Some(vec![taken(3)]), 8).await), [4]);
    assert_eq!(ids(&offer(queue, Some(vec![taken(4)]), 8).await), []);
    assert_eq!(queue.load().outbox, [], "what is held back waits for nobody to bring it anywhere");
    assert_eq!(queue.hold(&scope(), Hold::Resume).await, Ok(()));
    assert_eq!(ids(&offer(queue, None, 8).await), [5]);
}

pub(super) async fn takes_a_call_once_however_long_ago_it_was_done(queue: &dyn InvocationQueue, clock: &ManualClock) {
    let edge = other("edge");
    let offered = || vec![call(1, "f"), call(2, "f")];
    let both = Ok(vec![Handover::Taken, Handover::Taken]);
    assert_eq!(queue.take(&edge, offered()).await, both);
    assert_eq!(queue.take(&edge, offered()).await, both, "it was taken before");
    for _ in 0..2 {
        let delivery = lease(queue, 1).await.remove(0);
        settle(queue, delivery.lease, Settle::Completed(Payload::default())).await;
    }
    for _ in 0..WEEK {
        clock.advance(HOUR);
        assert_eq!(lease(queue, 8).await, []);
    }
    assert_eq!(queue.take(&edge, offered()).await, both);
    assert_eq!(lease(queue, 8).await, [], "what was offered again is done, though its result is forgotten");
    // Whoever offers others has settled those.
    assert_eq!(queue.take(&edge, vec![call(3, "f")]).await, Ok(vec![Handover::Taken]));
    assert_eq!(one(queue).await.call.id, id(3));
}

fn other(node: &str) -> NodeId {
    NodeId::new(node).expect("valid")
}

fn abroad(bits: u128) -> QueuedCall {
    call(bits, "actor").destination(other("hub"))
}

fn ids(calls: &[QueuedCall]) -> Vec<u128> {
    calls.iter().map(|call| call.id.bits()).collect()
}

fn taken(bits: u128) -> (InvocationId, Handover) {
    (id(bits), Handover::Taken)
}

async fn offer(
    queue: &dyn InvocationQueue,
    settled: Option<Vec<(InvocationId, Handover)>>,
    calls: usize,
) -> Vec<QueuedCall> {
    let ask = OfferAsk { to: other("hub"), settled, calls, bytes: ByteSize::from_mib(1) };
    queue.offer(ask).await.expect("available")
}
