//! What surrounds the node: place, battery, movement, and the ways to it.

use std::time::Duration;

use scf_core::{ClusterView, Context, LinkNeed, Path, PlacementRequest, Strength, Wanted};

use super::{Candidate, Filter};

/// Metres after which a moving node that is asked to stay anywhere counts as gone: a quarter of a geo cell.
const ELSEWHERE_M: f64 = 2800.0;

/// The hard needs of a function's [`Context`], by what a node's description and the measured ways say. What neither
/// says (jitter and loss) is not satisfied: a need is never taken for satisfied because nobody knows.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct Surroundings;

impl Filter for Surroundings {
    fn name(&self) -> &'static str {
        "surroundings"
    }

    fn admits(&self, request: &PlacementRequest<'_>, view: &ClusterView, candidate: Candidate<'_>) -> bool {
        let Context { area, battery, dwell, link, data } = &request.function.needs.context;
        let node = &candidate.status.node;
        let in_area = hard(area).is_none_or(|area| node.location.is_some_and(|point| area.contains(point)));
        let has_charge = hard(battery).is_none_or(|need| {
            node.battery.is_none_or(|battery| {
                let draws = node.slowdown.stretch(request.work).as_secs_f64() * f64::from(node.rates.joules);
                let share = f64::from(need.share) * 1e-6;
                battery.percent >= need.percent && draws <= battery.joules_left() * share
            })
        });
        let stays = hard(dwell).is_none_or(|time| {
            let speed = f64::from(node.speed);
            let metres = match (area, node.location) {
                (Some(area), Some(point)) => f64::from(area.what.metres) - area.what.centre.metres_to(point),
                _ => ELSEWHERE_M,
            };
            speed == 0.0 || metres.max(0.0) / speed >= time.as_secs_f64()
        });
        let carries = hard(link).is_none_or(|need| {
            let (there, back) =
                (view.path(candidate.from, candidate.position), view.path(candidate.position, candidate.from));
            candidate.from == candidate.position || [there, back].iter().all(|path| carries(*path, need))
        });
        in_area
            && has_charge
            && stays
            && carries
            && hard(data).is_none_or(|within| arrives(request, view, candidate) <= within)
    }
}

/// A need that rules nodes out.
fn hard<T: Copy>(wanted: &Option<Wanted<T>>) -> Option<T> {
    wanted.filter(|wanted| wanted.strength == Strength::Hard).map(|wanted| wanted.what)
}

fn carries(path: Option<Path>, need: LinkNeed) -> bool {
    let asks_evenness = need.jitter < Duration::MAX || need.loss < u32::MAX;
    path.is_some_and(|path| !asks_evenness && path.latency <= need.latency && path.bandwidth >= need.bandwidth)
}

/// How long the function's data takes to arrive, one input after the other.
fn arrives(request: &PlacementRequest<'_>, view: &ClusterView, candidate: Candidate<'_>) -> Duration {
    let input = |input: &scf_core::DataInput| {
        let path = view.position(&input.node).and_then(|at| view.path(at, candidate.position));
        if input.node == candidate.status.node.id {
            return Duration::ZERO;
        }
        path.map_or(Duration::MAX, |path| path.time_for(input.size))
    };
    request.data.iter().map(input).fold(Duration::ZERO, Duration::saturating_add)
}
