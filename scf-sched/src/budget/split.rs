//! Divides a workflow's time between its steps.

use std::time::Duration;

use scf_core::Money;
use thiserror::Error;

use super::front::{Arena, Front, Order, Origin, Point, merge, of_step, prune};

/// Steps of a graph whose options have to be gone through one by one, because no part of the graph around them is a
/// sequence or a fork, at most.
const TANGLED: usize = 6;
/// Points that are looked at in one split at most.
const MOST_WORK: usize = 1 << 24;

/// A step of a graph that is to be run within a time.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who asks")]
pub struct BudgetStep {
    /// The steps that must be over before it, by position; each smaller than its own.
    pub after: Vec<usize>,
    /// What it can be run as, for its input: time and cost of each.
    pub options: Vec<(Duration, Money)>,
}

/// A split of a workflow's time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Split {
    /// The option of each step.
    pub options: Vec<usize>,
    /// How long the whole takes.
    pub takes: Duration,
    /// What it costs.
    pub costs: Money,
}

/// Why a workflow's time cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SplitError {
    /// A step has no option.
    #[error("step {step} has nothing that it can be run as")]
    NoOption {
        /// The step.
        step: usize,
    },
    /// A step is to begin after one that does not come before it.
    #[error("step {step} is after step {after}, which does not come before it")]
    Order {
        /// The step.
        step: usize,
        /// The other one.
        after: usize,
    },
    /// Even the fastest options take longer.
    #[error("the fastest options take {fastest:?} and not {within:?}")]
    TooShort {
        /// What the fastest take.
        fastest: Duration,
        /// What there is.
        within: Duration,
    },
    /// The graph is not made of sequences and forks, and has too many steps for going through the rest.
    #[error("more than {most} steps are neither in a sequence nor in a fork")]
    Tangled {
        /// How many are gone through.
        most: usize,
    },
}

/// An arc of the graph whose nodes are points of time: a step, or what several were merged to.
#[derive(Clone, Debug)]
struct Arc {
    from: usize,
    to: usize,
    front: Front,
}

/// The cheapest options with which all steps are over `within` their time: exact.
///
/// Steps in a sequence and steps side by side are merged to one whose front has every time and cost that none is better
/// than, until one is left (the series-parallel reduction of Bein, Kamburowski and Stallmann, SIAM J. Comput. 1992);
/// where the graph is not made of these alone, the options of the steps in the way are gone through. Call it again with
/// what is left of the time whenever a step is over, with that step's options replaced by what it took, at no cost.
///
/// # Errors
/// [`SplitError`], which names the step.
pub fn split(steps: &[BudgetStep], within: Duration) -> Result<Split, SplitError> {
    for (step, each) in steps.iter().enumerate() {
        if each.options.is_empty() {
            return Err(SplitError::NoOption { step });
        }
        if let Some(&after) = each.after.iter().find(|after| **after >= step) {
            return Err(SplitError::Order { step, after });
        }
    }
    let fastest = fastest(steps);
    if fastest > within {
        return Err(SplitError::TooShort { fastest, within });
    }
    let deadline = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
    let mut arena = Arena::default();
    let nothing = Point { nanos: 0, cost: 0, origin: arena.add(Origin::Empty) };
    let (arcs, last) = graph(steps, deadline, &mut arena, nothing);
    let mut reduction = Reduction { deadline, arena, nothing, last };
    let front = reduction.reduce(arcs, TANGLED)?;
    // The fastest options are within the time, so there is a point; the last one is cheapest.
    let point = front.last().ok_or(SplitError::TooShort { fastest, within })?;
    let mut options = vec![0; steps.len()];
    reduction.arena.trace(point.origin, &mut options);
    let takes = longest(steps, |step| steps[step].options[options[step]].0);
    let costs = steps.iter().zip(&options).map(|(step, option)| step.options[*option].1).sum();
    Ok(Split { options, takes, costs })
}

/// How long all steps take where `time` says what each does.
#[must_use]
pub fn longest(steps: &[BudgetStep], time: impl Fn(usize) -> Duration) -> Duration {
    let mut ends: Vec<Duration> = Vec::with_capacity(steps.len());
    for (step, each) in steps.iter().enumerate() {
        let begins = each.after.iter().filter_map(|after| ends.get(*after)).max().copied().unwrap_or_default();
        ends.push(begins.saturating_add(time(step)));
    }
    ends.into_iter().max().unwrap_or_default()
}

fn fastest(steps: &[BudgetStep]) -> Duration {
    longest(steps, |step| steps[step].options.iter().map(|option| option.0).min().unwrap_or_default())
}

/// Steps as arcs from their beginning to their end, with arcs that take no time for what is after what. The beginning of
/// all is 0. Gives the end of all.
fn graph(steps: &[BudgetStep], deadline: u64, arena: &mut Arena, nothing: Point) -> (Vec<Arc>, usize) {
    let (begins, ends) = (|step: usize| 2 * step + 1, |step: usize| 2 * step + 2);
    let last = 2 * steps.len() + 1;
    let mut has_next = vec![false; steps.len()];
    let mut arcs = Vec::new();
    let free = || vec![nothing];
    for (step, each) in steps.iter().enumerate() {
        arcs.push(Arc { from: begins(step), to: ends(step), front: of_step(step, &each.options, deadline, arena) });
        if each.after.is_empty() {
            arcs.push(Arc { from: 0, to: begins(step), front: free() });
        }
        for &after in &each.after {
            has_next[after] = true;
            arcs.push(Arc { from: ends(after), to: begins(step), front: free() });
        }
    }
    for (step, _) in has_next.iter().enumerate().filter(|(_, has_next)| !**has_next) {
        arcs.push(Arc { from: ends(step), to: last, front: free() });
    }
    if steps.is_empty() {
        arcs.push(Arc { from: 0, to: last, front: free() });
    }
    (arcs, last)
}

struct Reduction {
    deadline: u64,
    arena: Arena,
    nothing: Point,
    last: usize,
}

impl Reduction {
    /// Merges `arcs` to one from 0 to the last point of time, and gives its front.
    fn reduce(&mut self, mut arcs: Vec<Arc>, tangled: usize) -> Result<Front, SplitError> {
        while self.merge_one(&mut arcs) {
            if self.arena.len() > MOST_WORK {
                return Err(SplitError::Tangled { most: TANGLED });
            }
        }
        if let [only] = &arcs[..] {
            return Ok(only.front.clone());
        }
        if tangled == 0 {
            return Err(SplitError::Tangled { most: TANGLED });
        }
        // A point of time that one arc alone leads to: each option of that arc is fixed in turn and moved into the arcs
        // that follow.
        let ways_in = |to: usize| arcs.iter().filter(move |arc| arc.to == to).count();
        let inner = arcs.iter().enumerate().filter(|(_, arc)| arc.to != self.last && ways_in(arc.to) == 1);
        let fewest = inner.min_by_key(|(_, arc)| arc.front.len()).map(|(at, _)| at);
        let at = fewest.ok_or(SplitError::Tangled { most: TANGLED })?;
        let fixed = arcs.swap_remove(at);
        let mut points = Vec::new();
        for point in &fixed.front {
            let mut rest = arcs.clone();
            let mut is_first = true;
            for arc in rest.iter_mut().filter(|arc| arc.from == fixed.to) {
                arc.from = fixed.from;
                // Its time delays all that follows; its cost is paid once.
                let cost = if std::mem::take(&mut is_first) { point.cost } else { 0 };
                let delay = vec![Point { nanos: point.nanos, cost, origin: self.nothing.origin }];
                arc.front = merge(&delay, &arc.front, Order::Series, self.deadline, &mut self.arena);
            }
            let front = self.reduce(rest, tangled - 1)?;
            for each in front {
                points.push((each.nanos, each.cost, each.origin, point.origin));
            }
        }
        prune(&mut points, self.deadline);
        let arena = &mut self.arena;
        let add =
            |(nanos, cost, a, b): (u64, u64, u32, u32)| Point { nanos, cost, origin: arena.add(Origin::Both(a, b)) };
        Ok(points.into_iter().map(add).collect())
    }

    /// Merges two arcs side by side, or two of which one alone follows the other; answers whether there were any.
    fn merge_one(&mut self, arcs: &mut Vec<Arc>) -> bool {
        for a in 0..arcs.len() {
            for b in a + 1..arcs.len() {
                if (arcs[a].from, arcs[a].to) == (arcs[b].from, arcs[b].to) {
                    let other = arcs.swap_remove(b);
                    let front = merge(&arcs[a].front, &other.front, Order::Parallel, self.deadline, &mut self.arena);
                    arcs[a].front = front;
                    return true;
                }
            }
        }
        for a in 0..arcs.len() {
            let middle = arcs[a].to;
            let is_only_way_in = arcs.iter().filter(|arc| arc.to == middle).count() == 1;
            let mut out = (0..arcs.len()).filter(|&at| arcs[at].from == middle);
            if let (true, Some(b), None) = (is_only_way_in, out.next(), out.next()) {
                let next = arcs.swap_remove(b);
                let a = if a == arcs.len() { b } else { a };
                let front = merge(&arcs[a].front, &next.front, Order::Series, self.deadline, &mut self.arena);
                (arcs[a].to, arcs[a].front) = (next.to, front);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn option(ms: u64, cost: u64) -> (Duration, Money) {
        (Duration::from_millis(ms), Money::from_nanos(cost))
    }

    fn random_steps(random: &mut Random, after: &[&[usize]]) -> Vec<BudgetStep> {
        let mut options = || (0..3).map(|_| option(1 + random.below(50) as u64, 1 + random.below(50) as u64)).collect();
        after.iter().map(|after| BudgetStep { after: after.to_vec(), options: options() }).collect()
    }

    /// Goes through all combinations.
    fn exhaustive(steps: &[BudgetStep], within: Duration) -> Option<u64> {
        let all: usize = steps.iter().map(|step| step.options.len()).product();
        let combination = |mut number: usize| {
            let mut digit = |step: &BudgetStep| {
                let at = number % step.options.len();
                number /= step.options.len();
                at
            };
            steps.iter().map(&mut digit).collect::<Vec<_>>()
        };
        (0..all)
            .map(combination)
            .filter(|chosen| longest(steps, |step| steps[step].options[chosen[step]].0) <= within)
            .map(|chosen| steps.iter().zip(chosen).map(|(step, at)| step.options[at].1.nanos()).sum())
            .min()
    }

    const GRAPHS: [&[&[usize]]; 6] = [
        &[&[], &[0], &[1], &[2]],
        &[&[], &[0], &[0], &[0], &[1, 2, 3]],
        &[&[], &[0], &[0], &[1], &[2], &[3, 4]],
        // Two ways that cross: no sequence and no fork.
        &[&[], &[0], &[0], &[1], &[1, 2], &[3, 4]],
        &[&[], &[], &[0], &[0, 1], &[1], &[2, 3, 4]],
        &[&[], &[0], &[0]],
    ];

    #[test]
    fn nothing_cheaper_is_in_time_in_any_graph() {
        let mut random = Random::new(9);
        let (mut split_up, mut impossible) = (0, 0);
        for round in 0..240 {
            let steps = random_steps(&mut random, GRAPHS[round % GRAPHS.len()]);
            let within = Duration::from_millis(20 + random.below(160) as u64);
            match (split(&steps, within), exhaustive(&steps, within)) {
                (Ok(found), Some(best)) => {
                    assert_eq!(found.costs.nanos(), best, "round {round}");
                    assert!(found.takes <= within);
                    split_up += 1;
                }
                (Err(SplitError::TooShort { .. }), None) => impossible += 1,
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert!(split_up > 100 && impossible > 5, "{split_up} {impossible}");
    }

    #[test]
    fn says_which_step_cannot_be() {
        let step = |after: Vec<usize>, options| BudgetStep { after, options };
        let empty = [step(vec![], vec![option(1, 1)]), step(vec![0], vec![])];
        let within = Duration::from_millis(10);
        assert_eq!(split(&empty, within), Err(SplitError::NoOption { step: 1 }));
        let backwards = [step(vec![1], vec![option(1, 1)]), step(vec![], vec![option(1, 1)])];
        assert_eq!(split(&backwards, within), Err(SplitError::Order { step: 0, after: 1 }));
        assert_eq!(split(&[], within).unwrap().costs, Money::ZERO);
    }

    #[test]
    fn a_step_that_is_over_leaves_the_others_what_is_left() {
        let options = || vec![option(10, 100), option(20, 50), option(40, 10)];
        let mut steps: Vec<_> = (0..3_usize)
            .map(|at| BudgetStep { after: at.checked_sub(1).into_iter().collect(), options: options() })
            .collect();
        let within = Duration::from_millis(80);
        assert_eq!(split(&steps, within).unwrap().costs, Money::from_nanos(110));
        steps[0].options = vec![(Duration::from_millis(55), Money::ZERO)];
        let left = split(&steps, within).unwrap();
        assert_eq!(left.options[1..], [0, 0]);
        steps[0].options = vec![(Duration::from_millis(65), Money::ZERO)];
        assert_eq!(split(&steps, within).unwrap_err().to_string(), "the fastest options take 85ms and not 80ms");
    }
}
