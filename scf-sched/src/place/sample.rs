//! Which nodes are looked at.

use std::fmt::Debug;

use smallvec::SmallVec;

use super::Scene;
use crate::{fleet::NodeIx, random::Random};

/// Most nodes of a sample.
const MOST: usize = 128;

/// Nodes that are looked at.
pub type Sample = SmallVec<[NodeIx; MOST]>;

/// How good the best of a sample is wanted to be: among the best `top` of all nodes with probability `confidence`.
///
/// Of R nodes drawn evenly the best is outside the best share `top` with probability (1 - top)^R, whatever the number
/// of nodes: R = ln(1 - confidence) / ln(1 - top) (Delimitrou, Sanchez, Kozyrakis: Tarcil, SoCC 2015, section 3).
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that it is")]
pub struct Quality {
    /// The share of nodes that are good enough, above 0 and below 1.
    pub top: f64,
    /// The wanted probability, above 0 and below 1.
    pub confidence: f64,
}

impl Quality {
    /// The size of a sample of this quality, from 1 to 128.
    #[must_use]
    pub fn sample(self) -> usize {
        let held = |share: f64| share.clamp(1e-6, 1.0 - 1e-6);
        let size = (1.0 - held(self.confidence)).ln() / (1.0 - held(self.top)).ln();
        (size.ceil() as usize).clamp(1, MOST)
    }
}

/// Chooses the nodes that are looked at. No I/O, no allocation.
pub trait Sampler: Debug + Send + Sync + 'static {
    /// Puts nodes into `sample`, at least `size` where there are as many. A node may come twice.
    fn sample(&self, scene: &Scene<'_>, size: usize, random: &mut Random, sample: &mut Sample);
}

/// Nodes that can have what is needed, each with the same chance.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct Uniform;

impl Sampler for Uniform {
    #[inline]
    fn sample(&self, scene: &Scene<'_>, size: usize, random: &mut Random, sample: &mut Sample) {
        let pool = scene.fleet.pool(scene.request.demand);
        if pool.len() <= size {
            sample.extend(pool.every(scene.request.seed as usize));
            return;
        }
        sample.extend((0..size).filter_map(|_| pool.draw(random)));
    }
}

/// Half of the sample near to what the request needs: the caller, the steps before it, nodes that have the function
/// started, hold its data or stand where it is wanted; the rest as [`Uniform`], which goes on finding out about the
/// others.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct Locality;

impl Sampler for Locality {
    #[inline]
    fn sample(&self, scene: &Scene<'_>, size: usize, random: &mut Random, sample: &mut Sample) {
        let (fleet, request) = (scene.fleet, scene.request);
        let demand = request.demand;
        let near = size / 2;
        let quarter = size.div_ceil(4);
        sample.extend(scene.from.iter().map(|spot| spot.node));
        sample.extend(scene.neighbours.iter().flatten().map(|spot| spot.node).take(quarter));
        if let Some(area) = demand.area {
            fleet.around(&area.what, random.next() as usize, |node| {
                sample.push(node);
                sample.len() < near
            });
        }
        fleet.warm_nodes(demand.function, random.next() as usize, quarter, |node| sample.push(node));
        for sources in &scene.sources {
            sample.extend(sources.iter().map(|spot| spot.node).take(near.saturating_sub(sample.len())));
        }
        // Nodes beside the largest input, or else beside the caller.
        let inputs = request.inputs.iter().zip(&scene.sources);
        let largest = inputs.max_by(|(a, _), (b, _)| a.read.total_cmp(&b.read)).and_then(|(_, nodes)| nodes.first());
        if let Some(spot) = largest.or(scene.from.as_ref()) {
            let beside = quarter.min(near.saturating_sub(sample.len()));
            sample.extend((0..beside).filter_map(|_| fleet.draw_of_site(spot.site, random)));
        }
        sample.truncate(MOST / 2);
        Uniform.sample(scene, size.saturating_sub(sample.len()).max(1), random, sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_from_the_quality_and_not_from_the_fleet() {
        let size = |top, confidence| Quality { top, confidence }.sample();
        assert_eq!((size(0.05, 0.99), size(0.10, 0.99), size(0.20, 0.99)), (90, 44, 21));
        assert_eq!((size(1.0, 0.5), size(1e-9, 0.999)), (1, MOST));
    }
}
