//! Messages between the nodes of a fabric: [`InProcess`] joins nodes of one process over emulated links,
//! [`PathEstimator`] keeps what was measured of the ways between nodes, for every transport.

mod desk;
mod estimate;
mod in_process;
mod journey;
mod link;
#[cfg(feature = "nats")]
mod nats;
mod network;
mod travel;

pub use estimate::PathEstimator;
pub use in_process::{InProcess, InProcessBuilder};
pub use link::{LinkError, LinkState, Traffic};
#[cfg(feature = "nats")]
pub(crate) use nats::fleet;
#[cfg(feature = "nats")]
pub use nats::{DataPlane, Nats, NatsBuilder, NatsError, Presence, Standing};
