//! The life of a model: data, training, validation, serving, watch, and again.
//!
//! After Rausch et al., "Towards a Serverless Platform for Edge AI", HotEdge 2019. Models and data are [`Artefact`]s in a
//! [`Catalogue`]; a [`LifeCycle`] says which functions consume and produce which; a [`Gate`] is between a trained model
//! and the one that serves; [`PublishedModels`] runs published versions as functions, whose revisions take over as a
//! [`Canary`] decides; a [`DriftMonitor`] says when to train again. What decides is pure and is told the time. Nothing
//! here calls functions: whoever embeds the fabric does, as `examples/lifecycle` shows.

mod artefact;
mod canary;
mod catalogue;
mod drift;
mod federated;
mod gate;
mod parameters;
mod selector;
mod serving;
mod stage;
mod training;

pub(crate) use self::parameters::shuffled;
pub use self::{
    artefact::{Artefact, ArtefactId, ArtefactKind, Draft, Lineage},
    canary::{Canary, CanaryPolicy, CanaryStep, Fared, Worse},
    catalogue::{Catalogue, CatalogueError},
    drift::{DriftAction, DriftError, DriftMetric, DriftMonitor, DriftPolicy, DriftReading, Observation, Reference},
    federated::{FederatedError, Update, federated_average},
    gate::{Gate, Held},
    parameters::{Parameters, Variables},
    selector::{Bound, Lack, Selector, Unmet},
    serving::PublishedModels,
    stage::{LifeCycle, LifeCycleError, Product, Stage, StageFunction},
    training::{
        Checkpoint, Evaluation, Examples, Network, Progress, Training, TrainingError, TrainingPlan, evaluate, predict,
    },
};

#[cfg(test)]
mod tests;
