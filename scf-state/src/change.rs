//! The changes of a batch as backends apply them.

use bytes::Bytes;
use scf_core::{Batch, Op, StateError, Version, WallTime};

/// What becomes of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    Put { key: &'a str, value: &'a Bytes, expires: Option<WallTime> },
    Remove { key: &'a str },
}

impl Change<'_> {
    pub(crate) const fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Remove { key } => key,
        }
    }
}

/// Takes a batch's operations apart, all before the first is applied.
pub(crate) fn changes(ops: &[Op]) -> Result<Vec<Change<'_>>, StateError> {
    let is_entry = |op: &&Op| !matches!(op, Op::Enqueue { .. } | Op::CancelTimer { .. });
    ops.iter().filter(is_entry).map(change).collect()
}

fn change(op: &Op) -> Result<Change<'_>, StateError> {
    match op {
        Op::Put { key, value, expires } => Ok(Change::Put { key, value, expires: *expires }),
        Op::Delete { key } => Ok(Change::Remove { key }),
        other => Err(StateError::Unsupported { what: format!("apply {other:?}") }),
    }
}

/// The keys that they touch.
pub(crate) fn keys(changes: &[Change<'_>]) -> Vec<String> {
    changes.iter().map(|change| change.key().to_owned()).collect()
}

/// The end of the range of keys that begin with `prefix`, if it has one.
pub(crate) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

/// Passes a batch whose guards hold, where `version` says which version an entry has, if it is there.
pub(crate) fn guard<E>(
    batch: &Batch,
    mut version: impl FnMut(&str) -> Result<Option<Version>, E>,
) -> Result<Result<(), StateError>, E> {
    for guard in &batch.guards {
        let actual = version(&guard.key)?;
        if actual != guard.version {
            let (scope, key, expected) = (Box::new(batch.scope.clone()), guard.key.clone(), guard.version);
            return Ok(Err(StateError::Guard { scope, key, expected, actual }));
        }
    }
    Ok(Ok(()))
}
