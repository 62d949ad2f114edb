//! What a call may use, and what is left of it.

use std::time::Duration;

use scf_core::{Energy, Function, Node};

/// What one call of a function may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    cpu: Duration,
    /// What is promised of the mean call, if anything is.
    energy: Option<Energy>,
}

impl Budget {
    pub(crate) const fn of(function: &Function) -> Self {
        Self { cpu: function.limits.cpu, energy: function.objectives.energy }
    }

    /// The CPU time that is left once `used` of it is.
    pub(crate) const fn cpu_left(&self, used: Duration) -> Duration {
        self.cpu.saturating_sub(used)
    }

    /// The energy that is left once `used` of CPU time was spent on `node`.
    pub(crate) fn energy_left(&self, used: Duration, node: &Node) -> Option<Energy> {
        let left = |all: Energy| all.microjoules().saturating_sub(node.spent(used).energy.microjoules());
        self.energy.map(left).map(Energy::from_microjoules)
    }
}

#[cfg(test)]
mod tests {
    use scf_core::{FunctionName, Limits, Name, NodeId, Objectives, Rates, Tier};

    use super::*;

    #[test]
    fn what_is_left_shrinks_with_the_cpu_time_that_was_used_and_ends_at_nothing() {
        let (ms, joules) = (Duration::from_millis, Energy::from_joules);
        let function = Function::native(FunctionName::new("f").unwrap(), Name::new("f").unwrap());
        let function = function.limits(Limits { cpu: ms(100), ..Limits::default() });
        let node = Node::new(NodeId::new("n").unwrap(), Tier::Edge).rates(Rates { joules: 4.0, ..Rates::default() });
        assert_eq!(Budget::of(&function).energy_left(ms(1), &node), None, "nothing was promised");
        let budget = Budget::of(&function.objectives(Objectives::none().energy(joules(0.1))));
        let left = |used| (budget.cpu_left(used), budget.energy_left(used, &node));
        assert_eq!(left(Duration::ZERO), (ms(100), Some(joules(0.1))));
        assert_eq!(left(ms(20)), (ms(80), Some(joules(0.02))));
        assert_eq!(left(ms(200)), (Duration::ZERO, Some(Energy::ZERO)));
    }
}
