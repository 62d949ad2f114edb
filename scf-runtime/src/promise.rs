//! Keeps what is promised of functions: tells the policy of their calls and does what it says.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use scf_core::{
    ByteSize, Expectation, InvokeError, LimitKind, ObservedCall, Outcome, Path, Progress, Reaction, Site, SloPolicy,
    Timestamp,
};

use crate::{controller::within, fabric::Inner, route::Route};

/// One try of a call of a function of which something is promised.
#[derive(Clone, Copy)]
pub(crate) struct Try<'a> {
    pub(crate) policy: &'a Arc<dyn SloPolicy>,
    pub(crate) route: &'a Route,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) input: ByteSize,
    pub(crate) begun: Timestamp,
}

impl Inner {
    /// Who keeps what is promised of the function of `route`; none where nothing is.
    pub(crate) fn policy_for(&self, route: &Route) -> Option<&Arc<dyn SloPolicy>> {
        self.slo.as_ref().filter(|_| !route.function.objectives.is_empty())
    }

    /// Runs a try and tells the policy how it goes: that it is late, while it still runs.
    pub(crate) async fn watched<F>(&self, this: Try<'_>, run: F) -> Result<Outcome, InvokeError>
    where
        F: Future<Output = Result<Outcome, InvokeError>>,
    {
        let Try { policy, route, to, input, begun, .. } = this;
        let (function, node) = (&route.function, &*self.members[to].node);
        let tell = |progress: Progress, outcome: Option<&Outcome>| {
            let now = self.clock.now();
            let execution = outcome.map(|outcome| outcome.receipt.wall.saturating_sub(outcome.receipt.queued));
            let (latency, execution) = (now.since(begun), execution.unwrap_or_default());
            let spent = outcome.map(|outcome| outcome.receipt.total_spent());
            policy.observed(function, &ObservedCall { now, node, input, progress, latency, execution, spent });
            if !matches!(progress, Progress::Met | Progress::Done) {
                self.leave_if_better(policy, route, this.from, input);
            }
        };
        let promised = function.objectives.tightest().map(|slo| slo.within);
        self.told(promised, begun, run, tell).await
    }

    /// Runs `run`, which has had `time` since `begun`, and tells how it goes: that it is late, while it still runs.
    pub(crate) async fn told<F>(
        &self,
        time: Option<Duration>,
        begun: Timestamp,
        run: F,
        tell: impl Fn(Progress, Option<&Outcome>),
    ) -> Result<Outcome, InvokeError>
    where
        F: Future<Output = Result<Outcome, InvokeError>>,
    {
        let mut run = pin!(run);
        let mut is_late = false;
        let result = match time {
            None => run.await,
            Some(time) => match within(&*self.clock, time, run.as_mut()).await {
                Some(result) => result,
                None => {
                    is_late = true;
                    tell(Progress::Late, None);
                    run.await
                }
            },
        };
        match &result {
            Ok(outcome) => {
                // The executor may have been busy when its time was over.
                let is_over = time.is_some_and(|time| self.clock.now().since(begun) > time);
                if is_over && !is_late {
                    tell(Progress::Late, None);
                }
                tell(if is_over || is_late { Progress::Done } else { Progress::Met }, Some(outcome));
            }
            Err(error) if blames_the_node(error) => {
                tell(if is_late { Progress::FailedLate } else { Progress::Failed }, None);
            }
            // What the caller or the function did wrong says nothing about where it ran.
            Err(_) => {}
        }
        result
    }

    /// Which nodes to leave out to keep what is promised of the function: first all that are not expected to keep it,
    /// then, where no other is left, those that are not even expected to be in time.
    pub(crate) fn avoided(&self, route: &Route, from: usize, input: ByteSize) -> Vec<Vec<usize>> {
        let Some(policy) = self.policy_for(route) else { return Vec::new() };
        let expected: Vec<(usize, Expectation)> = (0..self.members.len())
            .filter(|to| route.ready[*to].is_some())
            .map(|to| (to, self.expected(policy, route, from, to, input)))
            .collect();
        let worse_than = |best| expected.iter().filter(move |(_, what)| *what > best).map(|(to, _)| *to).collect();
        let mut avoided: Vec<Vec<usize>> = [Expectation::Kept, Expectation::Dear].map(worse_than).into();
        avoided.dedup();
        avoided.retain(|nodes| !nodes.is_empty());
        avoided
    }

    fn expected(
        &self,
        policy: &Arc<dyn SloPolicy>,
        route: &Route,
        from: usize,
        to: usize,
        input: ByteSize,
    ) -> Expectation {
        let (node, load) = (&*self.members[to].node, self.members[to].controller.load());
        let site = Site { now: self.clock.now(), node, path: self.way(from, to), input, load };
        policy.expects(&route.function, &site)
    }

    pub(crate) fn way(&self, from: usize, to: usize) -> Option<Path> {
        if from == to {
            return Some(Path::HERE);
        }
        self.transport.as_ref()?.path(&self.members[from].node.id, &self.members[to].node.id)
    }

    /// Has the next call from member `from` placed anew, if the function is expected to keep what is promised better
    /// somewhere else than where they go now.
    fn leave_if_better(&self, policy: &Arc<dyn SloPolicy>, route: &Route, from: usize, input: ByteSize) {
        let Some(to) = route.placed(from, self.epoch.load(Relaxed)) else { return };
        let is_option = |other: &usize| route.ready[*other].is_some() && self.way(from, *other).is_some();
        let mut others = (0..self.members.len()).filter(|other| *other != to).filter(is_option);
        let here = self.expected(policy, route, from, to, input);
        if here > Expectation::Kept && others.any(|to| self.expected(policy, route, from, to, input) < here) {
            tracing::info!(
                faas.name = %route.function.name, from = %self.members[from].node.id, node = %self.members[to].node.id,
                "scf.slo.leave"
            );
            route.forget(from);
        }
    }

    /// Whether anything is promised of any function; what is due by time for those of which something is.
    pub(crate) fn enforce(&self) -> bool {
        let Some(policy) = &self.slo else { return false };
        let routes: Vec<Arc<Route>> = {
            let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
            let all = functions.values().flat_map(|deployment| deployment.revisions());
            all.filter(|route| !route.function.objectives.is_empty()).cloned().collect()
        };
        let now = self.clock.now();
        for route in &routes {
            let reaction = policy.react(&route.function, now);
            let time = route.function.objectives.tightest().map(|slo| slo.within);
            let bound = time.filter(|_| reaction >= Reaction::Shed);
            route.ready.iter().flatten().for_each(|ready| ready.bound_waits(bound));
            if reaction >= Reaction::Move {
                (0..self.members.len()).for_each(|from| self.leave_if_better(policy, route, from, ByteSize::ZERO));
            }
        }
        !routes.is_empty()
    }
}

/// Whether a call failed for what is wrong where it ran.
pub(crate) fn blames_the_node(error: &InvokeError) -> bool {
    match error {
        InvokeError::Limit { limit, .. } => matches!(limit, LimitKind::Wall),
        InvokeError::Unreachable { .. }
        | InvokeError::Interrupted { .. }
        | InvokeError::Overloaded { .. }
        | InvokeError::Trapped { .. }
        | InvokeError::Host { .. } => true,
        _ => false,
    }
}
