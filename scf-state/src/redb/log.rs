//! Changes of redb's table as bytes, for the journal.
//!
//! Each change is a tag, the lengths of two parts (u32, little-endian), and the parts: [`PUT`] a key and its value,
//! [`REMOVE`] a key and nothing, [`CLEAR`] the first key of a range and the one behind its last.

use redb::{Table, WriteTransaction};

use super::{error::EngineError, table::STATE};

const PUT: u8 = 0;
const REMOVE: u8 = 1;
const CLEAR: u8 = 2;

/// The state's table in a write transaction, with a log of what is changed in it.
pub(super) struct Logged<'t> {
    pub(super) table: Table<'t, &'static [u8], &'static [u8]>,
    /// None once it is longer than the journal takes.
    log: Option<Vec<u8>>,
    longest: usize,
}

impl<'t> Logged<'t> {
    /// With a log of at most `longest` bytes.
    pub(super) fn open(txn: &'t WriteTransaction, longest: usize) -> Result<Self, EngineError> {
        Ok(Self { table: txn.open_table(STATE)?, log: Some(Vec::new()), longest })
    }

    /// Writes a value. Answers what `replaced` says of the one that was there.
    pub(super) fn put<T>(
        &mut self,
        key: &[u8],
        value: &[u8],
        replaced: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, EngineError> {
        let was = self.table.insert(key, value)?.map(|was| replaced(was.value()));
        self.note(PUT, key, value);
        Ok(was)
    }

    /// Removes a value. Answers what `removed` says of it, if it was there.
    pub(super) fn remove<T>(&mut self, key: &[u8], removed: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, EngineError> {
        let was = self.table.remove(key)?.map(|was| removed(was.value()));
        self.note(REMOVE, key, &[]);
        Ok(was)
    }

    /// Removes the keys from `from` up to, not including, `to`.
    pub(super) fn clear(&mut self, from: &[u8], to: &[u8]) -> Result<(), EngineError> {
        self.table.retain_in(from..to, |_, _| false)?;
        self.note(CLEAR, from, to);
        Ok(())
    }

    /// What was changed; `None` if it is longer than the journal takes.
    pub(super) fn into_log(self) -> Option<Vec<u8>> {
        self.log
    }

    /// Does what `log` says.
    pub(super) fn replay(&mut self, mut log: &[u8]) -> Result<(), EngineError> {
        while !log.is_empty() {
            let (Change { tag, first, second }, rest) =
                next(log).ok_or(EngineError::Malformed("a record of the journal"))?;
            match tag {
                PUT => drop(self.table.insert(first, second)?),
                REMOVE => drop(self.table.remove(first)?),
                CLEAR => self.table.retain_in(first..second, |_, _| false)?,
                _ => return Err(EngineError::Malformed("a record of the journal")),
            }
            log = rest;
        }
        Ok(())
    }

    fn note(&mut self, tag: u8, first: &[u8], second: &[u8]) {
        let Some(log) = &mut self.log else { return };
        let (Ok(one), Ok(two)) = (u32::try_from(first.len()), u32::try_from(second.len())) else {
            return self.log = None;
        };
        if log.len() + first.len() + second.len() > self.longest {
            return self.log = None;
        }
        log.push(tag);
        log.extend(one.to_le_bytes());
        log.extend(two.to_le_bytes());
        log.extend_from_slice(first);
        log.extend_from_slice(second);
    }
}

/// One change of a log.
struct Change<'l> {
    tag: u8,
    first: &'l [u8],
    second: &'l [u8],
}

/// The first change of a log and the rest of it.
fn next(log: &[u8]) -> Option<(Change<'_>, &[u8])> {
    let (&tag, log) = log.split_first()?;
    let (first, log) = log.split_first_chunk::<4>()?;
    let (second, log) = log.split_first_chunk::<4>()?;
    let (first, log) = log.split_at_checked(u32::from_le_bytes(*first) as usize)?;
    let (second, log) = log.split_at_checked(u32::from_le_bytes(*second) as usize)?;
    Some((Change { tag, first, second }, log))
}
