//! What is stored where in redb, and how it is read.
//!
//! One table holds everything, ordered by scope: a commit touches neighbours, and so few pages. A key is
//! the length of the scope's name (4 bytes, big endian), the name, a tag, and what the tag says:
//!
//! | tag | rest of the key | value |
//! |---|---|---|
//! | [`HEAD`] | nothing | [`Stored`], in postcard |
//! | [`ORDER`] | place in the order (8 bytes, big endian) | invocation (16 bytes) |
//! | [`RESULT`] | invocation (16 bytes, big endian) | result |
//! | [`ENTRY`] | the user's key | version, expiry or 0 (8 bytes each, little endian), value |
//!
//! Keys that begin with [`SYSTEM`], which is the length of no name, belong to no scope; a tag follows:
//!
//! | tag | rest of the key | value |
//! |---|---|---|
//! | [`EXPIRY`] | when (8 bytes, big endian), the entry's key in this table | nothing |
//! | 1 | what `queue/record.rs` says | records of the invocation queue |

use std::ops::RangeInclusive;

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use scf_core::{Delta, Entry, FunctionName, InvocationId, Page, Scope, Snapshot, Version, WallTime};
use serde::{Deserialize, Serialize};

use super::{engine, error::EngineError};
use crate::{change::behind, head::HeadRecord, history::Changed, queue::REGION, wall::Wall};

/// What this code writes; another number on the disk is refused.
const FORMAT: u32 = 4;

const FORMATS: TableDefinition<'_, (), u32> = TableDefinition::new("scf.format");
/// The number of the journal's last record that is applied.
const APPLIED: TableDefinition<'_, (), u64> = TableDefinition::new("scf.applied");
pub(super) const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("scf.state");

pub(super) const HEAD: u8 = 0;
pub(super) const ORDER: u8 = 1;
pub(super) const RESULT: u8 = 2;
pub(super) const ENTRY: u8 = 3;

pub(super) const SYSTEM: [u8; 4] = [u8::MAX; 4];
pub(super) const EXPIRY: u8 = 0;

/// Bytes before the value of an entry.
pub(super) const ENTRY_HEAD: usize = 16;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) head: HeadRecord,
    /// Places in the order of the results that are kept: from the first up to, not including, the next.
    pub(super) first_result: u64,
    pub(super) next_result: u64,
    /// Sizes of entries and results.
    pub(super) bytes: u64,
}

/// Builds the keys of one scope.
pub(super) struct Keys {
    bytes: Vec<u8>,
    prefix: usize,
}

impl Keys {
    pub(super) fn of(scope: &Scope) -> Self {
        let function = scope.function.as_str();
        // No function name has a NUL, so no two scopes have the same name.
        let len = function.len() + 1 + scope.key.len();
        let mut bytes = Vec::with_capacity(len + 40);
        bytes.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend([function.as_bytes(), b"\0", scope.key.as_bytes()].concat());
        let prefix = bytes.len();
        Self { bytes, prefix }
    }

    /// The key of `rest` under `tag`.
    pub(super) fn key(&mut self, tag: u8, rest: &[u8]) -> &[u8] {
        self.bytes.truncate(self.prefix);
        self.bytes.push(tag);
        self.bytes.extend_from_slice(rest);
        &self.bytes
    }

    /// All keys under `tags`.
    pub(super) fn range(&self, tags: RangeInclusive<u8>) -> (Vec<u8>, Vec<u8>) {
        let with = |tag: u8| [&self.bytes[..self.prefix], &[tag]].concat();
        (with(*tags.start()), with(tags.end() + 1))
    }

    /// What follows the tag of a key of this scope.
    fn rest<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        key.get(self.prefix + 1..).unwrap_or_default()
    }
}

/// Makes the tables of a new database, and checks the format of another.
pub(super) fn prepare(db: &Database) -> Result<(), EngineError> {
    let found = match db.begin_read()?.open_table(FORMATS) {
        Ok(table) => table.get(())?.map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(other) => return Err(other.into()),
    };
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(EngineError::Format { found, known: FORMAT }),
        None => {
            let txn = engine::begin(db)?;
            txn.open_table(STATE)?;
            txn.open_table(APPLIED)?.insert((), 0)?;
            txn.open_table(FORMATS)?.insert((), FORMAT)?;
            Ok(txn.commit()?)
        }
    }
}

/// The number of the journal's last record that is applied.
pub(super) fn applied(db: &Database) -> Result<u64, EngineError> {
    let applied = db.begin_read()?.open_table(APPLIED)?.get(())?.map(|number| number.value());
    applied.ok_or(EngineError::Malformed("the journal's place"))
}

/// Notes in `txn` that the journal's record `number` is applied.
pub(super) fn apply(txn: &WriteTransaction, number: u64) -> Result<(), EngineError> {
    txn.open_table(APPLIED)?.insert((), number)?;
    Ok(())
}

fn table(db: &Database) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, EngineError> {
    Ok(db.begin_read()?.open_table(STATE)?)
}

pub(super) fn entry(db: &Database, scope: &Scope, key: &str) -> Result<Option<Entry>, EngineError> {
    table(db)?.get(Keys::of(scope).key(ENTRY, key.as_bytes()))?.map(|found| decode_entry(found.value())).transpose()
}

pub(super) fn head(db: &Database, scope: &Scope) -> Result<Stored, EngineError> {
    stored(&table(db)?, &mut Keys::of(scope))
}

pub(super) fn stored(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    keys: &mut Keys,
) -> Result<Stored, EngineError> {
    match table.get(keys.key(HEAD, &[]))? {
        Some(found) => Ok(postcard::from_bytes(found.value())?),
        None => Ok(Stored::default()),
    }
}

pub(super) fn result(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    keys: &mut Keys,
    invocation: InvocationId,
) -> Result<Option<Bytes>, EngineError> {
    let found = table.get(keys.key(RESULT, &invocation.bits().to_be_bytes()))?;
    Ok(found.map(|found| Bytes::copy_from_slice(found.value())))
}

pub(super) fn result_of(db: &Database, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, EngineError> {
    result(&table(db)?, &mut Keys::of(scope), invocation)
}

/// Everything in a scope, of one read transaction.
pub(super) fn snapshot(db: &Database, scope: &Scope, wall: &Wall) -> Result<Snapshot, EngineError> {
    let (table, mut keys) = (table(db)?, Keys::of(scope));
    let Page { version, entries, .. } = page(&table, &mut keys, "", None, usize::MAX, wall)?;
    let (from, to) = keys.range(ORDER..=ORDER);
    let mut results = Vec::new();
    for found in table.range(&from[..]..&to[..])? {
        let invocation = decode_invocation(found?.1.value())?;
        if let Some(kept) = result(&table, &mut keys, invocation)? {
            results.push((invocation, kept));
        }
    }
    Ok(Snapshot { version, entries, results })
}

/// Some of a scope's entries, of one read transaction.
pub(super) fn scan(
    db: &Database,
    scope: &Scope,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    wall: &Wall,
) -> Result<Page, EngineError> {
    page(&table(db)?, &mut Keys::of(scope), prefix, after, limit, wall)
}

fn page(
    table: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    keys: &mut Keys,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    wall: &Wall,
) -> Result<Page, EngineError> {
    let version = stored(table, keys)?.head.version;
    let to = match behind(prefix.as_bytes()) {
        Some(behind) => keys.key(ENTRY, &behind).to_vec(),
        None => keys.range(ENTRY..=ENTRY).1,
    };
    let from = match after {
        Some(after) if after >= prefix => [keys.key(ENTRY, after.as_bytes()), &[0]].concat(),
        _ => keys.key(ENTRY, prefix.as_bytes()).to_vec(),
    };
    let mut entries: Vec<(String, Entry)> = Vec::new();
    if from >= to {
        return Ok(Page { version, entries, after: None });
    }
    for found in table.range(&from[..]..&to[..])? {
        let (key, value) = found?;
        let entry = decode_entry(value.value())?;
        if !wall.lives(&entry) {
            continue;
        }
        if entries.len() >= limit {
            let after = entries.last().map(|(key, _)| key.clone());
            return Ok(Page { version, entries, after });
        }
        let key = std::str::from_utf8(keys.rest(key.value())).map_err(|_| EngineError::Malformed("a key"))?;
        entries.push((key.to_owned(), entry));
    }
    Ok(Page { version, entries, after: None })
}

/// What `changed` says has changed since, as it is in one read transaction; `None` when it does not say.
pub(super) fn delta(
    db: &Database,
    scope: &Scope,
    since: Version,
    wall: &Wall,
    changed: impl FnOnce(Version) -> Option<Changed>,
) -> Result<Option<Delta>, EngineError> {
    let (table, mut keys) = (table(db)?, Keys::of(scope));
    let version = stored(&table, &mut keys)?.head.version;
    let Some(changed) = changed(version) else { return Ok(None) };
    let mut delta = Delta { since, version, ..Delta::default() };
    for key in changed.keys {
        let found = table.get(keys.key(ENTRY, key.as_bytes()))?;
        let entry = found.map(|found| decode_entry(found.value())).transpose()?;
        delta.entries.push((key, entry.filter(|entry| wall.lives(entry))));
    }
    for invocation in changed.invocations {
        if let Some(kept) = result(&table, &mut keys, invocation)? {
            delta.results.push((invocation, kept));
        }
    }
    Ok(Some(delta))
}

/// Calls `each` with the function and the size of every scope.
pub(super) fn sizes(db: &Database, mut each: impl FnMut(&FunctionName, u64)) -> Result<(), EngineError> {
    let table = table(db)?;
    let mut from = Vec::new();
    loop {
        let Some(found) = table.range(&from[..]..&REGION[..])?.next() else { return Ok(()) };
        let key = found?.0;
        let (scope, function) = scope_of(key.value())?;
        if let Some(head) = table.get(&[scope, &[HEAD]].concat()[..])? {
            each(&function, postcard::from_bytes::<Stored>(head.value())?.bytes);
        }
        from = [scope, &[u8::MAX]].concat();
    }
}

/// The part of a key that names its scope, and the scope's function.
pub(super) fn scope_of(key: &[u8]) -> Result<(&[u8], FunctionName), EngineError> {
    let parse = || {
        let len = u32::from_be_bytes(*key.first_chunk()?) as usize;
        let scope = key.get(..len.checked_add(4)?)?;
        let function = scope.get(4..)?.split(|&byte| byte == 0).next()?;
        Some((scope, FunctionName::new(std::str::from_utf8(function).ok()?).ok()?))
    };
    parse().ok_or(EngineError::Malformed("a scope's name"))
}

/// The key under which the expiry of the entry under `key` is kept.
pub(super) fn expiry(expires: WallTime, key: &[u8]) -> Vec<u8> {
    [&SYSTEM[..], &[EXPIRY], &expires.millis().to_be_bytes(), key].concat()
}

/// Whether any value expires.
pub(super) fn expires(db: &Database) -> Result<bool, EngineError> {
    let first = expiry(WallTime::from_millis(0), &[]);
    let behind = [&SYSTEM[..], &[EXPIRY + 1]].concat();
    Ok(table(db)?.range(&first[..]..&behind[..])?.next().is_some())
}

/// An entry, whether it has expired or not.
pub(super) fn found(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    keys: &mut Keys,
    key: &str,
) -> Result<Option<Entry>, EngineError> {
    table.get(keys.key(ENTRY, key.as_bytes()))?.map(|found| decode_entry(found.value())).transpose()
}

pub(super) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let expires = entry.expires.map_or(0, WallTime::millis);
    [&entry.version.get().to_le_bytes()[..], &expires.to_le_bytes(), &entry.value].concat()
}

/// When an entry expires, if it does.
pub(super) fn expiry_of(bytes: &[u8]) -> Option<WallTime> {
    let expires = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    (expires > 0).then_some(WallTime::from_millis(expires))
}

fn decode_entry(bytes: &[u8]) -> Result<Entry, EngineError> {
    let (version, _) = bytes.split_first_chunk().ok_or(EngineError::Malformed("an entry"))?;
    let value = bytes.get(ENTRY_HEAD..).ok_or(EngineError::Malformed("an entry"))?;
    let (value, version) = (Bytes::copy_from_slice(value), Version::new(u64::from_le_bytes(*version)));
    Ok(Entry { value, version, expires: expiry_of(bytes) })
}

pub(super) fn decode_invocation(bytes: &[u8]) -> Result<InvocationId, EngineError> {
    let bits = bytes.try_into().map_err(|_| EngineError::Malformed("an invocation"))?;
    Ok(InvocationId::new(u128::from_be_bytes(bits)))
}

/// Makes `db` one that another version wrote.
#[cfg(test)]
pub(super) fn pretend_format(db: &Database, format: u32) -> Result<(), EngineError> {
    let txn = engine::begin(db)?;
    txn.open_table(FORMATS)?.insert((), format)?;
    Ok(txn.commit()?)
}
