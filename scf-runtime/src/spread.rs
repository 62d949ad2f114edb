//! What every call reads, so that calls on several cores do not wait for each other.
//!
//! Counting a reference, taking a lock for reading and adding to a counter write to memory. Where two cores do so to
//! the same line of memory, each waits for the other for some hundred nanoseconds, every time.

use std::{
    array,
    collections::HashMap,
    hash::Hash,
    ops::Deref,
    sync::{Arc, PoisonError, RwLock},
};

/// Into how many parts something is spread: one for each of a small device's cores.
pub(crate) const PARTS: usize = 4;

/// The part that the calling thread uses now.
pub(crate) fn here() -> usize {
    #[cfg(target_os = "linux")]
    let cpu = rustix::thread::sched_getcpu();
    #[cfg(not(target_os = "linux"))]
    let cpu = 0;
    cpu % PARTS
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

/// A map of which each part of the cores has a copy.
#[derive(Debug)]
pub(crate) struct Spread<K, V>([Apart<Part<K, V>>; PARTS]);

type Part<K, V> = RwLock<HashMap<K, Shared<V>>>;

/// A value, counted in a place that only some cores use.
pub(crate) type Shared<V> = Arc<Apart<Arc<V>>>;

impl<K: Eq + Hash + Clone, V> Spread<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<Shared<V>> {
        self.0[here()].read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(crate) fn insert(&self, key: &K, value: &Arc<V>) {
        for part in &self.0 {
            let value = Arc::new(Apart(Arc::clone(value)));
            part.write().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), value);
        }
    }

    pub(crate) fn remove(&self, key: &K) {
        for part in &self.0 {
            part.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }
}

impl<K, V> Default for Spread<K, V> {
    fn default() -> Self {
        Self(array::from_fn(|_| Apart(RwLock::default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_what_was_put_in_and_nothing_that_was_taken_out() {
        let spread = Spread::default();
        let value = Arc::new(7);
        spread.insert(&"a", &value);
        spread.insert(&"b", &value);
        spread.remove(&"b");
        assert_eq!(spread.get(&"a").map(|found| ***found), Some(7));
        assert!(spread.get(&"b").is_none());
        for part in &spread.0 {
            assert_eq!(part.read().unwrap().keys().collect::<Vec<_>>(), [&"a"]);
        }
        drop(spread);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
