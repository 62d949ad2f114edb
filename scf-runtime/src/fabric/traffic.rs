//! Where a function's calls go, revision by revision.

use scf_core::{FunctionName, Name, Revision};

use super::{Fabric, Inner};
use crate::{deployment::Deployment, error::TrafficError};

impl Fabric {
    /// Divides the live traffic of a function between its revisions, by weight. Which of them a call goes to is
    /// decided by its id alone, so that every try of it meets the same one.
    ///
    /// # Errors
    /// [`TrafficError`]; the traffic is then unchanged.
    pub fn traffic(&self, function: &FunctionName, weights: &[(Revision, u32)]) -> Result<(), TrafficError> {
        self.inner.try_change(function, |deployment| deployment.traffic(function, weights))
    }

    /// Points `alias` to revisions of a function, by weight, in place of what it pointed to before; calls ask for it
    /// with [`Qualifier::Alias`](scf_core::Qualifier::Alias).
    ///
    /// # Errors
    /// [`TrafficError`]; the alias is then unchanged.
    pub fn alias(
        &self,
        function: &FunctionName,
        alias: &Name,
        weights: &[(Revision, u32)],
    ) -> Result<(), TrafficError> {
        self.inner.try_change(function, |deployment| deployment.alias(function, alias.clone(), weights))
    }

    /// Takes an alias away; answers whether there was one.
    ///
    /// # Errors
    /// [`TrafficError::NotDeployed`].
    pub fn unalias(&self, function: &FunctionName, alias: &Name) -> Result<bool, TrafficError> {
        self.inner.try_change(function, |deployment| Ok(deployment.unalias(alias)))
    }

    /// Sends the live traffic of a function where it went before, from the next call on: before the last
    /// [`deploy`](Fabric::deploy) or [`traffic`](Fabric::traffic), then before the one before that. Gives the
    /// revision that now has most of it.
    ///
    /// # Errors
    /// [`TrafficError::NothingBefore`] when that is not kept any more, or never was.
    pub fn rollback(&self, function: &FunctionName) -> Result<Revision, TrafficError> {
        let revision = self.inner.try_change(function, |deployment| deployment.rollback(function))?;
        tracing::info!(faas.name = %function, faas.version = %revision, "scf.rollback");
        Ok(revision)
    }

    /// Takes a revision off that has no traffic; calls of it that run are finished.
    ///
    /// # Errors
    /// [`TrafficError::Serving`] while traffic or an alias points to it.
    pub fn retire(&self, function: &FunctionName, revision: Revision) -> Result<(), TrafficError> {
        self.inner.try_change(function, |deployment| deployment.retire(function, revision))
    }
}

impl Inner {
    fn try_change<T>(
        &self,
        function: &FunctionName,
        change: impl FnOnce(&mut Deployment) -> Result<T, TrafficError>,
    ) -> Result<T, TrafficError> {
        let missing = || TrafficError::NotDeployed { function: function.clone() };
        self.change(function, change).ok_or_else(missing)?
    }
}
