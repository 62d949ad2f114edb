//! What can be had for what.

use std::time::Duration;

use scf_core::Money;

/// Points that a front has at most; of more, some are left out, see [`Front`].
pub(super) const MOST_POINTS: usize = 1 << 16;

/// The choices that are behind a point: one of a step, or two points of what was merged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// Option `option` of step `step`.
    Step { step: usize, option: usize },
    /// Nothing was chosen.
    Empty,
    /// Points of two fronts, by their number in the arena.
    Both(u32, u32),
}

/// A point in time and cost that no other is better than in both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) nanos: u64,
    pub(super) cost: u64,
    /// Its number in the arena of origins.
    pub(super) origin: u32,
}

/// Points by rising time and falling cost. What is slower than the deadline is left out, as no split needs it.
///
/// Beyond 65,536 points, those that share a 65,536th of the deadline with a cheaper one are left out: what is split by
/// it is never late, and costs at most what a deadline shorter by that much would per merge.
pub(super) type Front = Vec<Point>;

/// Where points came from.
#[derive(Debug, Default)]
pub(super) struct Arena(Vec<Origin>);

impl Arena {
    pub(super) fn add(&mut self, origin: Origin) -> u32 {
        self.0.push(origin);
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }

    /// Writes the options behind a point to `chosen`.
    pub(super) fn trace(&self, origin: u32, chosen: &mut [usize]) {
        let mut open = vec![origin];
        while let Some(at) = open.pop() {
            match self.0.get(at as usize) {
                Some(Origin::Step { step, option }) => chosen[*step] = *option,
                Some(Origin::Both(a, b)) => open.extend([*a, *b]),
                _ => {}
            }
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}

/// How two parts of a workflow follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// One after the other: times add up.
    Series,
    /// Side by side: the longer one counts.
    Parallel,
}

/// Leaves out what another point is better than, what is later than `deadline`, and what is too much.
pub(super) fn prune(points: &mut Vec<(u64, u64, u32, u32)>, deadline: u64) {
    points.retain(|point| point.0 <= deadline);
    points.sort_unstable();
    let mut best = u64::MAX;
    points.retain(|point| {
        let is_better = point.1 < best;
        best = best.min(point.1);
        is_better
    });
    if points.len() > MOST_POINTS {
        let width = (deadline / MOST_POINTS as u64).max(1);
        // Of those in one interval the last one is cheapest.
        let mut kept: Vec<(u64, u64, u32, u32)> = Vec::with_capacity(MOST_POINTS);
        for point in points.drain(..) {
            match kept.last_mut() {
                Some(last) if last.0 / width == point.0 / width => *last = point,
                _ => kept.push(point),
            }
        }
        *points = kept;
    }
}

/// The front of two parts together.
pub(super) fn merge(a: &Front, b: &Front, order: Order, deadline: u64, arena: &mut Arena) -> Front {
    let mut points = Vec::new();
    match order {
        Order::Series => {
            for (x, y) in a.iter().flat_map(|x| b.iter().map(move |y| (x, y))) {
                let nanos = x.nanos.saturating_add(y.nanos);
                if nanos > deadline {
                    // Those after it take longer; the loop over them is short beside the sort.
                    continue;
                }
                points.push((nanos, x.cost.saturating_add(y.cost), x.origin, y.origin));
                // Pruned as it grows, so that memory is that of the fronts and not of their product.
                if points.len() > 8 * MOST_POINTS {
                    prune(&mut points, deadline);
                }
            }
        }
        Order::Parallel => {
            // At the time of any point, each side has its cheapest that is as fast.
            let cheapest = |front: &Front, nanos: u64| {
                let at = front.partition_point(|point| point.nanos <= nanos);
                at.checked_sub(1).map(|at| front[at])
            };
            for nanos in a.iter().chain(b).map(|point| point.nanos) {
                if let (Some(x), Some(y)) = (cheapest(a, nanos), cheapest(b, nanos)) {
                    points.push((nanos, x.cost.saturating_add(y.cost), x.origin, y.origin));
                }
            }
        }
    }
    prune(&mut points, deadline);
    let add = |(nanos, cost, x, y): (u64, u64, u32, u32)| Point { nanos, cost, origin: arena.add(Origin::Both(x, y)) };
    points.into_iter().map(add).collect()
}

/// What a step can be run as.
pub(super) fn of_step(step: usize, options: &[(Duration, Money)], deadline: u64, arena: &mut Arena) -> Front {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut points: Vec<_> =
        (0_u32..).zip(options).map(|(at, (time, cost))| (nanos(*time), cost.nanos(), at, 0)).collect();
    prune(&mut points, deadline);
    let mut add = |(nanos, cost, option, _): (u64, u64, u32, u32)| Point {
        nanos,
        cost,
        origin: arena.add(Origin::Step { step, option: option as usize }),
    };
    points.into_iter().map(&mut add).collect()
}
