//! What changed lately in the scopes that somebody copies or watches. Kept in memory: after a restart a copy is
//! made again, and a watcher is told of a gap.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use scf_core::{InvocationId, Scope, StateError, Version, Watch, Watched};
use tokio::sync::broadcast::{self, error::RecvError};

/// Scopes that are kept track of; beyond, the one that was asked for longest ago is forgotten.
const SCOPES: usize = 1024;
/// Keys and invocations that are noted per scope; beyond, its oldest commits are forgotten.
const KEYS: usize = 4096;
/// Changes that a watcher may be behind before it is told of a gap.
const BEHIND: usize = 64;

/// Recent commits by scope.
#[derive(Debug, Default)]
pub(crate) struct History {
    tracks: Mutex<Tracks>,
    /// Whether any scope is tracked: nearly no commit has to look.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Tracks {
    by_scope: HashMap<Scope, Track>,
    asked: u64,
}

#[derive(Debug)]
struct Track {
    /// All commits after this version are noted; none: it is not known yet.
    floor: Option<Version>,
    notes: VecDeque<Note>,
    keys: usize,
    asked: u64,
    watchers: broadcast::Sender<Arc<Note>>,
}

/// One commit.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) version: Version,
    pub(crate) keys: Vec<String>,
    /// Those whose results came with it: a commit's own, or all that a delta brought.
    pub(crate) invocations: Vec<InvocationId>,
    /// Everything may have changed.
    all: bool,
}

impl Note {
    pub(crate) const fn new(version: Version, keys: Vec<String>, invocations: Vec<InvocationId>) -> Self {
        Self { version, keys, invocations, all: false }
    }

    /// What it counts for against [`KEYS`].
    fn size(&self) -> usize {
        self.keys.len() + self.invocations.len().max(1)
    }

    /// Everything was replaced, which led to `version`.
    pub(crate) const fn replaced(version: Version) -> Self {
        Self { version, keys: Vec::new(), invocations: Vec::new(), all: true }
    }
}

/// What changed between two versions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) keys: BTreeSet<String>,
    /// Oldest first.
    pub(crate) invocations: Vec<InvocationId>,
}

impl History {
    fn tracks(&self) -> MutexGuard<'_, Tracks> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether commits of `scope` are to be noted.
    pub(crate) fn wants(&self, scope: &Scope) -> bool {
        self.any.load(Ordering::Acquire) && self.tracks().by_scope.contains_key(scope)
    }

    /// Notes commits of `scope` from now on. Call it before reading the version that a copy has.
    pub(crate) fn track(&self, scope: &Scope) {
        self.tracks().track(scope);
        self.any.store(true, Ordering::Release);
    }

    /// A copy of `scope` has `version`, read after [`History::track`].
    pub(crate) fn copied(&self, scope: &Scope, version: Version) {
        if let Some(track) = self.tracks().by_scope.get_mut(scope) {
            track.floor.get_or_insert(version);
        }
    }

    /// Notes a commit, before it can be read.
    pub(crate) fn note(&self, scope: &Scope, note: &Note) {
        let mut tracks = self.tracks();
        let Some(track) = tracks.by_scope.get_mut(scope) else { return };
        if note.all {
            (track.floor, track.keys) = (Some(note.version), 0);
            return track.notes.clear();
        }
        track.keys += note.size();
        track.notes.push_back(note.clone());
        while track.keys > KEYS {
            let Some(oldest) = track.notes.pop_front() else { break };
            track.keys -= oldest.size();
            track.floor = track.floor.max(Some(oldest.version));
        }
    }

    /// Tells the watchers of a commit, after it can be read.
    pub(crate) fn publish(&self, scope: &Scope, note: Note) {
        if let Some(track) = self.tracks().by_scope.get(scope) {
            // Without a watcher nobody hears of it.
            drop(track.watchers.send(Arc::new(note)));
        }
    }

    /// What changed after `since` up to `until`; `None` when that is not known.
    pub(crate) fn between(&self, scope: &Scope, since: Version, until: Version) -> Option<Changed> {
        let mut tracks = self.tracks();
        tracks.asked += 1;
        let asked = tracks.asked;
        let track = tracks.by_scope.get_mut(scope)?;
        track.asked = asked;
        if track.floor? > since || since > until {
            return None;
        }
        let mut changed = Changed::default();
        for note in track.notes.iter().filter(|note| note.version > since && note.version <= until) {
            changed.keys.extend(note.keys.iter().cloned());
            changed.invocations.extend_from_slice(&note.invocations);
        }
        Some(changed)
    }

    /// A watcher of `scope`; [`Watcher::begin`] says what it has seen.
    pub(crate) fn watch(&self, scope: &Scope, prefix: &str) -> Watcher {
        let mut tracks = self.tracks();
        let news = tracks.track(scope).watchers.subscribe();
        self.any.store(true, Ordering::Release);
        Watcher { prefix: prefix.to_owned(), last: Version::default(), first: None, missed: false, news }
    }
}

impl Tracks {
    fn track(&mut self, scope: &Scope) -> &mut Track {
        if !self.by_scope.contains_key(scope) && self.by_scope.len() >= SCOPES {
            let idle = self.by_scope.iter().min_by_key(|(_, track)| (track.watchers.receiver_count() > 0, track.asked));
            // Its watchers hear that it is gone, and may watch again.
            if let Some(oldest) = idle.map(|(scope, _)| scope.clone()) {
                self.by_scope.remove(&oldest);
            }
        }
        self.asked += 1;
        let fresh = || Track {
            floor: None,
            notes: VecDeque::new(),
            keys: 0,
            asked: 0,
            watchers: broadcast::Sender::new(BEHIND),
        };
        let track = self.by_scope.entry(scope.clone()).or_insert_with(fresh);
        track.asked = self.asked;
        track
    }
}

/// A watcher of one scope.
#[derive(Debug)]
pub(crate) struct Watcher {
    prefix: String,
    last: Version,
    /// What happened before it began.
    first: Option<Watched>,
    /// Whether some were missed since the last that was seen.
    missed: bool,
    news: broadcast::Receiver<Arc<Note>>,
}

impl Watcher {
    /// It has seen everything up to `from`; the scope is at `head`, and `changed` is what lies between.
    pub(crate) fn begin(mut self, from: Version, head: Version, changed: Option<Changed>) -> Self {
        self.last = head;
        self.first = match changed {
            _ if from == head => None,
            None => Some(Watched::Gap { version: head }),
            Some(changed) => {
                let keys: Vec<String> = changed.keys.into_iter().filter(|key| key.starts_with(&self.prefix)).collect();
                (!keys.is_empty()).then_some(Watched::Change { version: head, keys })
            }
        };
        self
    }

    fn see(&mut self, note: &Note) -> Option<Watched> {
        let missed = std::mem::take(&mut self.missed);
        if note.version <= self.last && !note.all && !missed {
            return None;
        }
        let version = note.version;
        self.last = version;
        if missed || note.all {
            return Some(Watched::Gap { version });
        }
        let keys: Vec<String> = note.keys.iter().filter(|key| key.starts_with(&self.prefix)).cloned().collect();
        (!keys.is_empty()).then_some(Watched::Change { version, keys })
    }
}

#[async_trait]
impl Watch for Watcher {
    async fn next(&mut self) -> Result<Watched, StateError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        loop {
            match self.news.recv().await {
                Ok(note) => {
                    if let Some(watched) = self.see(&note) {
                        return Ok(watched);
                    }
                }
                Err(RecvError::Lagged(_)) => self.missed = true,
                Err(RecvError::Closed) => {
                    let reason = "the scope is watched no more; watch it again".to_owned();
                    return Err(StateError::Unavailable { reason });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use scf_core::FunctionName;

    use super::*;

    fn scope(i: usize) -> Scope {
        Scope { function: FunctionName::new("f").unwrap(), key: i.to_string() }
    }

    fn note(version: u64, key: &str) -> Note {
        Note::new(Version::new(version), vec![key.to_owned()], vec![InvocationId::new(u128::from(version))])
    }

    #[test]
    fn knows_what_changed_since_a_copy_and_says_when_it_does_not() {
        let history = History::default();
        history.note(&scope(0), &note(1, "before"));
        assert_eq!(history.between(&scope(0), Version::new(0), Version::new(1)), None, "nobody asked");
        history.track(&scope(0));
        history.copied(&scope(0), Version::new(1));
        for version in 2..=4 {
            history.note(&scope(0), &note(version, &format!("k{}", version % 2)));
        }
        let changed = history.between(&scope(0), Version::new(2), Version::new(4)).unwrap();
        assert_eq!(changed.keys, BTreeSet::from(["k0".to_owned(), "k1".to_owned()]));
        assert_eq!(changed.invocations, [3, 4].map(InvocationId::new));
        assert_eq!(history.between(&scope(0), Version::new(0), Version::new(4)), None, "before the copy");
        for version in 5..5 + KEYS as u64 {
            history.note(&scope(0), &note(version, "k"));
        }
        assert_eq!(history.between(&scope(0), Version::new(4), Version::new(9)), None, "too long ago");
        history.note(&scope(0), &Note::replaced(Version::new(2)));
        assert_eq!(history.between(&scope(0), Version::new(2), Version::new(2)), Some(Changed::default()));
    }

    #[test]
    fn forgets_scopes_that_nobody_asked_for_longest() {
        let history = History::default();
        let _watcher = history.watch(&scope(0), "");
        for i in 1..=SCOPES {
            history.track(&scope(i));
            history.copied(&scope(i), Version::default());
        }
        assert!(history.wants(&scope(0)), "somebody watches it");
        assert!(!history.wants(&scope(1)) && history.wants(&scope(SCOPES)));
        assert_eq!(history.tracks().by_scope.len(), SCOPES);
    }

    #[tokio::test]
    async fn a_watcher_that_is_too_slow_hears_of_a_gap() {
        let history = History::default();
        let mut watcher = history.watch(&scope(0), "k").begin(Version::default(), Version::default(), None);
        let count = BEHIND as u64 + 5;
        for version in 1..=count {
            history.publish(&scope(0), note(version, if version == count { "other" } else { "k" }));
        }
        assert_eq!(watcher.next().await, Ok(Watched::Gap { version: Version::new(6) }));
        assert!(matches!(watcher.next().await, Ok(Watched::Change { version, .. }) if version == Version::new(7)));
    }
}
