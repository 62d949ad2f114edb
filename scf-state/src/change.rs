//! The changes of a batch as backends apply them.

use bytes::Bytes;
use scf_core::{Op, StateError};

/// A key and its new value; `None` removes it.
pub(crate) type Change<'a> = (&'a str, Option<&'a Bytes>);

/// Takes a batch's operations apart, all before the first is applied.
pub(crate) fn changes(ops: &[Op]) -> Result<Vec<Change<'_>>, StateError> {
    ops.iter().map(change).collect()
}

fn change(op: &Op) -> Result<Change<'_>, StateError> {
    match op {
        Op::Put { key, value } => Ok((key, Some(value))),
        Op::Delete { key } => Ok((key, None)),
        other => Err(StateError::Unavailable { reason: format!("this backend cannot apply {other:?}") }),
    }
}
