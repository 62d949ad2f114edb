//! What a failed attempt means for a queued call.

use std::time::Duration;

use scf_core::{Cause, InvokeError, LimitKind, Settle, StateError};

/// How soon a call that could not be started is tried again, where nobody says.
const SOON: Duration = Duration::from_millis(500);

/// Whether a call that failed with `error` is worth another attempt, and whether this was one.
pub(super) fn verdict(error: &InvokeError) -> Settle {
    match error {
        // Nobody ran it, or not to its end through no fault of its own.
        InvokeError::Overloaded { retry_after, .. } => {
            Settle::Postpone((*retry_after).clamp(Duration::from_millis(10), Duration::from_secs(10)))
        }
        InvokeError::NotFound { .. } | InvokeError::Unreachable { .. } | InvokeError::Unplaceable { .. } => {
            Settle::Postpone(SOON)
        }
        InvokeError::State { source, .. } if is_away(source) => Settle::Postpone(SOON),
        // It will fail in the same way whenever it is tried.
        InvokeError::Refused { .. }
        | InvokeError::Input { .. }
        | InvokeError::Media { .. }
        | InvokeError::NoKey { .. }
        // It may have run, and is not to be run twice.
        | InvokeError::Interrupted { .. }
        | InvokeError::Limit { limit: LimitKind::Input, .. } => Settle::Dead(Cause::refused(&chain(error))),
        _ => Settle::Retry(Cause::failed(&chain(error))),
    }
}

/// Whether the state is somewhere that cannot be worked on now.
const fn is_away(error: &StateError) -> bool {
    matches!(error, StateError::Held { .. } | StateError::Unavailable { .. } | StateError::Unknown { .. })
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use scf_core::{FunctionName, NodeId};

    use super::*;

    #[test]
    fn what_was_not_started_is_no_attempt_and_what_is_refused_needs_no_other() {
        let function = || FunctionName::new("f").unwrap();
        let node = || NodeId::new("n").unwrap();
        let retry_after = Duration::from_millis(70);
        let full = InvokeError::Overloaded { function: function(), node: node(), retry_after };
        assert_eq!(verdict(&full), Settle::Postpone(retry_after));
        let cut = InvokeError::Unreachable { function: function(), node: node() };
        assert!(matches!(verdict(&cut), Settle::Postpone(_)));
        let source = StateError::Unavailable { reason: "the disk is full".into() };
        let away = InvokeError::State { function: function(), key: "k".into(), source: Box::new(source) };
        assert!(matches!(verdict(&away), Settle::Postpone(_)));
        let refused = InvokeError::Refused { function: function(), message: "no".into() };
        assert!(matches!(verdict(&refused), Settle::Dead(Cause::Refused { message }) if message.ends_with(": no")));
        let hung = InvokeError::Limit { function: function(), limit: LimitKind::Wall };
        assert!(matches!(verdict(&hung), Settle::Retry(Cause::Failed { .. })));
    }
}
