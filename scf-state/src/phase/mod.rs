//! Remote-state and local-state phases.

mod always;
mod backoff;
mod calls;
mod config;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod expiry;
mod load;
mod meter;
mod migration;
mod naming;
mod parts;
mod pipe;
mod random;
pub mod replay;
mod resident;
mod session;
mod share;
mod ski_rental;
mod slot;
mod store;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timers;
mod writes;

pub use always::{AlwaysLocal, AlwaysRemote};
pub use config::{Migration, PhaseChange, PhaseConfig};
pub use share::{BestShare, best_share, mean_response};
pub use ski_rental::SkiRental;
pub use store::PhasedState;
