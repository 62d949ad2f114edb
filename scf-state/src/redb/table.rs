//! What is stored where in redb, and how it is read.

use bytes::Bytes;
use redb::{Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable, TableDefinition, TableError};
use scf_core::{Entry, InvocationId, Scope, Snapshot, Version};
use serde::{Deserialize, Serialize};

use super::error::EngineError;
use crate::head::HeadRecord;

/// What this code writes; another number on the disk is refused.
const FORMAT: u32 = 1;

pub(super) const FORMATS: TableDefinition<'_, (), u32> = TableDefinition::new("scf.format");
/// Scope to [`Stored`], in postcard.
pub(super) const HEADS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("scf.heads");
/// Scope and key to version and value.
pub(super) const ENTRIES: TableDefinition<'_, (&str, &str), (u64, &[u8])> = TableDefinition::new("scf.entries");
/// Scope and invocation to the result's place in the order and the result.
pub(super) const RESULTS: TableDefinition<'_, (&str, u128), (u64, &[u8])> = TableDefinition::new("scf.results");
/// Scope and place in the order to invocation.
pub(super) const ORDER: TableDefinition<'_, (&str, u64), u128> = TableDefinition::new("scf.order");

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) head: HeadRecord,
    /// Places in the order of the results that are kept: from the first up to, not including, the next.
    pub(super) first_result: u64,
    pub(super) next_result: u64,
}

/// A scope as the first part of table keys. No function name has a NUL, so no two scopes fall together.
pub(super) fn scope_key(scope: &Scope) -> String {
    format!("{}\0{}", scope.function, scope.key)
}

/// The least table key behind all that begin with `scope_key`.
pub(super) fn behind(scope_key: &str) -> String {
    format!("{scope_key}\0")
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
            let txn = db.begin_write()?;
            txn.open_table(HEADS)?;
            txn.open_table(ENTRIES)?;
            txn.open_table(RESULTS)?;
            txn.open_table(ORDER)?;
            txn.open_table(FORMATS)?.insert((), FORMAT)?;
            Ok(txn.commit()?)
        }
    }
}

pub(super) fn entry(db: &Database, scope: &Scope, key: &str) -> Result<Option<Entry>, EngineError> {
    let table = db.begin_read()?.open_table(ENTRIES)?;
    Ok(table.get((scope_key(scope).as_str(), key))?.map(|found| owned(found.value())))
}

pub(super) fn head(db: &Database, scope: &Scope) -> Result<Stored, EngineError> {
    let table: ReadOnlyTable<&str, &[u8]> = db.begin_read()?.open_table(HEADS)?;
    stored(&table, &scope_key(scope))
}

pub(super) fn stored(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    scope_key: &str,
) -> Result<Stored, EngineError> {
    match table.get(scope_key)? {
        Some(found) => Ok(postcard::from_bytes(found.value())?),
        None => Ok(Stored::default()),
    }
}

pub(super) fn result(db: &Database, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, EngineError> {
    let table = db.begin_read()?.open_table(RESULTS)?;
    let found = table.get((scope_key(scope).as_str(), invocation.bits()))?;
    Ok(found.map(|found| Bytes::copy_from_slice(found.value().1)))
}

/// Everything in a scope, of one read transaction.
pub(super) fn snapshot(db: &Database, scope: &Scope) -> Result<Snapshot, EngineError> {
    let txn = db.begin_read()?;
    let (scope, behind) = (scope_key(scope), behind(&scope_key(scope)));
    let stored = stored(&txn.open_table(HEADS)?, &scope)?;
    let mut entries = Vec::new();
    for found in txn.open_table(ENTRIES)?.range((scope.as_str(), "")..(behind.as_str(), ""))? {
        let (key, value) = found?;
        entries.push((key.value().1.to_owned(), owned(value.value())));
    }
    let table = txn.open_table(RESULTS)?;
    let mut results = Vec::new();
    for found in txn.open_table(ORDER)?.range((scope.as_str(), 0)..(behind.as_str(), 0))? {
        let invocation = found?.1.value();
        if let Some(result) = table.get((scope.as_str(), invocation))? {
            results.push((InvocationId::new(invocation), Bytes::copy_from_slice(result.value().1)));
        }
    }
    Ok(Snapshot { version: stored.head.version, entries, results })
}

fn owned((version, value): (u64, &[u8])) -> Entry {
    Entry { value: Bytes::copy_from_slice(value), version: Version::new(version) }
}
