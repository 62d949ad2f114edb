use std::sync::atomic::AtomicBool;

use scf_core::{Durability, FunctionName, ManualClock, conformance};
use tokio::sync::Notify;

use super::*;
use crate::MemoryState;

const CAPACITY: ByteSize = ByteSize::from_mib(1);

/// Several ways to one state that take turns; the answers of reads can be held up, and commits lost.
#[derive(Debug)]
struct Turns {
    ways: Vec<Arc<dyn StateBackend>>,
    turn: AtomicU64,
    holds: AtomicBool,
    /// Commits are under way for ever.
    loses: AtomicBool,
    answered: Notify,
    let_go: Notify,
}

impl Turns {
    fn new(ways: Vec<Arc<dyn StateBackend>>) -> Self {
        let (answered, let_go) = (Notify::new(), Notify::new());
        Self {
            ways,
            turn: AtomicU64::new(0),
            holds: AtomicBool::new(false),
            loses: AtomicBool::new(false),
            answered,
            let_go,
        }
    }

    fn way(&self) -> &dyn StateBackend {
        &*self.ways[self.turn.fetch_add(1, Ordering::Relaxed) as usize % self.ways.len()]
    }
}

#[async_trait]
impl StateBackend for Turns {
    fn caps(&self) -> Caps {
        self.ways[0].caps()
    }

    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        let answer = self.way().get(scope, key).await;
        if self.holds.load(Ordering::Relaxed) {
            self.answered.notify_one();
            self.let_go.notified().await;
        }
        answer
    }

    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError> {
        self.way().head(scope, now).await
    }

    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError> {
        self.way().result_of(scope, invocation).await
    }

    async fn commit(&self, batch: Batch) -> Result<Commit, StateError> {
        if self.loses.load(Ordering::Relaxed) {
            return Err(StateError::Unknown { scope: batch.scope });
        }
        self.way().commit(batch).await
    }

    async fn acquire(&self, scope: &Scope, who: &NodeId, ttl: Duration, now: Timestamp) -> Result<Fence, StateError> {
        self.way().acquire(scope, who, ttl, now).await
    }

    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, now: Timestamp) -> Result<(), StateError> {
        self.way().renew(scope, fence, lease, now).await
    }

    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        self.way().release(scope, fence).await
    }

    async fn watch(&self, scope: &Scope, prefix: &str, from: Version) -> Result<Box<dyn Watch>, StateError> {
        self.way().watch(scope, prefix, from).await
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        self.way().export(scope).await
    }

    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        self.way().import(scope, fence, snapshot).await
    }
}

fn memory(clock: &ManualClock) -> Arc<dyn StateBackend> {
    Arc::new(MemoryState::new().results_per_scope(64).clock(Arc::new(clock.clone())))
}

fn cached(backend: &Arc<dyn StateBackend>, clock: &ManualClock, reads: CacheReads) -> Arc<CachedState> {
    Arc::new(CachedState::new(Arc::clone(backend), Arc::new(clock.clone()), CAPACITY, reads))
}

fn scope() -> Scope {
    Scope { function: FunctionName::new("f").unwrap(), key: "k".into() }
}

async fn put(backend: &dyn StateBackend, value: &'static str) {
    backend.commit(Batch::new(scope()).durability(Durability::Memory).put("v", value)).await.unwrap();
}

async fn value(backend: &dyn StateBackend) -> Option<Bytes> {
    backend.get(&scope(), "v").await.unwrap().map(|entry| entry.value)
}

#[tokio::test]
async fn keeps_every_promise_of_a_backend_it_is_the_sole_way_to() {
    let make =
        |clock: ManualClock| async move { cached(&memory(&clock), &clock, CacheReads::Sole) as Arc<dyn StateBackend> };
    conformance::state::state_backend(make).await;
}

#[tokio::test]
async fn keeps_every_promise_beside_others_when_it_validates() {
    let make = |clock: ManualClock| async move {
        let home = memory(&clock);
        let way = || cached(&home, &clock, CacheReads::Validated) as Arc<dyn StateBackend>;
        Arc::new(Turns::new(vec![way(), way(), Arc::clone(&home), way()])) as Arc<dyn StateBackend>
    };
    conformance::state::state_backend(make).await;
}

#[tokio::test]
async fn an_aged_read_says_that_it_is_not_linearizable_and_keeps_the_other_promises_alone() {
    let make = |clock: ManualClock| async move {
        let state = cached(&memory(&clock), &clock, CacheReads::Aged(Duration::from_secs(5)));
        assert!(!state.caps().linearizable_reads);
        state as Arc<dyn StateBackend>
    };
    conformance::state::state_backend(make).await;
}

#[tokio::test]
async fn an_aged_read_misses_what_others_did_for_no_longer_than_it_says() {
    let clock = ManualClock::new();
    let home = memory(&clock);
    let state = cached(&home, &clock, CacheReads::Aged(Duration::from_secs(5)));
    put(&*home, "old").await;
    assert_eq!(value(&*state).await.unwrap(), "old");
    put(&*home, "new").await;
    clock.advance(Duration::from_millis(4_999));
    assert_eq!(value(&*state).await.unwrap(), "old", "younger than it may be");
    clock.advance(Duration::from_millis(1));
    assert_eq!(value(&*state).await.unwrap(), "new", "too old");
    put(&*home, "newer").await;
    assert_eq!(value(&*state).await.unwrap(), "new");
    let fresh = state.fresh(&scope(), "v").await.unwrap().unwrap();
    assert_eq!((&fresh.value[..], value(&*state).await.unwrap()), (&b"newer"[..], Bytes::from("newer")));
    put(&*state, "own").await;
    assert_eq!(value(&*state).await.unwrap(), "own", "what was committed through it is never missed");
    assert_eq!(state.counts(), CacheCounts { hits: 3, misses: 4 });
}

#[tokio::test]
async fn a_validated_read_asks_for_the_value_only_when_the_head_has_moved() {
    let clock = ManualClock::new();
    let home = memory(&clock);
    let state = cached(&home, &clock, CacheReads::Validated);
    put(&*home, "1").await;
    for _ in 0..4 {
        assert_eq!(value(&*state).await.unwrap(), "1");
    }
    assert_eq!(state.counts(), CacheCounts { hits: 3, misses: 1 });
    put(&*home, "2").await;
    assert_eq!(value(&*state).await.unwrap(), "2");
    assert_eq!(state.counts(), CacheCounts { hits: 3, misses: 2 });
}

#[tokio::test]
async fn what_others_did_is_dropped_when_the_watch_tells_of_it() {
    let clock = ManualClock::new();
    let home = memory(&clock);
    let state = cached(&home, &clock, CacheReads::Aged(Duration::from_secs(3600)));
    put(&*home, "1").await;
    let mut following = Box::pin({
        let state = Arc::clone(&state);
        async move { state.follow(&scope()).await }
    });
    assert!(futures::poll!(&mut following).is_pending());
    assert_eq!(value(&*state).await.unwrap(), "1");
    put(&*home, "2").await;
    assert_eq!(value(&*state).await.unwrap(), "1", "nobody has told it yet");
    assert!(futures::poll!(&mut following).is_pending());
    assert_eq!(value(&*state).await.unwrap(), "2");
    let fence = home.acquire(&scope(), &NodeId::new("n").unwrap(), Duration::from_secs(1), clock.now()).await.unwrap();
    home.import(&scope(), fence, Snapshot { version: Version::new(9), ..Snapshot::default() }).await.unwrap();
    assert!(futures::poll!(&mut following).is_pending());
    assert_eq!(value(&*state).await, None, "a gap drops everything");
}

#[tokio::test]
async fn an_answer_that_a_commit_has_overtaken_is_not_kept() {
    let clock = ManualClock::new();
    let slow = Arc::new(Turns::new(vec![memory(&clock)]));
    let home = Arc::clone(&slow) as Arc<dyn StateBackend>;
    let state = cached(&home, &clock, CacheReads::Sole);
    put(&*state, "old").await;
    slow.holds.store(true, Ordering::Relaxed);
    let early = tokio::spawn({
        let state = Arc::clone(&state);
        async move { value(&*state).await }
    });
    slow.answered.notified().await;
    put(&*state, "new").await;
    slow.holds.store(false, Ordering::Relaxed);
    slow.let_go.notify_one();
    assert_eq!(early.await.unwrap().unwrap(), "old", "it began before the commit");
    assert_eq!(value(&*state).await.unwrap(), "new");
}

#[tokio::test]
async fn holds_no_more_than_its_capacity() {
    let clock = ManualClock::new();
    let home = memory(&clock);
    let state = cached(&home, &clock, CacheReads::Sole);
    let large = Bytes::from(vec![7; 10_000]);
    for i in 0..500 {
        let key = format!("k{i}");
        let batch = Batch::new(scope()).durability(Durability::Memory).put(&*key, large.clone());
        state.commit(batch).await.unwrap();
        assert_eq!(state.get(&scope(), &key).await.unwrap().unwrap().value, large);
        assert!(state.weight() <= CAPACITY, "{} are kept", state.weight());
    }
    assert!(state.weight() > ByteSize::ZERO);
}

#[tokio::test]
async fn the_sole_way_asks_again_once_it_does_not_know_what_became_of_a_commit() {
    let clock = ManualClock::new();
    let (home, batch) = (memory(&clock), Batch::new(scope()).durability(Durability::Memory).put("v", "late"));
    let lossy = Arc::new(Turns::new(vec![Arc::clone(&home)]));
    let state = cached(&(Arc::clone(&lossy) as Arc<dyn StateBackend>), &clock, CacheReads::Sole);
    put(&*state, "old").await;
    assert_eq!(value(&*state).await.unwrap(), "old");
    lossy.loses.store(true, Ordering::Relaxed);
    assert_eq!(state.commit(batch.clone()).await, Err(StateError::Unknown { scope: scope() }));
    assert_eq!(value(&*state).await.unwrap(), "old");
    home.commit(batch).await.unwrap();
    assert_eq!(value(&*state).await.unwrap(), "late", "it arrived after all");
}
