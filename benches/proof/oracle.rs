//! The best split of each input, in hindsight.

use std::time::Duration;

use scf::{
    ai::{FixedSplit, codec_cost},
    core::{
        BlockGraph, BoxError, ByteSize, EdgeCost, Envelope, FormCost, Path, Slowdown, SplitPlanner, SplitProblem,
        SplitSpent, TensorSpec, WireForm,
    },
};

use crate::{
    arm::{EDGE, cloud, edge},
    processor::Profile,
    regime::Moment,
};

/// What an activation's message has beside its elements.
const MESSAGE: ByteSize = ByteSize::from_bytes(32);

/// Knows what every block took and what link, queue and load are.
pub(crate) struct Oracle {
    profile: Profile,
    forms: Vec<Vec<FormCost>>,
    result: ByteSize,
}

impl Oracle {
    pub(crate) fn new(graph: &BlockGraph, profile: &Profile) -> Self {
        let size = |spec: &TensorSpec, form: WireForm| {
            form.size(spec).unwrap_or(ByteSize::from_bytes(u64::MAX)) + MESSAGE + Envelope::OVERHEAD
        };
        let edges = graph.edges();
        let blocks = graph.blocks();
        let forms = |block: usize| {
            let cost = |&form: &WireForm| {
                let spec = &edges[block];
                FormCost { form, size: size(spec, form), codec: codec_cost(spec, form) }
            };
            graph.wire_forms(block).iter().map(cost).collect()
        };
        Self {
            profile: profile.clone(),
            forms: (0..blocks.len()).map(forms).collect(),
            result: size(&edges[blocks.len()], WireForm::Exact),
        }
    }

    /// What everything takes on the cloud.
    pub(crate) fn whole(&self) -> Duration {
        self.profile.times().iter().sum()
    }

    /// Which of `splits` is best at `moment`.
    pub(crate) fn choose(&self, splits: &[FixedSplit], moment: &Moment) -> Result<usize, BoxError> {
        let path = Path {
            latency: moment.link.latency,
            bandwidth: moment.link.bandwidth,
            measured: scf::core::Timestamp::default(),
        };
        let slow = EDGE * moment.load;
        let there = self.profile.times().iter();
        let times: Vec<Duration> = there.clone().map(|time| time.mul_f64(slow)).chain(there.copied()).collect();
        let edges: Vec<EdgeCost<'_>> = self.forms.iter().map(|forms| EdgeCost { forms }).collect();
        let problem = SplitProblem {
            nodes: 2,
            names: &[&edge(), &cloud()],
            slowdowns: &[Slowdown::new(slow as f32), Slowdown::NONE],
            blocks: edges.len(),
            first: 0,
            times: &times,
            waits: &[Duration::ZERO, moment.wait],
            paths: &[Some(Path::HERE), Some(path), Some(path), Some(Path::HERE)],
            edges: &edges,
            result: self.result,
            draws: &[],
            spent: SplitSpent::NOTHING,
        };
        let mut best = (Duration::MAX, 0);
        for (at, split) in splits.iter().enumerate() {
            best = best.min((split.plan(&problem)?.predicted, at));
        }
        Ok(best.1)
    }
}
