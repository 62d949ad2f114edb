//! Calls that a commit of state accepts, and timers that it calls off.

use scf_core::{Batch, Op, StateError};

use super::{ask::Ask, book::Book};

/// What `batch` asks of the queue of its store, checked before anything of it is applied.
pub(crate) fn calls_of<'b>(batch: &Batch, book: Option<&'b Book>) -> Result<Vec<(&'b Book, Ask)>, StateError> {
    let ask = |op: &Op| match op {
        Op::Enqueue { call } => Some(Ask::Accept(call.clone())),
        Op::CancelTimer { scope, name } => Some(Ask::CancelTimer(scope.clone(), name.clone())),
        _ => None,
    };
    let mut asks = batch.ops.iter().filter_map(ask).peekable();
    if asks.peek().is_none() {
        return Ok(Vec::new());
    }
    let Some(book) = book else {
        return Err(StateError::Unsupported { what: "accept calls: its invocation queue is not open".to_owned() });
    };
    let asks: Vec<_> = asks.map(|ask| (book, ask)).collect();
    let calls = asks.iter().filter_map(|(_, ask)| if let Ask::Accept(call) = ask { Some(&**call) } else { None });
    match book.refuses(calls) {
        None => Ok(asks),
        Some(refused) => Err(StateError::Queue { scope: batch.scope.clone(), source: Box::new(refused) }),
    }
}
