//! What actors cost that nobody calls, and how long one takes to be there again: `cargo bench --bench actors`, with
//! `-- --quick` for less.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use scf::core::{
    ByteSize, Bytes, Clock, Due, Durability, FunctionName, InvocationId, NodeId, Opened, QueuedCall, Scope,
    StateStore as _,
};
use scf::runtime::SystemClock;
use scf::state::{
    AlwaysRemote, FileDisk, MemoryState, PhaseConfig, PhasedState, QueueConfig, RedbConfig, RedbQueue, RedbState,
};

/// Bytes that are allocated and not freed.
static LIVE: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]
// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Failure = Box<dyn Error + Send + Sync>;

/// A node whose actors are passive as soon as they are idle.
struct House {
    actors: PhasedState,
    _queue: RedbQueue,
    next: u128,
}

impl House {
    async fn build(folder: &Path) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        // Pages that are cached are no actors; few of them are, from the beginning.
        let config = RedbConfig { cache: ByteSize::from_mib(1), ..RedbConfig::default() };
        let home = Arc::new(RedbState::with(Arc::new(FileDisk::open(folder.join("state"))?), config)?);
        let queue = QueueConfig { calls: u64::MAX, ..QueueConfig::default() };
        let queue = RedbQueue::open(Arc::clone(&home), Arc::clone(&clock), queue).await?;
        let config = PhaseConfig { durability: Durability::Memory, forget: Duration::ZERO, ..PhaseConfig::default() };
        let (node, local) = (NodeId::new("local")?, Arc::new(MemoryState::new()));
        let actors = PhasedState::with(node, home, local, Arc::new(AlwaysRemote), clock, config)?;
        Ok(Self { actors, _queue: queue, next: 0 })
    }

    /// Calls an actor: it writes `value`, and sets a timer if it `rings`.
    async fn call(&mut self, key: &str, value: Bytes, rings: bool) -> Result<(), Failure> {
        self.next += 1;
        let (scope, id) = (scope(key)?, InvocationId::new(self.next).child(1));
        let Opened::Session(session) = self.actors.open(&scope, id).await? else {
            return Err("the call is a new one".into());
        };
        session.put("value", value);
        if rings {
            let due = Due::After(Duration::from_secs(86_400));
            session.enqueue(QueuedCall::timer(id, scope, "ring", 0, due))?;
        }
        session.commit(Bytes::new()).await?;
        Ok(())
    }

    /// What `actors` of them take in memory when all of them are passive.
    async fn passive(&mut self, actors: usize, kind: &str, rings: bool) -> Result<f64, Failure> {
        for warm in 0..2000 {
            self.call(&format!("{kind}-warm-{warm}"), Bytes::from_static(&[7; 100]), rings).await?;
        }
        self.actors.maintain().await;
        let before = LIVE.load(Relaxed);
        for actor in 0..actors {
            self.call(&format!("{kind}-{actor}"), Bytes::from_static(&[7; 100]), rings).await?;
        }
        self.actors.maintain().await;
        Ok(LIVE.load(Relaxed).saturating_sub(before) as f64 / actors as f64)
    }

    /// Microseconds until an actor of 64 KiB that was passive has its state.
    async fn activation(&mut self, rounds: usize) -> Result<f64, Failure> {
        let value = Bytes::from(vec![7; 64 << 10]);
        for actor in 0..rounds {
            self.call(&format!("large-{actor}"), value.clone(), false).await?;
        }
        self.actors.maintain().await;
        let mut took = Vec::with_capacity(rounds);
        for actor in 0..rounds {
            self.next += 1;
            let (scope, id) = (scope(&format!("large-{actor}"))?, InvocationId::new(self.next).child(1));
            let start = Instant::now();
            let Opened::Session(session) = self.actors.open(&scope, id).await? else {
                return Err("the call is a new one".into());
            };
            let there = session.get("value").await?.map(|value| value.len());
            took.push(start.elapsed().as_secs_f64() * 1e6);
            assert_eq!(there, Some(value.len()), "the actor has its state");
        }
        took.sort_by(f64::total_cmp);
        Ok(took[rounds / 2])
    }
}

fn scope(key: &str) -> Result<Scope, Failure> {
    Ok(Scope { function: FunctionName::new("actor")?, key: key.to_owned() })
}

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

async fn measure(actors: usize, rounds: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut house = House::build(folder.path()).await?;
    figure("actor.passive_b", house.passive(actors, "quiet", false).await?, "B", actors);
    figure("actor.passive_timer_b", house.passive(actors, "ringing", true).await?, "B", actors);
    figure("actor.activate_us", house.activation(rounds).await?, "us", rounds);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (actors, rounds) = if quick { (20_000, 200) } else { (100_000, 1000) };
    tokio::runtime::Builder::new_current_thread().build()?.block_on(measure(actors, rounds))
}
