//! The two policies that never change their mind: yardsticks, and the right choice where it is known.

use std::time::Duration;

use scf_core::{PhaseChoice, PhasePolicy, PhaseRule, PhaseStats};

/// Leaves every scope in the remote store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to configure")]
pub struct AlwaysRemote;

impl PhasePolicy for AlwaysRemote {
    fn rule(&self, _: u64) -> Box<dyn PhaseRule> {
        Box::new(*self)
    }
}

impl PhaseRule for AlwaysRemote {
    fn after_call(&mut self, _: &PhaseStats) -> PhaseChoice {
        PhaseChoice::Remote
    }

    fn adopted(&mut self) -> PhaseChoice {
        PhaseChoice::Remote
    }
}

/// Takes every scope after its first call and gives it back when the node stops. The number of local scopes
/// has no bound but that of the store: use it where the keys are few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to configure")]
pub struct AlwaysLocal;

impl PhasePolicy for AlwaysLocal {
    fn rule(&self, _: u64) -> Box<dyn PhaseRule> {
        Box::new(*self)
    }
}

impl PhaseRule for AlwaysLocal {
    fn after_call(&mut self, _: &PhaseStats) -> PhaseChoice {
        PhaseChoice::Local { idle: Duration::MAX }
    }

    fn adopted(&mut self) -> PhaseChoice {
        PhaseChoice::Local { idle: Duration::MAX }
    }
}
