//! The two policies that never change their mind: yardsticks, and the right choice where it is known.

use scf_core::{PhasePolicy, PhaseStats};

/// Leaves every scope in the remote store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to configure")]
pub struct AlwaysRemote;

impl PhasePolicy for AlwaysRemote {
    fn go_local(&self, _: &PhaseStats) -> bool {
        false
    }

    fn go_remote(&self, _: &PhaseStats) -> bool {
        true
    }
}

/// Takes every scope after its first call and gives it back when the node stops. The number of local scopes
/// has no bound but that of the store: use it where the keys are few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to configure")]
pub struct AlwaysLocal;

impl PhasePolicy for AlwaysLocal {
    fn go_local(&self, _: &PhaseStats) -> bool {
        true
    }

    fn go_remote(&self, _: &PhaseStats) -> bool {
        false
    }
}
