//! What the disk keeps when power, space or syncs fail.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use scf_core::{FunctionName, ManualClock, Version, conformance};

use super::*;
use crate::disk::MemoryDisk;

fn scope(key: &str) -> Scope {
    Scope { function: FunctionName::new("f").unwrap(), key: key.into() }
}

fn counted(i: u64) -> Batch {
    Batch::new(scope("s"))
        .put("count", i.to_string())
        .put(format!("k{}", i % 7), vec![i as u8; 700])
        .invocation(InvocationId::new(u128::from(i)), i.to_string())
}

#[tokio::test]
async fn passes_the_suite() {
    let config = RedbConfig { results_per_scope: 64, ..RedbConfig::default() };
    let make = |clock: ManualClock| async move {
        let builder = RedbState::builder().config(config).clock(Arc::new(clock));
        Arc::new(builder.on(Arc::new(MemoryDisk::new())).unwrap()) as Arc<dyn StateBackend>
    };
    conformance::state::state_backend(make).await;
}

#[tokio::test]
async fn a_reopened_file_has_state_results_and_owners() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let now = Timestamp::from_nanos(5);
    let lease = Duration::from_secs(9);
    let node = NodeId::new("n1").unwrap();
    let fence = {
        let state = RedbState::open(&path).unwrap();
        let fence = state.acquire(&scope("s"), &node, lease, now).await.unwrap();
        state.commit(counted(1).fence(fence)).await.unwrap();
        assert!(matches!(RedbState::open(&path), Err(OpenError::Disk(_))), "it is open here");
        fence
    };
    let state = RedbState::open(&path).unwrap();
    let again = state.commit(counted(1).fence(fence)).await.unwrap();
    assert_eq!(again, Commit::Duplicate { result: Bytes::from("1") });
    let head = state.head(&scope("s"), now).await.unwrap();
    assert_eq!(head.version, Version::new(1));
    assert_eq!(head.owner.unwrap().remaining, lease, "the lease begins anew");
    let other = state.acquire(&scope("s"), &NodeId::new("n2").unwrap(), lease, now + lease / 2).await;
    assert!(matches!(other, Err(StateError::Held { remaining, .. }) if remaining == lease / 2), "{other:?}");
    state.commit(counted(2).fence(fence)).await.unwrap();
}

/// Commits until the disk is full after `writes` writes, then cuts the power: whatever was acknowledged is there,
/// and no commit is there in part.
async fn cut_after(writes: u64, seed: u64) {
    let disk = Arc::new(MemoryDisk::new());
    let mut acknowledged = 0;
    let mut tried = 0;
    if let Ok(state) = RedbState::on(Arc::clone(&disk) as Arc<dyn Disk>) {
        disk.fill_up_after(writes);
        for i in 1..=12 {
            tried = i;
            match state.commit(counted(i)).await {
                Ok(_) => acknowledged = i,
                Err(_) => break,
            }
        }
        drop(disk.power_cut(seed));
    }
    let after = RedbState::on(Arc::new(disk.power_cut(seed))).unwrap();
    let snapshot = after.export(&scope("s")).await.unwrap();
    let version = snapshot.version.get();
    let case = format!("writes {writes} seed {seed}: {acknowledged} acknowledged, {tried} tried, {version} there");
    assert!((acknowledged..=tried).contains(&version), "{case}");
    assert_eq!(snapshot.results.len() as u64, version, "{case}");
    let count = snapshot.entries.iter().find(|(key, _)| key == "count").map(|(_, entry)| entry.value.clone());
    assert_eq!(count, (version > 0).then(|| Bytes::from(version.to_string())), "{case}");
    for (key, entry) in &snapshot.entries {
        if key != "count" {
            assert_eq!(entry.value, vec![entry.version.get() as u8; 700], "{case}: {key} is of one commit");
        }
    }
    let next = after.commit(counted(version + 1).expect(snapshot.version)).await;
    assert!(matches!(next, Ok(Commit::Applied { .. })), "{case}: goes on with {next:?}");
}

#[tokio::test]
async fn a_power_cut_at_any_write_loses_nothing_that_was_acknowledged_and_keeps_nothing_in_part() {
    for writes in 0..120 {
        for seed in 0..3 {
            cut_after(writes, seed * 1000 + writes).await;
        }
    }
}

#[tokio::test]
async fn takes_nothing_after_a_failed_sync_and_still_reads() {
    let disk = Arc::new(MemoryDisk::new());
    let state = RedbState::on(Arc::clone(&disk) as Arc<dyn Disk>).unwrap();
    state.commit(counted(1)).await.unwrap();
    disk.fail_syncs_after(0);
    assert_eq!(state.commit(counted(2)).await, Err(StateError::Unknown { scope: scope("s") }));
    disk.fail_syncs_after(u64::MAX);
    let refused = state.commit(counted(3)).await;
    assert!(matches!(refused, Err(StateError::Unavailable { .. })), "{refused:?}");
    let read = state.get(&scope("s"), "k1").await.unwrap().unwrap();
    assert_eq!(read.value, vec![1u8; 700]);
    assert!(state.head(&scope("s"), Timestamp::default()).await.unwrap().version <= Version::new(2));
    drop(state);
    let reopened = RedbState::on(disk).unwrap();
    assert!(reopened.commit(counted(2)).await.is_ok(), "the same invocation is asked again");
    assert_eq!(reopened.head(&scope("s"), Timestamp::default()).await.unwrap().version, Version::new(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_sixteen_tasks_share_syncs() {
    const TASKS: u64 = 16;
    const EACH: u64 = 60;
    let disk = Arc::new(MemoryDisk::new());
    let state = Arc::new(RedbState::on(Arc::clone(&disk) as Arc<dyn Disk>).unwrap());
    let before = disk.syncs();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (state, acknowledged) = (Arc::clone(&state), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                for i in 0..EACH {
                    let batch = Batch::new(scope(&task.to_string())).put("k", i.to_string());
                    state.commit(batch).await.unwrap();
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let commits = acknowledged.load(Ordering::Relaxed);
    assert_eq!(commits, TASKS * EACH);
    let per_commit = (disk.syncs() - before) as f64 / commits as f64;
    println!("{per_commit:.3} syncs per commit");
    assert!(per_commit < 0.5, "{per_commit} syncs per commit");
}

#[tokio::test]
async fn a_store_of_another_format_is_refused_by_number() {
    let disk = Arc::new(MemoryDisk::new());
    let state = RedbState::on(Arc::clone(&disk) as Arc<dyn Disk>).unwrap();
    table::pretend_format(&state.shared.db(), 99).unwrap();
    drop(state);
    let error = RedbState::on(disk).unwrap_err();
    let OpenError::Store(source) = error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "the store has format 99, this program knows 4");
}
