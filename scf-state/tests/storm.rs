//! Owners that pause and do not know that they were replaced: none of their commits is seen, and what callers see is
//! one order.
//!
//! `SCF_STORM_COMMITS` says how many commits are made.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use scf_core::{
    Batch, Commit, FunctionName, InvocationId, NodeId, Scope, StateBackend, StateError, Timestamp,
    conformance::history::{Operation, Recorder, is_linearizable},
};
use scf_state::{MemoryDisk, MemoryState, RedbState};

const OWNERS: u64 = 32;

#[derive(Clone, Debug)]
enum Input {
    Acquire,
    /// Writes the value under the fence of that epoch.
    Commit {
        epoch: u64,
        value: u64,
    },
    Read,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Output {
    /// The epoch that was given.
    Acquired(u64),
    /// The version that was made.
    Applied(u64),
    /// The epoch of the owner.
    Fenced(u64),
    /// Value and version.
    Read(Option<(u64, u64)>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Owned {
    epoch: u64,
    version: u64,
    entry: Option<(u64, u64)>,
}

fn step(state: &Owned, input: &Input, output: Option<&Output>) -> Option<Owned> {
    let mut after = state.clone();
    let answer = match *input {
        Input::Acquire => {
            after.epoch += 1;
            Output::Acquired(after.epoch)
        }
        Input::Commit { epoch, value } if epoch == state.epoch => {
            after.version += 1;
            after.entry = Some((value, after.version));
            Output::Applied(after.version)
        }
        Input::Commit { .. } => Output::Fenced(state.epoch),
        Input::Read => Output::Read(state.entry),
    };
    output.is_none_or(|output| *output == answer).then_some(after)
}

struct Storm {
    backend: Arc<dyn StateBackend>,
    recorder: Recorder,
    left: AtomicU64,
    stale: AtomicU64,
    history: Mutex<Vec<Operation<Input, Output>>>,
}

fn scope() -> Scope {
    Scope { function: FunctionName::new("f").unwrap(), key: "s".into() }
}

impl Storm {
    /// One owner: takes over, commits a while, pauses without knowing, and commits on under its old fence.
    async fn own(&self, owner: u64) {
        let node = NodeId::new(&format!("n{owner}")).unwrap();
        let mut dice = owner + 1;
        let mut roll = move |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        let (scope, mut mine) = (scope(), Vec::new());
        'takes: loop {
            let acquire = self.backend.acquire(&scope, &node, <_>::default(), Timestamp::default());
            let mut fence = None;
            let acquired = self.recorder.record(Input::Acquire, acquire, |answer| {
                fence = Some(answer.expect("a lease of no time holds nobody up"));
                fence.map(|fence| Output::Acquired(fence.epoch))
            });
            mine.push(acquired.await);
            let fence = fence.expect("it was acquired");
            for _ in 0..=roll(12) {
                for _ in 0..[0, 0, 1, 3, 40][roll(5) as usize] {
                    tokio::task::yield_now().await;
                }
                let Ok(left) = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) else { break 'takes };
                if roll(3) == 0 {
                    let read = self.backend.get(&scope, "k");
                    let read = self.recorder.record(Input::Read, read, |answer| {
                        let entry = answer.expect("readable");
                        let value = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                        Some(Output::Read(entry.map(|entry| (value(&entry.value), entry.version.get()))))
                    });
                    mine.push(read.await);
                }
                let batch = Batch::new(scope.clone()).fence(fence).durability(self.backend.caps().durability);
                let batch = batch.put("k", left.to_le_bytes().to_vec()).invocation(InvocationId::new(left.into()), "");
                let input = Input::Commit { epoch: fence.epoch, value: left };
                let commit = self.recorder.record(input, self.backend.commit(batch), |answer| match answer {
                    Ok(Commit::Applied { version, .. }) => Some(Output::Applied(version.get())),
                    Err(StateError::Fenced { epoch, .. }) => {
                        self.stale.fetch_add(1, SeqCst);
                        Some(Output::Fenced(epoch))
                    }
                    other => panic!("nothing else stands against this commit: {other:?}"),
                });
                mine.push(commit.await);
            }
        }
        self.history.lock().unwrap().append(&mut mine);
    }
}

async fn storm(backend: Arc<dyn StateBackend>) {
    let commits = std::env::var("SCF_STORM_COMMITS").ok().and_then(|commits| commits.parse().ok()).unwrap_or(4000);
    let (left, stale) = (AtomicU64::new(commits), AtomicU64::new(0));
    let storm = Arc::new(Storm { backend, recorder: Recorder::new(), left, stale, history: Mutex::default() });
    let owners = (0..OWNERS).map(|owner| {
        let storm = Arc::clone(&storm);
        tokio::spawn(async move { storm.own(owner).await })
    });
    for owner in owners.collect::<Vec<_>>() {
        owner.await.unwrap();
    }
    let history = std::mem::take(&mut *storm.history.lock().unwrap());
    let stale = storm.stale.load(SeqCst);
    assert!(stale > commits / 20, "{stale} of {commits} commits were stale: no storm");
    assert!(stale < commits, "no commit was in time: no storm either");
    let first = history.iter().map(|operation| operation.called).min();
    assert!(is_linearizable(Owned::default(), history, step), "no order explains what owners saw since {first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_commit_of_a_former_owner_is_seen_in_a_store_on_a_disk() {
    storm(Arc::new(RedbState::on(Arc::new(MemoryDisk::new())).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_commit_of_a_former_owner_is_seen_in_a_store_in_memory() {
    storm(Arc::new(MemoryState::new())).await;
}
