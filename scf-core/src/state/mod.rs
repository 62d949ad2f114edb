//! What stateful functions remember, and who may write it.

mod backend;
mod batch;
mod error;
mod scope;
mod session;
mod snapshot;
mod watch;

pub use backend::{Caps, StateBackend};
pub use batch::{Batch, Commit, Durability, Guard, Op};
pub use error::StateError;
pub use scope::{Fence, Head, Ownership, Scope, Version};
pub use session::{Moved, Opened, OutputGate, StateSession, StateStore};
pub use snapshot::{Delta, Entry, Page, Snapshot};
pub use watch::{Watch, Watched};
