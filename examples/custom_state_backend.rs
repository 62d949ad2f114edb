//! Your own state store, held against the contract: `cargo run --release --example custom_state_backend`
//!
//! A file of JSON lines, each a scope as it is after one change, synced before it shows. Made for small scopes.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::{cell::Cell, collections::HashMap, error::Error, fs::File, path::Path, time::Duration};

use async_trait::async_trait;
use scf::core::{
    Batch, Bytes, Caps, Commit, Durability, Entry, Fence, FunctionName, Head, InvocationId, ManualClock, NodeId, Op,
    Ownership, Scope, Snapshot, StateBackend, StateError, Timestamp, conformance,
};

/// What is in a scope, its epoch, its owner with the fence's nonce.
type Image = (Snapshot, u64, Option<(NodeId, u128)>);
const RESULTS: usize = 64;

type Scopes = HashMap<Scope, (Image, Timestamp)>;

/// The file, and of each scope what the file says and when the owner's lease ends.
#[derive(Debug)]
struct LogState(Mutex<(File, Scopes)>);

impl LogState {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).append(true).create(true).open(path)?;
        let mut scopes = Scopes::new();
        for line in BufReader::new(&file).lines() {
            match serde_json::from_str(&line?) {
                // Of several lines of a scope the last one stays. Leases are of the process that gave them.
                Ok((scope, image)) => drop(scopes.insert(scope, (image, Timestamp::default()))),
                // Cut short by a crash, and so never acknowledged.
                Err(error) if error.is_eof() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(Mutex::new((file, scopes))))
    }

    fn read(&self, scope: &Scope) -> (Image, Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.get(scope).cloned().unwrap_or_default()
    }

    /// Changes a copy of the scope, makes it durable where it differs, and shows it.
    fn change<T>(
        &self,
        scope: &Scope,
        change: impl FnOnce(&mut Image, &mut Timestamp) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let (file, scopes) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = scopes.entry(scope.clone()).or_default();
        let (mut image, mut lease) = shown.clone();
        let answer = change(&mut image, &mut lease)?;
        if image != shown.0 {
            let text = serde_json::to_string(&(scope, &image)).map_err(io::Error::from);
            let written = text.and_then(|text| write!(file, "\n{text}")).and_then(|()| file.sync_data());
            written.map_err(|_| StateError::Unknown { scope: scope.clone() })?;
        }
        *shown = (image, lease);
        Ok(answer)
    }
}

/// Passes the owner, and anybody while there is none.
fn admit(scope: &Scope, (_, epoch, owner): &Image, fence: Option<Fence>) -> Result<(), StateError> {
    let owner = owner.as_ref().map(|(_, nonce)| Fence { epoch: *epoch, nonce: *nonce });
    if owner == fence { Ok(()) } else { Err(StateError::Fenced { scope: scope.clone(), epoch: *epoch }) }
}

fn result(of: &Snapshot, id: InvocationId) -> Option<Bytes> {
    of.results.iter().find(|(kept, _)| *kept == id).map(|(_, result)| result.clone())
}

#[async_trait]
impl StateBackend for LogState {
    fn caps(&self) -> Caps {
        Caps { durability: Durability::Durable, results_per_scope: RESULTS }
    }

    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        Ok(self.read(scope).0.0.entries.into_iter().find(|(k, _)| k == key).map(|(_, entry)| entry))
    }

    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError> {
        let ((Snapshot { version, .. }, epoch, owner), lease) = self.read(scope);
        let owner = owner.map(|(node, _)| Ownership { node, epoch, remaining: lease.since(now) });
        Ok(Head { version, owner })
    }

    async fn result_of(&self, scope: &Scope, id: InvocationId) -> Result<Option<Bytes>, StateError> {
        Ok(result(&self.read(scope).0.0, id))
    }

    async fn commit(&self, Batch { scope, fence, expect, invocation, ops, .. }: Batch) -> Result<Commit, StateError> {
        self.change(&scope, |image, _| {
            if let Some(result) = invocation.as_ref().and_then(|(id, _)| result(&image.0, *id)) {
                return Ok(Commit::Duplicate { result });
            }
            admit(&scope, image, fence)?;
            let now = &mut image.0;
            if let Some(expected) = expect.filter(|expected| *expected != now.version) {
                return Err(StateError::Conflict { scope: scope.clone(), expected, actual: now.version });
            }
            now.version = now.version.next();
            for op in ops {
                let (key, value) = match op {
                    Op::Put { key, value } => (key, Some(value)),
                    Op::Delete { key } => (key, None),
                    other => return Err(StateError::Unavailable { reason: format!("{other:?} is not known here") }),
                };
                now.entries.retain(|(k, _)| *k != key);
                now.entries.extend(value.map(|value| (key, Entry { value, version: now.version })));
            }
            now.entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            now.results.extend(invocation);
            now.results.drain(..now.results.len().saturating_sub(RESULTS));
            Ok(Commit::Applied { version: now.version, durability: Durability::Durable })
        })
    }

    async fn acquire(&self, s: &Scope, node: &NodeId, lasts: Duration, now: Timestamp) -> Result<Fence, StateError> {
        self.change(s, |(_, epoch, owner), lease| {
            if let Some((owner, _)) = owner.take_if(|(owner, _)| owner != node && *lease > now) {
                return Err(StateError::Held { scope: s.clone(), owner, remaining: lease.since(now) });
            }
            let half = || u128::from(RandomState::new().hash_one(0));
            let fence = Fence { epoch: *epoch + 1, nonce: (half() << 64) | half() };
            (*epoch, *owner, *lease) = (fence.epoch, Some((node.clone(), fence.nonce)), now + lasts);
            Ok(fence)
        })
    }

    async fn renew(&self, s: &Scope, fence: Fence, lasts: Duration, now: Timestamp) -> Result<(), StateError> {
        self.change(s, |image, lease| admit(s, image, Some(fence)).map(|()| *lease = now + lasts))
    }

    async fn release(&self, s: &Scope, fence: Fence) -> Result<(), StateError> {
        self.change(s, |image, _| {
            let owned = admit(s, image, Some(fence)).is_ok();
            image.2.take_if(|_| owned);
            Ok(())
        })
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        Ok(self.read(scope).0.0)
    }

    async fn import(&self, s: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        self.change(s, |image, _| admit(s, image, Some(fence)).map(|()| image.0 = snapshot))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (folder, made) = (tempfile::tempdir()?, Cell::new(0));
    let make = async |_: ManualClock| {
        made.set(made.get() + 1);
        let log = LogState::open(&folder.path().join(made.get().to_string()));
        Arc::new(log.expect("a fresh folder")) as Arc<dyn StateBackend>
    };
    conformance::state::state_backend(make).await;
    println!("LogState keeps all {} promises of StateBackend", made.get());

    let scope = Scope { function: FunctionName::new("counter")?, key: "door".to_owned() };
    for (id, count) in [(1, "1"), (2, "2"), (2, "2")] {
        // Opened anew for every call, as after a crash; the last call is a retry.
        let state = LogState::open(&folder.path().join("door"))?;
        let batch = Batch::new(scope.clone()).put("count", count).invocation(InvocationId::new(id), count);
        println!("call {id}: {:?}", state.commit(batch).await?);
    }
    println!("{}", std::fs::read_to_string(folder.path().join("door"))?);
    Ok(())
}
