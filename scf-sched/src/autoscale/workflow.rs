//! All functions of a workflow at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use scf_core::{Autoscaler, FunctionName, Load, Slo, Timestamp, Workflow};

use super::{erlang::OfferedLoad, window::Buckets};

/// Seconds over which runs are counted.
const WINDOW: usize = 10;
/// Slots of one step beyond the fewest that keep up.
const MOST_SPARE: u32 = 4096;

/// A step of a workflow, as it is provided for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who asks")]
pub struct StepDemand {
    /// Calls per run of the workflow.
    pub visits: f64,
    /// What a call takes.
    pub service: Duration,
    /// The step before it, by position, which is smaller; none: it takes the workflow's input.
    pub after: Option<usize>,
}

/// The slots of every step that keep `slo` over a whole run while `runs` begin per second: the fewest that keep up,
/// and then, one by one, the slot that shortens the longest path most.
///
/// Each step on a path of n may be late with an n-th of the probability that the run may, so the promise holds however
/// the waits of the steps hang together. Where the steps alone take longer than promised, waits are held within a tenth
/// of what they take.
#[must_use]
pub fn provide(steps: &[StepDemand], runs: f64, slo: &Slo) -> Vec<u32> {
    let mut depth = Vec::with_capacity(steps.len());
    for step in steps {
        let before = step.after.and_then(|after| depth.get(after)).copied().unwrap_or(0_u32);
        depth.push(before + 1);
    }
    let deepest = depth.iter().copied().max().unwrap_or(1).max(1);
    let late = ((1.0 - slo.share.fraction()) / f64::from(deepest)).max(1e-9);
    let demand = |step: &StepDemand| OfferedLoad {
        arrivals: runs * step.visits,
        service: 1.0 / step.service.as_secs_f64().max(1e-9),
        wait: Duration::ZERO,
        share: 1.0 - late,
        variation: 2.0,
    };
    let wait = |step: &StepDemand, slots: u32| {
        let demand = demand(step);
        let spare = f64::from(slots) * demand.service - demand.arrivals;
        if demand.arrivals <= 0.0 { 0.0 } else { (demand.late(slots) / late).ln().max(0.0) / spare }
    };
    let fewest = |step: &StepDemand| {
        let demand = demand(step);
        if demand.arrivals <= 0.0 { 0 } else { (demand.arrivals / demand.service).floor() as u32 + 1 }
    };
    let mut slots: Vec<u32> = steps.iter().map(fewest).collect();
    let mut waits: Vec<f64> = steps.iter().zip(&slots).map(|(step, &slots)| wait(step, slots)).collect();
    let along = |of: &dyn Fn(usize) -> f64| {
        let mut ends: Vec<f64> = Vec::with_capacity(steps.len());
        for (at, step) in steps.iter().enumerate() {
            ends.push(step.after.and_then(|after| ends.get(after)).copied().unwrap_or(0.0) + of(at));
        }
        ends
    };
    let longest = |ends: &[f64]| ends.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    let bare = longest(&along(&|at| steps[at].service.as_secs_f64())).map_or(0.0, |(_, time)| time);
    let within = slo.within.as_secs_f64().max(bare * 1.1);
    let bound = fewest_sum(&slots).saturating_add(MOST_SPARE);
    while fewest_sum(&slots) < bound {
        let ends = along(&|at| steps[at].service.as_secs_f64() + waits[at]);
        let Some((mut at, time)) = longest(&ends) else { break };
        if time <= within {
            break;
        }
        let mut best: Option<(f64, usize, f64)> = None;
        loop {
            let less = wait(&steps[at], slots[at] + 1);
            let gain = waits[at] - less;
            if best.is_none_or(|(most, ..)| gain > most) {
                best = Some((gain, at, less));
            }
            match steps[at].after {
                Some(after) if after < at => at = after,
                _ => break,
            }
        }
        let Some((_, at, less)) = best else { break };
        (slots[at], waits[at]) = (slots[at] + 1, less);
    }
    slots
}

fn fewest_sum(slots: &[u32]) -> u32 {
    slots.iter().fold(0, |sum, slots| sum.saturating_add(*slots))
}

/// Scales the functions of a workflow together: as soon as runs begin, every step has the slots that their calls will
/// need, without waiting until they have reached it.
///
/// Give the fabric [`autoscaler`](Self::autoscaler) of every function; functions that are no step keep their own.
#[derive(Clone, Debug)]
pub struct WorkflowScaling(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    slo: Slo,
    functions: Vec<FunctionName>,
    steps: Vec<StepDemand>,
    /// Calls of each step per second.
    rates: Vec<Buckets>,
    slots: Vec<u32>,
    planned: Option<Timestamp>,
}

/// How often slots are provided anew.
const EVERY: Duration = Duration::from_millis(500);

impl WorkflowScaling {
    /// For the steps of `workflow`, each called once per run as far as nothing else is seen; `slo` is what is promised
    /// of a run.
    #[must_use]
    pub fn new(workflow: &Workflow, slo: Slo) -> Self {
        let step = |after| StepDemand { visits: 1.0, service: Duration::ZERO, after };
        let steps: Vec<_> = workflow.steps.iter().map(|each| step(each.after)).collect();
        let rates = steps.iter().map(|_| Buckets::new(Duration::from_secs(1), WINDOW)).collect();
        let functions = workflow.steps.iter().map(|step| step.function.clone()).collect();
        let slots = vec![0; steps.len()];
        Self(Arc::new(Mutex::new(State { slo, functions, steps, rates, slots, planned: None })))
    }

    /// The autoscaler of a function: at least what the workflow needs of it, and what `own` says.
    #[must_use]
    pub fn autoscaler(&self, function: &FunctionName, own: Box<dyn Autoscaler>) -> Box<dyn Autoscaler> {
        let state = self.lock();
        let mut at: HashMap<_, Vec<usize>> = HashMap::new();
        for (position, name) in state.functions.iter().enumerate() {
            at.entry(name).or_default().push(position);
        }
        match at.remove(function) {
            Some(steps) => {
                Box::new(WorkflowStep { scaling: self.clone(), steps, own, in_flight: 0 }) as Box<dyn Autoscaler>
            }
            None => own,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn plan(&mut self, now: Timestamp) {
        if self.planned.is_some_and(|planned| now.since(planned) < EVERY) {
            return;
        }
        self.planned = Some(now);
        let rate = |rates: &Buckets| {
            let covered = rates.covered(now, WINDOW).max(1) as f64;
            rates.sum(now, WINDOW) / covered
        };
        let rates: Vec<f64> = self.rates.iter().map(rate).collect();
        let first = self.steps.iter().position(|step| step.after.is_none()).unwrap_or(0);
        let runs = rates.get(first).copied().unwrap_or(0.0);
        if runs > 0.0 && self.slots[first] > 0 {
            for (step, rate) in self.steps.iter_mut().zip(&rates).filter(|(step, _)| step.after.is_some()) {
                // Once calls reach a step, how many there are per run is what was seen, smoothed.
                if *rate > 0.0 {
                    step.visits = 0.9 * step.visits + 0.1 * (rate / runs).min(1000.0);
                }
            }
        }
        self.slots = provide(&self.steps, runs, &self.slo);
    }
}

/// One function of a workflow; it may be several of its steps.
#[derive(Debug)]
struct WorkflowStep {
    scaling: WorkflowScaling,
    steps: Vec<usize>,
    own: Box<dyn Autoscaler>,
    in_flight: u32,
}

impl Autoscaler for WorkflowStep {
    fn desired(&mut self, load: &Load) -> u32 {
        let own = self.own.desired(load);
        let arrived = load.ended.saturating_add(load.in_flight()).saturating_sub(self.in_flight);
        self.in_flight = load.in_flight();
        let mut state = self.scaling.lock();
        let share = f64::from(arrived) / self.steps.len() as f64;
        for &step in &self.steps {
            state.rates[step].add(load.now, share);
            if !load.service.is_zero() {
                state.steps[step].service = load.service;
            }
        }
        state.plan(load.now);
        self.steps.iter().map(|&step| state.slots[step]).fold(own, u32::max)
    }

    fn wakes_at(&self) -> Option<Timestamp> {
        self.own.wakes_at()
    }
}

#[cfg(test)]
mod tests {
    use scf_core::Name;

    use super::*;
    use crate::Kpa;

    const MS: Duration = Duration::from_millis(1);

    fn chain(services: &[u32]) -> Vec<StepDemand> {
        let step = |(at, &ms): (usize, &u32)| StepDemand { visits: 1.0, service: MS * ms, after: at.checked_sub(1) };
        services.iter().enumerate().map(step).collect()
    }

    #[test]
    fn one_step_gets_what_the_queueing_formula_gives() {
        let slots = provide(&chain(&[100]), 50.0, &Slo::percentile(95.0, MS * 200));
        assert_eq!(slots, [7]);
    }

    #[test]
    fn slots_go_where_they_shorten_the_whole_run_most() {
        let slo = Slo::percentile(95.0, MS * 400);
        let slots = provide(&chain(&[20, 200, 20]), 20.0, &slo);
        assert!(slots[1] > 4 && slots[0] <= 3 && slots[2] <= 3, "{slots:?}");
        let tight = provide(&chain(&[20, 200, 20]), 20.0, &Slo::percentile(95.0, MS * 280));
        assert!(tight.iter().sum::<u32>() > slots.iter().sum());
        let cannot = provide(&chain(&[20, 200, 20]), 20.0, &Slo::percentile(95.0, MS));
        assert!(cannot.iter().sum::<u32>() < 60, "what cannot be kept costs no end of slots: {cannot:?}");
    }

    #[test]
    fn steps_that_are_called_more_often_get_more() {
        let mut steps = chain(&[50, 50]);
        steps[1].visits = 4.0;
        let slots = provide(&steps, 20.0, &Slo::percentile(95.0, MS * 300));
        assert!(slots[1] >= slots[0] + 2, "{slots:?}");
    }

    #[test]
    fn the_last_step_has_its_slots_before_a_call_reaches_it() {
        let name = |text: &str| FunctionName::new(text).unwrap();
        let workflow = Workflow::new(Name::new("w").unwrap()).then(name("first")).then(name("last"));
        let scaling = WorkflowScaling::new(&workflow, Slo::percentile(95.0, MS * 300));
        let mut first = scaling.autoscaler(&name("first"), Box::new(Kpa::default()));
        let mut last = scaling.autoscaler(&name("last"), Box::new(Kpa::default()));
        let mut alone = Kpa::default();
        let load = |tick: u64, ended, running| {
            let now = Timestamp::from_nanos(tick * 100_000_000);
            Load { now, ended, running, service: MS * 100, current: 1, ..Load::default() }
        };
        // One call of each a second is what they know.
        for tick in 0..100 {
            let one = u32::from(tick % 10 == 0);
            first.desired(&load(tick, one, one));
            last.desired(&load(tick, one, one));
        }
        let mut wanted = (0, 0);
        for tick in 100..110 {
            first.desired(&load(tick, 0, 10 * (tick as u32 - 99)));
            wanted = (last.desired(&load(tick, 0, 0)), alone.desired(&load(tick, 0, 0)));
        }
        assert!(wanted.0 >= 3 && wanted.1 <= 1, "{wanted:?}");
    }
}
