//! Decides where functions run and how many calls of them at once.
//!
//! | module of the source | what it has |
//! |---|---|
//! | `pipeline` | [`Pipeline`], the default scheduler: sample, filter, score |
//! | `filter/` | one [`Filter`] per need that a function can state |
//! | `score/` | what a placement costs, as one [`Score`] per question |
//! | `round_robin` | [`RoundRobin`], the yardstick |
//! | `autoscale/` | one [`Autoscaler`](scf_core::Autoscaler) a file: [`Kpa`], [`Queueing`], [`KeepAlive`] and others |
//! | [`budget`] | a workflow's time, divided between its steps at the least cost |
//! | `slo/` | [`SloKeeper`], who keeps promises, by a [`Learner`] and a [`BurnRate`] |
//!
//! Every decision is synchronous and pure: same request, view and seed, same answer. Nothing here knows a
//! runtime, an executor or a clock.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod autoscale;
pub mod budget;
mod filter;
mod pipeline;
mod random;
mod round_robin;
mod score;
mod slo;

pub use autoscale::{
    Allotment, Ask, Averaging, Bounds, Change, Demand, FixedConcurrency, Forecast, Grant, IdleTimes, KeepAlive, Kpa,
    KpaDecision, KpaSettings, MOST_AT_ONCE, MOST_SERVERS, Merits, MultiDimensional, Population, Proactive, Queueing,
    SlotPrice, Start, StepDemand, Variant, WarmPool, WarmWindow, Weights, WithinBudget, WorkflowScaling, auction,
    choose, erlang_c, greenest, provide,
};
pub use filter::{AllowedNode, Candidate, Filter, FreeResources, HasAccelerator, InZone, Reach, needs};
pub use pipeline::Pipeline;
pub use round_robin::RoundRobin;
pub use score::{Latency, Score};
pub use slo::{
    BurnRate, BurnWindow, CallFeatures, Configuration, Exploration, Learner, MOST_FEATURES, Prediction, SloKeeper,
    choose_configuration,
};
