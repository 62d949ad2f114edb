use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use scf_core::{
    Acceptance, Batch, ByteSize, CallState, Cause, Clock, Delivery, Due, FunctionName, InvocationId, InvocationQueue,
    LeaseAsk, ManualClock, QueueError, QueuedCall, RetryPolicy, Room, Scope, Settle, StateBackend as _, StateError,
    WallTime, conformance,
};

use super::*;
use crate::{MemoryDisk, RedbQueue, RedbState};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn in_memory_it_passes_the_suite() {
    let make = |clock| async move {
        Arc::new(MemoryQueue::new(Arc::new(clock), QueueConfig::default())) as Arc<dyn InvocationQueue>
    };
    conformance::queue::invocation_queue(make).await;
}

#[tokio::test]
async fn beside_the_state_it_passes_the_suite() {
    let make = |clock| async move {
        let disk = Arc::new(MemoryDisk::new());
        Arc::new(open(&disk, &clock, QueueConfig::default()).await.unwrap()) as Arc<dyn InvocationQueue>
    };
    conformance::queue::invocation_queue(make).await;
}

pub(super) async fn open(
    disk: &Arc<MemoryDisk>,
    clock: &ManualClock,
    config: QueueConfig,
) -> Result<RedbQueue, StateError> {
    let state =
        RedbState::on(Arc::clone(disk) as _).map_err(|error| StateError::Unavailable { reason: error.to_string() })?;
    RedbQueue::open(Arc::new(state), Arc::new(clock.clone()), config).await
}

pub(super) fn clock() -> ManualClock {
    let clock = ManualClock::new();
    clock.set_wall(WallTime::from_millis(1_700_000_000_000));
    clock
}

pub(super) fn id(bits: u128) -> InvocationId {
    InvocationId::new(bits)
}

pub(super) fn call(bits: u128) -> QueuedCall {
    QueuedCall::new(id(bits), FunctionName::new("f").unwrap(), bits.to_string())
}

pub(super) async fn lease(queue: &dyn InvocationQueue, calls: usize) -> Vec<Delivery> {
    let ask = LeaseAsk { calls, functions: None, per_function: usize::MAX, lease: LEASE };
    queue.lease(ask).await.unwrap()
}

pub(super) async fn state_of(queue: &dyn InvocationQueue, bits: u128) -> Option<CallState> {
    queue.status(id(bits)).await.unwrap().map(|status| status.state)
}

/// Accepts, leases and settles until the disk fails, cuts the power, and looks at what is there.
async fn fail(make_fail: impl Fn(&MemoryDisk), case: &str, seed: u64) {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let (mut accepted, mut completed) = (Vec::new(), Vec::new());
    {
        let queue = open(&disk, &clock, QueueConfig::default()).await.unwrap();
        make_fail(&disk);
        for bits in 1..=40 {
            match queue.accept(call(bits)).await {
                Ok(Acceptance::New(_)) => accepted.push(bits),
                Ok(other) => panic!("{case}: {other:?}"),
                Err(
                    QueueError::Unavailable { .. }
                    | QueueError::Unknown { .. }
                    | QueueError::Full { room: Room::Disk, .. },
                ) => break,
                Err(other) => panic!("{case}: {other:?}"),
            }
            if bits % 3 == 0 {
                let ask = LeaseAsk { calls: 1, functions: None, per_function: 64, lease: LEASE };
                let Ok(leased) = queue.lease(ask).await else { break };
                for Delivery { call, lease, .. } in leased {
                    if queue.settle(lease, Settle::Completed(call.payload)).await.is_err() {
                        break;
                    }
                    completed.push(call.id.bits());
                }
            }
        }
        assert!(accepted.len() < 40, "{case}: the disk failed");
        let after = queue.accept(call(99)).await;
        let is_refused =
            matches!(after, Err(QueueError::Unavailable { .. } | QueueError::Full { room: Room::Disk, .. }));
        assert!(is_refused, "{case}: {after:?}");
    }
    let disk = Arc::new(disk.power_cut(seed));
    let queue = open(&disk, &clock, QueueConfig::default()).await.unwrap();
    for bits in &accepted {
        let state = state_of(&queue, *bits).await;
        if completed.contains(bits) {
            assert_eq!(state, Some(CallState::Completed(Some(bits.to_string().into()))), "{case}: {bits}");
        } else {
            assert!(state.is_some(), "{case}: accepted call {bits} is lost");
        }
    }
    loop {
        clock.advance(HOUR / 60);
        let leased = lease(&queue, 64).await;
        if leased.is_empty() && queue.load().pending == 0 {
            break;
        }
        for Delivery { call, lease, .. } in leased {
            assert!(!completed.contains(&call.id.bits()), "{case}: a completed call came again");
            queue.settle(lease, Settle::Completed(call.payload)).await.unwrap();
        }
    }
    for bits in accepted {
        assert!(matches!(state_of(&queue, bits).await, Some(CallState::Completed(_))), "{case}: {bits}");
    }
}

#[tokio::test]
async fn what_was_accepted_survives_a_full_disk_and_a_power_cut_at_every_write() {
    for writes in 0..45 {
        for seed in 0..4 {
            fail(|disk| disk.fill_up_after(writes), &format!("full after {writes} writes, seed {seed}"), seed).await;
        }
    }
}

#[tokio::test]
async fn what_was_accepted_survives_a_sync_that_fails_and_a_power_cut() {
    for syncs in 0..35 {
        for seed in 0..4 {
            fail(|disk| disk.fail_syncs_after(syncs), &format!("{syncs} syncs, seed {seed}"), seed).await;
        }
    }
}

#[tokio::test]
async fn accepting_shares_its_sync_and_leasing_has_none() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let state = Arc::new(RedbState::on(Arc::clone(&disk) as _).unwrap());
    let queue = RedbQueue::open(Arc::clone(&state), Arc::new(clock.clone()), QueueConfig::default()).await.unwrap();
    let before = disk.syncs();
    let accepts = join_all((0..64).map(|bits| queue.accept(call(bits))));
    let scope = |i: u8| Scope { function: FunctionName::new("s").unwrap(), key: i.to_string() };
    let commits = join_all((0..64).map(|i| state.commit(Batch::new(scope(i)).put("k", "v"))));
    let mut both = std::pin::pin!(futures::future::join(accepts, commits));
    // All have asked before the first is answered.
    disk.hold_syncs(true);
    assert!(futures::poll!(both.as_mut()).is_pending());
    disk.hold_syncs(false);
    let (accepted, committed) = both.await;
    assert!(accepted.iter().all(Result::is_ok) && committed.iter().all(Result::is_ok));
    let syncs = disk.syncs() - before;
    assert!(syncs <= 4, "{syncs} syncs for 128 acknowledgements that were asked for at once");
    let before = disk.syncs();
    assert_eq!(lease(&queue, 64).await.len(), 64);
    assert_eq!(disk.syncs(), before, "a lease outlives the process without a sync");
}

#[tokio::test]
async fn a_call_during_which_the_process_ends_is_tried_again_at_once_and_then_alone_and_then_given_up() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let config = QueueConfig { crashes: 3, ..QueueConfig::default() };
    {
        let queue = open(&disk, &clock, config).await.unwrap();
        for bits in 1..=4 {
            queue.accept(call(bits)).await.unwrap();
        }
        assert_eq!(lease(&queue, 2).await.len(), 2);
    }
    {
        let queue = open(&disk, &clock, config).await.unwrap();
        let attempts: Vec<_> = lease(&queue, 8).await.iter().map(|delivery| delivery.attempt).collect();
        assert_eq!(attempts.len(), 4, "after one crash they run with the others");
        assert_eq!(attempts.iter().filter(|attempt| **attempt == 2).count(), 2);
    }
    {
        let queue = open(&disk, &clock, config).await.unwrap();
        let alone = lease(&queue, 8).await;
        let others: Vec<_> = alone.iter().map(|delivery| delivery.call.id).collect();
        assert_eq!(others, [id(1)], "after two a call runs alone");
        assert!(lease(&queue, 8).await.is_empty(), "nothing else is started beside it");
        queue.settle(alone[0].lease, Settle::Completed("innocent".into())).await.unwrap();
        let mut rest: Vec<_> = lease(&queue, 8).await.iter().map(|delivery| delivery.call.id).collect();
        rest.sort();
        assert_eq!(rest, [id(3), id(4)], "others have their turn in between");
    }
    let queue = open(&disk, &clock, config).await.unwrap();
    // 3 and 4 ran during two crashes, 2 during two and not during the third.
    let alone = lease(&queue, 8).await;
    assert_eq!((alone.len(), alone[0].call.id), (1, id(2)));
    drop(queue);
    let queue = open(&disk, &clock, config).await.unwrap();
    assert_eq!(state_of(&queue, 2).await, Some(CallState::Dead(Cause::Crashed { times: 3 })));
    assert_eq!(queue.load().pending, 2, "the others are still there");
}

#[tokio::test]
async fn an_order_survives_a_restart_while_its_first_waits_for_the_next_attempt() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    {
        let queue = open(&disk, &clock, QueueConfig::default()).await.unwrap();
        for bits in 1..=3 {
            queue.accept(call(bits).key("k")).await.unwrap();
        }
        let first = lease(&queue, 8).await;
        queue.settle(first[0].lease, Settle::Retry(Cause::failed("once"))).await.unwrap();
    }
    let queue = open(&disk, &clock, QueueConfig::default()).await.unwrap();
    assert!(lease(&queue, 8).await.is_empty(), "nobody overtakes it");
    for bits in 1..=3 {
        clock.advance(HOUR / 60);
        let next = lease(&queue, 8).await;
        assert_eq!(next.iter().map(|delivery| delivery.call.id).collect::<Vec<_>>(), [id(bits)]);
        queue.settle(next[0].lease, Settle::Completed("".into())).await.unwrap();
    }
}

#[tokio::test]
async fn timers_come_once_and_never_early_whatever_the_clock_is_set_to_across_restarts() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let due = HOUR * 30;
    let mut came = 0;
    let mut passed = Duration::ZERO;
    let mut queue = open(&disk, &clock, QueueConfig::default()).await.unwrap();
    for bits in 1..=8 {
        queue.accept(call(bits).due(Due::After(due)).key(bits.to_string())).await.unwrap();
    }
    // Jumps of an hour and a day both ways, each followed by a restart.
    for round in 0..40 {
        let jump = [1_i64, -1, 24, -24][round % 4] * 3_600_000;
        clock.set_wall(WallTime::from_millis(clock.wall().millis().saturating_add_signed(jump)));
        let leased = lease(&queue, 64).await;
        assert!(leased.is_empty() || passed >= due, "round {round}: early, after {passed:?}");
        for Delivery { lease, .. } in leased {
            queue.settle(lease, Settle::Completed("".into())).await.unwrap();
            came += 1;
        }
        drop(queue);
        queue = open(&disk, &clock, QueueConfig::default()).await.unwrap();
        clock.advance(HOUR);
        passed += HOUR;
    }
    assert_eq!(came, 8, "each came once");
}

#[tokio::test]
async fn a_full_queue_refuses_what_is_new_and_still_gives_up_what_it_has() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let config = QueueConfig { calls: 3, payload: ByteSize::from_bytes(8), ..QueueConfig::default() };
    let queue = open(&disk, &clock, config).await.unwrap();
    for bits in 1..=3 {
        queue.accept(call(bits)).await.unwrap();
    }
    let full = |bits| Err(QueueError::Full { id: id(bits), room: Room::Calls { limit: 3 } });
    assert_eq!(queue.accept(call(4)).await, full(4));
    assert!(matches!(queue.accept(call(3)).await, Ok(Acceptance::Known(_))), "what was accepted is known");
    for Delivery { lease, .. } in lease(&queue, 8).await {
        queue.settle(lease, Settle::Dead(Cause::refused("no"))).await.unwrap();
    }
    assert_eq!(queue.accept(call(4)).await, full(4), "dead letters keep their places");
    queue.discard(id(1)).await.unwrap();
    queue.accept(call(4)).await.unwrap();
    let large = queue.accept(call(5).payload("123456789")).await;
    assert_eq!(large, Err(QueueError::Full { id: id(5), room: Room::Payload { limit: ByteSize::from_bytes(8) } }));
}

#[tokio::test]
async fn results_beyond_what_is_kept_are_forgotten_oldest_first() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let config = QueueConfig { results: 3, retention: HOUR, ..QueueConfig::default() };
    {
        let queue = open(&disk, &clock, config).await.unwrap();
        for bits in 1..=5 {
            queue.accept(call(bits)).await.unwrap();
            let next = lease(&queue, 1).await;
            queue.settle(next[0].lease, Settle::Completed("r".into())).await.unwrap();
            clock.advance(HOUR / 10);
        }
    }
    let queue = open(&disk, &clock, config).await.unwrap();
    assert_eq!(state_of(&queue, 2).await, None);
    assert_eq!(state_of(&queue, 3).await, Some(CallState::Completed(Some("r".into()))));
    clock.advance(HOUR * 7 / 10);
    lease(&queue, 0).await;
    assert_eq!(state_of(&queue, 3).await, None, "as are those that are kept for long enough");
    assert!(state_of(&queue, 5).await.is_some());
}

#[tokio::test]
async fn a_function_that_always_fails_is_retried_within_its_budget() {
    let clock = clock();
    let retry = RetryPolicy { base: Duration::from_millis(1), budget: 10, floor: 1, ..RetryPolicy::default() };
    let config = QueueConfig { retry, ..QueueConfig::default() };
    let queue = MemoryQueue::new(Arc::new(clock.clone()), config);
    for bits in 0..100 {
        queue.accept(call(bits)).await.unwrap();
    }
    let mut retries = 0;
    for _ in 0..100 {
        for Delivery { attempt, lease, .. } in lease(&queue, 1000).await {
            retries += u32::from(attempt > 1);
            queue.settle(lease, Settle::Retry(Cause::failed("always"))).await.unwrap();
        }
        clock.advance(Duration::from_millis(100));
    }
    assert!((10..=22).contains(&retries), "10 % of the first attempts and one a second for 10 s, not {retries}");
}

/// A state store with a queue beside it.
async fn both() -> (Arc<RedbState>, RedbQueue, ManualClock) {
    let clock = clock();
    let state = Arc::new(RedbState::on(Arc::new(MemoryDisk::new())).unwrap());
    let config = QueueConfig { calls: 4, ..QueueConfig::default() };
    let queue = RedbQueue::open(Arc::clone(&state), Arc::new(clock.clone()), config).await.unwrap();
    (state, queue, clock)
}

fn scope() -> Scope {
    Scope { function: FunctionName::new("actor").unwrap(), key: "k".into() }
}

fn timer(setter: u128, name: &str, hours: u32) -> QueuedCall {
    QueuedCall::timer(id(setter), scope(), name, 1, Due::After(HOUR * hours))
}

#[tokio::test]
async fn a_commit_accepts_calls_and_sets_timers_with_its_changes_or_none_of_it() {
    let (state, queue, clock) = both().await;
    let first = || Batch::new(scope()).put("v", "1").enqueue(call(7)).enqueue(timer(1, "tea", 1));
    state.commit(first().invocation(id(1), "done")).await.unwrap();
    assert_eq!(queue.load().pending, 2);
    state.commit(first().invocation(id(1), "again")).await.unwrap();
    assert_eq!(queue.load().pending, 2, "a call that is tried again accepts nothing twice");

    let stale = first().enqueue(call(8)).expect(scf_core::Version::new(9));
    assert!(matches!(state.commit(stale).await, Err(StateError::Conflict { .. })));
    assert_eq!(state_of(&queue, 8).await, None, "a commit that is refused accepts nothing");

    let too_many = Batch::new(scope()).put("v", "2").enqueue(call(8)).enqueue(call(9)).enqueue(call(10));
    let source = Box::new(QueueError::Full { id: id(10), room: Room::Calls { limit: 4 } });
    assert_eq!(state.commit(too_many).await, Err(StateError::Queue { scope: scope(), source }));
    assert_eq!(state_of(&queue, 8).await, None, "all of them or none");
    let value = state.get(&scope(), "v").await.unwrap().unwrap().value;
    assert_eq!(value, "1", "and none of the changes");

    let later = Batch::new(scope()).enqueue(timer(2, "tea", 2)).enqueue(timer(2, "egg", 1));
    state.commit(later).await.unwrap();
    state.commit(Batch::new(scope()).cancel_timer(scope(), "egg")).await.unwrap();
    assert_eq!(lease(&queue, 8).await.len(), 1, "the call is due at once");
    clock.advance(HOUR);
    lease(&queue, 0).await;
    assert_eq!(lease(&queue, 8).await.iter().filter(|delivery| delivery.call.timer.is_some()).count(), 0);
    clock.advance(HOUR);
    let due = lease(&queue, 8).await;
    let timers: Vec<_> = due.iter().filter_map(|delivery| delivery.call.timer.clone()).collect();
    assert_eq!(timers.iter().map(|timer| (timer.name.as_str(), timer.epoch)).collect::<Vec<_>>(), [("tea", 1)]);
}

#[tokio::test]
async fn in_memory_too_a_commit_accepts_calls_with_its_changes_or_none_of_it() {
    let config = QueueConfig { calls: 2, ..QueueConfig::default() };
    let queue = Arc::new(MemoryQueue::new(Arc::new(clock()), config));
    let state = crate::MemoryState::new().queue(Arc::clone(&queue));
    let batch = |bits| {
        let durability = scf_core::Durability::Memory;
        Batch::new(scope()).put("v", "1").enqueue(call(bits)).enqueue(call(bits + 1)).durability(durability)
    };
    state.commit(batch(1)).await.unwrap();
    assert!(matches!(state.commit(batch(3)).await, Err(StateError::Queue { .. })));
    assert_eq!(state.head(&scope(), scf_core::Timestamp::default()).await.unwrap().version.get(), 1);
    assert_eq!(queue.load().pending, 2);
    let without = crate::MemoryState::new().commit(batch(1)).await;
    assert!(matches!(without, Err(StateError::Unsupported { .. })), "{without:?}");
}

#[tokio::test]
async fn when_a_full_disk_has_space_again_it_goes_on_with_what_was_accepted_and_nothing_else() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let config = QueueConfig { payload: ByteSize::from_mib(4), ..QueueConfig::default() };
    let queue = open(&disk, &clock, config).await.unwrap();
    let large = |bits| call(bits).payload(vec![7; 300 << 10]);
    for bits in 1..=3 {
        queue.accept(large(bits)).await.unwrap();
    }
    let held = lease(&queue, 1).await.remove(0);
    let mut accepted = vec![2, 3];
    let mut refused = Vec::new();
    disk.fill_up_after(0);
    for bits in 4..=12 {
        match queue.accept(large(bits)).await {
            Ok(_) => accepted.push(bits),
            Err(QueueError::Full { room: Room::Disk, .. }) => refused.push(bits),
            Err(other) => panic!("call {bits}: {other:?}"),
        }
    }
    assert!(!refused.is_empty(), "the disk is full");
    disk.fill_up_after(u64::MAX);
    // It looks for space by itself, a tenth of the time at most.
    while let Err(error) = queue.accept(call(99)).await {
        assert!(matches!(error, QueueError::Full { room: Room::Disk, .. }), "{error:?}");
        tokio::task::yield_now().await;
    }
    accepted.push(99);
    let bits = held.call.id.bits();
    queue.settle(held.lease, Settle::Completed("held".into())).await.unwrap();
    assert_eq!(state_of(&queue, bits).await, Some(CallState::Completed(Some("held".into()))), "a lease goes on");
    for bits in refused {
        assert_eq!(state_of(&queue, bits).await, None, "call {bits} was refused");
    }
    let mut delivered: Vec<_> = lease(&queue, 64).await.iter().map(|delivery| delivery.call.id.bits()).collect();
    delivered.sort_unstable();
    assert_eq!(delivered, accepted, "what was accepted is delivered, and nothing else");
}
