//! What is kept warm while nobody calls it.

mod histogram;
mod pool;
mod scaler;

pub use self::{
    histogram::{IdleTimes, Population, WarmWindow},
    pool::{Change, Start, WarmPool},
    scaler::KeepAlive,
};
