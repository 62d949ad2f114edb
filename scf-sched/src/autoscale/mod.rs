//! How many calls of a function a node serves at once.

mod allotment;
mod dimensions;
mod erlang;
mod fixed;
mod forecast;
mod keep_alive;
mod kpa;
mod proactive;
mod queueing;
mod window;
mod workflow;

pub use self::{
    allotment::{Allotment, Ask, Grant, MOST_AT_ONCE, WithinBudget, auction},
    dimensions::{Bounds, Merits, MultiDimensional, SlotPrice, Variant, Weights, choose, greenest},
    erlang::{MOST_SERVERS, OfferedLoad, erlang_c},
    fixed::FixedConcurrency,
    forecast::Forecast,
    keep_alive::{Change, IdleTimes, KeepAlive, Population, Start, WarmPool, WarmWindow},
    kpa::{Averaging, Kpa, KpaDecision, KpaSettings},
    proactive::Proactive,
    queueing::Queueing,
    workflow::{StepDemand, WorkflowScaling, provide},
};
