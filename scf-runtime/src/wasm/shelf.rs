//! What functions with the same code share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use wasmtime::component::Component;

/// A component that is loaded.
pub(super) struct Loaded {
    pub(super) component: Component,
}

/// Loaded components by the hash of their code, for as long as a function uses them.
#[derive(Default)]
pub(super) struct Shelf(Mutex<Places>);

#[derive(Default)]
struct Places {
    by_hash: HashMap<[u8; blake3::OUT_LEN], Weak<Loaded>>,
    /// Entries at which those that nobody uses are removed.
    sweep: usize,
}

/// Entries below which none are removed.
const FEW: usize = 32;

impl Shelf {
    /// The component of code with this hash, if there is one.
    pub(super) fn find(&self, hash: &blake3::Hash) -> Option<Arc<Loaded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_hash.get(hash.as_bytes())?.upgrade()
    }

    /// Keeps a component, unless another was faster; gives the one that is kept.
    pub(super) fn put(&self, hash: blake3::Hash, component: Component) -> Arc<Loaded> {
        let places = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = places.by_hash.get(hash.as_bytes()).and_then(Weak::upgrade) {
            return first;
        }
        if places.by_hash.len() >= places.sweep {
            places.by_hash.retain(|_, loaded| loaded.strong_count() > 0);
            places.sweep = FEW.max(2 * places.by_hash.len());
        }
        let loaded = Arc::new(Loaded { component });
        places.by_hash.insert(hash.into(), Arc::downgrade(&loaded));
        loaded
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Shelf").field("places", &places.by_hash.len()).finish()
    }
}
