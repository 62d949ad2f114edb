//! Where durable bytes go.

mod checked;
#[cfg(feature = "encryption")]
mod encrypted;
mod file;
mod memory;
mod sector;
#[cfg(test)]
mod tests;

pub use checked::CheckedDisk;
#[cfg(feature = "encryption")]
pub use encrypted::{DiskKey, EncryptedDisk};
pub use file::FileDisk;
pub use memory::MemoryDisk;
pub use sector::SealError;
pub(crate) use sector::read_or_zeros;
