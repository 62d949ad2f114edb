//! Power cuts at every sync of a run of 200 commits: whatever was acknowledged is there, and nothing is in part.
//!
//! `SCF_POWER_SEEDS` says how many runs there are; each has another workload, and each sync another image.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use futures::future::join_all;
use scf_core::{
    Batch, ByteSize, Bytes, Commit, Disk, Durability, Fence, FunctionName, InvocationId, NodeId, Scope, StateBackend,
    StateError, Timestamp, Version,
};
use scf_state::{MemoryDisk, RedbConfig, RedbState};

const SCOPES: usize = 4;
const COMMITS: u64 = 200;
const RESULTS: usize = 16;

/// How far each scope is.
type Progress = [AtomicU64; SCOPES];

/// A disk that keeps, of every sync, what a power cut just before it and just after it leaves.
#[derive(Debug)]
struct Cut {
    disk: MemoryDisk,
    seed: AtomicU64,
    acknowledged: Arc<Progress>,
    tried: Arc<Progress>,
    images: Mutex<Vec<Image>>,
}

#[derive(Debug)]
struct Image {
    disk: MemoryDisk,
    acknowledged: [u64; SCOPES],
    tried: [u64; SCOPES],
}

impl Cut {
    fn keep(&self) {
        // Before the image: what is acknowledged while it is made need not be in it.
        let acknowledged = now(&self.acknowledged);
        let disk = self.disk.image(self.seed.fetch_add(1, SeqCst));
        self.images.lock().unwrap().push(Image { disk, acknowledged, tried: now(&self.tried) });
    }
}

impl Disk for Cut {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.keep();
        self.disk.sync()?;
        self.keep();
        Ok(())
    }
}

fn now(progress: &Progress) -> [u64; SCOPES] {
    std::array::from_fn(|i| progress[i].load(SeqCst))
}

fn scope(i: usize) -> Scope {
    Scope { function: FunctionName::new("f").unwrap(), key: i.to_string() }
}

fn id(scope: usize, n: u64) -> InvocationId {
    InvocationId::new((scope as u128) << 64 | u128::from(n))
}

/// The `n`th commit of a scope.
fn commit(i: usize, n: u64, size: usize, fence: Option<Fence>) -> Batch {
    let mut batch = Batch::new(scope(i)).put("count", n.to_string()).put(format!("k{}", n % 5), vec![n as u8; size]);
    if n.is_multiple_of(7) {
        batch = batch.delete(format!("k{}", (n + 1) % 5));
    }
    batch.fence = fence;
    batch.invocation(id(i, n), n.to_string())
}

fn config() -> RedbConfig {
    // The shortest journal, so that redb takes it over many times.
    let (journal, cache) = (ByteSize::from_bytes(0), ByteSize::from_mib(4));
    RedbConfig { results_per_scope: RESULTS, journal, cache, ..RedbConfig::default() }
}

/// Runs the commits of `seed` and answers the images, and the fence of the scope that is owned.
async fn run(seed: u64) -> (Vec<Image>, Fence) {
    let (acknowledged, tried) = (Arc::new(Progress::default()), Arc::new(Progress::default()));
    let cut = Arc::new(Cut {
        disk: MemoryDisk::new(),
        seed: AtomicU64::new(seed << 32),
        acknowledged: Arc::clone(&acknowledged),
        tried: Arc::clone(&tried),
        images: Mutex::default(),
    });
    let fence = {
        let state = RedbState::with(Arc::clone(&cut) as Arc<dyn Disk>, config()).unwrap();
        let node = NodeId::new("n1").unwrap();
        let fence = state.acquire(&scope(0), &node, <_>::default(), Timestamp::default()).await.unwrap();
        // What was kept until here is of a store in the making.
        let mut done = 0;
        while done < COMMITS {
            let wave = 1 + (seed.wrapping_mul(0x9e37_79b9) + done) % 15;
            let wave = wave.min(COMMITS - done);
            let calls = (0..wave).map(|at| {
                let i = (done + at) as usize % SCOPES;
                let n = tried[i].fetch_add(1, SeqCst) + 1;
                let size = ((seed + n) * 131 % 1900) as usize;
                let mut batch = commit(i, n, size, (i == 0).then_some(fence));
                if (seed + n).is_multiple_of(11) {
                    batch = batch.durability(Durability::OsBuffered);
                }
                let (state, acknowledged) = (&state, &acknowledged);
                async move {
                    match state.commit(batch).await {
                        Ok(Commit::Applied { durability: Durability::Durable, .. }) => {
                            acknowledged[i].fetch_max(n, SeqCst);
                        }
                        Ok(Commit::Applied { durability: Durability::OsBuffered, .. }) => {}
                        other => panic!("seed {seed}: nothing stands against this commit: {other:?}"),
                    }
                }
            });
            join_all(calls).await;
            done += wave;
        }
        fence
    };
    let images = std::mem::take(&mut *cut.images.lock().unwrap());
    (images, fence)
}

/// Whether a store opens on `image` that keeps every promise.
async fn check(image: Image, fence: Fence) -> Result<(), String> {
    let Image { disk, acknowledged, tried } = image;
    let state = RedbState::with(Arc::new(disk), config()).map_err(|error| format!("does not open: {error:?}"))?;
    let hold = |holds: bool, what: &str, i: usize, found: String| {
        if holds { Ok(()) } else { Err(format!("scope {i}, {acknowledged:?} to {tried:?}: {what}, found {found}")) }
    };
    for i in 0..SCOPES {
        let snapshot = state.export(&scope(i)).await.map_err(|error| error.to_string())?;
        let n = snapshot.version.get();
        hold((acknowledged[i]..=tried[i]).contains(&n), "what was acknowledged is there", i, n.to_string())?;
        let count = snapshot.entries.iter().find(|(key, _)| key == "count").map(|(_, entry)| entry.value.clone());
        hold(count == (n > 0).then(|| n.to_string().into()), "no commit is there in part", i, format!("{count:?}"))?;
        for (key, entry) in snapshot.entries.iter().filter(|(key, _)| key != "count") {
            let version = entry.version.get();
            let whole = format!("k{}", version % 5) == *key && entry.value.iter().all(|&byte| byte == version as u8);
            hold(whole && version <= n, "every value is of its commit", i, format!("{key} {version}"))?;
        }
        let results: Vec<(InvocationId, Bytes)> =
            (n.saturating_sub(RESULTS as u64) + 1..=n).map(|n| (id(i, n), n.to_string().into())).collect();
        hold(
            snapshot.results == results,
            "results are there with their effects",
            i,
            snapshot.results.len().to_string(),
        )?;
        if acknowledged[0] == 0 {
            continue;
        }
        let fence = (i == 0).then_some(fence);
        if n > 0 {
            let again = state.commit(commit(i, n, 3, fence)).await;
            let once = again == Ok(Commit::Duplicate { result: n.to_string().into() });
            hold(once, "an invocation happens once", i, format!("{again:?}"))?;
        }
        let next = state.commit(commit(i, n + 1, 3, fence)).await;
        let goes_on = matches!(next, Ok(Commit::Applied { version, .. }) if version == Version::new(n + 1));
        hold(goes_on, "the store goes on", i, format!("{next:?}"))?;
        if let Some(fence) = fence {
            let stale = Fence { epoch: fence.epoch - 1, ..fence };
            let fenced = state.commit(commit(i, n + 2, 3, Some(stale))).await;
            let fenced_off = matches!(fenced, Err(StateError::Fenced { .. }));
            hold(fenced_off, "a former owner commits nothing", i, format!("{fenced:?}"))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_power_cut_at_any_sync_loses_nothing_that_was_acknowledged_and_keeps_nothing_in_part() {
    let seeds = std::env::var("SCF_POWER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300);
    let (mut images, mut violations) = (0, Vec::new());
    for seed in 0..seeds {
        let (kept, fence) = run(seed).await;
        for (at, image) in kept.into_iter().enumerate() {
            images += 1;
            if let Err(violation) = check(image, fence).await {
                violations.push(format!("seed {seed}, image {at}: {violation}"));
            }
        }
    }
    let count = violations.len();
    println!(r#"{{"bar":"power.violations","value":{count},"unit":"cases","n":{images}}}"#);
    assert!(violations.is_empty(), "{:#?}", &violations[..count.min(5)]);
    assert!(images > seeds * 40, "{images} images of {seeds} runs are not one before and after every sync");
}
