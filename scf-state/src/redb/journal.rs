//! What was committed since redb last synced its own pages, in a preallocated part of the disk.
//!
//! A commit of redb rewrites some nine pages. The journal makes that one write into space that is already there: a
//! group's changes are appended and synced, and redb keeps them in memory until the journal is full. Then redb
//! commits durably and the journal begins anew. Opening the store applies what redb does not have yet.
//!
//! Layout of the disk, numbers little-endian; a block is eight of the disk's sectors:
//!
//! | blocks | what |
//! |---|---|
//! | 0 | head: magic `SCFSTATE`, version u32, whether redb is made u32, length of the journal u64, id of the store (16 bytes), hash (16) |
//! | 1.. | the journal's length: records, each from the beginning of a block |
//! | the rest | redb |
//!
//! A record is its hash (16 bytes), its number u64, the length of its changes u32, and the changes. The hash is
//! BLAKE3, keyed with the store's id, so that what another store left on the disk is no record.
//!
//! The disk finds damage itself ([`Disk::verifies`]). So a record of which every sector can be read, and which is not
//! whole all the same, was being written when the power was cut; a sector that cannot be read is damage, and the
//! store does not open: what stood there may have been acknowledged.

use std::{io, sync::Arc};

use scf_core::{ByteSize, Disk};

use super::error::EngineError;
use crate::disk::read_or_zeros;

/// Sectors in a block, where records begin: with what seals them they are what many devices write at once.
const BLOCK: u64 = 8;
const MAGIC: [u8; 8] = *b"SCFSTATE";
const VERSION: u32 = 2;
const HASH: usize = 16;
const HEAD: usize = 8 + 4 + 4 + 8 + 16 + HASH;
/// Hash, number and length of a record.
const RECORD: usize = HASH + 8 + 4;
/// Shortest and longest journal, in blocks.
const LENGTHS: std::ops::RangeInclusive<u64> = 16..=1 << 18;

type Id = [u8; 16];

/// The journal of a store. Only the writer's thread appends.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    sector: u64,
    head: Head,
    /// Where the next record goes.
    end: u64,
    /// The number of the last record that redb or the journal has.
    last: u64,
}

/// What the head of the disk says.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// Whether redb is made: a store of which it is not was never opened, and is made anew.
    made: bool,
    length: u64,
    id: Id,
}

/// Why a record was not appended.
#[derive(Debug)]
pub(super) struct Unappended {
    pub(super) error: io::Error,
    /// Whether it may be on the disk all the same.
    pub(super) uncertain: bool,
}

/// A record that was read.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) number: u64,
    /// What [`super::change::Log`] wrote.
    pub(super) changes: Vec<u8>,
}

impl Journal {
    /// Opens the journal of the store on `disk`, or makes one of `length` where the disk is empty.
    pub(super) fn open(disk: Arc<dyn Disk>, length: ByteSize) -> Result<Self, EngineError> {
        let sector = disk.sector() as u64;
        let mut head = [0; HEAD];
        let there = disk.len()?;
        if there >= BLOCK * sector {
            read_or_zeros(&*disk, 0, &mut head)?;
        }
        // Zeros: the power was cut before the head, which is written last, so nothing else is there.
        let head = if head == [0; HEAD] && is_unfinished(&*disk)? {
            make(&*disk, length.bytes() / sector)?
        } else {
            read_head(&head, sector)?
        };
        Ok(Self { disk, sector, head, end: 0, last: 0 })
    }

    /// Whether redb is made.
    pub(super) const fn is_made(&self) -> bool {
        self.head.made
    }

    /// Notes that redb is made, and durable.
    pub(super) fn made(&mut self) -> io::Result<()> {
        self.head.made = true;
        write_head(&*self.disk, self.head)
    }

    /// Where redb's part of the disk begins.
    pub(super) const fn redb(&self) -> u64 {
        self.block() + self.head.length
    }

    const fn block(&self) -> u64 {
        BLOCK * self.sector
    }

    /// Room that a record of `changes` bytes takes.
    const fn size(&self, changes: usize) -> u64 {
        ((RECORD + changes) as u64).next_multiple_of(self.block())
    }

    /// Whether it holds nothing since it began.
    pub(super) const fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Bytes of changes that one record has at most.
    pub(super) const fn longest(&self) -> usize {
        self.head.length as usize - RECORD
    }

    /// Whether `changes` bytes fit behind what is there.
    pub(super) const fn fits(&self, changes: usize) -> bool {
        self.end + self.size(changes) <= self.head.length
    }

    /// The number of the record that comes next.
    pub(super) const fn next(&self) -> u64 {
        self.last + 1
    }

    /// Writes a record and, if it is to be `durable`, syncs it and those before; redb need not have what is in it
    /// until the journal begins anew.
    pub(super) fn append(&mut self, changes: &[u8], durable: bool) -> Result<(), Unappended> {
        let record = self.record(changes).map_err(|error| Unappended { error, uncertain: false })?;
        if let Err(error) = self.disk.write(self.block() + self.end, &record) {
            // Some of it may be there, and would be found whole after a crash.
            let erased = self.disk.write(self.block() + self.end, &record_of_none(self.sector as usize));
            let uncertain = erased.and_then(|()| self.disk.sync()).is_err();
            return Err(Unappended { error, uncertain });
        }
        if durable {
            self.disk.sync().map_err(|error| Unappended { error, uncertain: true })?;
        }
        self.end += self.size(changes.len());
        self.last += 1;
        Ok(())
    }

    fn record(&self, changes: &[u8]) -> io::Result<Vec<u8>> {
        let number = self.next();
        let mut bytes = Vec::with_capacity(self.size(changes.len()) as usize);
        bytes.resize(HASH, 0);
        bytes.extend(number.to_le_bytes());
        bytes.extend(u32::try_from(changes.len()).map_err(|_| io::ErrorKind::InvalidInput)?.to_le_bytes());
        bytes.extend_from_slice(changes);
        let hash = hash(&self.head.id, &bytes[HASH..]);
        bytes[..HASH].copy_from_slice(&hash);
        // Whole sectors need not be read before.
        bytes.resize(bytes.len().next_multiple_of(self.sector as usize), 0);
        Ok(bytes)
    }

    /// Begins anew after redb has durably committed everything up to `number`.
    pub(super) const fn restart(&mut self, number: u64) {
        self.end = 0;
        self.last = number;
    }

    /// The records that redb, which has everything up to `applied`, does not have. Appending goes on behind them.
    ///
    /// A record that is not whole ends them: it was being written when the power was cut, and nobody was told of it.
    pub(super) fn recover(&mut self, applied: u64) -> Result<Vec<Record>, EngineError> {
        let mut records = Vec::new();
        (self.end, self.last) = (0, applied);
        let mut before = None;
        while let Some(record) = self.read(self.end)? {
            if before.is_some_and(|before| record.number != before + 1) {
                // Left from before the journal last began anew.
                break;
            }
            if before.is_none() && record.number > applied + 1 {
                return Err(EngineError::Malformed("the journal, which begins behind what the store has,"));
            }
            before = Some(record.number);
            self.end += self.size(record.changes.len());
            if record.number > applied {
                self.last = record.number;
                records.push(record);
            }
        }
        if records.is_empty() {
            self.end = 0;
        }
        Ok(records)
    }

    fn read(&self, at: u64) -> io::Result<Option<Record>> {
        let left = self.head.length - at;
        if left < self.block() {
            return Ok(None);
        }
        let mut head = [0; RECORD];
        self.disk.read(self.block() + at, &mut head)?;
        let (written, rest) = head.split_at(HASH);
        let number = u64::from_le_bytes(rest[..8].try_into().unwrap_or_default());
        let length = u32::from_le_bytes(rest[8..].try_into().unwrap_or_default()) as usize;
        if self.size(length) > left {
            return Ok(None);
        }
        let mut bytes = vec![0; RECORD - HASH + length];
        self.disk.read(self.block() + at + HASH as u64, &mut bytes)?;
        let whole = hash(&self.head.id, &bytes) == written;
        bytes.drain(..RECORD - HASH);
        Ok(whole.then_some(Record { number, changes: bytes }))
    }
}

/// What is no record: the hash of nothing is not zero.
fn record_of_none(sector: usize) -> Vec<u8> {
    vec![0; sector]
}

fn hash(id: &Id, bytes: &[u8]) -> [u8; HASH] {
    let mut key = [0; blake3::KEY_LEN];
    key[..id.len()].copy_from_slice(id);
    let mut hash = [0; HASH];
    hash.copy_from_slice(&blake3::keyed_hash(&key, bytes).as_bytes()[..HASH]);
    hash
}

/// Whether everything behind an empty head is empty too.
fn is_unfinished(disk: &dyn Disk) -> io::Result<bool> {
    let mut part = vec![0; disk.sector()];
    let mut at = 0;
    let len = disk.len()?;
    while at < len {
        let part = &mut part[..(len - at).min(disk.sector() as u64) as usize];
        read_or_zeros(disk, at, part)?;
        if part.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        at += disk.sector() as u64;
    }
    Ok(true)
}

/// Writes the journal out, so that the file system gives it space, and then the head.
fn make(disk: &dyn Disk, sectors: u64) -> Result<Head, EngineError> {
    let block = BLOCK * disk.sector() as u64;
    let length = sectors.div_ceil(BLOCK).clamp(*LENGTHS.start(), *LENGTHS.end()) * block;
    let mut id = Id::default();
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    disk.set_len(block + length)?;
    let zeros = vec![0; 64 * block as usize];
    let mut at = 0;
    while at < block + length {
        let part = (block + length - at).min(zeros.len() as u64);
        disk.write(at, &zeros[..part as usize])?;
        at += part;
    }
    disk.sync()?;
    let head = Head { made: false, length, id };
    write_head(disk, head)?;
    Ok(head)
}

fn write_head(disk: &dyn Disk, Head { made, length, id }: Head) -> io::Result<()> {
    let mut head = Vec::with_capacity(disk.sector());
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend(u32::from(made).to_le_bytes());
    head.extend(length.to_le_bytes());
    head.extend(id);
    head.extend(hash(&id, &head));
    head.resize(disk.sector(), 0);
    disk.write(0, &head)?;
    disk.sync()
}

fn read_head(head: &[u8; HEAD], sector: u64) -> Result<Head, EngineError> {
    let (fields, written) = head.split_at(HEAD - HASH);
    if fields[..8] != MAGIC {
        return Err(EngineError::Malformed("the disk's head, which is not a state store's,"));
    }
    let found = u32::from_le_bytes(fields[8..12].try_into().unwrap_or_default());
    if found != VERSION {
        return Err(EngineError::Format { found, known: VERSION });
    }
    let made = fields[12..16] != [0; 4];
    let length = u64::from_le_bytes(fields[16..24].try_into().unwrap_or_default());
    let id: Id = fields[24..].try_into().unwrap_or_default();
    let block = BLOCK * sector;
    if hash(&id, fields) != written || !LENGTHS.contains(&(length / block)) || length % block != 0 {
        return Err(EngineError::Malformed("the disk's head"));
    }
    Ok(Head { made, length, id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{CheckedDisk, MemoryDisk, SealError};

    fn checked(disk: &Arc<MemoryDisk>) -> Arc<dyn Disk> {
        Arc::new(CheckedDisk::open(Arc::clone(disk) as Arc<dyn Disk>).unwrap())
    }

    fn journal(disk: &Arc<MemoryDisk>) -> Journal {
        Journal::open(checked(disk), ByteSize::from_bytes(0)).unwrap()
    }

    fn recovered(disk: &Arc<MemoryDisk>, applied: u64) -> Vec<u64> {
        journal(disk).recover(applied).unwrap().iter().map(|record| record.number).collect()
    }

    #[test]
    fn gives_back_what_redb_does_not_have_and_goes_on_behind_it() {
        let disk = Arc::new(MemoryDisk::new());
        let mut first = journal(&disk);
        for i in 0..3u8 {
            first.append(&vec![i; 5000], true).unwrap();
        }
        let mut second = journal(&disk);
        let records = second.recover(1).unwrap();
        assert_eq!(records.iter().map(|r| (r.number, r.changes[0])).collect::<Vec<_>>(), [(2, 1), (3, 2)]);
        second.append(b"four", true).unwrap();
        assert_eq!(recovered(&disk, 1), [2, 3, 4]);
    }

    #[test]
    fn what_is_left_from_before_it_began_anew_is_not_given_back() {
        let disk = Arc::new(MemoryDisk::new());
        let mut journal = journal(&disk);
        for _ in 0..3 {
            journal.append(b"old", true).unwrap();
        }
        journal.restart(4);
        assert_eq!(recovered(&disk, 4), [0u64; 0]);
        journal.append(b"new", true).unwrap();
        assert_eq!(recovered(&disk, 4), [5]);
    }

    #[test]
    fn a_record_that_is_not_whole_ends_it_and_one_that_is_damaged_is_an_error() {
        let disk = Arc::new(MemoryDisk::new());
        let mut journal = journal(&disk);
        journal.append(b"whole", true).unwrap();
        let before = disk.copy();
        journal.append(&[7; 2000], true).unwrap();
        // Where the second record begins, behind two heads and the first record; it has four sectors or five.
        let at = 4096 + 2 * 4096;
        for lost in 0..4 {
            let torn = Arc::new(disk.copy());
            let mut sector = [0; 512];
            before.read(at + lost * 512, &mut sector).unwrap();
            torn.write(at + lost * 512, &sector).unwrap();
            assert_eq!(recovered(&torn, 0), [1], "sector {lost} did not reach the disk");
        }
        for bit in (0..4 * 512 * 8).step_by(7) {
            let damaged = Arc::new(disk.copy());
            damaged.flip(at * 8 + bit);
            let error = self::journal(&damaged).recover(0).unwrap_err();
            assert!(error.to_string().contains("is damaged"), "bit {bit}: {error}");
        }
        assert_eq!(recovered(&disk, 0), [1, 2]);
    }

    #[test]
    fn a_journal_that_begins_behind_what_redb_has_is_an_error() {
        let disk = Arc::new(MemoryDisk::new());
        let mut journal = journal(&disk);
        journal.restart(7);
        journal.append(b"8", true).unwrap();
        assert!(matches!(self::journal(&disk).recover(6), Err(EngineError::Malformed(_))));
    }

    #[test]
    fn takes_what_fits_and_no_more() {
        let disk = Arc::new(MemoryDisk::new());
        let mut journal = journal(&disk);
        let block = journal.block() as usize;
        assert!(journal.fits(16 * block - RECORD) && !journal.fits(16 * block - RECORD + 1));
        for _ in 0..15 {
            journal.append(b"x", true).unwrap();
        }
        assert!(journal.fits(block - RECORD) && !journal.fits(block - RECORD + 1));
    }

    #[test]
    fn a_disk_of_something_else_is_refused() {
        let disk = Arc::new(MemoryDisk::new());
        disk.set_len(9000).unwrap();
        disk.write(0, b"redb\x1a\x0a\xa9\x0d\x0a").unwrap();
        assert!(matches!(CheckedDisk::open(Arc::clone(&disk) as _), Err(SealError::Foreign)));
        let opened = Journal::open(disk, ByteSize::from_mib(1));
        assert!(matches!(opened, Err(EngineError::Malformed(_))), "{opened:?}");
    }
}
