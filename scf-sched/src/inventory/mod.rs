//! The software-defined resource plane: what there is, whether it is there, and how it is.

mod host;
mod link;
mod register;
mod suspicion;
mod unit;

pub use self::{
    host::HostFacts,
    link::LinkMeasurements,
    register::{Inventory, InventoryError},
    suspicion::{Standing, Suspicion},
    unit::{Heartbeat, Intent, StandingChange, Unit, UnitKind, UnitStatus},
};
