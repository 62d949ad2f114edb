//! The changes of a batch as backends apply them.

use bytes::Bytes;
use scf_core::{Op, StateError};

/// A key and its new value; `None` removes it.
pub(crate) type Change = (String, Option<Bytes>);

/// Takes a batch's operations apart, all before the first is applied.
pub(crate) fn changes(ops: Vec<Op>) -> Result<Vec<Change>, StateError> {
    let change = |op| match op {
        Op::Put { key, value } => Ok((key, Some(value))),
        Op::Delete { key } => Ok((key, None)),
        other => Err(StateError::Unavailable { reason: format!("this backend cannot apply {other:?}") }),
    };
    ops.into_iter().map(change).collect()
}
