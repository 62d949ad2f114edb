//! A disk that finds damage.

use std::{io, sync::Arc};

use scf_core::Disk;

use super::sector::{Seal, SealError, Sectors};

/// Seals sectors with a hash of place and data, keyed with the disk's salt: what another disk left is no sector.
#[derive(Debug)]
pub(super) struct Hashed([u8; 32]);

/// A [`Disk`] on another that finds every sector that is not what was written, with BLAKE3 cut to 64 bits. A store on
/// a disk that does not [verify](Disk::verifies) puts one in between by itself.
#[derive(Debug)]
pub struct CheckedDisk(Sectors<Hashed>);

impl CheckedDisk {
    /// Opens what is on `disk`, or makes it where the disk is empty: then it has eight sectors that are not written.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, SealError> {
        Sectors::open(disk, &()).map(Self)
    }
}

impl Hashed {
    fn hash(&self, place: u64, data: &[u8]) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(data).update(&place.to_le_bytes());
        let mut seal = [0; 8];
        hasher.finalize_xof().fill(&mut seal);
        seal
    }
}

impl Seal for Hashed {
    const KIND: u32 = 0;
    const SIZE: usize = 8;
    type Key = ();

    fn new((): &(), salt: [u8; 16]) -> Self {
        Self(blake3::derive_key("scf-state checked disk 1", &salt))
    }

    fn proof(&self) -> [u8; 16] {
        [0; 16]
    }

    fn close(&self, place: u64, sector: &mut [u8]) -> io::Result<()> {
        let (seal, data) = sector.split_at_mut(Self::SIZE);
        seal.copy_from_slice(&self.hash(place, data));
        Ok(())
    }

    fn open(&self, place: u64, sector: &mut [u8]) -> bool {
        let (seal, data) = sector.split_at(Self::SIZE);
        seal == self.hash(place, data)
    }
}

macro_rules! forward_disk {
    ($disk:ty) => {
        impl scf_core::Disk for $disk {
            fn len(&self) -> std::io::Result<u64> {
                self.0.len()
            }

            fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
                self.0.read(offset, out)
            }

            fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
                self.0.write(offset, data)
            }

            fn set_len(&self, len: u64) -> std::io::Result<()> {
                self.0.set_len(len)
            }

            fn sector(&self) -> usize {
                self.0.sector()
            }

            fn verifies(&self) -> bool {
                self.0.verifies()
            }

            fn sync(&self) -> std::io::Result<()> {
                self.0.sync()
            }
        }
    };
}

#[cfg(feature = "encryption")]
pub(super) use forward_disk;

forward_disk!(CheckedDisk);
