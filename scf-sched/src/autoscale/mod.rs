//! How many calls of a function a node serves at once.

mod erlang;
mod fixed;
mod keep_alive;
mod kpa;
mod queueing;
mod window;

pub use self::{
    erlang::{MOST_SERVERS, OfferedLoad, erlang_c},
    fixed::FixedConcurrency,
    keep_alive::{Change, IdleTimes, KeepAlive, Population, Start, WarmPool, WarmWindow},
    kpa::{Averaging, Kpa, KpaDecision, KpaSettings},
    queueing::Queueing,
};
