//! What is kept of calls that go to other nodes and come from them, across restarts and power cuts.

use std::sync::Arc;

use scf_core::{
    ByteSize, CallState, Cause, Handover, InvocationQueue, ManualClock, NodeId, OfferAsk, QueueError, QueuedCall, Room,
};

use super::{
    QueueConfig,
    tests::{HOUR, call, clock, id, lease, open, state_of},
};
use crate::MemoryDisk;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn abroad(bits: u128) -> QueuedCall {
    call(bits).destination(node("hub"))
}

async fn offer(queue: &dyn InvocationQueue, taken: Option<&[u128]>, calls: usize) -> Vec<u128> {
    let settled = taken.map(|taken| taken.iter().map(|bits| (id(*bits), Handover::Taken)).collect());
    let ask = OfferAsk { to: node("hub"), settled, calls, bytes: ByteSize::from_mib(1) };
    queue.offer(ask).await.unwrap().iter().map(|call| call.id.bits()).collect()
}

#[tokio::test]
async fn what_was_offered_when_the_power_went_is_offered_again_whole_and_first() {
    for seed in 0..20 {
        let (mut disk, clock) = (Arc::new(MemoryDisk::new()), clock());
        {
            let queue = open(&disk, &clock, QueueConfig::default()).await.unwrap();
            clock.advance(HOUR);
            for bits in 1..=6 {
                queue.accept(abroad(bits).max_age(HOUR * 2)).await.unwrap();
            }
            assert_eq!(offer(&queue, None, 2).await, [1, 2]);
            assert_eq!(offer(&queue, Some(&[1, 2]), 3).await, [3, 4, 5]);
        }
        for _ in 0..2 {
            disk = Arc::new(disk.power_cut(seed));
            clock.advance(HOUR);
            let queue = open(&disk, &clock, QueueConfig::default()).await.unwrap();
            assert_eq!(state_of(&queue, 2).await, Some(CallState::Forwarded { to: node("hub") }), "seed {seed}");
            assert_eq!(offer(&queue, None, 1).await, [3, 4, 5], "seed {seed}");
            assert_eq!(queue.load().running, 0, "nothing of it counts as running when the process ended");
        }
        let queue = open(&disk, &clock, QueueConfig::default()).await.unwrap();
        assert_eq!(offer(&queue, Some(&[3, 4]), 8).await, [0; 0], "seed {seed}");
        for bits in [5, 6] {
            let expired = CallState::Dead(Cause::Expired { age: HOUR * 2 });
            assert_eq!(state_of(&queue, bits).await, Some(expired), "the age counts across restarts");
        }
    }
}

#[tokio::test]
async fn what_was_taken_is_known_after_a_power_cut_and_after_its_result_is_forgotten() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let config = QueueConfig { results: 1, ..QueueConfig::default() };
    let calls = || vec![call(1), call(2), call(3)];
    {
        let queue = open(&disk, &clock, config).await.unwrap();
        assert_eq!(queue.take(&node("edge"), calls()).await, Ok(vec![Handover::Taken; 3]));
        for delivery in lease(&queue, 8).await {
            queue.settle(delivery.lease, scf_core::Settle::Completed("done".into())).await.unwrap();
        }
        assert_eq!(state_of(&queue, 1).await, None, "one result is kept");
    }
    let queue = open(&Arc::new(disk.power_cut(7)), &clock, config).await.unwrap();
    assert_eq!(queue.take(&node("edge"), calls()).await, Ok(vec![Handover::Taken; 3]));
    assert_eq!(lease(&queue, 8).await, [], "none of them is run again");
}

async fn full(queue: &dyn InvocationQueue, calls: Vec<QueuedCall>) -> Result<Vec<Handover>, QueueError> {
    queue.take(&node("edge"), calls).await
}

#[tokio::test]
async fn what_there_is_no_room_for_is_not_taken_and_what_never_fits_is_refused() {
    let config = QueueConfig { calls: 3, payload: ByteSize::from_bytes(100), ..QueueConfig::default() };
    let queue = super::MemoryQueue::new(Arc::new(ManualClock::new()), config);
    let calls = vec![call(1), call(2).payload(vec![0; 101]), call(3), call(4), call(5)];
    let outcomes = full(&queue, calls).await.unwrap();
    assert_eq!((outcomes.len(), &outcomes[0], &outcomes[2], &outcomes[3]), {
        let taken = &Handover::Taken;
        (4, taken, taken, taken)
    });
    let Handover::Refused(Cause::Refused { message }) = &outcomes[1] else { panic!("{:?}", outcomes[1]) };
    assert!(message.contains("101 B") && message.contains("100 B"), "{message}");
    let limit = Room::Calls { limit: 3 };
    assert_eq!(full(&queue, vec![call(5)]).await, Err(QueueError::Full { id: id(5), room: limit }));
    assert_eq!(full(&queue, vec![call(4), call(5)]).await, Ok(vec![Handover::Taken]), "the one that is there");
    assert_eq!(queue.load().pending, 3);
}
