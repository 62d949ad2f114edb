//! Models that are resident, each loaded once.

use std::{
    collections::HashMap,
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use scf_core::{BlockGraph, ByteSize, ModelError, ModelName};
use thiserror::Error;
use tokio::sync::{Semaphore, watch};

use super::residency::{NoRoom, Residency, Stay};
use crate::fixed;

/// Models that are loaded at the same time; Clockwork keeps as many loads in flight.
const LOADS: usize = 2;

/// Keeps models in a bounded amount of memory and loads each once, however many ask for it at the same time.
///
/// What a model takes is reserved before it is loaded. Where there is no room, models that nobody uses make it, the
/// one that was asked for longest ago first. At most two models load at a time, each on a thread that may block. `M`
/// is what a loader makes: a graph, or something that serves it. Clones are the same cache.
pub struct ModelCache<M = BlockGraph>(Arc<Shelf<M>>);

struct Shelf<M> {
    state: Mutex<State<M>>,
    loads: Semaphore,
}

struct State<M> {
    residency: Residency,
    models: HashMap<ModelName, watch::Receiver<Option<Outcome<M>>>>,
}

/// What a load came to.
type Outcome<M> = Result<Arc<M>, Arc<ModelError>>;

/// Why a model is not resident.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// There is not enough memory.
    #[error("model {model} needs {needs} of memory and models in use leave {available}: use a larger cache or wait")]
    NoRoom {
        /// The model.
        model: ModelName,
        /// What it takes.
        needs: ByteSize,
        /// What could be had if all that is not used made room.
        available: ByteSize,
    },
    /// The loader failed; the next who asks tries again.
    #[error("model {model} was not loaded")]
    Load {
        /// The model.
        model: ModelName,
        /// Why; the same for all who waited for it.
        #[source]
        source: Arc<ModelError>,
    },
}

/// A model that stays resident while this is kept.
pub struct Resident<M = BlockGraph> {
    model: Arc<M>,
    evicted: Option<Vec<ModelName>>,
    user: User<M>,
}

/// How somebody came to a model.
struct Entry<M> {
    user: User<M>,
    outcome: watch::Receiver<Option<Outcome<M>>>,
    /// What is needed to load it, where it is not there.
    begun: Option<Begun<M>>,
}

/// A load that is to begin.
struct Begun<M> {
    user: User<M>,
    tell: watch::Sender<Option<Outcome<M>>>,
    evicted: Vec<ModelName>,
}

/// Someone who uses a model, waits for it, or loads it.
struct User<M> {
    shelf: Arc<Shelf<M>>,
    name: ModelName,
    stay: Stay,
}

impl<M: Send + Sync + 'static> ModelCache<M> {
    /// An empty cache for `capacity` of models.
    #[must_use]
    pub fn new(capacity: ByteSize) -> Self {
        let state = State { residency: Residency::new(capacity), models: HashMap::new() };
        Self(Arc::new(Shelf { state: Mutex::new(state), loads: Semaphore::new(LOADS) }))
    }

    /// Memory that is reserved for models.
    #[must_use]
    pub fn used(&self) -> ByteSize {
        self.0.state().residency.used()
    }

    /// The models that are resident or being loaded, by name.
    #[must_use]
    pub fn models(&self) -> Vec<ModelName> {
        let mut names: Vec<ModelName> = self.0.state().models.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// The model `name`, which takes `memory` and is made by `load` where it is not resident. How the loader comes by
    /// the weights is its affair: it reads a file, maps it, or asks an object store. A load that was begun goes on when
    /// those who asked for it go away.
    ///
    /// # Errors
    /// [`CacheError`]; nothing stays reserved then.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn get(
        &self,
        name: &ModelName,
        memory: ByteSize,
        load: impl FnOnce() -> Result<M, ModelError> + Send + 'static,
    ) -> Result<Resident<M>, CacheError> {
        let Entry { user, mut outcome, begun } = self.enter(name, memory)?;
        let evicted = begun.map(|Begun { user, tell, evicted }| {
            tokio::spawn(user.load(tell, load));
            evicted
        });
        let known = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        let stopped = || Err(Arc::new(fixed::failed(name.as_str())("the runtime shut down while it was loaded")));
        match known.unwrap_or_else(stopped) {
            Ok(model) => Ok(Resident { model, evicted, user }),
            Err(source) => Err(CacheError::Load { model: name.clone(), source }),
        }
    }

    /// Counts a user of `name`; where it is not there, reserves its memory and says what is needed to load it.
    fn enter(&self, name: &ModelName, memory: ByteSize) -> Result<Entry<M>, CacheError> {
        let user = |stay| User { shelf: Arc::clone(&self.0), name: name.clone(), stay };
        let mut state = self.0.state();
        if let Some(stay) = state.residency.enter(name) {
            return Ok(Entry { user: user(stay), outcome: state.models[name].clone(), begun: None });
        }
        let (stay, evicted) = state
            .residency
            .admit(name, memory)
            .map_err(|NoRoom { available }| CacheError::NoRoom { model: name.clone(), needs: memory, available })?;
        // Who loads is a user too, so that nobody takes the memory while the model comes into it.
        state.residency.enter(name);
        let gone: Vec<_> = evicted.iter().filter_map(|name| state.models.remove(name)).collect();
        let (tell, outcome) = watch::channel(None);
        state.models.insert(name.clone(), outcome.clone());
        drop(state);
        // Outside the lock: giving back the memory of a model takes a while.
        drop(gone);
        Ok(Entry { user: user(stay), outcome, begun: Some(Begun { user: user(stay), tell, evicted }) })
    }
}

impl<M> Shelf<M> {
    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Send + Sync + 'static> User<M> {
    /// Loads the model and tells everybody who waits for it.
    async fn load(
        self,
        tell: watch::Sender<Option<Outcome<M>>>,
        load: impl FnOnce() -> Result<M, ModelError> + Send + 'static,
    ) {
        let turn = self.shelf.loads.acquire().await;
        let loaded = tokio::task::spawn_blocking(load).await;
        drop(turn);
        let loaded = loaded.unwrap_or_else(|panicked| Err(fixed::failed(self.name.as_str())(panicked)));
        if let Err(error) = &loaded {
            tracing::warn!(model = %self.name, %error, "a model was not loaded");
            let mut state = self.shelf.state();
            state.residency.remove(&self.name);
            state.models.remove(&self.name);
        }
        tell.send_replace(Some(loaded.map(Arc::new).map_err(Arc::new)));
    }
}

impl<M> Drop for User<M> {
    fn drop(&mut self) {
        self.shelf.state().residency.leave(&self.name, self.stay);
    }
}

impl<M> Resident<M> {
    /// The models that made room for this one, where this call began its load; none where it was there already.
    #[must_use]
    pub fn evicted(&self) -> Option<&[ModelName]> {
        self.evicted.as_deref()
    }
}

impl<M> Deref for Resident<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.model
    }
}

impl<M> Clone for ModelCache<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for ModelCache<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelCache").field("residency", &self.0.state().residency).finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for Resident<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resident").field("model", &self.user.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    fn name(text: &str) -> ModelName {
        ModelName::new(text).unwrap()
    }

    const MODEL: ByteSize = ByteSize::from_mib(4);

    fn missing() -> ModelError {
        ModelError::Weight { weight: "stem.w".into(), problem: "is missing".into() }
    }

    #[tokio::test]
    async fn many_who_ask_at_once_load_a_model_once_and_share_it() {
        let cache = ModelCache::new(ByteSize::from_mib(10));
        let loads = Arc::new(AtomicUsize::new(0));
        let (go, wait) = mpsc::channel();
        let wait = Arc::new(Mutex::new(wait));
        let askers: Vec<_> = (0..20)
            .map(|_| {
                let (cache, loads, wait) = (cache.clone(), Arc::clone(&loads), Arc::clone(&wait));
                tokio::spawn(async move {
                    let load = move || {
                        wait.lock().unwrap().recv().unwrap();
                        Ok(loads.fetch_add(1, Ordering::Relaxed))
                    };
                    cache.get(&name("a"), MODEL, load).await.unwrap()
                })
            })
            .collect();
        while cache.models().is_empty() {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        let mut began = 0;
        for asker in askers {
            let resident = asker.await.unwrap();
            began += usize::from(resident.evicted().is_some());
            assert_eq!(*resident, 0, "all have the first load's");
        }
        assert_eq!((loads.load(Ordering::Relaxed), began, cache.used()), (1, 1, MODEL));
    }

    #[tokio::test]
    async fn a_failed_load_is_told_to_all_and_tried_again_by_the_next() {
        let cache = ModelCache::new(ByteSize::from_mib(10));
        let a = name("a");
        let fails = || cache.get(&a, MODEL, || Err::<u32, _>(missing()));
        let (one, other) = tokio::join!(fails(), fails());
        for error in [one.unwrap_err(), other.unwrap_err()] {
            assert!(
                matches!(error, CacheError::Load { source, .. } if source.to_string().starts_with("weight stem.w"))
            );
        }
        let error = cache.get(&name("a"), MODEL, || panic!("a loader's bug")).await.unwrap_err();
        assert!(matches!(error, CacheError::Load { source, .. } if matches!(*source, ModelError::Block { .. })));
        assert_eq!((cache.used(), cache.models()), (ByteSize::ZERO, vec![]));
        assert_eq!(*cache.get(&name("a"), MODEL, || Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_nobody_uses_makes_room_and_its_memory_is_given_back() {
        let cache = ModelCache::new(ByteSize::from_mib(10));
        let kept = cache.get(&name("a"), MODEL, || Ok(Arc::new(1))).await.unwrap();
        let idle = cache.get(&name("b"), MODEL, || Ok(Arc::new(2))).await.unwrap();
        let held = Arc::downgrade(&idle);
        let error = cache.get(&name("c"), MODEL, || Ok(Arc::new(3))).await.unwrap_err();
        let CacheError::NoRoom { needs, available, .. } = error else { panic!("{error}") };
        assert_eq!((needs, available), (MODEL, ByteSize::from_mib(2)));
        drop(idle);
        assert!(held.upgrade().is_some(), "it stays until room is needed");
        let next = cache.get(&name("c"), MODEL, || Ok(Arc::new(3))).await.unwrap();
        assert_eq!((next.evicted(), cache.models()), (Some(&[name("b")][..]), vec![name("a"), name("c")]));
        assert!(held.upgrade().is_none());
        assert_eq!(**kept, 1);
    }

    #[tokio::test]
    async fn a_load_goes_on_when_the_one_who_asked_goes_away() {
        let cache = ModelCache::new(ByteSize::from_mib(10));
        let (go, wait) = mpsc::channel();
        let asked = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get(&name("a"), MODEL, move || Ok(wait.recv().unwrap())).await.map(|model| *model) }
        });
        while cache.models().is_empty() {
            tokio::task::yield_now().await;
        }
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        let error = cache.get(&name("b"), ByteSize::from_mib(7), || Ok(2)).await.unwrap_err();
        assert!(matches!(error, CacheError::NoRoom { .. }), "its memory is taken: {error}");
        go.send(1).unwrap();
        assert_eq!(*cache.get(&name("a"), MODEL, || panic!("it is loaded")).await.unwrap(), 1);
    }
}
