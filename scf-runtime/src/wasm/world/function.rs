//! `scf:function/functions`: calling other functions.

use scf_core::{Callee, FunctionName, InvokeError, LimitKind, Payload};

use super::{
    World,
    bindings::scf::function0_1_0::functions::{self, InvokeError as Failure},
};

/// Calls of other functions that one invocation may make, those that it enqueues included.
pub(super) const CALLS: u64 = 256;

impl functions::Host for World {
    async fn invoke(
        &mut self,
        function: String,
        key: Option<String>,
        payload: Vec<u8>,
    ) -> wasmtime::Result<Result<Vec<u8>, Failure>> {
        let granted = FunctionName::new(&function).ok().filter(|name| self.plan.grants.functions.contains(name));
        let Some(function) = granted else { return Ok(Err(Failure::Denied)) };
        let limit = self.plan.payload.bytes();
        if self.steps == CALLS || payload.len() as u64 > limit {
            return Ok(Err(Failure::Limit));
        }
        let step = self.steps;
        self.steps += 1;
        let callee = Callee { function, node: None, key, payload: Payload::new(payload) };
        let Some(call) = &self.call else { return Ok(Err(Failure::Denied)) };
        let outcome = match call.host.invoke(call, step, callee).await {
            Ok(outcome) => outcome,
            Err(error) => return Ok(Err(failure(&error))),
        };
        self.receipts.push(outcome.receipt);
        let bytes = outcome.payload.bytes;
        Ok(if bytes.len() as u64 > limit { Err(Failure::Limit) } else { Ok(bytes.into()) })
    }
}

fn failure(error: &InvokeError) -> Failure {
    match error {
        InvokeError::NotFound { .. } | InvokeError::NoRevision { .. } => Failure::NotFound,
        InvokeError::Refused { message, .. } => Failure::Refused(message.clone()),
        InvokeError::Overloaded { retry_after, .. } => {
            Failure::Overloaded(u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX))
        }
        InvokeError::Limit { limit: LimitKind::Wall, .. } => Failure::TimedOut,
        other => Failure::Failed(other.to_string()),
    }
}
