//! Queries answered: chosen, loaded and run.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{Activation, BlockGraph, ByteSize, Clock, Inference, Inferred, ModelError, ModelInfo, ModelName};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::{
    BatchError, BatchLimits, Batched, Batcher, CacheError, Executor, ModelCache, ModelRegistry, NoVariant, Query,
    Refused, Resident, Selection, Variant,
};

/// Requests for one variant that wait at most.
const QUEUE: usize = 256;
/// Time that a request has which comes by the name of a model and says none.
const WITHIN: Duration = Duration::from_secs(10);

/// Makes a variant's graph; asked again after the variant made room for others.
type Loader = Arc<dyn Fn() -> Result<BlockGraph, ModelError> + Send + Sync>;

/// Answers queries on one executor: the [`ModelRegistry`] chooses a variant, the [`ModelCache`] loads it where it is
/// not resident, and its [`Batcher`] runs it; what they measure is what the next decision is made of.
///
/// As [`Inference`] it answers for each variant by its name, within ten seconds where nothing else is set: give it to
/// the factory of WebAssembly isolates and guests reach it through `wasi:nn`. Clones are the same server.
#[derive(Clone, Debug)]
pub struct ModelServer {
    registry: Arc<Mutex<ModelRegistry>>,
    cache: ModelCache<Batcher>,
    cores: Arc<Semaphore>,
    hosted: Arc<HashMap<ModelName, Hosted>>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    within: Duration,
}

/// What is known of a variant beside what the registry knows.
#[derive(Clone)]
struct Hosted {
    variant: Variant,
    info: ModelInfo,
    loader: Loader,
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted").field("variant", &self.variant).field("info", &self.info).finish_non_exhaustive()
    }
}

/// Why a query was not answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// No variant would do.
    #[error("no variant answers the query")]
    NoVariant(#[from] NoVariant),
    /// The chosen variant is not resident.
    #[error("the chosen variant is not there")]
    Cache(#[from] CacheError),
    /// The chosen variant gave no answer.
    #[error("the chosen variant gave no answer")]
    Batch(#[from] BatchError),
}

/// A variant that was chosen for a query, and its place among the work ahead; dropping it gives the place back.
#[derive(Debug)]
#[must_use = "the place among the work ahead is given back when it is dropped"]
pub struct Admission {
    server: ModelServer,
    /// There until it is run or dropped.
    selection: Option<Selection>,
    variant: ModelName,
}

impl ModelServer {
    /// A server without variants on `executor` with `memory` for models. The registry's chance comes from `seed`.
    #[must_use]
    pub fn new(executor: Executor, memory: ByteSize, clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self {
            registry: Arc::new(Mutex::new(ModelRegistry::new(seed).executor(executor.clone()))),
            cache: ModelCache::new(memory),
            cores: Arc::new(Semaphore::new(executor.lanes)),
            hosted: Arc::default(),
            executor,
            clock,
            within: WITHIN,
        }
    }

    /// Time that a request has which comes by the name of a model; ten seconds where it is not set.
    #[must_use]
    pub const fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Serves `variant`, which takes and gives what `info` says and is made by `loader`, in place of an earlier one of
    /// its name.
    #[must_use]
    pub fn variant(
        mut self,
        variant: Variant,
        info: ModelInfo,
        loader: impl Fn() -> Result<BlockGraph, ModelError> + Send + Sync + 'static,
    ) -> Self {
        self.registry().register(variant.clone());
        let hosted = Hosted { variant: variant.clone(), info, loader: Arc::new(loader) };
        Arc::make_mut(&mut self.hosted).insert(variant.name, hosted);
        self
    }

    /// Makes a variant resident before anybody asks for it. Otherwise the first who needs it waits for it; while
    /// another variant that is resident will do, that one answers.
    ///
    /// # Errors
    /// [`ModelError::NotFound`] for a name that is not served, [`ModelError::Refused`] where there is no room, or what
    /// the loader reports.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn preload(&self, variant: &ModelName) -> Result<(), ModelError> {
        let hosted = self.hosted.get(variant).ok_or_else(|| ModelError::NotFound { model: variant.clone() })?;
        self.resident(hosted).await.map(drop).map_err(|error| refused(variant, error))
    }

    /// Chooses who answers `query`, which counts as work ahead from now on.
    ///
    /// # Errors
    /// [`NoVariant`], which says what the nearest one would need.
    pub fn select(&self, query: &Query) -> Result<Admission, NoVariant> {
        let selection = self.registry().select(query, self.clock.now())?;
        let variant = selection.variant.clone();
        Ok(Admission { server: self.clone(), selection: Some(selection), variant })
    }

    fn registry(&self) -> MutexGuard<'_, ModelRegistry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn resident(&self, hosted: &Hosted) -> Result<Resident<Batcher>, CacheError> {
        let (name, memory) = (&hosted.variant.name, hosted.variant.memory);
        let limits = BatchLimits { batch: hosted.variant.batch, queue: QUEUE, lanes: self.executor.lanes };
        let (loader, expected) = (Arc::clone(&hosted.loader), hosted.variant.runs_in);
        let (cores, clock) = (Arc::clone(&self.cores), Arc::clone(&self.clock));
        let asked = self.clock.now();
        let load = move || Ok(Batcher::on(cores, loader()?, limits, expected, clock));
        let resident = self.cache.get(name, memory, load).await?;
        if let Some(evicted) = resident.evicted() {
            let now = self.clock.now();
            let mut registry = self.registry();
            registry.loaded(name, &self.executor.name, now.since(asked), now);
            evicted.iter().for_each(|model| registry.evicted(model, &self.executor.name));
        }
        Ok(resident)
    }

    async fn run(&self, selection: &Selection, input: Activation) -> Result<Batched, ServeError> {
        let hosted = &self.hosted[&selection.variant];
        let resident = self.resident(hosted).await?;
        let left = selection.deadline.since(self.clock.now());
        let batched = resident.infer(input, left).await?;
        // Once for all that ran together.
        if batched.place == 0 {
            let (Batched { size, took, .. }, now) = (&batched, self.clock.now());
            self.registry().observe(&selection.variant, &self.executor.name, *size, *took, now);
        }
        Ok(batched)
    }
}

impl Admission {
    /// The variant that was chosen.
    #[must_use]
    pub const fn variant(&self) -> &ModelName {
        &self.variant
    }

    /// What it takes and gives: variants of one task may take pictures of several sizes.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.server.hosted[&self.variant].info
    }

    /// Runs the variant on `input`.
    ///
    /// # Errors
    /// [`ServeError::Cache`] where the variant cannot be loaded; [`ServeError::Batch`] where it became late before it
    /// ran, or fails on the input.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn run(mut self, input: Activation) -> Result<Batched, ServeError> {
        // It stays in its place while this waits, so that going away gives it back.
        let selection = self.selection.as_ref().expect("it is taken out only below and when this is dropped");
        let outcome = self.server.run(selection, input).await;
        if let Some(selection) = self.selection.take() {
            let mut registry = self.server.registry();
            match &outcome {
                Ok(_) => registry.finished(selection, self.server.clock.now()),
                Err(ServeError::Batch(BatchError::Refused(Refused::Late { .. }))) => registry.missed(selection),
                Err(_) => registry.cancelled(selection),
            }
        }
        outcome
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(selection) = self.selection.take() {
            self.server.registry().cancelled(selection);
        }
    }
}

#[async_trait]
impl Inference for ModelServer {
    fn models(&self) -> Vec<ModelName> {
        let mut names: Vec<ModelName> = self.hosted.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    fn describe(&self, model: &ModelName) -> Option<ModelInfo> {
        Some(self.hosted.get(model)?.info.clone())
    }

    async fn run(&self, model: &ModelName, input: Activation) -> Result<Inferred, ModelError> {
        let hosted = self.hosted.get(model).ok_or_else(|| ModelError::NotFound { model: model.clone() })?;
        let query = Query::new(hosted.variant.task.clone(), self.within).variant(model.clone());
        let admission = self.select(&query).map_err(|error| refused(model, error))?;
        let Batched { output, usage, .. } = admission.run(input).await.map_err(|error| refused(model, error))?;
        Ok(Inferred { output, usage })
    }
}

/// What the model reported, or that it was not asked.
fn refused(model: &ModelName, error: impl Into<ServeError>) -> ModelError {
    match error.into() {
        ServeError::Batch(BatchError::Model(error)) => error,
        other => ModelError::Refused { model: model.clone(), source: other.into() },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use scf_core::{BlockCost, DType, ManualClock, ModelBlock, Name, Share, TensorSpec, WireForm};

    use super::*;

    /// Adds a number to a byte, for which the clock moves on.
    #[derive(Debug)]
    struct Add(u8, Duration, ManualClock);

    impl ModelBlock for Add {
        fn name(&self) -> &str {
            "add"
        }

        fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
            Ok(input.clone())
        }

        fn cost(&self, _input: &TensorSpec) -> BlockCost {
            BlockCost::default()
        }

        fn wire_forms(&self) -> &[WireForm] {
            &[WireForm::Exact]
        }

        fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
            self.2.advance(self.1);
            let sum = input.bytes().unwrap()[0] + self.0;
            Ok(Activation::new(input.spec, vec![sum].into()).unwrap())
        }
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn model(name: &str) -> ModelName {
        ModelName::new(name).unwrap()
    }

    fn byte(value: u8) -> Activation {
        Activation::new(TensorSpec::new(DType::U8, &[1]), vec![value].into()).unwrap()
    }

    fn query(within: u64) -> Query {
        Query::new(Name::new("add").unwrap(), ms(within))
    }

    /// Variants that add 1 in 10 ms and 2 in 40 ms, each of which takes 4 of the server's `memory` MiB, and how often
    /// they were loaded.
    fn server(memory: u64) -> (ModelServer, ManualClock, Arc<AtomicUsize>) {
        let (clock, loads) = (ManualClock::new(), Arc::new(AtomicUsize::new(0)));
        let executor = Executor::new(Name::new("cpu").unwrap(), 1);
        let mut server = ModelServer::new(executor, ByteSize::from_mib(memory), Arc::new(clock.clone()), 5);
        for (name, accuracy, adds, took) in [("small", 75.0, 1, 10), ("large", 78.0, 2, 40)] {
            let spec = TensorSpec::new(DType::U8, &[1]);
            let (clock, loads, input) = (clock.clone(), Arc::clone(&loads), spec.clone());
            let variant = Variant::new(
                model(name),
                Name::new("add").unwrap(),
                Share::from_percent(accuracy),
                ByteSize::from_mib(4),
            );
            let info = ModelInfo { input: spec.clone(), output: spec };
            server = server.variant(variant.expect(ms(took), ms(100)), info, move || {
                loads.fetch_add(1, Ordering::Relaxed);
                let block = Arc::new(Add(adds, ms(took), clock.clone()));
                BlockGraph::chain(model(name), input.clone(), vec![block])
            });
        }
        (server, clock, loads)
    }

    #[tokio::test]
    async fn a_query_is_answered_by_the_variant_that_was_chosen() {
        let (server, _, loads) = server(8);
        for name in ["small", "large", "large"] {
            server.preload(&model(name)).await.unwrap();
        }
        assert_eq!(loads.load(Ordering::Relaxed), 2);
        let first = server.select(&query(100)).unwrap();
        let second = server.select(&query(100)).unwrap();
        assert_eq!([&first, &second].map(|a| a.variant().as_str()), ["large", "small"], "load is seen");
        assert_eq!(first.run(byte(10)).await.unwrap().output.bytes().unwrap()[..], [12]);
        assert_eq!(second.run(byte(10)).await.unwrap().output.bytes().unwrap()[..], [11]);
        let third = server.select(&query(100)).unwrap();
        assert_eq!(third.variant().as_str(), "large", "nothing is ahead any more");
        drop(third);
        assert_eq!(server.select(&query(100)).unwrap().variant().as_str(), "large", "its place was given back");
    }

    #[tokio::test]
    async fn what_is_not_resident_is_loaded_and_what_made_room_is_known() {
        let (server, _, loads) = server(4);
        server.preload(&model("small")).await.unwrap();
        let accurate = query(1000).accuracy(Share::from_percent(78.0));
        assert_eq!(server.select(&accurate).unwrap().run(byte(1)).await.unwrap().output.bytes().unwrap()[..], [3]);
        assert_eq!(server.select(&query(1000)).unwrap().variant().as_str(), "large", "it took the room");
        assert_eq!(loads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn who_became_late_is_refused_before_running_and_the_promise_counts_as_broken() {
        let (server, clock, _) = server(8);
        for name in ["small", "large"] {
            server.preload(&model(name)).await.unwrap();
        }
        for _ in 0..2 {
            let admission = server.select(&query(100)).unwrap();
            assert_eq!(admission.variant().as_str(), "large");
            clock.advance(ms(90));
            let error = admission.run(byte(1)).await.unwrap_err();
            assert!(matches!(error, ServeError::Batch(BatchError::Refused(Refused::Late { .. }))), "{error}");
        }
        let chosen: Vec<bool> =
            (0..50).map(|_| server.select(&query(100)).unwrap().variant().as_str() == "large").collect();
        assert!((1..15).contains(&chosen.iter().filter(|large| **large).count()), "{chosen:?}");
    }

    #[tokio::test]
    async fn it_answers_by_the_names_of_its_variants() {
        let (server, _, _) = server(8);
        let server = server.within(ms(200));
        assert_eq!(server.models(), [model("large"), model("small")]);
        assert_eq!(server.describe(&model("small")).unwrap().input, byte(0).spec);
        let answer = Inference::run(&server, &model("small"), byte(5)).await.unwrap();
        assert_eq!(answer.output.bytes().unwrap()[..], [6]);
        let error = Inference::run(&server, &model("other"), byte(5)).await.unwrap_err();
        assert!(matches!(error, ModelError::NotFound { .. }), "{error}");
        let error = Inference::run(&server.within(ms(5)), &model("small"), byte(5)).await.unwrap_err();
        let ModelError::Refused { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.to_string(), "no variant answers the query");
    }
}
