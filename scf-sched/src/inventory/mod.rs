//! The software-defined resource plane: what there is, whether it is there, and how it is.

mod host;
mod link;
mod register;
mod suspicion;

pub use self::{
    host::HostFacts,
    link::LinkMeasurements,
    register::{Heartbeat, Intent, Inventory, InventoryError, StandingChange, Unit, UnitKind, UnitStatus},
    suspicion::{Standing, Suspicion},
};
