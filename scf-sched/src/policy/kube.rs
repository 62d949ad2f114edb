//! The scheduler of Kubernetes, as far as functions' placement meets it.

use super::{Policy, points::Field};
use crate::{Decision, Request, fleet::Fleet};

const MIB: f32 = 1_048_576.0;
/// Images of less are not worth a point, and of more not another (`ImageLocality` of kube-scheduler 1.13).
const WORTHLESS: f32 = 23.0 * MIB;
const MOST_WORTH: f32 = 1000.0 * MIB;
/// Nodes that are found at least before it stops looking.
const FEWEST: usize = 100;

/// kube-scheduler 1.13 with its priorities `BalancedResourceAllocation` and `ImageLocality`: the baseline of the Skippy
/// evaluation (Rausch, Rashed, Dustdar, FGCS 114, 2021, section 6). Each gives 0 to 10 points; of nodes with equal points
/// the first takes the call.
///
/// Looks at as many nodes as it finds to fit, up to `percent` of all and at least 100.
#[derive(Debug)]
pub struct Kube {
    percent: u8,
    field: Field,
}

impl Default for Kube {
    /// Scores all nodes.
    fn default() -> Self {
        Self { percent: 100, field: Field::default() }
    }
}

impl Kube {
    /// What share of the nodes is scored at most (`percentageOfNodesToScore`), in per cent; 0: adaptive, 50 less one for
    /// every 125 nodes, and at least 5. Default 100.
    #[must_use]
    pub fn percent(mut self, percent: u8) -> Self {
        self.percent = percent.min(100);
        self
    }
}

/// How many nodes are found before kube-scheduler 1.13 stops looking.
pub(super) fn enough(nodes: usize, percent: u8) -> usize {
    let percent = if percent == 0 { 50usize.saturating_sub(nodes / 125).max(5) } else { usize::from(percent) };
    if percent >= 100 { nodes } else { (nodes * percent / 100).max(FEWEST) }
}

impl Policy for Kube {
    fn name(&self) -> &'static str {
        "kube"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        let field = &mut self.field;
        field.gather(fleet, request, enough(fleet.len(), self.percent), decision);
        field.balanced(request, 1.0);
        if let Some(image) = request.demand.artefact {
            let mut holders = 0u32;
            fleet.holders(image, 0, usize::MAX, |_| holders += 1);
            let spread = holders as f32 / fleet.len().max(1) as f32;
            let worth = (fleet.data_bytes(image) as f32 * spread).clamp(WORTHLESS, MOST_WORTH);
            let points = (super::points::MOST * (worth - WORTHLESS) / (MOST_WORTH - WORTHLESS)).floor();
            if points > 0.0 {
                for ((node, _), sum) in field.nodes.iter().zip(&mut field.points) {
                    if fleet.is_holder(image, *node) {
                        *sum += points;
                    }
                }
            }
        }
        field.offer(2.0 * super::points::MOST, 3, decision);
    }
}
