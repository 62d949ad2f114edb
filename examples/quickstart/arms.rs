//! What the planned split is held against: fixed splits of the same network, run for real.

use std::{
    error::Error,
    sync::{Arc, OnceLock},
    time::Duration,
};

use scf::{
    ai::{BlockProfiler, FixedSplit, codec_cost},
    core::{
        BlockGraph, ByteSize, EdgeCost, FormCost, Node, NodeId, Path, PlanError, SplitPlan, SplitPlanner, SplitProblem,
        SplitSpent, Timestamp, WireForm,
    },
};

use crate::network::{ACCESS, SCHEDULE, Weather};

/// A fixed split that is chosen after the function was deployed.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChosenLater(Arc<OnceLock<FixedSplit>>);

impl ChosenLater {
    /// Chooses; the first choice stays.
    pub(crate) fn choose(&self, split: FixedSplit) {
        self.0.get_or_init(|| split);
    }
}

impl SplitPlanner for ChosenLater {
    fn name(&self) -> &'static str {
        "best-static"
    }

    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        self.0.get().map_or_else(|| FixedSplit::here().plan(problem), |split| split.plan(problem))
    }
}

/// The fixed split that would be best for the whole schedule, by the profile and the links as they will be.
///
/// Looks at every place to hand over to the gateway, to the cloud, and to one after the other, in every form.
pub(crate) fn best_static(
    graph: &BlockGraph,
    profiler: &BlockProfiler,
    nodes: &[Arc<Node>; 3],
) -> Result<(FixedSplit, String), Box<dyn Error>> {
    let [_, gateway, cloud] = [0, 1, 2].map(|at: usize| nodes[at].id.clone());
    let mut best = (FixedSplit::here(), "everything on camera".to_owned());
    let mut lowest = mean(graph, profiler, nodes, &best.0)?;
    let blocks = graph.blocks().len();
    let mut consider = |split: FixedSplit, name: String| -> Result<(), Box<dyn Error>> {
        let mean = mean(graph, profiler, nodes, &split)?;
        if mean < lowest {
            (lowest, best) = (mean, (split, name));
        }
        Ok(())
    };
    let hop = |split: FixedSplit, block: usize, node: &NodeId, form| split.hand_over(block, node.clone(), form);
    for first in 0..blocks {
        for &form in graph.wire_forms(first) {
            for node in [&gateway, &cloud] {
                let name = format!("{node} from block {first} on, {}", form.as_str());
                consider(hop(FixedSplit::here(), first, node, form), name)?;
            }
            for second in first + 1..blocks {
                for &again in graph.wire_forms(second) {
                    let split = hop(hop(FixedSplit::here(), first, &gateway, form), second, &cloud, again);
                    consider(split, format!("{gateway} from block {first}, {cloud} from block {second} on"))?;
                }
            }
        }
    }
    Ok(best)
}

/// The mean time of `split` over the frames of the schedule; [`Duration::MAX`] when it fails in a part of it.
fn mean(
    graph: &BlockGraph,
    profiler: &BlockProfiler,
    nodes: &[Arc<Node>; 3],
    split: &FixedSplit,
) -> Result<Duration, Box<dyn Error>> {
    let forms: Vec<Vec<FormCost>> = (0..graph.blocks().len()).map(|block| forms(graph, block)).collect();
    let edges: Vec<EdgeCost<'_>> = forms.iter().map(|forms| EdgeCost { forms }).collect();
    let mut times = Vec::new();
    for node in nodes {
        for block in 0..graph.blocks().len() {
            times.push(profiler.estimate(node, block));
        }
    }
    let (mut total, mut frames) = (Duration::ZERO, 0u32);
    for weather in &SCHEDULE {
        let problem = SplitProblem {
            nodes: 3,
            names: &[&nodes[0].id, &nodes[1].id, &nodes[2].id],
            slowdowns: &[nodes[0].slowdown, nodes[1].slowdown, nodes[2].slowdown],
            blocks: graph.blocks().len(),
            first: 0,
            times: &times,
            waits: &[Duration::ZERO; 3],
            paths: &paths(weather),
            edges: &edges,
            result: graph.edges()[graph.blocks().len()].size().unwrap_or(ByteSize::ZERO),
            draws: &[],
            spent: SplitSpent::NOTHING,
        };
        let Ok(plan) = split.plan(&problem) else { return Ok(Duration::MAX) };
        total += plan.predicted * u32::try_from(weather.frames)?;
        frames += u32::try_from(weather.frames)?;
    }
    Ok(total / frames)
}

fn forms(graph: &BlockGraph, block: usize) -> Vec<FormCost> {
    let spec = &graph.edges()[block];
    let cost = |&form: &WireForm| Some(FormCost { form, size: form.size(spec)?, codec: codec_cost(spec, form) });
    graph.wire_forms(block).iter().filter_map(cost).collect()
}

/// The ways between camera, gateway and cloud as the schedule makes them.
fn paths(weather: &Weather) -> [Option<Path>; 9] {
    let way = |latency, bandwidth| Some(Path { latency, bandwidth, measured: Timestamp::default() });
    let access = way(ACCESS.latency, ACCESS.bandwidth);
    let uplink = weather.uplink.and_then(|link| way(link.latency, link.bandwidth));
    // A message is handed on as a whole, so that the times over both links add up.
    let both = weather.uplink.and_then(|link| {
        let rate = |a: u64, b: u64| (u128::from(a) * u128::from(b) / (u128::from(a) + u128::from(b))) as u64;
        let bandwidth = rate(ACCESS.bandwidth.bits_per_s(), link.bandwidth.bits_per_s());
        way(ACCESS.latency + link.latency, scf::core::Bandwidth::from_bits_per_s(bandwidth))
    });
    let here = Some(Path::HERE);
    [here, access, both, access, here, uplink, both, uplink, here]
}
