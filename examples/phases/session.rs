//! The function of the experiment, and the remote store that makes it slow.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt as _;
use scf::{
    core::{
        Batch, Bytes, Caps, Clock, Commit, Delta, Entry, Fence, FunctionName, Head, InvocationId, NodeId, Page,
        Payload, Scope, Snapshot, StateBackend, StateError, Timestamp, Version,
    },
    runtime::{NativeError, NativeFactory, SystemClock},
    state::MemoryState,
};

/// The function's name, and what it is registered as.
pub(crate) const SESSION: &str = "session";
/// Mean time of a call that finds its state where it runs.
pub(crate) const LOCAL: Duration = Duration::from_millis(10);
/// How many times that the remote accesses of a call take: with them a call takes three times as long.
const ACCESS: u32 = 2;
/// A session has parts of this many sizes; a call that works for so many milliseconds reads the part of that size.
const PARTS: usize = 128;
/// Bytes of a part for each millisecond of work on it.
const UNIT: usize = 8;

/// A home whose reads take time by the size of what is read; what a remote store and the way to it cost. Nobody waits
/// for the reads of others.
#[derive(Debug)]
pub(crate) struct SlowHome {
    store: MemoryState,
    clock: Arc<SystemClock>,
}

impl SlowHome {
    /// Holds the sessions of `clients` clients.
    pub(crate) async fn with_sessions(clients: usize, clock: Arc<SystemClock>) -> Result<Self, StateError> {
        let store = MemoryState::new();
        let bytes = Bytes::from(vec![7; PARTS * UNIT]);
        for client in 0..clients {
            let part = |batch: Batch, part: usize| batch.put(part_key(part), bytes.slice(..part * UNIT));
            let batch = Batch::new(scope(client)).durability(store.caps().durability);
            store.commit((1..=PARTS).fold(batch, part)).await?;
        }
        Ok(Self { store, clock })
    }
}

/// The state of a client's session.
pub(crate) fn scope(client: usize) -> Scope {
    Scope { function: FunctionName::new(SESSION).expect("a valid name"), key: client_key(client) }
}

/// The key of a client's calls.
pub(crate) fn client_key(client: usize) -> String {
    format!("client-{client}")
}

fn part_key(part: usize) -> String {
    format!("part-{part}")
}

/// The function: given a number of microseconds, it reads a part of its session as large as its work, works for so long
/// and notes that it was there. Working is waiting here: two cores cannot compute for forty slots.
pub(crate) fn natives(clock: Arc<SystemClock>) -> Result<NativeFactory, Box<dyn std::error::Error>> {
    let natives = NativeFactory::new().with(SESSION, move |call, input| {
        let clock = Arc::clone(&clock);
        async move {
            let bytes: [u8; 8] = input.bytes[..].try_into().map_err(|_| NativeError::refused("not 8 bytes"))?;
            let work = Duration::from_micros(u64::from_le_bytes(bytes));
            let state = call.state()?;
            let part = ((work.as_secs_f64() * 1e3).round() as usize).min(PARTS);
            if part > 0 {
                let read = state.get(&part_key(part)).await?.ok_or_else(|| NativeError::refused("no session"))?;
                if read.len() != part * UNIT {
                    return Err(NativeError::refused("another part"));
                }
            }
            clock.sleep(work).await;
            state.put("last", input.bytes.clone());
            // What the calls of this key had in common while they were here.
            let calls = call.kept::<u64>().map_or(1, |calls| *calls + 1);
            call.keep(Box::new(calls));
            Ok(Payload::new(calls.to_le_bytes().to_vec()))
        }
        .boxed()
    })?;
    Ok(natives)
}

#[async_trait]
impl StateBackend for SlowHome {
    fn caps(&self) -> Caps {
        self.store.caps()
    }
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        let entry = self.store.get(scope, key).await?;
        let size = entry.as_ref().map_or(0, |entry| entry.value.len());
        self.clock.sleep(Duration::from_millis(1) * ACCESS * (size / UNIT) as u32).await;
        Ok(entry)
    }
    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError> {
        self.store.head(scope, now).await
    }
    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError> {
        self.store.result_of(scope, invocation).await
    }
    async fn commit(&self, batch: Batch) -> Result<Commit, StateError> {
        self.store.commit(batch).await
    }
    async fn acquire(&self, scope: &Scope, by: &NodeId, lease: Duration, now: Timestamp) -> Result<Fence, StateError> {
        self.store.acquire(scope, by, lease, now).await
    }
    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, now: Timestamp) -> Result<(), StateError> {
        self.store.renew(scope, fence, lease, now).await
    }
    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        self.store.release(scope, fence).await
    }
    async fn scan(&self, scope: &Scope, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StateError> {
        self.store.scan(scope, prefix, after, limit).await
    }
    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        self.store.export(scope).await
    }
    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        self.store.import(scope, fence, snapshot).await
    }
    async fn export_since(&self, scope: &Scope, since: Version) -> Result<Option<Delta>, StateError> {
        self.store.export_since(scope, since).await
    }
    async fn import_since(&self, scope: &Scope, fence: Fence, delta: Delta) -> Result<(), StateError> {
        self.store.import_since(scope, fence, delta).await
    }
}
