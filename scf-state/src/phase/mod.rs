//! Remote-state and local-state phases.

mod always;
mod backoff;
mod meter;
mod migration;
mod naming;
mod resident;
mod session;
mod ski_rental;
mod slot;
mod store;
#[cfg(test)]
mod tests;

pub use always::{AlwaysLocal, AlwaysRemote};
pub use ski_rental::SkiRental;
pub use store::{PhaseChange, PhaseConfig, PhasedState};
