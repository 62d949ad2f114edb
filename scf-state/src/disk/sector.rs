//! A disk whose every sector carries its own seal, so that a bit that flips is found where it is read.
//!
//! Layout, numbers little-endian: a head of 4096 bytes (magic `SCFSEALS`, version u32, kind u32, salt (16), proof of
//! the key (16), hash of all that (16)), then sectors of 512 bytes: the seal, and what is left for data. Each is
//! written at once, so that a power cut leaves the old one or the new one; zeros alone are a sector that was never
//! written. The seal covers the sector's place, so that sectors cannot change places unseen. An older sector in its
//! own place passes.
//!
//! So that the length can be any, the end of the disk says how much of the last sector is in use: behind the last
//! sector follow as many bytes as it has, unless it is full.

use std::{
    fmt::{self, Debug},
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use scf_core::Disk;
use thiserror::Error;

/// Bytes of a sector with its seal.
const SECTOR: usize = 512;
/// Where sectors begin.
const HEAD: u64 = 4096;
/// The length before the head is written: one that is shorter is cut off.
const LEAST: u64 = HEAD + 8 * SECTOR as u64;
const MAGIC: [u8; 8] = *b"SCFSEALS";
const VERSION: u32 = 1;
const FIELDS: usize = 8 + 4 + 4 + 16 + 16;
const HASH: usize = 16;

/// What closes a sector.
pub(super) trait Seal: Debug + Send + Sync + Sized + 'static {
    /// Told apart in the head.
    const KIND: u32;
    /// Bytes at the beginning of a sector that are the seal's.
    const SIZE: usize;
    /// What makes a seal.
    type Key;

    /// The seal of the disk with `salt`.
    fn new(key: &Self::Key, salt: [u8; 16]) -> Self;

    /// What only a holder of the key can say.
    fn proof(&self) -> [u8; 16];

    /// Closes the sector at `place`.
    fn close(&self, place: u64, sector: &mut [u8]) -> io::Result<()>;

    /// Opens the sector at `place`; false when it is not what was closed.
    fn open(&self, place: u64, sector: &mut [u8]) -> bool;
}

/// Why a sealed disk could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The device reports an error.
    #[error("the disk cannot be read or written")]
    Disk(#[from] io::Error),
    /// The disk holds something else.
    #[error("the disk holds no state store")]
    Foreign,
    /// Another version of this program wrote it.
    #[error("the disk has format {found}, this program knows {known}")]
    Format {
        /// What the disk says.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// The disk is encrypted and no key was given.
    #[error("the disk is encrypted: it opens as an EncryptedDisk (feature `encryption`) with its key")]
    Encrypted,
    /// A key was given for a disk that is not encrypted.
    #[error("a key is given, and the disk is not encrypted")]
    NotEncrypted,
    /// The disk is encrypted with another key.
    #[error("the disk is encrypted with another key")]
    WrongKey,
    /// The head of the disk is not what was written, or what follows is cut off.
    #[error("the head of the disk is damaged, or the disk is cut off")]
    Damaged,
}

/// Why a sector could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is not what was written.
    Damaged(u64),
    /// It was never written.
    Unwritten(u64),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(place) => write!(f, "sector {place} of the disk is damaged"),
            Self::Unwritten(place) => write!(f, "sector {place} of the disk has lost what was written"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl From<Unreadable> for io::Error {
    fn from(unreadable: Unreadable) -> Self {
        Self::new(io::ErrorKind::InvalidData, unreadable)
    }
}

/// Reads as [`Disk::read`], with zeros for what was never written.
pub(crate) fn read_or_zeros(disk: &dyn Disk, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let never = |error: &io::Error| {
        let unreadable = error.get_ref().and_then(|error| error.downcast_ref::<Unreadable>());
        matches!(unreadable, Some(Unreadable::Unwritten(_)))
    };
    match disk.read(offset, out) {
        Err(error) if never(&error) => {}
        other => return other,
    }
    let sector = disk.sector();
    let mut done = 0;
    while done < out.len() {
        let at = offset + done as u64;
        let len = (sector - (at % sector as u64) as usize).min(out.len() - done);
        let part = &mut out[done..done + len];
        match disk.read(at, part) {
            Err(error) if never(&error) => part.fill(0),
            other => other?,
        }
        done += len;
    }
    Ok(())
}

/// A disk in sealed sectors on another.
#[derive(Debug)]
pub(super) struct Sectors<S> {
    disk: Arc<dyn Disk>,
    seal: S,
    /// Held for writing while sectors are written, parts of which others may be writing too.
    turn: RwLock<()>,
}

impl<S: Seal> Sectors<S> {
    /// Data in one sector.
    const DATA: usize = SECTOR - S::SIZE;

    /// Opens what is on `disk`, or makes it where the disk is empty.
    pub(super) fn open(disk: Arc<dyn Disk>, key: &S::Key) -> Result<Self, SealError> {
        let mut head = [0; FIELDS + HASH];
        let there = disk.len()?;
        if there >= HEAD {
            disk.read(0, &mut head)?;
        }
        // Zeros: the power was cut before the head was written, before which nothing else is.
        if there < HEAD || (head.iter().all(|&byte| byte == 0) && is_empty(&*disk)?) {
            if there > 0 && there < HEAD && !is_empty(&*disk)? {
                return Err(SealError::Foreign);
            }
            return Self::make(disk, key);
        }
        let (fields, hash) = head.split_at(FIELDS);
        if fields[..8] != MAGIC {
            return Err(SealError::Foreign);
        }
        if blake3::hash(fields).as_bytes()[..HASH] != *hash {
            return Err(SealError::Damaged);
        }
        let number = |at: usize| u32::from_le_bytes(fields[at..at + 4].try_into().unwrap_or_default());
        if number(8) != VERSION {
            return Err(SealError::Format { found: number(8), known: VERSION });
        }
        if number(12) != S::KIND {
            return Err(if S::KIND == 0 { SealError::Encrypted } else { SealError::NotEncrypted });
        }
        if there < LEAST {
            return Err(SealError::Damaged);
        }
        let seal = S::new(key, fields[16..32].try_into().unwrap_or_default());
        if seal.proof() != fields[32..48] {
            return Err(SealError::WrongKey);
        }
        Ok(Self { disk, seal, turn: RwLock::default() })
    }

    fn make(disk: Arc<dyn Disk>, key: &S::Key) -> Result<Self, SealError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
        let seal = S::new(key, salt);
        let mut head = Vec::with_capacity(FIELDS + HASH);
        head.extend(MAGIC);
        head.extend(VERSION.to_le_bytes());
        head.extend(S::KIND.to_le_bytes());
        head.extend(salt);
        head.extend(seal.proof());
        head.extend_from_slice(&blake3::hash(&head).as_bytes()[..HASH]);
        disk.set_len(LEAST)?;
        disk.sync()?;
        disk.write(0, &head)?;
        disk.sync()?;
        Ok(Self { disk, seal, turn: RwLock::default() })
    }

    fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.turn.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockWriteGuard<'_, ()> {
        self.turn.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sectors from `first` up to, not including, `behind`, opened.
    fn sectors(&self, first: u64, behind: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (behind - first) as usize * SECTOR];
        self.disk.read(HEAD + first * SECTOR as u64, &mut bytes)?;
        for (place, sector) in (first..).zip(bytes.chunks_exact_mut(SECTOR)) {
            if sector.iter().all(|&byte| byte == 0) {
                return Err(Unreadable::Unwritten(place).into());
            }
            if !self.seal.open(place, sector) {
                return Err(Unreadable::Damaged(place).into());
            }
        }
        Ok(bytes)
    }

    /// One sector, opened; zeros if it was never written.
    fn sector_or_zeros(&self, place: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(HEAD + place * SECTOR as u64, out)?;
        if out.iter().any(|&byte| byte != 0) && !self.seal.open(place, out) {
            return Err(Unreadable::Damaged(place).into());
        }
        Ok(())
    }

    fn close(&self, first: u64, bytes: &mut [u8]) -> io::Result<()> {
        for (place, sector) in (first..).zip(bytes.chunks_exact_mut(SECTOR)) {
            self.seal.close(place, sector)?;
        }
        self.disk.write(HEAD + first * SECTOR as u64, bytes)
    }

    const fn place(offset: u64) -> (u64, usize) {
        (offset / Self::DATA as u64, (offset % Self::DATA as u64) as usize)
    }

    fn end(&self, offset: u64, len: usize) -> io::Result<u64> {
        let end = offset.checked_add(len as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.len()? { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(end) }
    }
}

/// Calls `each` with where in opened sectors, and where in the range, every piece of a range is that begins at `skip`
/// of the first.
fn pieces(data: usize, skip: usize, len: usize, mut each: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>)) {
    let (mut done, mut sector, mut skip) = (0, 0, skip);
    while done < len {
        let take = (data - skip).min(len - done);
        let at = sector * SECTOR + (SECTOR - data) + skip;
        each(at..at + take, done..done + take);
        (done, sector, skip) = (done + take, sector + 1, 0);
    }
}

impl<S: Seal> Disk for Sectors<S> {
    fn len(&self) -> io::Result<u64> {
        let bytes = self.disk.len()?.saturating_sub(HEAD);
        let (sectors, used) = (bytes / SECTOR as u64, bytes % SECTOR as u64);
        let data = Self::DATA as u64;
        Ok(if used == 0 { sectors * data } else { (sectors * data + used).saturating_sub(data) })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let _turn = self.reading();
        let end = self.end(offset, out.len())?;
        let (first, skip) = Self::place(offset);
        let bytes = self.sectors(first, end.div_ceil(Self::DATA as u64).max(first))?;
        pieces(Self::DATA, skip, out.len(), |from, to| out[to].copy_from_slice(&bytes[from]));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let _turn = self.writing();
        let end = self.end(offset, data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let ((first, skip), (last, used)) = (Self::place(offset), Self::place(end - 1));
        let mut bytes = vec![0; (last - first + 1) as usize * SECTOR];
        if skip > 0 {
            self.sector_or_zeros(first, &mut bytes[..SECTOR])?;
        }
        if used + 1 < Self::DATA && (last > first || skip == 0) {
            let at = bytes.len() - SECTOR;
            self.sector_or_zeros(last, &mut bytes[at..])?;
        }
        pieces(Self::DATA, skip, data.len(), |to, from| bytes[to].copy_from_slice(&data[from]));
        self.close(first, &mut bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _turn = self.writing();
        let (sectors, used) = Self::place(len);
        let whole = HEAD + sectors * SECTOR as u64;
        let shrinks = len < self.len()?;
        if used == 0 {
            return self.disk.set_len(whole);
        }
        if shrinks {
            let mut bytes = vec![0; SECTOR];
            self.sector_or_zeros(sectors, &mut bytes)?;
            bytes[S::SIZE + used..].fill(0);
            self.close(sectors, &mut bytes)?;
            self.disk.set_len(whole + SECTOR as u64)?;
        }
        self.disk.set_len(whole + (SECTOR + used) as u64)
    }

    fn sector(&self) -> usize {
        Self::DATA
    }

    fn verifies(&self) -> bool {
        true
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }
}

/// Whether there is nothing but zeros.
fn is_empty(disk: &dyn Disk) -> io::Result<bool> {
    let mut block = [0; HEAD as usize];
    let mut at = 0;
    let len = disk.len()?;
    while at < len {
        let part = &mut block[..(len - at).min(HEAD) as usize];
        disk.read(at, part)?;
        if part.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        at += HEAD;
    }
    Ok(true)
}
