//! `scf:function`: what the fabric tells a function about itself, and calling other functions.

use scf_core::{Callee, FunctionName, InvokeError, LimitKind, Payload, Tier};

use super::{
    World,
    bindings::scf::function::{
        context::{self, Invocation, Placement},
        functions::{self, InvokeError as Failure},
    },
};

/// Calls of other functions that one invocation may make, those that it enqueues included.
pub(super) const CALLS: u64 = 256;

impl context::Host for World {
    fn current(&mut self) -> wasmtime::Result<Invocation> {
        let call = self.call()?;
        let left = self.clock.until(call.deadline).as_millis();
        Ok(Invocation {
            id: call.id.to_string(),
            function: call.function.to_string(),
            tenant: call.tenant.to_string(),
            key: call.key.clone(),
            deadline_remaining_ms: u64::try_from(left).unwrap_or(u64::MAX),
        })
    }

    fn where_am_i(&mut self) -> wasmtime::Result<Placement> {
        let node = self.call()?.host.node();
        let tier = match node.tier {
            Tier::Device => context::Tier::Device,
            Tier::Edge => context::Tier::Edge,
            Tier::Region => context::Tier::Region,
            Tier::Cloud => context::Tier::Cloud,
            other => return Err(wasmtime::format_err!("tier {other:?} is newer than this interface")),
        };
        Ok(Placement { node: node.id.to_string(), tier, zone: node.zone.as_ref().map(ToString::to_string) })
    }

    fn may_leave(&mut self, zone: String) -> wasmtime::Result<bool> {
        Ok(self.plan.zone.as_ref().is_none_or(|allowed| allowed.as_str() == zone))
    }

    fn quality_hint(&mut self) -> wasmtime::Result<f32> {
        let left = self.clock.until(self.call()?.deadline).as_secs_f32();
        let all = self.plan.wall.as_secs_f32();
        Ok(if all > 0.0 { (left / all).clamp(0.0, 1.0) } else { 0.0 })
    }
}

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
