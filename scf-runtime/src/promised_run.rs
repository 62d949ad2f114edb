//! Keeps what is promised of a run of a workflow: has its time divided between its steps and tells how they go.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use scf_core::{
    ByteSize, DueStep, Function, Invocation, InvokeError, NodeId, ObservedCall, ObservedRun, Outcome, Progress, Site,
    SloPolicy, Spent, Statefulness, StepShare, StepSites, Timestamp, Workflow,
};

use crate::{fabric::Inner, promise::blames_the_node, route::Route};

/// A run of which something is promised.
pub(crate) struct PromisedRun<'a> {
    inner: &'a Arc<Inner>,
    policy: &'a Arc<dyn SloPolicy>,
    workflow: &'a Workflow,
    /// The member that it runs from.
    from: usize,
    begun: Timestamp,
    spent: Spent,
}

impl<'a> PromisedRun<'a> {
    /// A run of `workflow` from `node` that begins now; none where nothing is promised of it.
    pub(crate) fn begin(inner: &'a Arc<Inner>, workflow: &'a Workflow, node: &NodeId) -> Option<Self> {
        let policy = inner.slo.as_ref().filter(|_| !workflow.objectives.is_empty())?;
        let &from = inner.positions.get(node)?;
        Some(Self { inner, policy, workflow, from, begun: inner.clock.now(), spent: Spent::NOTHING })
    }

    /// Calls step `step` where and within what the policy says; elsewhere where it cannot run there.
    pub(crate) async fn step(&mut self, step: usize, invocation: Invocation) -> Result<Outcome, InvokeError> {
        let share = self.share(step, invocation.payload.size());
        let result = match &share {
            Some((share, true)) => {
                let mut there = invocation.clone();
                there.target = Some(share.node.clone());
                match self.told(step, Some(share), there).await {
                    Err(error) if error.is_retryable() => self.told(step, None, invocation).await,
                    result => result,
                }
            }
            Some((share, false)) => self.told(step, Some(share), invocation).await,
            None => self.told(step, None, invocation).await,
        };
        if let Ok(outcome) = &result {
            self.spent += outcome.receipt.total_spent();
        }
        result
    }

    /// The run is over: `failure` is what ended it early.
    pub(crate) fn end(&self, failure: Option<&InvokeError>) {
        // What the caller or a function did wrong breaks no promise.
        if failure.is_none_or(blames_the_node) {
            let now = self.inner.clock.now();
            let (latency, spent) = (now.since(self.begun), self.spent);
            let run = ObservedRun { now, latency, succeeded: failure.is_none(), spent };
            self.policy.run_observed(self.workflow, &run);
        }
    }

    /// What the step has, and whether it may be sent to the node that is named there.
    fn share(&self, step: usize, input: ByteSize) -> Option<(StepShare, bool)> {
        let routes: Option<Vec<Arc<Route>>> = self.workflow.steps[step..]
            .iter()
            .map(|step| self.inner.deployed(&step.function, |deployment| deployment.main().cloned())?)
            .collect();
        let routes = routes?;
        let now = self.inner.clock.now();
        let left: Vec<StepSites<'_>> = routes
            .iter()
            .map(|route| StepSites { function: &route.function, sites: self.sites(route, now, input) })
            .collect();
        let elapsed = now.since(self.begun);
        let due = DueStep { now, workflow: self.workflow, step, elapsed, input, left: &left };
        let share = self.policy.share(&due)?;
        Some((share, !is_stateful(&routes[0].function)))
    }

    /// The nodes that a step can be sent to. A stateful one goes to its state, which is known where it went before.
    fn sites(&self, route: &Route, now: Timestamp, input: ByteSize) -> Vec<Site<'a>> {
        let inner = self.inner;
        let placed =
            if is_stateful(&route.function) { route.placed(self.from, inner.epoch.load(Relaxed)) } else { None };
        let is_site = |to: &usize| route.ready[*to].is_some() && placed.is_none_or(|placed| placed == *to);
        let site = |to: usize| {
            let member = &inner.members[to];
            let path = inner.way(self.from, to)?;
            Some(Site { now, node: &member.node, path: Some(path), input, load: member.controller.load() })
        };
        (0..inner.members.len()).filter(is_site).filter_map(site).collect()
    }

    /// Makes the call of a step and tells the policy how it goes.
    async fn told(
        &self,
        step: usize,
        share: Option<&StepShare>,
        invocation: Invocation,
    ) -> Result<Outcome, InvokeError> {
        let (inner, input, begun) = (self.inner, invocation.payload.size(), self.inner.clock.now());
        let tell = |progress: Progress, outcome: Option<&Outcome>| {
            let ran_on = outcome.map(|outcome| &outcome.receipt.node).or_else(|| share.map(|share| &share.node));
            let Some(&on) = ran_on.and_then(|node| inner.positions.get(node)) else { return };
            let (now, node) = (inner.clock.now(), &*inner.members[on].node);
            let execution = outcome.map(|outcome| outcome.receipt.wall.saturating_sub(outcome.receipt.queued));
            let (latency, execution) = (now.since(begun), execution.unwrap_or_default());
            let spent = outcome.map(|outcome| outcome.receipt.total_spent());
            let call = ObservedCall { now, node, input, progress, latency, execution, spent };
            self.policy.step_observed(self.workflow, step, &call);
        };
        inner.told(share.map(|share| share.within), begun, inner.route(self.from, invocation, false), tell).await
    }
}

fn is_stateful(function: &Function) -> bool {
    function.state != Statefulness::Stateless
}
