//! Isolates and slots that are kept for single keys of a function, while their state is local.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU32,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use scf_core::{Fence, InvokeError, Isolate, NodeId, Phase, Reuse, Scope, StateSession, StateStore};

use super::{Controller, Ready};
use crate::tenant::Account;

/// The keys of a function that have an isolate of their own on a node.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    keys: Mutex<HashMap<String, Pin>>,
    /// Calls that run in the slots of keys, or wait for them.
    calls: Arc<AtomicU32>,
}

/// What a key has.
struct Pin {
    /// What the isolate's memory rests on; none while a call has it.
    isolate: Option<(Place, Box<dyn Isolate>)>,
    /// Who has room for the slot; none: the isolate runs in the slots of its calls.
    seat: Option<Arc<Account>>,
    calls: Arc<AtomicU32>,
}

/// The state that a call of a key finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    fence: Fence,
    turn: u64,
}

impl Place {
    /// Where `session` is, if its state is local.
    pub(super) fn of(session: &dyn StateSession) -> Option<Self> {
        match session.phase() {
            Phase::Local(fence) => Some(Self { fence, turn: session.turn() }),
            _ => None,
        }
    }

    /// Where the next call is, if nothing comes between.
    const fn next(self) -> Self {
        Self { fence: self.fence, turn: self.turn + 1 }
    }
}

/// A call in the slot of its key.
#[derive(Debug)]
pub(super) struct InPin {
    all: Arc<AtomicU32>,
    key: Arc<AtomicU32>,
}

impl Drop for InPin {
    fn drop(&mut self) {
        self.all.fetch_sub(1, SeqCst);
        self.key.fetch_sub(1, SeqCst);
    }
}

impl Pins {
    fn keys(&self) -> MutexGuard<'_, HashMap<String, Pin>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the isolate of `key`, if its memory rests on `place`.
    pub(super) fn take(&self, key: &str, place: Place) -> Option<Box<dyn Isolate>> {
        let isolate = self.keys().get_mut(key)?.isolate.take();
        // Dropped outside of the lock, where it rests on something else.
        isolate.filter(|(rests_on, _)| *rests_on == place).map(|(_, isolate)| isolate)
    }

    /// Keeps the isolate of a call that ran at `place` and is about to commit.
    pub(super) fn put(&self, key: &str, place: Place, isolate: Box<dyn Isolate>, most: u32) {
        let mut keys = self.keys();
        if !keys.contains_key(key) {
            if keys.len() >= most as usize {
                return;
            }
            keys.insert(key.to_owned(), Pin { isolate: None, seat: None, calls: Arc::default() });
        }
        let before = keys.get_mut(key).and_then(|pin| pin.isolate.replace((place.next(), isolate)));
        drop((keys, before));
    }

    /// Drops the isolate of a call that failed.
    pub(super) fn discard(&self, key: &str) {
        let isolate = self.keys().get_mut(key).and_then(|pin| pin.isolate.take());
        drop(isolate);
    }
}

impl Ready {
    /// Keys that may have an isolate and a slot of their own: all slots but one.
    pub(super) fn most_pins(&self) -> u32 {
        self.slots.limit.load(Relaxed).min(self.function.limits.concurrency).saturating_sub(1)
    }
}

impl Controller {
    /// Lets a call of `key` into the slot of the key, if that has one.
    pub(super) fn pinned(&self, ready: &Ready, key: Option<&str>) -> Result<Option<InPin>, InvokeError> {
        let (Reuse::Pinned, Some(key)) = (ready.function.reuse, key) else { return Ok(None) };
        let keys = ready.pins.keys();
        let Some(pin) = keys.get(key).filter(|pin| pin.seat.is_some()) else { return Ok(None) };
        if pin.calls.load(SeqCst) > ready.function.limits.queue {
            let (function, node): (_, NodeId) = (ready.function.name.clone(), self.node.id.clone());
            let retry_after = ready.slots.held.service.mean().unwrap_or_default();
            return Err(InvokeError::Overloaded { function, node, retry_after });
        }
        pin.calls.fetch_add(1, SeqCst);
        ready.pins.calls.fetch_add(1, SeqCst);
        Ok(Some(InPin { all: Arc::clone(&ready.pins.calls), key: Arc::clone(&pin.calls) }))
    }

    /// Whether the slot that a call of `key` ran in becomes the key's.
    pub(super) fn gives_seat(&self, ready: &Ready, key: &str, account: &Arc<Account>) -> bool {
        let mut keys = ready.pins.keys();
        let seats = keys.values().filter(|pin| pin.seat.is_some()).count();
        let Some(pin) = keys.get_mut(key) else { return false };
        // The node and the tenant keep room for others too.
        let gives = pin.seat.is_none() && seats < ready.most_pins() as usize && self.gate.can_spare(account);
        if gives {
            pin.seat = Some(Arc::clone(account));
        }
        gives
    }

    /// Takes isolate and slot from the keys that `goes` says.
    pub(super) fn unpin(&self, ready: &Arc<Ready>, mut goes: impl FnMut(&str) -> bool) {
        let mut gone = Vec::new();
        ready.pins.keys().retain(|key, pin| {
            let goes = goes(key);
            if goes {
                gone.push((pin.seat.take(), pin.isolate.take()));
            }
            !goes
        });
        for (seat, isolate) in gone {
            drop(isolate);
            if let Some(account) = seat {
                self.gate.give_back(ready, &account);
            }
        }
    }

    /// Takes them from the keys whose state is not local any more.
    pub(super) fn unpin_remote(&self, ready: &Arc<Ready>) {
        let Some(store) = self.state() else { return };
        let function = &ready.function.name;
        self.unpin(ready, |key| !is_local(&**store, function, key));
    }

    /// Takes them from all keys, once none of their calls is running.
    pub(super) fn unpin_all(&self, ready: &Arc<Ready>) {
        if ready.pins.calls.load(SeqCst) == 0 {
            self.unpin(ready, |_| true);
        }
    }
}

fn is_local(store: &dyn StateStore, function: &scf_core::FunctionName, key: &str) -> bool {
    let scope = Scope { function: function.clone(), key: key.to_owned() };
    matches!(store.phase(&scope), Phase::Local(_))
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.isolate.as_ref().map(|(place, _)| place);
        f.debug_struct("Pin").field("place", &place).field("has_slot", &self.seat.is_some()).finish_non_exhaustive()
    }
}
