//! Storage as a part, so that tests can lose what was not synced.

use std::{fmt::Debug, io};

/// A flat, growable, randomly written store: a file, a flash partition, memory.
///
/// A state backend calls it from its own writer thread; calls may block. What was written counts as
/// durable only after a later [`Disk::sync`] returned `Ok`; after an error of `sync` nothing may be
/// assumed about any write since the last successful one, and the backend stops.
pub trait Disk: Debug + Send + Sync + 'static {
    /// The length in bytes.
    ///
    /// # Errors
    /// Whatever the device reports.
    fn len(&self) -> io::Result<u64>;

    /// Whether nothing has been written yet.
    ///
    /// # Errors
    /// Whatever the device reports.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` past the end, `InvalidData` where [`Disk::verifies`] found damage, otherwise whatever the device reports.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes `data` at `offset`, inside the length.
    ///
    /// # Errors
    /// `StorageFull` when nothing is left, otherwise whatever the device reports.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Grows with zeros, or cuts off, to `len` bytes.
    ///
    /// # Errors
    /// `StorageFull` when nothing is left, otherwise whatever the device reports.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Bytes that are written whole or not at all, when they are written at once from a multiple of their number,
    /// whatever happens to power; 512 on what is sold as a disk.
    fn sector(&self) -> usize {
        512
    }

    /// Whether a read fails with `InvalidData` where stored bytes are not what was written. A store on a disk that
    /// does not finds that out itself.
    fn verifies(&self) -> bool {
        false
    }

    /// Returns once everything written before is durable.
    ///
    /// # Errors
    /// Whatever the device reports; see the trait for what may be assumed then.
    fn sync(&self) -> io::Result<()>;
}

const _: fn(&dyn Disk) = |_| {};
