//! State beside what it rests on: `cargo bench --bench state`, with `-- --quick` for less.
//!
//! The arms of a figure run interleaved in this process; a figure is the median of the rounds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{
    error::Error, fs::File, hint::black_box, io, os::unix::fs::FileExt as _, path::Path, sync::Arc, time::Instant,
};

use criterion::Criterion;
use scf::core::{
    Batch, Bytes, Disk, FunctionName, InvocationId, ManualClock, NodeId, Opened, Phase, Scope, StateBackend as _,
    StateSession, StateStore as _,
};
use scf::state::{AlwaysLocal, FileDisk, PhasedState, RedbState};

const KEYS: usize = 1000;
const VALUE: usize = 100;
const TASKS: u64 = 16;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]
// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A file that counts its syncs.
#[derive(Debug)]
struct Counted(FileDisk, AtomicU64);

impl Disk for Counted {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.sync()
    }
}

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn scope(key: &str) -> Result<Scope, Box<dyn Error>> {
    Ok(Scope { function: FunctionName::new("bench")?, key: key.to_owned() })
}

/// A session in the local phase, of a scope with `values`.
async fn local_session(
    folder: &Path,
    values: &HashMap<String, Bytes>,
) -> Result<Box<dyn StateSession>, Box<dyn Error>> {
    let [home, local] = ["home", "local"].map(|name| RedbState::open(folder.join(name)));
    let (policy, clock) = (Arc::new(AlwaysLocal), Arc::new(ManualClock::new()));
    let state = PhasedState::new(NodeId::new("edge")?, Arc::new(home?), Arc::new(local?), policy, clock);
    for call in 0.. {
        let Opened::Session(session) = state.open(&scope("a")?, InvocationId::new(call)).await? else { break };
        match session.phase() {
            Phase::Local(_) if call > 1 => return Ok(session),
            _ => values.iter().for_each(|(key, value)| session.put(key, value.clone())),
        }
        session.commit(Bytes::new()).await?;
    }
    Err("the scope was never local".into())
}

fn gets(keys: &[String], mut get: impl FnMut(&str) -> Option<Bytes>) -> f64 {
    let start = Instant::now();
    for key in keys {
        black_box(get(black_box(key)));
    }
    start.elapsed().as_secs_f64()
}

fn local_get(session: &dyn StateSession, values: &HashMap<String, Bytes>, rounds: usize, criterion: &mut Criterion) {
    let keys: Vec<String> = values.keys().cloned().collect();
    let ours = |key: &str| session.try_get(key).and_then(Result::ok).flatten();
    let map = |key: &str| values.get(key).cloned();
    assert!(keys.iter().all(|key| ours(key) == map(key)), "both arms read the same values");
    let ratios = (0..rounds).map(|_| gets(&keys, ours) / gets(&keys, map)).collect();
    figure("state.local_get.vs_hashmap", median(ratios), "ratio", rounds * KEYS);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    gets(&keys, ours);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    figure("state.local_get.allocs", allocations as f64 / KEYS as f64, "allocs", KEYS);
    let copied = |key: &&String| ours(key).map(|value| value.as_ptr()) != map(key).map(|value| value.as_ptr());
    figure("state.local_get.copies", (keys.iter().filter(copied).count() * VALUE) as f64 / KEYS as f64, "bytes", KEYS);
    criterion.bench_function("local get", |b| b.iter(|| ours(black_box(&keys[7]))));
    criterion.bench_function("HashMap get", |b| b.iter(|| map(black_box(&keys[7]))));
}

async fn group_commit(disk: &Arc<Counted>, state: &Arc<RedbState>, each: u64) -> Result<(), Box<dyn Error>> {
    let before = disk.1.load(Ordering::Relaxed);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (state, scope) = (Arc::clone(state), scope(&task.to_string()).expect("a valid name"));
            tokio::spawn(async move {
                for _ in 0..each {
                    state.commit(Batch::new(scope.clone()).put("k", vec![7; VALUE])).await?;
                }
                Ok::<_, scf::core::StateError>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let syncs = disk.1.load(Ordering::Relaxed) - before;
    figure("state.fsync_per_commit", syncs as f64 / (TASKS * each) as f64, "fsync", (TASKS * each) as usize);
    Ok(())
}

async fn single_commit(folder: &Path, state: &RedbState, rounds: usize) -> Result<(), Box<dyn Error>> {
    let bare = File::create(folder.join("bare"))?;
    bare.write_all_at(&[0; 1 << 20], 0)?;
    bare.sync_all()?;
    let (mut syncs, mut plain, mut once) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let start = Instant::now();
        bare.write_all_at(&[round as u8; 4096], (round % 256 * 4096) as u64)?;
        bare.sync_data()?;
        syncs.push(start.elapsed().as_secs_f64());
        // Either goes first in turn: what follows the bare sync pays for what that left behind.
        for with_invocation in if round % 2 == 0 { [false, true] } else { [true, false] } {
            let mut batch = Batch::new(scope("single")?).put("k", vec![7; VALUE]);
            if with_invocation {
                batch = batch.invocation(InvocationId::new(round as u128), "result");
            }
            let start = Instant::now();
            state.commit(batch).await?;
            let times = if with_invocation { &mut once } else { &mut plain };
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let (sync, plain, once) = (median(syncs), median(plain), median(once));
    figure("state.commit1.vs_fdatasync", once / sync, "ratio", rounds);
    figure("state.dedup.cost", once / plain - 1.0, "share", rounds);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, each) = if quick { (200, 20) } else { (2000, 200) };
    let folder = tempfile::tempdir()?;
    let values: HashMap<String, Bytes> = (0..KEYS).map(|i| (format!("key-{i}"), vec![i as u8; VALUE].into())).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let session = runtime.block_on(local_session(folder.path(), &values))?;
    local_get(&*session, &values, rounds, &mut Criterion::default().configure_from_args());
    let disk = Arc::new(Counted(FileDisk::open(folder.path().join("counted"))?, AtomicU64::new(0)));
    let state = Arc::new(RedbState::on(Arc::clone(&disk) as Arc<dyn Disk>)?);
    runtime.block_on(group_commit(&disk, &state, each))?;
    runtime.block_on(single_commit(folder.path(), &state, rounds / 4))
}
