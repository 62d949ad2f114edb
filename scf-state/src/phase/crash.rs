//! Crashes at every step of a move: of the node that it comes from, of the one that it goes to, and of its home.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{
    Batch, Bytes, Caps, Commit, Delta, Disk, Entry, Fence, FunctionName, Head, InvocationId, ManualClock, NodeId,
    Opened, Phase, Scope, Snapshot, StateBackend, StateError, StateStore, Timestamp, Version,
};

use super::*;
use crate::{disk::MemoryDisk, redb::RedbState};

/// Who crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Source,
    Target,
    Home,
}

/// Lets so many steps pass and then fails everything.
#[derive(Debug, Default)]
struct Breaker {
    /// Steps that still pass; `None`: all.
    left: Option<u32>,
    /// Whether the step at which it breaks is done, and only its answer lost.
    answer_only: bool,
    broken: bool,
}

/// A backend behind a breaker, which can be replaced by what is left of it after a restart.
#[derive(Debug)]
struct Fragile {
    inner: Mutex<Arc<dyn StateBackend>>,
    breaker: Arc<Mutex<Breaker>>,
}

impl Fragile {
    fn new(inner: Arc<dyn StateBackend>, breaker: &Arc<Mutex<Breaker>>) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(inner), breaker: Arc::clone(breaker) })
    }

    fn inner(&self) -> Arc<dyn StateBackend> {
        Arc::clone(&self.inner.lock().unwrap())
    }

    async fn step<T>(&self, work: impl Future<Output = Result<T, StateError>>) -> Result<T, StateError> {
        let down = || StateError::Unavailable { reason: "crashed".to_owned() };
        let loses_answer = {
            let mut breaker = self.breaker.lock().unwrap();
            if breaker.broken {
                return Err(down());
            }
            match &mut breaker.left {
                Some(0) => {
                    breaker.broken = true;
                    if !breaker.answer_only {
                        return Err(down());
                    }
                    true
                }
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            }
        };
        let answer = work.await;
        if loses_answer { Err(down()) } else { answer }
    }
}

#[async_trait]
impl StateBackend for Fragile {
    fn caps(&self) -> Caps {
        self.inner().caps()
    }
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        self.step(self.inner().get(scope, key)).await
    }
    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError> {
        self.step(self.inner().head(scope, now)).await
    }
    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError> {
        self.step(self.inner().result_of(scope, invocation)).await
    }
    async fn commit(&self, batch: Batch) -> Result<Commit, StateError> {
        self.step(self.inner().commit(batch)).await
    }
    async fn acquire(&self, scope: &Scope, by: &NodeId, lease: Duration, now: Timestamp) -> Result<Fence, StateError> {
        self.step(self.inner().acquire(scope, by, lease, now)).await
    }
    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, now: Timestamp) -> Result<(), StateError> {
        self.step(self.inner().renew(scope, fence, lease, now)).await
    }
    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        self.step(self.inner().release(scope, fence)).await
    }
    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        self.step(self.inner().export(scope)).await
    }
    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        self.step(self.inner().import(scope, fence, snapshot)).await
    }
    async fn export_since(&self, scope: &Scope, since: Version) -> Result<Option<Delta>, StateError> {
        self.step(self.inner().export_since(scope, since)).await
    }
    async fn import_since(&self, scope: &Scope, fence: Fence, delta: Delta) -> Result<(), StateError> {
        self.step(self.inner().import_since(scope, fence, delta)).await
    }
}

fn scope() -> Scope {
    Scope { function: FunctionName::new("counter").unwrap(), key: "door-7".into() }
}

fn open(disk: &Arc<MemoryDisk>) -> Arc<dyn StateBackend> {
    Arc::new(RedbState::on(Arc::clone(disk) as Arc<dyn Disk>).unwrap())
}

fn node(
    name: &str,
    home: &Arc<Fragile>,
    disk: &Arc<MemoryDisk>,
    breaker: &Arc<Mutex<Breaker>>,
    clock: &ManualClock,
) -> PhasedState {
    // What a node that has crashed sends to its home does not leave it.
    let home = Fragile::new(Arc::clone(home) as _, breaker);
    let local = Fragile::new(open(disk), breaker);
    let name = NodeId::new(name).unwrap();
    PhasedState::new(name, home, local, Arc::new(AlwaysLocal), Arc::new(clock.clone()))
}

/// One call of a function that counts its calls, on a node that may be the wrong one.
async fn call(store: &PhasedState, id: u128) -> Result<u64, StateError> {
    let number = |bytes: &Bytes| std::str::from_utf8(bytes).unwrap().parse::<u64>().unwrap();
    let session = match store.open(&scope(), InvocationId::new(id)).await? {
        Opened::Done(result) => return Ok(number(&result)),
        Opened::Session(session) => session,
        other => panic!("{other:?}"),
    };
    let count = session.get("count").await?.map_or(0, |bytes| number(&bytes)) + 1;
    session.put("count", count.to_string().into());
    match session.commit(count.to_string().into()).await? {
        Commit::Duplicate { result } => Ok(number(&result)),
        _ => Ok(count),
    }
}

/// The same on whichever node does it, within a minute: no lease runs out meanwhile.
async fn call_somewhere(nodes: [&PhasedState; 2], clock: &ManualClock, id: u128) -> u64 {
    let mut errors = Vec::new();
    for _ in 0..20 {
        for node in nodes {
            match call(node, id).await {
                Ok(count) => return count,
                Err(error) => errors.push(error),
            }
        }
        clock.advance(Duration::from_secs(3));
        nodes[0].maintain().await;
        nodes[1].maintain().await;
    }
    panic!("call {id}: {errors:?}");
}

/// Moves a scope from one node to another, with a crash of `who` at `step`. Says whether it came to that.
async fn crash(who: Who, step: u32, answer_only: bool) -> bool {
    let case = format!("{who:?} at step {step}, answer only: {answer_only}");
    let clock = ManualClock::new();
    let breakers: [Arc<Mutex<Breaker>>; 3] = Default::default();
    let [at_source, at_target, at_home] = &breakers;
    let disks: Vec<_> = (0..3).map(|_| Arc::new(MemoryDisk::new())).collect();
    let home = Fragile::new(open(&disks[2]), at_home);
    let mut source = node("source", &home, &disks[0], at_source, &clock);
    let mut target = node("target", &home, &disks[1], at_target, &clock);
    for id in 1..=5 {
        assert_eq!(call(&source, id).await, Ok(id as u64), "{case}");
    }
    let breaker = match who {
        Who::Source => at_source,
        Who::Target => at_target,
        Who::Home => at_home,
    };
    *breaker.lock().unwrap() = Breaker { left: Some(step), answer_only, broken: false };
    // A call comes while it moves.
    let scope_moved = scope();
    let (moved, during) = tokio::join!(source.hand_over(&scope_moved, &target), call(&source, 6));
    let crashed = breaker.lock().unwrap().broken;
    assert!(crashed || moved.is_ok(), "{case}: {moved:?}");
    *breaker.lock().unwrap() = Breaker::default();
    if crashed {
        let seed = u64::from(step);
        match who {
            Who::Source => {
                let disk = Arc::new(disks[0].power_cut(seed));
                source = node("source", &home, &disk, at_source, &clock);
            }
            Who::Target => {
                let disk = Arc::new(disks[1].power_cut(seed));
                target = node("target", &home, &disk, at_target, &clock);
            }
            Who::Home => {
                let restarted = open(&Arc::new(disks[2].power_cut(seed)));
                *home.inner.lock().unwrap() = restarted;
            }
        }
    }
    let nodes = [&source, &target];
    let sixth = call_somewhere(nodes, &clock, 6).await;
    assert_eq!(sixth, 6, "{case}");
    assert!(during.is_err() || during == Ok(6), "{case}: {during:?}");
    for id in (1..=8).rev() {
        let count = call_somewhere(nodes, &clock, id).await;
        // The new ones come in the order 8, 7.
        let expected = match id {
            8 => 7,
            7 => 8,
            old => old as u64,
        };
        assert_eq!(count, expected, "{case}: call {id}");
    }
    for _ in 0..3 {
        clock.advance(Duration::from_secs(3));
        source.maintain().await;
        target.maintain().await;
    }
    let mut owners = 0;
    for node in nodes {
        if let Phase::Local(fence) = node.phase(&scope()) {
            let renewed = home.renew(&scope(), fence, Duration::from_secs(600), scf_core::Clock::now(&clock)).await;
            assert_eq!(renewed, Ok(()), "{case}: it is local and does not own the scope");
            owners += 1;
        }
    }
    assert!(owners <= 1, "{case}: two owners");
    assert_eq!((source.losses(), target.losses()), (0, 0), "{case}");
    crashed
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_move_loses_nothing_doubles_nothing_and_leaves_one_owner_at_most() {
    for who in [Who::Source, Who::Target, Who::Home] {
        for answer_only in [false, true] {
            let mut step = 0;
            while crash(who, step, answer_only).await {
                step += 1;
            }
            println!("{who:?}, answer only {answer_only}: {step} steps");
            assert!(step >= 5, "{who:?} takes part in the move");
        }
    }
}
