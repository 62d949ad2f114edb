//! What is stored of a scope, and how changes are put into it.
//!
//! A commit is one message: the head record, with the changes that it makes. What has gathered there is moved into
//! messages of its own, one per entry, now and then. So a commit is whole or not there whatever the server does with
//! several messages when it is killed, and costs one sync where an atomic batch costs ten (measured with 2.15.1 that
//! encrypts).

use std::time::Duration;

use bytes::Bytes;
use scf_core::{Delta, Entry, InvocationId, Scope, Snapshot, Version, WallTime};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::subject::Place;
use crate::{change::Change, head::HeadRecord};

/// Changes that may gather in a head, in bytes: everybody who reads the scope reads them.
pub(super) const GATHERED: usize = 8 << 10;
/// Changes that may gather in a head.
const GATHERED_CHANGES: usize = 64;
/// Entries, and results, of a head that one batch moves at most.
const MOVED: usize = 400;
/// What a change costs beside key and value.
pub(super) const CHANGE: usize = 32;
/// How long the mark of a removed entry stays. It must outlive the read of whoever looks for the entry.
const MARK: Duration = Duration::from_secs(3600);
/// How much longer than its time a value stays, for clocks that are set back.
const SLACK: Duration = Duration::from_secs(60);

/// The head record of a scope.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) scope: Scope,
    pub(super) head: HeadRecord,
    /// Counts renewals of leases, so that others see that an owner lives.
    pub(super) renewals: u64,
    /// Which entries and results are the scope's: an import begins another.
    pub(super) generation: u64,
    /// A generation that is being written, or whose writer gave up.
    pub(super) staged: Option<u64>,
    /// How often gathered changes were moved in this generation.
    pub(super) moves: u64,
    /// The changes after this version are all gathered here.
    pub(super) floor: Version,
    gathered: Vec<Gathered>,
    /// The last results, not yet moved.
    results: Vec<(InvocationId, Version, Bytes)>,
    /// The place of the next result.
    next: u64,
    /// Of the results that are kept, oldest first: 4 bytes of each invocation's digest.
    prints: Vec<[u8; 4]>,
}

/// What became of an entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Gathered {
    pub(super) key: String,
    pub(super) version: Version,
    /// `None`: it was removed.
    value: Option<(Bytes, Option<WallTime>)>,
}

impl Gathered {
    fn removed(key: String, version: Version) -> Self {
        Self { key, version, value: None }
    }

    fn of(key: String, entry: Entry) -> Self {
        Self { key, version: entry.version, value: Some((entry.value, entry.expires)) }
    }

    pub(super) fn entry(&self) -> Option<Entry> {
        let (value, expires) = self.value.clone()?;
        Some(Entry { value, version: self.version, expires })
    }

    fn size(&self) -> usize {
        CHANGE + self.key.len() + self.value.as_ref().map_or(0, |(value, _)| value.len())
    }

    /// How long its message is to stay; `None`: for good.
    fn stays(&self, now: WallTime) -> Option<Duration> {
        let Some((_, expires)) = &self.value else { return Some(MARK) };
        Some(expires.as_ref()?.since(now) + SLACK)
    }
}

/// A result that was moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) place: u64,
    pub(super) invocation: InvocationId,
    pub(super) result: Bytes,
}

/// A message to store.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) body: Bytes,
    /// How long it stays; `None`: for good.
    pub(super) stays: Option<Duration>,
}

impl Record {
    pub(super) fn new(scope: Scope) -> Self {
        Self {
            scope,
            head: HeadRecord::default(),
            renewals: 0,
            generation: 0,
            staged: None,
            moves: 0,
            floor: Version::default(),
            gathered: Vec::new(),
            results: Vec::new(),
            next: 0,
            prints: Vec::new(),
        }
    }

    /// What became of `key`, if that is gathered here.
    pub(super) fn find(&self, key: &str) -> Option<&Gathered> {
        self.gathered.iter().rfind(|change| change.key == key)
    }

    /// The result of `invocation` if it is gathered here.
    pub(super) fn result(&self, invocation: InvocationId) -> Option<&Bytes> {
        self.results.iter().rfind(|(id, ..)| *id == invocation).map(|(.., result)| result)
    }

    /// The places of moved results that may be that of `invocation`, newest first.
    pub(super) fn candidates(&self, invocation: InvocationId) -> impl Iterator<Item = u64> {
        let print = print(invocation);
        let moved = self.next - self.results.len() as u64;
        let first = self.first();
        let places = self.prints.iter().enumerate().filter(move |(_, there)| **there == print);
        places.map(move |(at, _)| first + at as u64).rev().filter(move |place| *place < moved)
    }

    /// The places of the results that are kept and were moved.
    pub(super) fn moved(&self) -> std::ops::Range<u64> {
        self.first()..(self.next - self.results.len() as u64).max(self.first())
    }

    /// The generation, if it has messages.
    pub(super) fn stored(&self) -> Option<u64> {
        (self.moves > 0).then_some(self.generation)
    }

    fn first(&self) -> u64 {
        self.next - self.prints.len() as u64
    }

    /// Makes the changes of a commit.
    pub(super) fn commit(&mut self, changes: &[Change<'_>], invocation: Option<(InvocationId, Bytes)>, kept: usize) {
        let version = self.head.version.next();
        self.head.version = version;
        for change in changes {
            let key = change.key().to_owned();
            self.gather(match change {
                Change::Put { value, expires, .. } => {
                    Gathered::of(key, Entry { value: (*value).clone(), version, expires: *expires })
                }
                Change::Remove { .. } => Gathered::removed(key, version),
            });
        }
        if let Some((id, result)) = invocation {
            self.keep(id, version, result, kept);
        }
    }

    fn gather(&mut self, change: Gathered) {
        self.gathered.retain(|there| there.key != change.key);
        self.gathered.push(change);
    }

    fn keep(&mut self, id: InvocationId, version: Version, result: Bytes, kept: usize) {
        self.results.push((id, version, result));
        self.next += 1;
        self.prints.push(print(id));
        self.prints.drain(..self.prints.len().saturating_sub(kept));
        self.results.drain(..self.results.len().saturating_sub(kept));
    }

    /// Puts `snapshot` in the place of everything, as `generation`.
    pub(super) fn replace(&mut self, snapshot: Snapshot, generation: u64, kept: usize) {
        self.begin(snapshot.version, generation);
        self.gathered = snapshot.entries.into_iter().map(|(key, entry)| Gathered::of(key, entry)).collect();
        for (id, result) in snapshot.results {
            self.keep(id, snapshot.version, result, kept);
        }
    }

    /// Puts `generation`, whose entries and results are stored, in the place of everything.
    pub(super) fn switch(&mut self, version: Version, generation: u64, results: &[InvocationId]) {
        self.begin(version, generation);
        self.moves = 1;
        self.next = results.len() as u64;
        self.prints = results.iter().map(|id| print(*id)).collect();
    }

    fn begin(&mut self, version: Version, generation: u64) {
        (self.head.version, self.floor) = (version, version);
        (self.generation, self.moves, self.staged) = (generation, 0, None);
        (self.gathered, self.results, self.prints, self.next) = Default::default();
    }

    /// Makes the changes of a delta.
    pub(super) fn follow(&mut self, delta: Delta, kept: usize) {
        self.head.version = delta.version;
        for (key, entry) in delta.entries {
            self.gather(match entry {
                Some(entry) => Gathered::of(key, entry),
                None => Gathered::removed(key, delta.version),
            });
        }
        for (id, result) in delta.results {
            self.keep(id, delta.version, result, kept);
        }
    }

    /// What changed after `since`; `None` when that is no longer known.
    pub(super) fn since(&self, since: Version, lives: impl Fn(&Entry) -> bool) -> Option<Delta> {
        let version = self.head.version;
        if since < self.floor || since > version {
            return None;
        }
        let changed = self.gathered.iter().filter(|change| change.version > since);
        let entries = changed.map(|change| (change.key.clone(), change.entry().filter(&lives)));
        let results = self.results.iter().filter(|(_, version, _)| *version > since);
        let results = results.map(|(id, _, result)| (*id, result.clone())).collect();
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Some(Delta { since, version, entries, results })
    }

    /// Everything, where `stored` and `moved` are the messages of its generation.
    pub(super) fn snapshot(
        &self,
        stored: Vec<Gathered>,
        moved: Vec<(InvocationId, Bytes)>,
        lives: impl Fn(&Entry) -> bool,
    ) -> Snapshot {
        let mut entries: std::collections::BTreeMap<String, Option<Entry>> =
            stored.into_iter().map(|change| (change.key.clone(), change.entry())).collect();
        entries.extend(self.gathered.iter().map(|change| (change.key.clone(), change.entry())));
        let living = entries.into_iter().filter_map(|(key, entry)| Some((key, entry.filter(&lives)?)));
        let newest = self.results.iter().map(|(id, _, result)| (*id, result.clone()));
        let results = moved.into_iter().chain(newest).collect();
        Snapshot { version: self.head.version, entries: living.collect(), results }
    }

    /// Whether enough has gathered to be moved.
    pub(super) fn is_full(&self) -> bool {
        let changes: usize = self.gathered.iter().map(Gathered::size).sum();
        let results: usize = self.results.iter().map(|(.., result)| CHANGE + result.len()).sum();
        changes + results > GATHERED || self.gathered.len().max(self.results.len()) > GATHERED_CHANGES
    }

    /// How many messages [`Record::take`] makes.
    pub(super) fn movable(&self) -> usize {
        self.gathered.len().min(MOVED) + self.results.len().min(MOVED)
    }

    /// Takes out what has gathered, as messages of their own, in part where that is much.
    pub(super) fn take(&mut self, place: &Place, kept: usize, now: WallTime) -> Vec<Message> {
        let changes: Vec<_> = self.gathered.drain(..self.gathered.len().min(MOVED)).collect();
        let first = self.next - self.results.len() as u64;
        let results: Vec<_> = self.results.drain(..self.results.len().min(MOVED)).collect();
        self.moves += 1;
        self.floor = self.head.version;
        let entry = |change: Gathered| Message {
            subject: place.entry(self.generation, &change.key),
            stays: change.stays(now),
            body: encode(&change),
        };
        let result = |(place_of, (invocation, _, result))| Message {
            subject: place.result(self.generation, place_of % kept as u64),
            stays: None,
            body: encode(&Kept { place: place_of, invocation, result }),
        };
        changes.into_iter().map(entry).chain((first..).zip(results).map(result)).collect()
    }

    /// The messages of a whole snapshot as `generation`, for what no single head can hold.
    pub(super) fn spread(
        place: &Place,
        snapshot: Snapshot,
        generation: u64,
        kept: usize,
        now: WallTime,
    ) -> Vec<Message> {
        let entries = snapshot.entries.into_iter().map(|(key, entry)| {
            let change = Gathered::of(key, entry);
            let (subject, stays) = (place.entry(generation, &change.key), change.stays(now));
            Message { subject, stays, body: encode(&change) }
        });
        let results = (0..).zip(snapshot.results).map(|(at, (invocation, result))| Message {
            subject: place.result(generation, at % kept as u64),
            stays: None,
            body: encode(&Kept { place: at, invocation, result }),
        });
        entries.chain(results).collect()
    }
}

/// What of an invocation's id a head has room for. Two that are alike cost a read.
fn print(invocation: InvocationId) -> [u8; 4] {
    let digest = blake3::hash(&invocation.bits().to_le_bytes());
    let mut print = [0; 4];
    print.copy_from_slice(&digest.as_bytes()[..4]);
    print
}

/// The format of every message; another is refused.
const FORMAT: u8 = 1;

/// A message's body.
pub(super) fn encode(value: &impl Serialize) -> Bytes {
    postcard::to_extend(value, vec![FORMAT]).expect("memory takes everything and no map is without length").into()
}

/// What a message's body says; `Err` tells what is wrong with it.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    match body.split_first() {
        Some((&FORMAT, rest)) => {
            postcard::from_bytes(rest).map_err(|error| format!("a message cannot be read: {error}"))
        }
        Some((format, _)) => Err(format!("a message has format {format}, this program knows {FORMAT}")),
        None => Err("a message is empty".to_owned()),
    }
}
