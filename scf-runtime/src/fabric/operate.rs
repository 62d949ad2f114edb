//! What an operator orders of nodes.

use std::sync::atomic::Ordering::Release;

use scf_core::{Health, NodeId, Slowdown};

use super::{Fabric, Inner, Member};
use crate::error::OperateError;

impl Fabric {
    /// Whether a node is let take calls; `None` when it is none of this fabric. Whether it can be reached depends on
    /// where from: [`Fabric::path`].
    #[must_use]
    pub fn health(&self, node: &NodeId) -> Option<Health> {
        Some(self.inner.member(node).ok()?.health())
    }

    /// Places nothing more on a node. Calls that run or wait there are finished, also those on their way there; the
    /// next ones are placed anew, or refused as unplaceable where no other node will do. Calls that name the node as
    /// their target, or whose state is local to it, still go there.
    ///
    /// # Errors
    /// [`OperateError::NoSuchNode`]; [`OperateError::Left`].
    pub fn cordon(&self, node: &NodeId) -> Result<(), OperateError> {
        self.inner.intend(node, Health::Draining).map(drop)
    }

    /// Lets a node take calls again that was cordoned or drained.
    ///
    /// # Errors
    /// [`OperateError::NoSuchNode`]; [`OperateError::Left`].
    pub fn uncordon(&self, node: &NodeId) -> Result<(), OperateError> {
        self.inner.intend(node, Health::Ready)?.controller.reopen();
        Ok(())
    }

    /// [Cordons](Fabric::cordon) a node, waits until no call runs or waits there, and gives back what functions claimed
    /// of it. Calls that are on their way there, or name it as their target, find it unreachable from now on, and are
    /// placed elsewhere where they may be. The node stays like this until it is [uncordoned](Fabric::uncordon).
    ///
    /// State that is local to the node stays there, and calls of its keys still run there: [`Fabric::leave`] publishes
    /// it. Waits as long as calls run, however long; dropping the future lets no more in.
    ///
    /// # Errors
    /// [`OperateError::NoSuchNode`]; [`OperateError::Left`]; [`OperateError::Uncordoned`].
    pub async fn drain(&self, node: &NodeId) -> Result<(), OperateError> {
        let member = self.inner.intend(node, Health::Draining)?;
        if !member.controller.empty().await {
            return Err(OperateError::Uncordoned { node: node.clone() });
        }
        for route in self.inner.functions(|_, deployment| Some(deployment.revisions().to_vec())).iter().flatten() {
            member.unclaim(&route.function, route.revision);
        }
        Ok(())
    }

    /// [Drains](Fabric::drain) a node and publishes the state that is local to it, after which it may be switched off:
    /// it has left for good.
    ///
    /// # Errors
    /// [`OperateError`] naming the node; unless it had left before, it is cordoned then.
    pub async fn leave(&self, node: &NodeId) -> Result<(), OperateError> {
        self.drain(node).await?;
        if let Some(store) = self.inner.member(node)?.controller.state() {
            store.drain().await.map_err(|source| OperateError::State { node: node.clone(), source })?;
        }
        self.inner.intend(node, Health::Unreachable)?.controller.close().await;
        Ok(())
    }

    /// Makes an emulated node compute more slowly or faster from now on, as when something else runs on it too. Its
    /// description stays as it is: who plans with the node learns of it from what calls take there.
    ///
    /// # Errors
    /// [`OperateError::NoSuchNode`].
    pub fn set_slowdown(&self, node: &NodeId, slowdown: Slowdown) -> Result<(), OperateError> {
        self.inner.member(node)?.pace.set(slowdown);
        Ok(())
    }
}

impl Inner {
    fn member(&self, node: &NodeId) -> Result<&Member, OperateError> {
        let position = self.positions.get(node).ok_or_else(|| OperateError::NoSuchNode { node: node.clone() })?;
        Ok(&self.members[*position])
    }

    fn intend(&self, node: &NodeId, health: Health) -> Result<&Member, OperateError> {
        let member = self.member(node)?;
        if !member.set_health(health) {
            return Err(OperateError::Left { node: node.clone() });
        }
        // After it: whoever sees the epoch sees what the node is to do.
        self.epoch.fetch_add(1, Release);
        tracing::info!(%node, ?health, "scf.node");
        Ok(member)
    }
}
