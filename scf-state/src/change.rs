//! The changes of a batch as backends apply them.

use bytes::Bytes;
use scf_core::{Batch, Op, StateError, Version};

/// A key and its new value; `None` removes it.
pub(crate) type Change<'a> = (&'a str, Option<&'a Bytes>);

/// Takes a batch's operations apart, all before the first is applied.
pub(crate) fn changes(ops: &[Op]) -> Result<Vec<Change<'_>>, StateError> {
    ops.iter().map(change).collect()
}

fn change(op: &Op) -> Result<Change<'_>, StateError> {
    match op {
        Op::Put { key, value, expires: None } => Ok((key, Some(value))),
        Op::Delete { key } => Ok((key, None)),
        other => Err(StateError::Unavailable { reason: format!("this backend cannot apply {other:?}") }),
    }
}

/// Passes a batch whose guards hold, where `version` says which version an entry has, if it is there.
pub(crate) fn guard<E>(
    batch: &Batch,
    mut version: impl FnMut(&str) -> Result<Option<Version>, E>,
) -> Result<Result<(), StateError>, E> {
    for guard in &batch.guards {
        let actual = version(&guard.key)?;
        if actual != guard.version {
            let (scope, key, expected) = (batch.scope.clone(), guard.key.clone(), guard.version);
            return Ok(Err(StateError::Guard { scope, key, expected, actual }));
        }
    }
    Ok(Ok(()))
}
