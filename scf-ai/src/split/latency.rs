//! The split with the least predicted time.

use scf_core::{PlanError, Segment, SplitPlan, SplitPlanner, SplitProblem, WireForm};
use smallvec::{SmallVec, smallvec};

use super::{Hop, Sending, check, duration, nanos};

/// Finds the assignment of blocks to nodes with the least predicted time until the result is back.
///
/// Neurosurgeon's choice of one cut between two machines (Kang et al., ASPLOS 2017, section 5) as a shortest
/// path over (block, node), so that a chain of hops, device to gateway to cloud, is found like any single cut.
/// Counts waits, codec time on both sides, and the result's way back over every hop. Exact; time is
/// blocks x nodes² x forms, without a heap allocation up to 64 blocks and 8 nodes. Of equally fast assignments
/// it takes one with fewer hops.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a planner without settings is written as its name")]
pub struct LatencyOptimal;

impl LatencyOptimal {
    /// The planner; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Before a block on a node: stay, or hop to a node in a form.
#[derive(Clone, Copy)]
struct Move {
    to: u16,
    form: u16,
}

impl SplitPlanner for LatencyOptimal {
    fn name(&self) -> &'static str {
        "latency-optimal"
    }

    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        check(problem)?;
        let (n, blocks) = (problem.nodes, problem.blocks);
        if n > usize::from(u16::MAX) || problem.edges.iter().any(|e| e.forms.len() > usize::from(u16::MAX)) {
            return Err(PlanError::Malformed { table: "nodes" });
        }
        let mut hops: SmallVec<[Hop; 64]> = SmallVec::with_capacity(n * n);
        for from in 0..n {
            hops.extend((0..n).map(|to| Hop::between(problem, from, to)));
        }
        let waits: SmallVec<[f64; 8]> = problem.waits.iter().map(|&w| nanos(w)).collect();
        // Time until the result is back on a node from the moment that the activation before the block is
        // there, and its first move.
        let mut rest: SmallVec<[f64; 8]> = smallvec![0.0; n];
        let mut stay: SmallVec<[f64; 8]> = smallvec![0.0; n];
        let mut moves: SmallVec<[Move; 512]> = smallvec![Move { to: 0, form: 0 }; n * blocks];
        let mut forms: SmallVec<[Sending; 4]> = SmallVec::new();
        for block in (0..blocks).rev() {
            for node in 0..n {
                stay[node] = nanos(problem.times[node * blocks + block]) + rest[node];
            }
            forms.clear();
            forms.extend(problem.edges[block].forms.iter().map(Sending::of));
            for node in 0..n {
                // Only before the first block does work on this node wait; later it is already running.
                let begin = if block == 0 && node == 0 { waits[0] } else { 0.0 };
                let (mut best, mut step) = (begin + stay[node], Move { to: node as u16, form: 0 });
                for to in (0..n).filter(|&to| to != node) {
                    let hop = hops[node * n + to];
                    let there = waits[to] + stay[to];
                    for (i, &form) in forms.iter().enumerate() {
                        let time = hop.time(form) + there;
                        if time < best {
                            (best, step) = (time, Move { to: to as u16, form: i as u16 });
                        }
                    }
                }
                rest[node] = best;
                moves[block * n + node] = step;
            }
        }
        if !rest[0].is_finite() {
            return Err(PlanError::Impossible { block: problem.first + stuck(problem) });
        }
        Ok(SplitPlan { segments: follow(problem, &moves), predicted: duration(rest[0]) })
    }
}

fn follow(problem: &SplitProblem<'_>, moves: &[Move]) -> SmallVec<[Segment; 4]> {
    let mut segments: SmallVec<[Segment; 4]> = SmallVec::new();
    let (mut at, end) = (0, problem.first + problem.blocks);
    for block in 0..problem.blocks {
        let step = moves[block * problem.nodes + at];
        let (to, from) = (usize::from(step.to), problem.first + block);
        if to != at || block == 0 {
            let form = if to == at { WireForm::Exact } else { problem.edges[block].forms[usize::from(step.form)].form };
            if let Some(last) = segments.last_mut() {
                last.to = from;
            }
            segments.push(Segment { node: to, from, to: end, form });
            at = to;
        }
    }
    segments
}

/// The first block that no assignment gets past. Only asked when there is no plan.
fn stuck(problem: &SplitProblem<'_>) -> usize {
    let (n, blocks) = (problem.nodes, problem.blocks);
    let mut reached: SmallVec<[bool; 8]> = (0..n).map(|node| node == 0).collect();
    for block in 0..blocks {
        let runs = |node: usize| nanos(problem.times[node * blocks + block]).is_finite();
        let linked = |from: usize, to: usize| {
            from == to
                || problem.edges[block]
                    .forms
                    .iter()
                    .any(|f| Hop::between(problem, from, to).time(Sending::of(f)).is_finite())
        };
        let next: SmallVec<[bool; 8]> =
            (0..n).map(|to| runs(to) && (0..n).any(|from| reached[from] && linked(from, to))).collect();
        if next.iter().all(|&there| !there) {
            return block;
        }
        reached = next;
    }
    blocks - 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{collection::vec, prelude::*};
    use scf_core::{Bandwidth, ByteSize, EdgeCost, FormCost, NodeId, Path, Slowdown, SplitSpent, Timestamp};

    use super::{super::price, *};

    #[derive(Clone, Debug)]
    struct Tables {
        names: Vec<NodeId>,
        slowdowns: Vec<Slowdown>,
        first: usize,
        times: Vec<Duration>,
        waits: Vec<Duration>,
        paths: Vec<Option<Path>>,
        forms: Vec<Vec<FormCost>>,
        result: ByteSize,
    }

    impl Tables {
        fn with<T>(&self, f: impl FnOnce(&SplitProblem<'_>) -> T) -> T {
            let names: Vec<&NodeId> = self.names.iter().collect();
            let edges: Vec<EdgeCost<'_>> = self.forms.iter().map(|forms| EdgeCost { forms }).collect();
            f(&SplitProblem {
                nodes: names.len(),
                names: &names,
                slowdowns: &self.slowdowns,
                blocks: edges.len(),
                first: self.first,
                times: &self.times,
                waits: &self.waits,
                paths: &self.paths,
                edges: &edges,
                result: self.result,
                draws: &[],
                spent: SplitSpent::NOTHING,
            })
        }
    }

    fn micros(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
        range.prop_map(Duration::from_micros)
    }

    fn time() -> impl Strategy<Value = Duration> {
        prop_oneof![9 => micros(1..5000), 1 => Just(Duration::MAX)]
    }

    fn path() -> impl Strategy<Value = Option<Path>> {
        let some = (micros(0..3000), 0u64..2_000_000_000).prop_map(|(latency, bits)| {
            Some(Path { latency, bandwidth: Bandwidth::from_bits_per_s(bits), measured: Timestamp::default() })
        });
        prop_oneof![8 => some, 1 => Just(None)]
    }

    fn forms() -> impl Strategy<Value = Vec<FormCost>> {
        let form = |form| {
            let make = move |(size, codec)| FormCost { form, size: ByteSize::from_bytes(size), codec };
            (0u64..300_000, micros(0..400)).prop_map(make)
        };
        prop_oneof![
            form(WireForm::Exact).prop_map(|f| vec![f]),
            (form(WireForm::Exact), form(WireForm::Int8)).prop_map(|(a, b)| vec![a, b]),
        ]
    }

    fn tables() -> impl Strategy<Value = Tables> {
        (1usize..4, 1usize..6, 0usize..10).prop_flat_map(|(n, b, first)| {
            let names = (0..n).map(|i| NodeId::new(&format!("n{i}")).unwrap()).collect::<Vec<_>>();
            let numbers = (vec(1f32..20.0, n), vec(time(), n * b), vec(micros(0..2000), n));
            (numbers, vec(path(), n * n), vec(forms(), b), 0u64..50_000).prop_map(
                move |((slow, times, waits), paths, forms, result)| Tables {
                    names: names.clone(),
                    slowdowns: slow.into_iter().map(Slowdown::new).collect(),
                    first,
                    times,
                    waits,
                    paths,
                    forms,
                    result: ByteSize::from_bytes(result),
                },
            )
        })
    }

    /// Every assignment, each segment in every form, priced by itself.
    fn brute_force(problem: &SplitProblem<'_>) -> Option<f64> {
        let (n, b) = (problem.nodes, problem.blocks);
        let mut best = None;
        for code in 0..n.pow(b as u32) {
            let nodes: Vec<usize> = (0..b).map(|i| code / n.pow(i as u32) % n).collect();
            for choice in 0..1usize << b {
                let mut segments: Vec<Segment> = Vec::new();
                for (i, &node) in nodes.iter().enumerate() {
                    let forms = problem.edges[i].forms;
                    let form = forms[(choice >> i & 1) % forms.len()].form;
                    match segments.last_mut() {
                        Some(last) if last.node == node => last.to += 1,
                        _ => {
                            let from = problem.first + i;
                            segments.push(Segment { node, from, to: from + 1, form });
                        }
                    }
                }
                if let Ok(time) = price(problem, &segments) {
                    best = Some(best.map_or(time, |b: f64| b.min(time)));
                }
            }
        }
        best
    }

    proptest! {
        #[test]
        fn no_assignment_is_faster_and_the_plan_takes_what_it_predicts(tables in tables()) {
            tables.with(|problem| match (LatencyOptimal::new().plan(problem), brute_force(problem)) {
                (Ok(plan), Some(best)) => {
                    let predicted = nanos(plan.predicted);
                    prop_assert!((predicted - best).abs() <= 2.0 + best * 1e-9, "{predicted} ns against {best} ns");
                    let paid = price(problem, &plan.segments).unwrap();
                    prop_assert!((paid - best).abs() <= 2.0 + best * 1e-9, "the plan costs {paid} ns, not {best}");
                    let mut next = problem.first;
                    for segment in &plan.segments {
                        prop_assert!(segment.from == next && segment.to > segment.from);
                        next = segment.to;
                    }
                    prop_assert_eq!(next, problem.first + problem.blocks);
                    Ok(())
                }
                (Err(PlanError::Impossible { block }), None) => {
                    prop_assert!((problem.first..problem.first + problem.blocks).contains(&block));
                    Ok(())
                }
                (plan, best) => Err(TestCaseError::fail(format!("{plan:?} against {best:?}"))),
            })?;
        }
    }

    #[test]
    fn finds_the_chain_from_device_over_gateway_to_cloud() {
        // Early blocks shrink the activation; each node up is four times faster and the second link slower.
        let blocks = 6;
        let sizes = [600_000u64, 300_000, 100_000, 40_000, 20_000, 10_000];
        let way = |latency, mbit| {
            Some(Path {
                latency: Duration::from_millis(latency),
                bandwidth: Bandwidth::from_mbit_per_s(mbit),
                measured: Timestamp::default(),
            })
        };
        let (near, far) = (way(1, 200), way(4, 20));
        let tables = Tables {
            names: ["cam", "gw", "cloud"].iter().map(|n| NodeId::new(n).unwrap()).collect(),
            slowdowns: [16.0, 4.0, 1.0].map(Slowdown::new).to_vec(),
            first: 0,
            times: [16, 4, 1].iter().flat_map(|ms| vec![Duration::from_millis(4 * ms); blocks]).collect(),
            waits: vec![Duration::ZERO; 3],
            paths: vec![None, near, None, near, None, far, None, far, None],
            forms: sizes
                .map(|size| {
                    vec![FormCost { form: WireForm::Exact, size: ByteSize::from_bytes(size), codec: Duration::ZERO }]
                })
                .to_vec(),
            result: ByteSize::from_bytes(4000),
        };
        let plan = tables.with(|problem| LatencyOptimal::new().plan(problem)).unwrap();
        let path: Vec<_> = plan.segments.iter().map(|s| (s.node, s.from, s.to)).collect();
        assert_eq!(path, [(1, 0, 3), (2, 3, 6)]);
    }

    #[test]
    fn a_long_wait_at_the_fast_node_keeps_the_work_here() {
        let way = Some(Path {
            latency: Duration::ZERO,
            bandwidth: Bandwidth::from_mbit_per_s(1000),
            measured: Timestamp::default(),
        });
        let mut tables = Tables {
            names: ["cam", "cloud"].iter().map(|n| NodeId::new(n).unwrap()).collect(),
            slowdowns: vec![Slowdown::NONE; 2],
            first: 3,
            times: [10, 1].map(Duration::from_millis).to_vec(),
            waits: vec![Duration::ZERO; 2],
            paths: vec![way; 4],
            forms: vec![vec![FormCost { form: WireForm::Int8, size: ByteSize::ZERO, codec: Duration::ZERO }]],
            result: ByteSize::ZERO,
        };
        let node = |tables: &Tables| tables.with(|p| LatencyOptimal::new().plan(p).unwrap().segments[0].node);
        assert_eq!(node(&tables), 1);
        tables.waits[1] = Duration::from_millis(20);
        assert_eq!(node(&tables), 0);
        tables.times = vec![Duration::MAX; 2];
        let error = tables.with(|p| LatencyOptimal::new().plan(p)).unwrap_err();
        assert_eq!(error, PlanError::Impossible { block: 3 });
    }
}
