//! Decides where functions run and how many calls of them at once.
//!
//! | module of the source | what it has |
//! |---|---|
//! | [`fleet`] | [`Fleet`], the nodes as schedulers share them: a record of 64 bytes each, claims by compare-and-set |
//! | [`place`] | the steps of a decision over a fleet, [`Scf`], the default policy, and [`Placer`], which holds what it chose |
//! | [`policy`] | [`Policy`], the trait of ways to choose |
//! | [`bidding`] | nodes that bid for calls, and for what they keep |
//! | `pipeline` | [`Pipeline`], the same steps over a small picture of a cluster, as the router asks for |
//! | `filter/` | one [`Filter`] per need that a function can state |
//! | `score/` | what a placement costs, as one [`Score`] per question |
//! | `round_robin` | [`RoundRobin`], the yardstick |
//! | `autoscale/` | one [`Autoscaler`](scf_core::Autoscaler) a file: [`Kpa`], [`Queueing`], [`KeepAlive`] and others |
//! | [`budget`] | a workflow's time, divided between its steps at the least cost |
//! | [`inventory`] | the resource units of a fabric, whether they are there, and what this machine has |
//! | `kube` (feature `kube`) | the nodes of a Kubernetes or K3s cluster as units of the inventory |
//! | `slo/` | [`SloKeeper`], who keeps promises, by a [`Learner`] and a [`BurnRate`] |
//!
//! Every decision is synchronous and pure: same request, view and seed, same answer. Nothing here knows a
//! runtime, an executor or a clock. The one exception is what asks a cluster's API, behind its feature.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod autoscale;
pub mod bidding;
pub mod budget;
mod demand;
mod estimate;
mod filter;
pub mod fleet;
pub mod inventory;
#[cfg(feature = "kube")]
pub mod kube;
mod learned;
mod pipeline;
pub mod place;
pub mod policy;
mod random;
mod request;
mod round_robin;
mod score;
#[cfg(feature = "sim")]
pub mod sim;
mod slo;

pub use autoscale::{
    Allotment, Ask, Averaging, Bounds, Change, FixedConcurrency, Forecast, Grant, IdleTimes, KeepAlive, Kpa,
    KpaDecision, KpaSettings, MOST_AT_ONCE, MOST_SERVERS, Merits, MultiDimensional, OfferedLoad, Population, Proactive,
    Queueing, SlotPrice, Start, StepDemand, Variant, WarmPool, WarmWindow, Weights, WithinBudget, WorkflowScaling,
    auction, choose, erlang_c, greenest, provide,
};
pub use demand::{Bound, Demand, LinkBound};
pub use estimate::{Estimate, Estimator, Means, ProfileKey, Unknown};
pub use filter::{AllowedNode, Candidate, Filter, FreeResources, HasAccelerator, InZone, Reach, Surroundings, needs};
pub use fleet::{Fleet, NodeIx};
pub use learned::LearnedTimes;
pub use pipeline::Pipeline;
pub use place::{Placer, Scf};
pub use policy::Policy;
pub use random::Random;
pub use request::{Binding, Choice, Decision, Input, MOST_CHOICES, Neighbour, Objective, Reason, Request, Source};
pub use round_robin::RoundRobin;
pub use score::{Latency, Score};
pub use slo::{
    BurnRate, BurnWindow, CallFeatures, Configuration, Exploration, Learner, MOST_FEATURES, Prediction, RunReport,
    SloKeeper, choose_configuration,
};
