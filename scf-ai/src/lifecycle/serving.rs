//! Published models as functions.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use scf_core::{
    BoxError, ByteSize, Code, Function, IsolateFactory, ModelError, ModelName, Name, PrepareError, Prepared,
};

use super::{ArtefactKind, Catalogue};
use crate::function::ModelFactory;

/// Largest content of a model that is served.
const MAX_MODEL: ByteSize = ByteSize::from_mib(1 << 10);
/// Loaded versions that are kept for the next deployment of them.
const KEPT: usize = 4;

type Load = dyn Fn(&ModelName, &[u8]) -> Result<ModelFactory, ModelError> + Send + Sync;

type Loaded = Vec<(ModelName, Arc<ModelFactory>)>;

/// Makes isolates of the versions of models that a [`Catalogue`] has: a function of the model `NAME-vVERSION` runs that
/// version. It is read, held against its digest and loaded when the function is deployed, once for all nodes of a
/// process; calls of the versions before go on meanwhile.
///
/// Give it to a fabric beside [`ModelFactory`], which has the models that are known when the program starts.
#[derive(Clone)]
#[must_use]
pub struct PublishedModels {
    catalogue: Arc<Catalogue>,
    loads: Vec<(Name, Arc<Load>)>,
    /// The latest last.
    loaded: Arc<Mutex<Loaded>>,
}

impl PublishedModels {
    /// Serves models of `catalogue`, none yet.
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self { catalogue, loads: Vec::new(), loaded: Arc::default() }
    }

    /// Serves versions of `model`. `load` makes of the name of a version and its content a factory that has that name:
    /// it chooses the network, the device and the planner. It is called where it may block.
    pub fn with(
        mut self,
        model: Name,
        load: impl Fn(&ModelName, &[u8]) -> Result<ModelFactory, ModelError> + Send + Sync + 'static,
    ) -> Self {
        self.loads.retain(|(known, _)| *known != model);
        self.loads.push((model, Arc::new(load)));
        self
    }

    /// The model and version that a name stands for.
    fn served(&self, name: &ModelName) -> Option<(&Name, &Arc<Load>, u32)> {
        let (model, version) = name.as_str().rsplit_once("-v")?;
        let (known, load) = self.loads.iter().find(|(known, _)| known.as_str() == model)?;
        Some((known, load, version.parse().ok().filter(|_| !version.starts_with(['0', '+']))?))
    }

    async fn factory(&self, name: &ModelName) -> Result<Arc<ModelFactory>, BoxError> {
        let known =
            |loaded: &Loaded| loaded.iter().find(|(known, _)| known == name).map(|(_, factory)| Arc::clone(factory));
        if let Some(factory) = known(&self.loaded.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(factory);
        }
        let (model, load, version) = self.served(name).ok_or("no model of that name is served")?;
        let id = self.catalogue.version(ArtefactKind::Model, model, version).await?.id;
        let content = self.catalogue.content(&id, MAX_MODEL).await?;
        let (load, of) = (Arc::clone(load), name.clone());
        let factory = Arc::new(tokio::task::spawn_blocking(move || load(&of, &content)).await??);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Who was deployed at the same time may have loaded it too; all nodes share what one keeps.
        let factory = known(&loaded).unwrap_or(factory);
        loaded.retain(|(known, _)| known != name);
        loaded.push((name.clone(), Arc::clone(&factory)));
        if loaded.len() > KEPT {
            loaded.remove(0);
        }
        Ok(factory)
    }
}

impl fmt::Debug for PublishedModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models: Vec<_> = self.loads.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("PublishedModels").field("models", &models).finish_non_exhaustive()
    }
}

#[async_trait]
impl IsolateFactory for PublishedModels {
    fn name(&self) -> &'static str {
        "published-model"
    }

    fn accepts(&self, code: &Code) -> bool {
        matches!(code, Code::Model { model } if self.served(model).is_some())
    }

    async fn prepare(&self, function: &Function) -> Result<Arc<dyn Prepared>, PrepareError> {
        let Code::Model { model } = &function.code else {
            let (function, kind) = (function.name.clone(), function.code.kind());
            return Err(PrepareError::NoFactory { function, kind, hint: "scf-ai runs the code of models" });
        };
        let invalid = |source| PrepareError::InvalidCode { function: function.name.clone(), source };
        self.factory(model).await.map_err(invalid)?.prepare(function).await
    }
}
