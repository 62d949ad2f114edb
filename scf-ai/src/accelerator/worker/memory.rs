//! Memory that two processes share.
#![expect(unsafe_code, reason = "memory is mapped, and copied from and to what another process may write meanwhile")]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use scf_core::Bytes;

/// Pages of this process, unmapped when this is dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is the only owner of the pages, which belong to no thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference bytes are copied by raw pointers alone, or the pages are sealed against writes.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(of: BorrowedFd<'_>, length: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the system chooses touches no memory that is in use.
        let start = unsafe { mmap(ptr::null_mut(), length.max(1), protection, flags, of, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the pages were mapped by `new` with this length, and nothing refers to them any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length.max(1)) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `map` saw that the file has so many bytes, and that nobody can write or shorten it any more.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length) }
    }
}

/// A file that nobody can change any more, mapped.
struct Sealed(Mapping);

/// A file in memory with `bytes`, which nobody can change any more.
pub(super) fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create("scf-model", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut left = bytes;
    while !left.is_empty() {
        left = &left[rustix::io::write(&file, left)?..];
    }
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// The bytes of what [`seal`] made in another process, without a copy.
pub(super) fn map(file: BorrowedFd<'_>) -> io::Result<Bytes> {
    if !fcntl_get_seals(file)?.contains(SealFlags::WRITE | SealFlags::SHRINK) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file can still be changed"));
    }
    let length = usize::try_from(fstat(file)?.st_size).map_err(io::Error::other)?;
    // Private: the system lets nobody map a sealed file shared, even to read it.
    Ok(Bytes::from_owner(Sealed(Mapping::new(file, length, ProtFlags::READ, MapFlags::PRIVATE)?)))
}

/// Memory that this process and a worker write and read. What the other side writes meanwhile is its own fault: bytes
/// are copied out before anything is made of them.
#[derive(Debug)]
pub(super) struct SharedMemory {
    file: OwnedFd,
    mapping: Mapping,
}

impl SharedMemory {
    /// New memory of `length` bytes, taken from the system as it is used.
    pub(super) fn create(length: usize) -> io::Result<Self> {
        let file = memfd_create("scf-accelerator", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, length as u64)?;
        // Were it shortened, touching it would end this process.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::open(file)
    }

    /// The memory that another process created.
    pub(super) fn open(file: OwnedFd) -> io::Result<Self> {
        if !fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the memory can still be shortened"));
        }
        let length = usize::try_from(fstat(&file)?.st_size).map_err(io::Error::other)?;
        let mapping = Mapping::new(file.as_fd(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?;
        Ok(Self { file, mapping })
    }

    pub(super) const fn len(&self) -> usize {
        self.mapping.length
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Copies `bytes` to `at`; says whether there is room.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) -> bool {
        let fits = at.checked_add(bytes.len()).is_some_and(|end| end <= self.len());
        if fits {
            // SAFETY: the range lies in the mapping, which `bytes` cannot, since no reference into it is ever given out.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.mapping.start.as_ptr().add(at), bytes.len()) };
        }
        fits
    }

    /// A copy of the `length` bytes at `at`; none where they do not lie in the memory.
    pub(super) fn read(&self, at: usize, length: usize) -> Option<Bytes> {
        at.checked_add(length).filter(|&end| end <= self.len())?;
        let mut out = Vec::with_capacity(length);
        // SAFETY: the range lies in the mapping, `out` has room for it, and is written before its length is set.
        unsafe {
            ptr::copy_nonoverlapping(self.mapping.start.as_ptr().add(at), out.as_mut_ptr(), length);
            out.set_len(length);
        }
        Some(out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_on_one_side_is_read_on_the_other_and_nothing_beyond_it() {
        let here = SharedMemory::create(4096).unwrap();
        let there = SharedMemory::open(here.file().try_clone_to_owned().unwrap()).unwrap();
        assert!(here.write(4000, &[7; 96]));
        assert_eq!(there.read(4000, 96).unwrap(), [7; 96][..]);
        assert!(!here.write(4000, &[1; 97]));
        assert_eq!((there.read(4000, 97), there.read(usize::MAX, 2)), (None, None));
        assert!(ftruncate(there.file(), 10).is_err(), "the other side cannot take it away");
    }

    #[test]
    fn a_sealed_file_is_mapped_and_cannot_be_changed() {
        let file = seal(b"weights").unwrap();
        assert_eq!(map(file.as_fd()).unwrap(), &b"weights"[..]);
        assert!(rustix::io::pwrite(&file, b"x", 0).is_err());
        let open = memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(map(open.as_fd()).is_err());
    }
}
