//! What was committed since redb last synced its own pages, in a preallocated part of the disk.
//!
//! A commit of redb rewrites some nine pages. The journal makes that one write into space that is already there: a
//! group's changes are appended and synced, and redb keeps them in memory until the journal is full. Then redb
//! commits durably and the journal begins anew. Opening the store applies what redb does not have yet.
//!
//! Layout of the disk, numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4096 | head: magic `SCFSTATE`, version u32, length of the journal u64, id of the store (16 bytes), hash (16) |
//! | 4096..4096 + length | records, each from a multiple of 4096 |
//! | the rest | redb |
//!
//! A record is its hash (16 bytes), its number u64, the length of its changes u32, and the changes. The hash is
//! BLAKE3, keyed with the store's id, so that what another store left on the disk is no record.

use std::{io, sync::Arc};

use scf_core::{ByteSize, Disk};

use super::error::EngineError;

/// Where records begin: what a device writes at once, so that writing one cannot damage another.
const BLOCK: u64 = 4096;
const MAGIC: [u8; 8] = *b"SCFSTATE";
const VERSION: u32 = 1;
const HASH: usize = 16;
const HEAD: usize = 8 + 4 + 8 + 16 + HASH;
/// Hash, number and length of a record.
const RECORD: usize = HASH + 8 + 4;
/// Shortest and longest journal.
const LENGTHS: std::ops::RangeInclusive<u64> = (16 * BLOCK)..=(1 << 30);

type Id = [u8; 16];

/// The journal of a store. Only the writer's thread appends.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    id: Id,
    length: u64,
    /// Where the next record goes.
    end: u64,
    /// The number of the last record that redb or the journal has.
    last: u64,
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
        let mut head = [0; HEAD];
        let there = disk.len()?;
        if there >= BLOCK {
            disk.read(0, &mut head)?;
        }
        // Zeros: the power was cut before the head, which is written last, so nothing else is there.
        let (id, length) = if there == 0 || (head == [0; HEAD] && is_unfinished(&*disk)?) {
            make(&*disk, length)?
        } else {
            read_head(&head)?
        };
        Ok(Self { disk, id, length, end: 0, last: 0 })
    }

    /// Where redb's part of the disk begins.
    pub(super) const fn redb(&self) -> u64 {
        BLOCK + self.length
    }

    /// Whether it holds nothing since it began.
    pub(super) const fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Bytes of changes that one record has at most.
    pub(super) const fn longest(&self) -> usize {
        self.length as usize - RECORD
    }

    /// Whether `changes` bytes fit behind what is there.
    pub(super) const fn fits(&self, changes: usize) -> bool {
        self.end + size(changes) <= self.length
    }

    /// The number of the record that comes next.
    pub(super) const fn next(&self) -> u64 {
        self.last + 1
    }

    /// Writes a record and, if it is to be `durable`, syncs it and those before; redb need not have what is in it
    /// until the journal begins anew.
    pub(super) fn append(&mut self, changes: &[u8], durable: bool) -> io::Result<()> {
        let number = self.next();
        let mut bytes = Vec::with_capacity(size(changes.len()) as usize);
        bytes.resize(HASH, 0);
        bytes.extend(number.to_le_bytes());
        bytes.extend(u32::try_from(changes.len()).map_err(|_| io::ErrorKind::InvalidInput)?.to_le_bytes());
        bytes.extend_from_slice(changes);
        let hash = hash(&self.id, &bytes[HASH..]);
        bytes[..HASH].copy_from_slice(&hash);
        self.disk.write(BLOCK + self.end, &bytes)?;
        if durable {
            self.disk.sync()?;
        }
        self.end += size(changes.len());
        self.last = number;
        Ok(())
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
            self.end += size(record.changes.len());
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
        let left = self.length - at;
        if left < BLOCK {
            return Ok(None);
        }
        let mut head = [0; RECORD];
        self.disk.read(BLOCK + at, &mut head)?;
        let (written, rest) = head.split_at(HASH);
        let number = u64::from_le_bytes(rest[..8].try_into().unwrap_or_default());
        let length = u32::from_le_bytes(rest[8..].try_into().unwrap_or_default()) as usize;
        if size(length) > left {
            return Ok(None);
        }
        let mut bytes = vec![0; RECORD - HASH + length];
        self.disk.read(BLOCK + at + HASH as u64, &mut bytes)?;
        let whole = hash(&self.id, &bytes) == written;
        bytes.drain(..RECORD - HASH);
        Ok(whole.then_some(Record { number, changes: bytes }))
    }
}

/// Room that a record of `changes` bytes takes.
const fn size(changes: usize) -> u64 {
    ((RECORD + changes) as u64).next_multiple_of(BLOCK)
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
    let mut block = [0; BLOCK as usize];
    let mut at = 0;
    let len = disk.len()?;
    while at < len {
        let part = &mut block[..(len - at).min(BLOCK) as usize];
        disk.read(at, part)?;
        if part.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        at += BLOCK;
    }
    Ok(true)
}

/// Writes the journal out, so that the file system gives it space, and then the head.
fn make(disk: &dyn Disk, length: ByteSize) -> Result<(Id, u64), EngineError> {
    let length = length.bytes().next_multiple_of(BLOCK).clamp(*LENGTHS.start(), *LENGTHS.end());
    let mut id = Id::default();
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    disk.set_len(BLOCK + length)?;
    let zeros = vec![0; (64 * BLOCK) as usize];
    let mut at = 0;
    while at < BLOCK + length {
        let part = (BLOCK + length - at).min(zeros.len() as u64);
        disk.write(at, &zeros[..part as usize])?;
        at += part;
    }
    disk.sync()?;
    let mut head = Vec::with_capacity(HEAD);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend(length.to_le_bytes());
    head.extend(id);
    head.extend(hash(&id, &head));
    disk.write(0, &head)?;
    disk.sync()?;
    Ok((id, length))
}

fn read_head(head: &[u8; HEAD]) -> Result<(Id, u64), EngineError> {
    let (fields, written) = head.split_at(HEAD - HASH);
    if fields[..8] != MAGIC {
        return Err(EngineError::Malformed("the disk's head, which is not a state store's,"));
    }
    let found = u32::from_le_bytes(fields[8..12].try_into().unwrap_or_default());
    if found != VERSION {
        return Err(EngineError::Format { found, known: VERSION });
    }
    let length = u64::from_le_bytes(fields[12..20].try_into().unwrap_or_default());
    let id: Id = fields[20..].try_into().unwrap_or_default();
    if hash(&id, fields) != written || !LENGTHS.contains(&length) || length % BLOCK != 0 {
        return Err(EngineError::Malformed("the disk's head"));
    }
    Ok((id, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    fn journal(disk: &Arc<MemoryDisk>) -> Journal {
        Journal::open(Arc::clone(disk) as Arc<dyn Disk>, ByteSize::from_bytes(0)).unwrap()
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
    fn a_record_that_is_cut_off_ends_it_and_any_flipped_bit_does() {
        let disk = Arc::new(MemoryDisk::new());
        let mut journal = journal(&disk);
        journal.append(b"whole", true).unwrap();
        journal.append(b"damaged", true).unwrap();
        for byte in 0..(RECORD + b"damaged".len()) as u64 {
            for bit in 0..8 {
                let at = 2 * BLOCK + byte;
                let mut there = [0];
                disk.read(at, &mut there).unwrap();
                disk.write(at, &[there[0] ^ 1 << bit]).unwrap();
                assert_eq!(recovered(&disk, 0), [1], "byte {byte}, bit {bit}");
                disk.write(at, &there).unwrap();
            }
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
        assert!(journal.fits(16 * BLOCK as usize - RECORD) && !journal.fits(16 * BLOCK as usize - RECORD + 1));
        for _ in 0..15 {
            journal.append(b"x", true).unwrap();
        }
        assert!(journal.fits(BLOCK as usize - RECORD) && !journal.fits(BLOCK as usize - RECORD + 1));
    }

    #[test]
    fn a_disk_of_something_else_is_refused() {
        let disk = Arc::new(MemoryDisk::new());
        disk.set_len(9000).unwrap();
        disk.write(0, b"redb\x1a\x0a\xa9\x0d\x0a").unwrap();
        let opened = Journal::open(disk, ByteSize::from_mib(1));
        assert!(matches!(opened, Err(EngineError::Malformed(_))), "{opened:?}");
    }
}
