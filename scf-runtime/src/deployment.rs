//! A function's revisions and where its traffic goes.

use std::{collections::BTreeMap, sync::Arc};

use scf_core::{FunctionName, InvocationId, InvokeError, Name, Qualifier, Revision};

use crate::{error::TrafficError, ledger::Ledger, route::Route};

/// Earlier splits of the live traffic that a rollback can return to.
const PAST: usize = 16;
/// Step of the child id that decides between revisions. Not one that a call's own calls count up to.
const DECIDE: u64 = u64::MAX;

/// Traffic divided between revisions by weight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Split {
    parts: Vec<(Arc<Route>, u32)>,
    total: u64,
}

impl Split {
    fn all_to(route: &Arc<Route>) -> Self {
        Self { parts: vec![(Arc::clone(route), 1)], total: 1 }
    }

    /// The revision that the call `id` goes to: the same for every try of it.
    fn choose(&self, id: InvocationId) -> Option<&Arc<Route>> {
        if let [(only, _)] = self.parts.as_slice() {
            return Some(only);
        }
        let mut point = (id.child(DECIDE).bits() as u64).checked_rem(self.total)?;
        self.parts.iter().find_map(|(route, weight)| {
            let here = point < u64::from(*weight);
            point = point.saturating_sub(u64::from(*weight));
            here.then_some(route)
        })
    }

    fn has(&self, revision: Revision) -> bool {
        self.parts.iter().any(|(route, _)| route.is(revision))
    }

    /// The revision with the highest weight.
    fn heaviest(&self) -> Option<&Arc<Route>> {
        self.parts.iter().max_by_key(|(_, weight)| *weight).map(|(route, _)| route)
    }

    /// Who gets how much of it.
    pub(crate) fn weight_of(&self, revision: Revision) -> u32 {
        self.parts.iter().find(|(route, _)| route.is(revision)).map_or(0, |(_, weight)| *weight)
    }
}

/// A deployed function: a picture that is replaced whole when anything changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deployment {
    pub(crate) ledger: Arc<Ledger>,
    last: u64,
    kept: Vec<Arc<Route>>,
    live: Split,
    /// What the live traffic was before, the latest last.
    past: Vec<Split>,
    aliases: BTreeMap<Name, Split>,
}

impl Deployment {
    /// A function without revisions whose calls are billed to `ledger`.
    pub(crate) fn billed_to(ledger: &Arc<Ledger>) -> Self {
        Self { ledger: Arc::clone(ledger), ..Self::default() }
    }

    /// The number of the next revision; no other gets it.
    pub(crate) const fn reserve(&mut self) -> Revision {
        self.last += 1;
        Revision::new(self.last)
    }

    /// The revisions that are kept, the oldest first.
    pub(crate) fn revisions(&self) -> &[Arc<Route>] {
        &self.kept
    }

    /// Where the live traffic goes.
    pub(crate) const fn live(&self) -> &Split {
        &self.live
    }

    /// The revision that stands for the function where nobody says which: the one with most of the live traffic,
    /// or the newest.
    pub(crate) fn main(&self) -> Option<&Arc<Route>> {
        self.live.heaviest().or_else(|| self.kept.last())
    }

    /// The revision that a call goes to.
    pub(crate) fn choose(&self, qualifier: &Qualifier, id: InvocationId) -> Option<&Arc<Route>> {
        match qualifier {
            Qualifier::Live => self.live.choose(id),
            Qualifier::Alias(alias) => self.aliases.get(alias)?.choose(id),
            Qualifier::Revision(revision) => self.revision(*revision),
            _ => None,
        }
    }

    /// Where among the revisions that are kept a call goes to.
    pub(crate) fn position(&self, qualifier: &Qualifier, id: InvocationId) -> Option<usize> {
        self.choose(qualifier, id).and_then(|route| self.position_of(route.revision))
    }

    /// Where a revision is among those that are kept.
    pub(crate) fn position_of(&self, revision: Revision) -> Option<usize> {
        self.kept.binary_search_by_key(&revision, |route| route.revision).ok()
    }

    /// One revision, if it is kept.
    pub(crate) fn revision(&self, revision: Revision) -> Option<&Arc<Route>> {
        self.kept.iter().find(|route| route.is(revision))
    }

    /// Keeps one more revision, at most `most`: the oldest without traffic goes, at last the one that a rollback
    /// would return to.
    pub(crate) fn publish(&mut self, route: Arc<Route>, most: usize) -> Result<(), TrafficError> {
        while self.kept.len() >= most {
            let may_go = |route: &&Arc<Route>| !self.is_pointed_to(route.revision);
            let next = |route: &&Arc<Route>| self.past.last().is_none_or(|split| !split.has(route.revision));
            let without = self.kept.iter().filter(may_go);
            let goes = without.clone().find(next).or_else(|| without.clone().next());
            let Some(goes) = goes.map(|route| route.revision) else {
                let function = route.function.name.clone();
                return Err(TrafficError::Full { function, kept: self.kept.len() });
            };
            self.forget(goes);
        }
        self.last = self.last.max(route.revision.number());
        let at = self.kept.partition_point(|other| other.revision < route.revision);
        self.kept.insert(at, route);
        Ok(())
    }

    /// Sends all live traffic to a revision.
    pub(crate) fn go_live(&mut self, route: &Arc<Route>) {
        self.set_live(Split::all_to(route));
    }

    /// Divides the live traffic.
    pub(crate) fn traffic(&mut self, function: &FunctionName, weights: &[(Revision, u32)]) -> Result<(), TrafficError> {
        let split = self.split(function, weights)?;
        self.set_live(split);
        Ok(())
    }

    /// Points `alias` to revisions.
    pub(crate) fn alias(
        &mut self,
        function: &FunctionName,
        alias: Name,
        weights: &[(Revision, u32)],
    ) -> Result<(), TrafficError> {
        let split = self.split(function, weights)?;
        self.aliases.insert(alias, split);
        Ok(())
    }

    /// Takes an alias away; whether there was one.
    pub(crate) fn unalias(&mut self, alias: &Name) -> bool {
        self.aliases.remove(alias).is_some()
    }

    /// Sends the live traffic where it went before; gives the revision with most of it.
    pub(crate) fn rollback(&mut self, function: &FunctionName) -> Result<Revision, TrafficError> {
        let before = self.past.pop().ok_or_else(|| TrafficError::NothingBefore { function: function.clone() })?;
        self.live = before;
        let main = self.live.heaviest().map(|route| route.revision);
        main.ok_or_else(|| TrafficError::NothingBefore { function: function.clone() })
    }

    /// Lets a revision without traffic go.
    pub(crate) fn retire(&mut self, function: &FunctionName, revision: Revision) -> Result<(), TrafficError> {
        if self.revision(revision).is_none() {
            return Err(TrafficError::NoRevision { function: function.clone(), revision });
        }
        if self.is_pointed_to(revision) {
            return Err(TrafficError::Serving { function: function.clone(), revision });
        }
        self.forget(revision);
        Ok(())
    }

    /// Notes in every revision whether it serves; gives those that no longer do, and those that `before` kept and
    /// this does not.
    pub(crate) fn settle(&self, before: &Self) -> (Vec<Arc<Route>>, Vec<Arc<Route>>) {
        let (mut idle, mut gone) = (Vec::new(), Vec::new());
        for route in &self.kept {
            let serves = self.is_pointed_to(route.revision);
            if route.set_serves(serves) && !serves {
                idle.push(Arc::clone(route));
            }
        }
        for route in &before.kept {
            if self.revision(route.revision).is_none() {
                route.set_serves(false);
                gone.push(Arc::clone(route));
            }
        }
        (idle, gone)
    }

    fn set_live(&mut self, split: Split) {
        let before = std::mem::replace(&mut self.live, split);
        if !before.parts.is_empty() {
            self.past.push(before);
            if self.past.len() > PAST {
                self.past.remove(0);
            }
        }
    }

    fn split(&self, function: &FunctionName, weights: &[(Revision, u32)]) -> Result<Split, TrafficError> {
        let mut split = Split::default();
        for (revision, weight) in weights.iter().filter(|(_, weight)| *weight > 0) {
            let route = self
                .revision(*revision)
                .ok_or_else(|| TrafficError::NoRevision { function: function.clone(), revision: *revision })?;
            split.parts.push((Arc::clone(route), *weight));
            split.total += u64::from(*weight);
        }
        if split.parts.is_empty() {
            return Err(TrafficError::NoWeight { function: function.clone() });
        }
        Ok(split)
    }

    fn is_pointed_to(&self, revision: Revision) -> bool {
        self.live.has(revision) || self.aliases.values().any(|split| split.has(revision))
    }

    fn forget(&mut self, revision: Revision) {
        self.kept.retain(|route| !route.is(revision));
        // A split that it had a part in cannot be returned to.
        self.past.retain(|split| !split.has(revision));
    }
}

/// Why a call has nowhere to go.
pub(crate) fn nowhere(function: &FunctionName, qualifier: Qualifier) -> InvokeError {
    InvokeError::NoRevision { function: function.clone(), qualifier }
}

#[cfg(test)]
mod tests {
    use scf_core::{Function, Tenant};

    use super::*;
    use crate::{ledger::Books, tenant::Accounts};

    fn name() -> FunctionName {
        FunctionName::new("f").unwrap()
    }

    fn route(number: u64) -> Arc<Route> {
        let function = Arc::new(Function::native(name(), Name::new("f").unwrap()));
        let tenant = Tenant::new(function.tenant.clone());
        let account = Accounts::new(vec![tenant], 1).of(&function.tenant).unwrap();
        let books = Books::new(&Arc::default(), &account);
        Arc::new(Route::new(function, Revision::new(number), books, account, Box::new([None])))
    }

    /// A function of `count` revisions, each of which went live.
    fn deployed(count: u64, most: usize) -> Deployment {
        let mut deployment = Deployment::default();
        for _ in 0..count {
            let route = route(deployment.reserve().number());
            deployment.publish(route.clone(), most).unwrap();
            deployment.go_live(&route);
        }
        deployment
    }

    fn kept(deployment: &Deployment) -> Vec<u64> {
        deployment.revisions().iter().map(|route| route.revision.number()).collect()
    }

    fn chosen(deployment: &Deployment, qualifier: &Qualifier, id: u128) -> u64 {
        deployment.choose(qualifier, InvocationId::new(id)).unwrap().revision.number()
    }

    #[test]
    fn the_newest_deployed_revision_is_live_and_a_bounded_number_is_kept() {
        let deployment = deployed(20, 4);
        assert_eq!(kept(&deployment), [17, 18, 19, 20]);
        assert_eq!(chosen(&deployment, &Qualifier::Live, 1), 20);
        assert!(deployment.choose(&Qualifier::Revision(Revision::new(3)), InvocationId::new(1)).is_none());
    }

    #[test]
    fn a_rollback_returns_to_what_was_live_before_as_often_as_there_was_something() {
        let mut deployment = deployed(3, 4);
        assert_eq!(deployment.rollback(&name()), Ok(Revision::new(2)));
        assert_eq!(deployment.rollback(&name()), Ok(Revision::new(1)));
        assert_eq!(chosen(&deployment, &Qualifier::Live, 1), 1);
        assert_eq!(deployment.rollback(&name()), Err(TrafficError::NothingBefore { function: name() }));
        assert_eq!(deployment.reserve(), Revision::new(4), "numbers are not used again");
    }

    #[test]
    fn weights_divide_calls_and_every_try_of_a_call_meets_the_same_revision() {
        let mut deployment = deployed(2, 4);
        let canary = Qualifier::Alias(Name::new("canary").unwrap());
        let weights = [(Revision::new(1), 90), (Revision::new(2), 10)];
        deployment.alias(&name(), Name::new("canary").unwrap(), &weights).unwrap();
        let second = (0..10_000).filter(|id| chosen(&deployment, &canary, *id) == 2).count();
        assert!((900..1100).contains(&second), "{second} of 10000 with weight 10 of 100");
        for id in 0..1000 {
            assert_eq!(chosen(&deployment, &canary, id), chosen(&deployment.clone(), &canary, id));
        }
        assert_eq!(chosen(&deployment, &Qualifier::Live, 1), 2, "an alias does not touch the live traffic");
    }

    #[test]
    fn a_revision_with_traffic_is_neither_retired_nor_pushed_out() {
        let mut deployment = deployed(2, 2);
        let pinned = Name::new("pinned").unwrap();
        deployment.alias(&name(), pinned, &[(Revision::new(1), 1)]).unwrap();
        let serving = TrafficError::Serving { function: name(), revision: Revision::new(1) };
        assert_eq!(deployment.retire(&name(), Revision::new(1)), Err(serving));
        assert_eq!(deployment.publish(route(3), 2), Err(TrafficError::Full { function: name(), kept: 2 }));
        deployment.publish(route(3), 3).unwrap();
        assert_eq!(deployment.retire(&name(), Revision::new(3)), Ok(()));
        assert_eq!(kept(&deployment), [1, 2]);
    }

    #[test]
    fn what_a_rollback_would_return_to_goes_last() {
        let mut deployment = deployed(3, 3);
        deployment.publish(route(4), 3).unwrap();
        assert_eq!(kept(&deployment), [2, 3, 4], "1 is older than what was live before 3");
        deployment.publish(route(5), 3).unwrap();
        assert_eq!(kept(&deployment), [2, 3, 5], "2 is what a rollback returns to");
    }

    #[test]
    fn traffic_is_refused_that_goes_nowhere() {
        let mut deployment = deployed(1, 2);
        assert_eq!(deployment.traffic(&name(), &[]), Err(TrafficError::NoWeight { function: name() }));
        let unknown = TrafficError::NoRevision { function: name(), revision: Revision::new(9) };
        assert_eq!(deployment.traffic(&name(), &[(Revision::new(9), 1)]), Err(unknown));
        assert_eq!(chosen(&deployment, &Qualifier::Live, 1), 1);
    }

    #[test]
    fn what_lost_its_traffic_and_what_is_gone_is_told() {
        let before = deployed(2, 2);
        before.settle(&Deployment::default());
        let mut after = before.clone();
        let third = route(3);
        after.publish(third.clone(), 2).unwrap();
        after.go_live(&third);
        let numbers = |routes: Vec<Arc<Route>>| routes.iter().map(|route| route.revision.number()).collect::<Vec<_>>();
        let (idle, gone) = after.settle(&before);
        assert_eq!((numbers(idle), numbers(gone)), (vec![2], vec![1]));
    }
}
