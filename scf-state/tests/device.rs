//! Disks that are full and syncs that fail: nothing that was acknowledged is lost, and what is refused is not there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use scf_core::{
    Batch, ByteSize, Commit, Disk, FunctionName, InvocationId, Scope, StateBackend as _, StateError, Timestamp,
};
use scf_state::{MemoryDisk, RedbConfig, RedbState};

fn scope() -> Scope {
    Scope { function: FunctionName::new("f").unwrap(), key: "s".into() }
}

fn open(disk: &Arc<MemoryDisk>) -> RedbState {
    let (journal, cache) = (ByteSize::from_bytes(0), ByteSize::from_mib(4));
    let config = RedbConfig { journal, cache, ..RedbConfig::default() };
    RedbState::with(Arc::clone(disk) as Arc<dyn Disk>, config).unwrap()
}

fn commit(n: u64, size: usize) -> Batch {
    let id = InvocationId::new(n.into());
    Batch::new(scope()).put(format!("k{n}"), vec![n as u8; size]).invocation(id, n.to_string())
}

async fn is_there(state: &RedbState, n: u64, size: usize, case: &str) {
    let read = state.get(&scope(), &format!("k{n}")).await;
    let read = read.unwrap_or_else(|error| panic!("{case}: commit {n}: {error:?}"));
    assert_eq!(read.map(|entry| entry.value), Some(vec![n as u8; size].into()), "{case}: commit {n}");
}

async fn version(state: &RedbState) -> u64 {
    state.head(&scope(), Timestamp::default()).await.unwrap().version.get()
}

/// Asks until it is not refused for want of space: the store's thread notices when it runs.
async fn insist(state: &RedbState, batch: Batch) -> Commit {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        match state.commit(batch.clone()).await {
            Ok(commit) => return commit,
            Err(StateError::Full { .. }) => std::thread::yield_now(),
            Err(other) => panic!("there is space, yet the answer is {other:?}"),
        }
    }
    panic!("there is space, yet the store does not go on")
}

#[tokio::test]
async fn a_full_disk_is_said_and_the_store_goes_on_when_there_is_space() {
    const SIZE: usize = 20_000;
    let disk = Arc::new(MemoryDisk::new());
    let state = open(&disk);
    for round in 0..3 {
        disk.limit(disk.len().unwrap() + 100_000);
        let first = version(&state).await + 1;
        let mut n = first;
        let refused = loop {
            match state.commit(commit(n, SIZE)).await {
                Ok(_) => n += 1,
                Err(error) => break error,
            }
            assert!(n < first + 500, "round {round}: the disk is never full");
        };
        assert!(matches!(refused, StateError::Full { .. }) && refused.is_retryable(), "round {round}: {refused:?}");
        assert_eq!(version(&state).await, n - 1, "round {round}: what was refused is not there");
        for acknowledged in 1..n {
            is_there(&state, acknowledged, SIZE, "while it is full").await;
        }
        let again = state.commit(commit(n, SIZE)).await;
        assert!(matches!(again, Err(StateError::Full { .. })), "round {round}: {again:?}");
        disk.limit(disk.len().unwrap() + 100_000_000);
        insist(&state, commit(n, SIZE)).await;
        assert_eq!(version(&state).await, n, "round {round}: it happened once");
    }
    let last = version(&state).await;
    drop(state);
    let state = open(&disk);
    for acknowledged in 1..=last {
        is_there(&state, acknowledged, SIZE, "after all").await;
    }
}

#[tokio::test]
async fn a_write_that_finds_no_space_anywhere_is_refused_without_a_trace() {
    const SIZE: usize = 900;
    for writes in 0..90 {
        let case = format!("after {writes} writes");
        let disk = Arc::new(MemoryDisk::new());
        let state = open(&disk);
        disk.fill_up_after(writes);
        let mut n = 1;
        let refused = loop {
            match state.commit(commit(n, SIZE)).await {
                Ok(_) => n += 1,
                Err(error) => break error,
            }
        };
        // When the place in the journal cannot be blanked either, nobody knows.
        let known = matches!(refused, StateError::Full { .. });
        assert!(known || matches!(refused, StateError::Unknown { .. }), "{case}: {refused:?}");
        disk.fill_up_after(u64::MAX);
        let state = if known {
            assert_eq!(version(&state).await, n - 1, "{case}");
            insist(&state, commit(n, SIZE)).await;
            assert_eq!(version(&state).await, n, "{case}");
            state
        } else {
            drop(state);
            let state = open(&disk);
            let there = version(&state).await;
            assert!(there == n || there == n - 1, "{case}: {there} of {n}");
            state.commit(commit(n, SIZE)).await.unwrap();
            assert_eq!(version(&state).await, n, "{case}: the same invocation happens once");
            state
        };
        for acknowledged in 1..=n {
            is_there(&state, acknowledged, SIZE, &case).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_after_a_failed_sync_and_nothing_is_lost() {
    const SIZE: usize = 900;
    for syncs in 0..60 {
        let case = format!("after {syncs} syncs");
        let disk = Arc::new(MemoryDisk::new());
        let state = open(&disk);
        disk.fail_syncs_after(syncs);
        let mut n = 1;
        let failed = loop {
            match state.commit(commit(n, SIZE)).await {
                Ok(_) => n += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(failed, StateError::Unknown { scope: scope() }, "{case}");
        disk.fail_syncs_after(u64::MAX);
        for _ in 0..3 {
            let refused = state.commit(commit(n, SIZE)).await;
            assert!(matches!(refused, Err(StateError::Unavailable { .. })), "{case}: {refused:?}");
        }
        for acknowledged in 1..n {
            is_there(&state, acknowledged, SIZE, &case).await;
        }
        let image = Arc::new(disk.image(syncs));
        drop(state);
        for disk in [image, disk] {
            let state = open(&disk);
            let there = version(&state).await;
            assert!(there == n || there == n - 1, "{case}: {there} of {n}");
            state.commit(commit(n, SIZE)).await.unwrap();
            for acknowledged in 1..=n {
                is_there(&state, acknowledged, SIZE, &case).await;
            }
        }
    }
}
