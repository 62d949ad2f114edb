//! The default scheduler.

use scf_core::{ClusterView, Placement, PlacementRequest, Refusal, ScheduleError, Scheduler, Verdict};
use smallvec::SmallVec;

use crate::{Candidate, Filter, Latency, Score, filter, random::Random};

/// Nodes that are looked at per decision. The best of 16 is, nine times of ten, among the best 14 % (Delimitrou,
/// Sanchez, Kozyrakis: Tarcil, SoCC 2015, section 3: P(best of k within share s) = 1 - (1 - s)^k).
const SAMPLE: usize = 16;
/// Costs that differ by less than this share are taken for equal: the caller's own node is taken where it is one of them,
/// and otherwise the seed decides, so that schedulers that see the same cluster do not all choose the same node.
const TIE: f64 = 0.02;

/// Samples nodes, filters them by the function's needs, and takes the one with the lowest cost.
///
/// A decision costs what the sample costs, however large the cluster. When no node of the sample will do, all
/// are looked at: a function is never unplaceable while a node fits. The caller is always in the sample.
#[derive(Debug)]
pub struct Pipeline {
    filters: Vec<Box<dyn Filter>>,
    score: Box<dyn Score>,
    sample: usize,
}

impl Default for Pipeline {
    /// The filters of every need, [`Latency`] as cost, a sample of 16.
    fn default() -> Self {
        Self { filters: filter::needs(), score: Box::new(Latency), sample: SAMPLE }
    }
}

impl Pipeline {
    /// Adds a filter after the others; default those of [`needs`](crate::needs).
    #[must_use]
    pub fn filter(mut self, filter: impl Filter) -> Self {
        self.filters.push(Box::new(filter));
        self
    }

    /// What a placement costs; default [`Latency`].
    #[must_use]
    pub fn score(mut self, score: impl Score) -> Self {
        self.score = Box::new(score);
        self
    }

    /// How many nodes are looked at; default 16, at least 1.
    #[must_use]
    pub fn sample(mut self, nodes: usize) -> Self {
        self.sample = nodes.max(1);
        self
    }

    fn best(
        &self,
        request: &PlacementRequest<'_>,
        view: &ClusterView,
        from: usize,
        candidates: impl Iterator<Item = usize>,
        random: &mut Random,
    ) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        let mut ties = 1;
        for position in candidates {
            let candidate = Candidate::new(view, position, from);
            if filter::refuses(&self.filters, request, view, candidate).is_some() {
                continue;
            }
            let cost = self.score.cost(request, view, candidate);
            match best {
                Some((_, lowest)) if cost > lowest * (1.0 + TIE) => {}
                Some((_, lowest)) if cost >= lowest * (1.0 - TIE) => {
                    // The caller's own node needs no network; of n others each is kept with probability 1/n (reservoir
                    // of one).
                    ties += 1;
                    let is_kept = best.is_some_and(|(kept, _)| kept == from);
                    if position == from || (!is_kept && random.below(ties) == 0) {
                        best = Some((position, lowest.min(cost)));
                    }
                }
                _ => {
                    ties = 1;
                    best = Some((position, cost));
                }
            }
        }
        best.map(|(position, _)| position)
    }
}

impl Scheduler for Pipeline {
    fn schedule(&self, request: &PlacementRequest<'_>, view: &ClusterView) -> Result<Placement, ScheduleError> {
        let from =
            view.position(request.from).ok_or_else(|| ScheduleError::UnknownCaller { from: request.from.clone() })?;
        let nodes = view.nodes().len();
        let mut random = Random::new(request.seed);
        let mut found = None;
        if nodes > self.sample {
            let mut sample: SmallVec<[usize; 64]> = SmallVec::new();
            sample.push(from);
            // With replacement: a node drawn twice is looked at once.
            for _ in 1..self.sample {
                let drawn = random.below(nodes);
                if !sample.contains(&drawn) {
                    sample.push(drawn);
                }
            }
            found = self.best(request, view, from, sample.iter().copied(), &mut random);
        }
        let found = found.or_else(|| self.best(request, view, from, 0..nodes, &mut random));
        match found {
            Some(position) => {
                let status = &view.nodes()[position];
                Ok(Placement { node: status.node.id.clone(), version: status.version })
            }
            None => Err(unplaceable(&self.filters, request, view, from)),
        }
    }

    /// Names the filters and gives the cost of every node, also of those outside the sample. A node that costs a little
    /// less than the chosen one was not drawn, or tied with it.
    fn explain(&self, request: &PlacementRequest<'_>, view: &ClusterView) -> Vec<Verdict> {
        let Some(from) = view.position(request.from) else { return Vec::new() };
        let chosen = self.schedule(request, view).ok().and_then(|placement| view.position(&placement.node));
        let verdict = |position| {
            let candidate = Candidate::new(view, position, from);
            let refusing = self.filters.iter().filter(|filter| !filter.admits(request, view, candidate));
            Verdict {
                node: candidate.status.node.id.clone(),
                refused: refusing.map(|filter| filter.name().to_owned()).collect(),
                seconds: Some(self.score.cost(request, view, candidate)),
                is_chosen: chosen == Some(position),
            }
        };
        (0..view.nodes().len()).map(verdict).collect()
    }
}

/// Counts which filter was the first to refuse each node.
pub(crate) fn unplaceable(
    filters: &[Box<dyn Filter>],
    request: &PlacementRequest<'_>,
    view: &ClusterView,
    from: usize,
) -> ScheduleError {
    let mut counts: SmallVec<[u32; 8]> = SmallVec::from_elem(0, filters.len());
    for position in 0..view.nodes().len() {
        if let Some(filter) = filter::refuses(filters, request, view, Candidate::new(view, position, from)) {
            counts[filter] += 1;
        }
    }
    let refused = filters.iter().zip(counts).filter(|(_, nodes)| *nodes > 0);
    let refused = refused.map(|(filter, nodes)| Refusal { filter: filter.name().into(), nodes }).collect();
    ScheduleError::Unplaceable { considered: u32::try_from(view.nodes().len()).unwrap_or(u32::MAX), refused }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use scf_core::{
        Bandwidth, ByteSize, Code, DataInput, Function, FunctionName, Health, Name, Node, NodeId, NodeStatus, Path,
        Slowdown, Tier, Timestamp,
    };

    use super::*;

    fn node(name: &str, tier: Tier, slowdown: f32) -> NodeStatus {
        let node = Node::new(NodeId::new(name).unwrap(), tier).slowdown(Slowdown::new(slowdown));
        NodeStatus { free: node.resources, node: Arc::new(node), load: 0, health: Health::Ready, version: 7 }
    }

    fn function() -> Function {
        Function::new(FunctionName::new("f").unwrap(), Code::Native { entry: Name::new("f").unwrap() })
    }

    fn view() -> ClusterView {
        let nodes =
            vec![node("camera", Tier::Device, 8.0), node("gateway", Tier::Edge, 2.0), node("cloud", Tier::Cloud, 1.0)];
        let way = |ms, mbit| {
            let (latency, bandwidth) = (Duration::from_millis(ms), Bandwidth::from_mbit_per_s(mbit));
            Path { latency, bandwidth, measured: Timestamp::default() }
        };
        let [camera, gateway, cloud] = ["camera", "gateway", "cloud"].map(|name| NodeId::new(name).unwrap());
        ClusterView::new(Timestamp::default(), nodes)
            .with_path(&camera, &gateway, way(3, 50))
            .with_path(&camera, &cloud, way(28, 20))
            .with_path(&cloud, &gateway, way(25, 20))
    }

    fn decide(work_ms: u64, payload: ByteSize, data: &[DataInput]) -> String {
        let (function, from) = (function(), NodeId::new("camera").unwrap());
        let work = Duration::from_millis(work_ms);
        let request = PlacementRequest { function: &function, from: &from, payload, data, work, seed: 1 };
        Pipeline::default().schedule(&request, &view()).unwrap().node.to_string()
    }

    #[test]
    fn work_moves_outwards_as_it_grows() {
        assert_eq!(decide(0, ByteSize::ZERO, &[]), "camera");
        assert_eq!(decide(10, ByteSize::ZERO, &[]), "gateway");
        assert_eq!(decide(200, ByteSize::ZERO, &[]), "cloud");
    }

    #[test]
    fn a_payload_that_is_dear_to_move_keeps_the_work_where_it_is() {
        assert_eq!(decide(10, ByteSize::from_mib(1), &[]), "camera");
    }

    #[test]
    fn prefers_the_node_holding_the_data() {
        let data = [DataInput { node: NodeId::new("cloud").unwrap(), size: ByteSize::from_mib(4) }];
        assert_eq!(decide(1, ByteSize::ZERO, &data), "cloud");
    }

    #[test]
    fn of_equal_nodes_the_callers_own_is_taken_and_of_others_the_seed_decides() {
        let nodes = ["a", "b", "c"].map(|name| node(name, Tier::Edge, 1.0));
        let way = Path::HERE;
        let [a, b, c] = nodes.each_ref().map(|status| status.node.id.clone());
        let view = ClusterView::new(Timestamp::default(), nodes.to_vec());
        let view = view.with_path(&b, &a, way).with_path(&b, &c, way);
        let chosen = |needs: &[NodeId], seed| {
            let mut function = function();
            function.needs.nodes = needs.to_vec();
            let (payload, work) = (ByteSize::ZERO, Duration::ZERO);
            let request = PlacementRequest { function: &function, from: &b, payload, data: &[], work, seed };
            Pipeline::default().schedule(&request, &view).unwrap().node
        };
        let seeds = 0..64;
        assert!(seeds.clone().all(|seed| chosen(&[], seed) == b));
        let others = [a.clone(), c];
        let to_a = seeds.filter(|&seed| chosen(&others, seed) == a).count();
        assert!((16..48).contains(&to_a), "{to_a} of 64");
    }

    #[test]
    fn says_which_filter_refused_how_many() {
        let mut function = function();
        function.needs.tiers = vec![Tier::Device, Tier::Edge];
        function.needs.resources.memory = ByteSize::from_mib(1 << 20);
        let from = NodeId::new("camera").unwrap();
        let work = Duration::ZERO;
        let request =
            PlacementRequest { function: &function, from: &from, payload: ByteSize::ZERO, data: &[], work, seed: 1 };
        let error = Pipeline::default().schedule(&request, &view()).unwrap_err();
        assert_eq!(error.to_string(), "none of 3 nodes will do: node refused 1, resources refused 2");
    }
}
