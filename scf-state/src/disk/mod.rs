//! Where durable bytes go.

mod file;
mod memory;

pub use file::FileDisk;
pub use memory::MemoryDisk;
