//! What the host keeps for functions: the key-value store and the secrets.
//!
//! What guests see of them is in `wasm/world/`.

mod keyvalue;
mod memory;
mod secrets;

pub use keyvalue::StateKeyValue;
pub use memory::MemoryKeyValue;
pub use secrets::MemorySecrets;
