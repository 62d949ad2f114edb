//! What every call reads, so that calls on several cores do not wait for each other.
//!
//! Counting a reference, taking a lock for reading and adding to a counter write to memory. Where two cores do so to
//! the same line of memory, each waits for the other for some hundred nanoseconds, every time.

use std::{
    array,
    cell::Cell,
    collections::HashMap,
    hash::Hash,
    ops::Deref,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{
            AtomicU32,
            Ordering::{Acquire, Release},
        },
    },
};

use foldhash::fast::RandomState;

/// Into how many parts something is spread: one for each of a small device's cores.
pub(crate) const PARTS: usize = 4;

/// How often a thread's part is told before the thread is asked again where it runs: asking takes longer than what is
/// saved by knowing, and a thread that has moved meanwhile is only slower for a while.
const ASKED: u8 = 64;

thread_local! {
    /// The part that the thread used when it was last asked, and how often that may still be told.
    static HERE: Cell<(u8, u8)> = const { Cell::new((0, 0)) };
}

/// The part that the calling thread uses now, or did a short while ago.
pub(crate) fn here() -> usize {
    let (part, left) = HERE.get();
    let (part, left) = if left > 0 { (part, left - 1) } else { (ask(), ASKED) };
    HERE.set((part, left));
    usize::from(part)
}

#[cold]
fn ask() -> u8 {
    #[cfg(target_os = "linux")]
    let cpu = rustix::thread::sched_getcpu();
    #[cfg(not(target_os = "linux"))]
    let cpu = 0;
    (cpu % PARTS) as u8
}

/// On lines of memory of its own: two, since they are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// One of something for each part of the cores, made by whoever uses it there first.
#[derive(Debug)]
pub(crate) struct Each<T>([OnceLock<Box<Apart<T>>>; PARTS]);

impl<T> Each<T> {
    /// That of `part`, which is what [`here`] gave.
    pub(crate) fn at(&self, part: usize, make: impl FnOnce() -> T) -> &T {
        self.0[part % PARTS].get_or_init(|| Box::new(Apart(make())))
    }

    /// All that are there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|part| part.get().map(|part| &***part))
    }
}

impl<T> Default for Each<T> {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

/// What each part of the cores knows of a map, which is asked where a part does not know a key.
///
/// The map is locked, for reading, while a part is filled from it, and for writing while parts forget what changes.
#[derive(Debug)]
pub(crate) struct Spread<K, V> {
    parts: [Apart<Part<K, V>>; PARTS],
    forgotten: AtomicU32,
}

/// The hash is a fast one, with a random key: names that collide cannot be found from outside, where only answers are seen.
type Part<K, V> = RwLock<HashMap<K, Shared<V>, RandomState>>;

/// A value, counted in a place that only some cores use.
pub(crate) type Shared<V> = Arc<Apart<Arc<V>>>;

impl<K: Eq + Hash + Clone, V> Spread<K, V> {
    /// What `part` knows under `key`.
    pub(crate) fn get(&self, part: usize, key: &K) -> Option<Shared<V>> {
        self.parts[part % PARTS].read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Has `part` know `value`.
    pub(crate) fn fill(&self, part: usize, key: &K, value: &Arc<V>) -> Shared<V> {
        let value = Arc::new(Apart(Arc::clone(value)));
        let mut known = self.parts[part % PARTS].write().unwrap_or_else(PoisonError::into_inner);
        known.insert(key.clone(), Arc::clone(&value));
        value
    }

    /// Has no part know anything under `key`.
    pub(crate) fn forget(&self, key: &K) {
        for part in &self.parts {
            part.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
        self.forgotten.fetch_add(1, Release);
    }

    /// How often something was forgotten: as long as it stays, what is known does.
    pub(crate) fn forgotten(&self) -> u32 {
        self.forgotten.load(Acquire)
    }
}

impl<K, V> Default for Spread<K, V> {
    fn default() -> Self {
        Self { parts: array::from_fn(|_| Apart(RwLock::default())), forgotten: AtomicU32::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_knows_what_it_was_filled_with_until_all_forget_it() {
        let spread = Spread::default();
        let value = Arc::new(7);
        for part in 0..PARTS {
            assert!(spread.get(part, &"a").is_none());
            assert_eq!(***spread.fill(part, &"a", &value), 7);
            spread.fill(part, &"b", &value);
        }
        spread.forget(&"b");
        for part in 0..PARTS {
            assert_eq!(spread.get(part, &"a").map(|found| ***found), Some(7));
            assert!(spread.get(part, &"b").is_none());
        }
        drop(spread);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn each_part_has_its_own_once_it_is_used() {
        let each = Each::default();
        assert_eq!(each.iter().count(), 0);
        assert_eq!((*each.at(1, || 5), *each.at(1, || 6), *each.at(2, || 7)), (5, 5, 7));
        assert_eq!(each.iter().copied().collect::<Vec<_>>(), [5, 7]);
    }
}
