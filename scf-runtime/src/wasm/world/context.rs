//! `scf:function/context`: what the fabric tells a function about itself, in both versions.

use std::time::Duration;

use scf_core::{Call, Node, Tier};
use wasmtime::component::HasData;

use super::{
    World,
    bindings::scf::{
        function0_1_0::context as context01,
        function0_2_0::context::{self, Budget, Invocation, Placement},
    },
};
use crate::wasm::run::Run;

/// What version 0.2 tells, and from what: the call's world, and how it runs.
pub(in crate::wasm) struct Context<'a> {
    world: &'a World,
    run: &'a Run,
}

/// Gives version 0.2 its context.
pub(super) struct HasContext;

impl HasData for HasContext {
    type Data<'a> = Context<'a>;
}

impl World {
    /// What version 0.2 tells, of a call that goes on as `run`.
    pub(in crate::wasm) const fn context<'a>(&'a self, run: &'a Run) -> Context<'a> {
        Context { world: self, run }
    }

    fn milliseconds_left(&self, call: &Call) -> u64 {
        u64::try_from(self.clock.until(call.deadline).as_millis()).unwrap_or(u64::MAX)
    }

    fn may_leave_for(&self, zone: &str) -> bool {
        self.plan.zone.as_ref().is_none_or(|allowed| allowed.as_str() == zone)
    }

    fn time_left(&self) -> wasmtime::Result<f32> {
        let left = self.clock.until(self.call()?.deadline).as_secs_f32();
        let all = self.plan.wall.as_secs_f32();
        Ok(if all > 0.0 { (left / all).clamp(0.0, 1.0) } else { 0.0 })
    }
}

impl Context<'_> {
    /// CPU time that the call has used, as far as the clock that its function is granted may show it.
    fn used(&self) -> Duration {
        self.world.clock.shown(|| self.run.running())
    }
}

impl context::Host for Context<'_> {
    fn current(&mut self) -> wasmtime::Result<Invocation> {
        let call = self.world.call()?;
        Ok(Invocation {
            idempotency_key: call.id.to_string(),
            attempt: call.attempt,
            cold_start: self.run.is_cold(),
            traceparent: call.trace.as_ref().map(ToString::to_string),
            function: call.function.to_string(),
            tenant: call.tenant.to_string(),
            key: call.key.clone(),
            deadline_remaining_ms: self.world.milliseconds_left(call),
        })
    }

    fn budget_remaining(&mut self) -> wasmtime::Result<Budget> {
        let (used, node) = (self.used(), self.world.call()?.host.node());
        let budget = &self.world.plan.budget;
        Ok(Budget {
            cpu_us: u64::try_from(budget.cpu_left(used).as_micros()).unwrap_or(u64::MAX),
            energy_uj: budget.energy_left(used, node).map(|energy| energy.microjoules()),
        })
    }

    fn where_am_i(&mut self) -> wasmtime::Result<Placement> {
        let node = self.world.call()?.host.node();
        let tier = match node.tier {
            Tier::Device => context::Tier::Device,
            Tier::Edge => context::Tier::Edge,
            Tier::Region => context::Tier::Region,
            Tier::Cloud => context::Tier::Cloud,
            other => return Err(newer(other)),
        };
        let battery_percent = node.battery.map(|battery| battery.percent);
        Ok(Placement { node: node.id.to_string(), tier, zone: zone(node), battery_percent })
    }

    fn may_leave(&mut self, zone: String) -> wasmtime::Result<bool> {
        Ok(self.world.may_leave_for(&zone))
    }

    fn quality_hint(&mut self) -> wasmtime::Result<f32> {
        self.world.time_left()
    }
}

impl context01::Host for World {
    fn current(&mut self) -> wasmtime::Result<context01::Invocation> {
        let call = self.call()?;
        Ok(context01::Invocation {
            id: call.id.to_string(),
            function: call.function.to_string(),
            tenant: call.tenant.to_string(),
            key: call.key.clone(),
            deadline_remaining_ms: self.milliseconds_left(call),
        })
    }

    fn where_am_i(&mut self) -> wasmtime::Result<context01::Placement> {
        let node = self.call()?.host.node();
        let tier = match node.tier {
            Tier::Device => context01::Tier::Device,
            Tier::Edge => context01::Tier::Edge,
            Tier::Region => context01::Tier::Region,
            Tier::Cloud => context01::Tier::Cloud,
            other => return Err(newer(other)),
        };
        Ok(context01::Placement { node: node.id.to_string(), tier, zone: zone(node) })
    }

    fn may_leave(&mut self, zone: String) -> wasmtime::Result<bool> {
        Ok(self.may_leave_for(&zone))
    }

    fn quality_hint(&mut self) -> wasmtime::Result<f32> {
        self.time_left()
    }
}

fn zone(node: &Node) -> Option<String> {
    node.zone.as_ref().map(ToString::to_string)
}

fn newer(tier: Tier) -> wasmtime::Error {
    wasmtime::format_err!("tier {tier:?} is newer than this interface")
}
