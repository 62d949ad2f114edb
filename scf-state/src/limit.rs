//! Sizes that the backends of this crate take.

use scf_core::{ByteSize, Caps, Scope, Snapshot, StateError};

/// The largest value.
pub(crate) const MAX_VALUE: ByteSize = ByteSize::from_mib(128);
/// Keys and values of one batch.
pub(crate) const MAX_BATCH: ByteSize = ByteSize::from_mib(256);

/// Passes a snapshot of which every value is one that `caps` allow.
pub(crate) fn check_snapshot(caps: Caps, scope: &Scope, snapshot: &Snapshot) -> Result<(), StateError> {
    let entries = snapshot.entries.iter().map(|(_, entry)| entry.value.len());
    let largest = entries.chain(snapshot.results.iter().map(|(_, result)| result.len())).max().unwrap_or(0);
    if largest as u64 <= caps.max_value.bytes() {
        return Ok(());
    }
    let (size, limit) = (ByteSize::from_bytes(largest as u64), caps.max_value);
    Err(StateError::TooLarge { scope: scope.clone(), what: "a value".to_owned(), size, limit })
}
