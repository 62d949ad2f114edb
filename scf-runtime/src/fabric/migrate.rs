//! State that moves from node to node by order.

use scf_core::{Moved, NodeId, Phase, Scope, StateError, StateStore};

use super::Fabric;

impl Fabric {
    /// Moves `scope` to the node `to`, where its calls run from then on: from the node where it is local, or from its
    /// home. Calls go on while it is copied and wait for the last moments of it; calls that still arrive at the former
    /// node are carried to `to`. There it stays as long as that node's phase policy keeps it.
    ///
    /// # Errors
    /// [`StateError`]; the state is then whole and has one owner at most. [`StateError::Unavailable`] when `to` is no
    /// node of this fabric, or one without a state store.
    pub async fn move_state(&self, scope: &Scope, to: &NodeId) -> Result<Moved, StateError> {
        let store_of = |position: usize| self.inner.members[position].controller.state();
        let target = self.inner.positions.get(to).and_then(|&position| store_of(position));
        let Some(target) = target else {
            return Err(StateError::Unavailable { reason: format!("node {to} has no state store in this fabric") });
        };
        let is_local = |store: &dyn StateStore| matches!(store.phase(scope), Phase::Local(_));
        if is_local(&**target) {
            return Ok(Moved::default());
        }
        match (0..self.inner.members.len()).filter_map(store_of).find(|store| is_local(&***store)) {
            Some(source) => source.hand_over(scope, &**target).await,
            None => {
                target.prefetch(scope).await?;
                target.adopt(scope).await?;
                Ok(Moved::default())
            }
        }
    }
}
