use std::time::Duration;

use proptest::{collection::vec, prelude::*};
use scf_core::{
    Bandwidth, Battery, ByteSize, Draw, EdgeCost, Energy, FormCost, Money, NodeId, Path, Radio, Rates, Slowdown,
    SplitSpent, Timestamp,
};

use super::*;
use crate::FixedSplit;

/// A problem that owns its tables; `tensors` are those of the network of the same blocks.
#[derive(Clone, Debug)]
struct Tables {
    slowdowns: Vec<Slowdown>,
    times: Vec<Duration>,
    waits: Vec<Duration>,
    paths: Vec<Option<Path>>,
    tensors: Vec<Vec<FormCost>>,
    inputs: Vec<SmallVec<[usize; 2]>>,
    draws: Vec<Draw>,
    spent: SplitSpent,
    result: ByteSize,
}

impl Tables {
    fn with<T>(&self, f: impl FnOnce(&NetworkProblem<'_>) -> T) -> T {
        let names: Vec<NodeId> = (0..self.slowdowns.len()).map(|i| NodeId::new(&format!("n{i}")).unwrap()).collect();
        let names: Vec<&NodeId> = names.iter().collect();
        let tensors: Vec<EdgeCost<'_>> = self.tensors.iter().map(|forms| EdgeCost { forms }).collect();
        let blocks = self.inputs.len();
        let chain = SplitProblem {
            nodes: names.len(),
            names: &names,
            slowdowns: &self.slowdowns,
            blocks,
            first: 2,
            times: &self.times,
            waits: &self.waits,
            paths: &self.paths,
            edges: &tensors[..blocks],
            result: self.result,
            draws: &self.draws,
            spent: self.spent,
        };
        f(&NetworkProblem { chain, inputs: &self.inputs, tensors: &tensors })
    }

    /// Energy in microjoules of `busy` on a node and of `bytes` over a hop, by the definition.
    fn computing(&self, node: usize, busy: Duration) -> f64 {
        f64::from(self.draws[node].rates.joules) * busy.as_secs_f64() * 1e6
    }

    fn sending(&self, from: usize, to: usize, bytes: u64) -> f64 {
        bytes as f64 * (f64::from(self.draws[from].radio.sent) + f64::from(self.draws[to].radio.received))
    }

    /// Energy of what travels over a hop, and of the result that comes back.
    fn hop(&self, from: usize, to: usize, cost: &FormCost) -> f64 {
        let codec =
            |node: usize| self.computing(node, cost.codec.mul_f64(0.5 * f64::from(self.slowdowns[node].factor())));
        self.sending(from, to, cost.size.bytes())
            + self.sending(to, from, self.result.bytes())
            + codec(from)
            + codec(to)
    }

    fn busy(&self, node: usize, blocks: impl Iterator<Item = usize>) -> f64 {
        blocks.map(|block| self.computing(node, self.times[node * self.inputs.len() + block])).sum()
    }

    /// Time in nanoseconds and energy of every assignment of the chain, each segment in every form.
    fn chains(&self) -> Vec<(f64, f64)> {
        let (n, b) = (self.slowdowns.len(), self.inputs.len());
        let mut all = Vec::new();
        for code in 0..n.pow(b as u32) {
            let nodes: Vec<usize> = (0..b).map(|i| code / n.pow(i as u32) % n).collect();
            for choice in 0..1usize << b {
                let (mut segments, mut spent): (Vec<Segment>, f64) = (Vec::new(), 0.0);
                for (i, &node) in nodes.iter().enumerate() {
                    let before = if i == 0 { 0 } else { nodes[i - 1] };
                    let form = self.tensors[i][(choice >> i & 1) % self.tensors[i].len()];
                    if node != before {
                        spent += self.hop(before, node, &form);
                    }
                    match segments.last_mut() {
                        Some(last) if last.node == node => last.to += 1,
                        _ => segments.push(Segment { node, from: 2 + i, to: 3 + i, form: form.form }),
                    }
                    spent += self.busy(node, std::iter::once(i));
                }
                if let Ok(time) = self.with(|problem| super::super::price(&problem.chain, &segments)) {
                    all.push((time, spent));
                }
            }
        }
        all
    }

    /// Energy of every split of the network between this node and one other in one form, where there is one.
    fn networks(&self) -> Vec<f64> {
        let b = self.inputs.len();
        let (mut all, alive) = (Vec::new(), self.tensors.len() - b);
        for code in 0..1usize << b {
            let far = |block: usize| code >> block & 1 == 1;
            let comes_back =
                (0..b).any(|block| !far(block) && self.inputs[block].iter().any(|&t| t >= alive && far(t - alive)));
            if comes_back {
                continue;
            }
            for node in 1..self.slowdowns.len() {
                for form in [WireForm::Exact, WireForm::Int8] {
                    let runs =
                        |block: usize| self.times[if far(block) { node } else { 0 } * b + block] != Duration::MAX;
                    let there = self.paths[node].is_some() && self.paths[node * self.slowdowns.len()].is_some();
                    if !(0..b).all(runs) || (code > 0 && !there) {
                        continue;
                    }
                    let mut spent = self.busy(0, (0..b).filter(|&block| !far(block)));
                    spent += self.busy(node, (0..b).filter(|&block| far(block)));
                    let crosses = |t: usize| {
                        (t < alive || !far(t - alive))
                            && (0..b).any(|block| far(block) && self.inputs[block].contains(&t))
                    };
                    let mut sent = FormCost { form, size: ByteSize::ZERO, codec: Duration::ZERO };
                    for forms in (0..self.tensors.len()).filter(|&t| crosses(t)).map(|t| &self.tensors[t]) {
                        let cost = forms.iter().find(|cost| cost.form == form).unwrap_or(&forms[0]);
                        (sent.size, sent.codec) = (sent.size + cost.size, sent.codec + cost.codec);
                    }
                    if code > 0 {
                        spent += self.hop(0, node, &sent);
                    }
                    all.push(spent);
                }
            }
        }
        all
    }
}

fn micros(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_micros)
}

fn tables() -> impl Strategy<Value = Tables> {
    (1usize..4, 1usize..5).prop_flat_map(|(n, b)| {
        let time = prop_oneof![9 => micros(100..5000), 1 => Just(Duration::MAX)];
        let path = (0u64..2000, 1u64..100).prop_map(|(latency, mbit)| Path {
            latency: Duration::from_micros(latency),
            bandwidth: Bandwidth::from_mbit_per_s(mbit),
            measured: Timestamp::default(),
        });
        let form = |form: WireForm| {
            (1u64..50_000, micros(0..300)).prop_map(move |(size, codec)| FormCost {
                form,
                size: ByteSize::from_bytes(size),
                codec,
            })
        };
        let forms = prop_oneof![
            form(WireForm::Exact).prop_map(|form| vec![form]),
            (form(WireForm::Exact), form(WireForm::Int8)).prop_map(|(exact, int8)| vec![exact, int8]),
        ];
        let draw = (0f32..20.0, 0f32..1.0, 0f32..0.2).prop_map(|(joules, sent, received)| Draw {
            rates: Rates { joules, ..Rates::default() },
            radio: Radio { sent, received },
            battery: None,
        });
        let nodes = (vec((1f32..20.0).prop_map(Slowdown::new), n), vec(micros(0..2000), n), vec(draw, n));
        let ways = vec(prop_oneof![9 => path.prop_map(Some), 1 => Just(None)], n * n);
        (nodes, vec(time, n * b), ways, vec(forms, b + 1), vec(any::<u32>(), b), 0u64..20_000).prop_map(
            move |((slowdowns, mut waits, draws), times, paths, tensors, bits, result)| {
                // The first tensor is there; each block takes one that there is, or two.
                let inputs = bits.iter().enumerate().map(|(i, bits)| {
                    let one = |bits: u32| bits as usize % (i + 1);
                    let mut inputs: SmallVec<[usize; 2]> = [one(bits & 0xff), one(bits >> 8)][..].into();
                    inputs.dedup();
                    inputs
                });
                let (inputs, result) = (inputs.collect(), ByteSize::from_bytes(result));
                // The call has begun here, so that nothing waits here.
                waits[0] = Duration::ZERO;
                Tables { slowdowns, times, waits, paths, tensors, inputs, draws, spent: SplitSpent::NOTHING, result }
            },
        )
    })
}

/// A limit between what the cheapest spends and what the dearest does, and beyond either.
fn limit(spent: impl Iterator<Item = f64>, share: f64) -> SplitBudget {
    let (least, most) = spent.fold((f64::INFINITY, 0.0f64), |(least, most), v| (least.min(v), most.max(v)));
    let limit = if least.is_finite() { least * 0.9 + share * (most * 1.1 - least * 0.9) } else { 1.0 };
    SplitBudget::Energy(Energy::from_microjoules(limit as u64))
}

fn microjoules(budget: SplitBudget) -> f64 {
    let SplitBudget::Energy(energy) = budget else { panic!("{budget}") };
    energy.microjoules() as f64
}

/// Microjoules by which sums differ that are rounded to nanoseconds at other places, at 20 W.
const ROUNDED: f64 = 0.2;

proptest! {
    #[test]
    fn no_assignment_of_a_chain_within_the_budget_is_faster(tables in tables(), share in 0.0..1.0) {
        let all = tables.chains();
        let budget = limit(all.iter().map(|one| one.1), share);
        let allowed = microjoules(budget) * (1.0 + 1e-9);
        let best = all.iter().filter(|one| one.1 <= allowed).map(|one| one.0).reduce(f64::min);
        match (tables.with(|problem| BudgetOptimal::new(budget).plan(&problem.chain)), best) {
            (Ok(plan), Some(best)) => {
                let paid = tables.with(|problem| super::super::price(&problem.chain, &plan.segments)).unwrap();
                prop_assert!((paid - best).abs() <= 2.0 + best * 1e-9, "{paid} ns against {best} ns");
                prop_assert!((nanos(plan.predicted) - paid).abs() <= 2.0);
            }
            (Err(PlanError::OverBudget { needed, .. }), None) => {
                let least = all.iter().map(|one| one.1).fold(f64::INFINITY, f64::min);
                prop_assert!((microjoules(needed) - least).abs() <= 2.0, "{needed} where {least} uJ are the least");
            }
            (Err(PlanError::Impossible { .. }), None) => prop_assert!(all.is_empty()),
            (plan, best) => prop_assert!(false, "{plan:?} against {best:?}"),
        }
    }

    #[test]
    fn a_network_is_split_within_the_budget_whenever_it_can_be(tables in tables(), share in 0.0..1.0) {
        let all = tables.networks();
        let budget = limit(all.iter().copied(), share);
        let least = all.iter().copied().fold(f64::INFINITY, f64::min);
        tables.with(|problem| {
            let meter = Meter::new(&problem.chain, budget).unwrap();
            let free = MinCutSplit::new().plan_network(problem);
            match BudgetOptimal::new(budget).plan_network(problem) {
                Ok(plan) => {
                    let spent = meter.of_network(problem, &plan);
                    prop_assert!(meter.allows(spent), "{spent} uJ of {budget}");
                    // One of them, and not faster than the fastest.
                    prop_assert!(all.iter().any(|one| (one - spent).abs() <= ROUNDED) || tables.slowdowns.len() == 1, "{spent} in {all:?} {plan:?}");
                    let fastest = free.unwrap().plan.predicted; prop_assert!(plan.plan.predicted >= fastest, "{:?} {fastest:?}", plan.plan.predicted);
                    let kept = WithinBudget::new(MinCutSplit::new(), budget).plan_network(problem);
                    prop_assert!(kept.is_err() || kept.unwrap() == plan, "the fastest of all is taken where it may be");
                }
                Err(PlanError::OverBudget { .. }) => {
                    prop_assert!(least + ROUNDED > microjoules(budget) || tables.slowdowns.len() == 1, "{least} uJ of {budget}");
                }
                Err(error) => prop_assert!(free.is_err(), "{error}"),
            }
            Ok(())
        })?;
    }
}

/// A camera on a battery and a gateway on mains: 10 ms here, 1 ms there, 1 ms of way; 2 W here, 30 W there.
fn camera(percent: u8) -> Tables {
    let battery = Some(Battery { watt_hours: 10, percent });
    let way =
        Path { latency: Duration::ZERO, bandwidth: Bandwidth::from_mbit_per_s(8), measured: Timestamp::default() };
    let rates = |joules, money| Rates { joules, money, carbon: 0.0 };
    let form = FormCost { form: WireForm::Exact, size: ByteSize::from_bytes(1000), codec: Duration::ZERO };
    Tables {
        slowdowns: vec![Slowdown::NONE; 2],
        times: [10, 1].map(Duration::from_millis).to_vec(),
        waits: vec![Duration::ZERO; 2],
        paths: vec![Some(way); 4],
        tensors: vec![vec![form]; 2],
        inputs: vec![[0][..].into()],
        draws: vec![
            Draw { rates: rates(2.0, 0.0), radio: Radio { sent: 5.0, received: 1.0 }, battery },
            Draw { rates: rates(30.0, 4.0), radio: Radio::default(), battery: None },
        ],
        spent: SplitSpent::NOTHING,
        result: ByteSize::ZERO,
    }
}

#[test]
fn joules_of_batteries_weigh_more_the_emptier_they_are_and_those_of_mains_nothing() {
    let planned = |percent, budget| {
        camera(percent)
            .with(|problem| BudgetOptimal::new(budget).plan(&problem.chain).map(|plan| plan.segments[0].node))
    };
    let battery = |joules| SplitBudget::Battery(Energy::from_joules(joules));
    // Here 20 mJ, there 5 mJ of the battery and 30 mJ of mains.
    assert_eq!(planned(100, battery(0.005)), Ok(1));
    let over = |budget, needed| Err(PlanError::OverBudget { budget, needed });
    assert_eq!(planned(25, battery(0.005)), over(battery(0.005), battery(0.02)));
    let energy = |joules| SplitBudget::Energy(Energy::from_joules(joules));
    assert_eq!(planned(25, energy(0.035)), Ok(1));
    assert_eq!(planned(25, energy(0.034)), Ok(0), "slower, and within the budget");
    assert_eq!(planned(25, energy(0.019)), over(energy(0.019), energy(0.02)));
    let money = |units| SplitBudget::Money(Money::from_units(units));
    assert_eq!([planned(25, money(0.004)), planned(25, money(0.003))], [Ok(1), Ok(0)]);
}

#[test]
fn what_a_run_has_spent_is_not_there_any_more_and_what_has_begun_is_finished_by_the_cheapest_split() {
    let budget = SplitBudget::Energy(Energy::from_joules(0.04));
    let planned = |joules| {
        let tables =
            Tables { spent: SplitSpent { energy: Energy::from_joules(joules), ..SplitSpent::NOTHING }, ..camera(100) };
        let planner = BudgetOptimal::new(budget);
        let chain = tables.with(|problem| planner.plan(&problem.chain)).unwrap().segments[0].node;
        let network = tables.with(|problem| planner.plan_network(problem)).unwrap().plan.segments[0].node;
        (chain, network)
    };
    // Here 20 mJ, there 35 mJ and sooner.
    let nodes = [(0.0, 1), (0.005, 1), (0.006, 0), (0.02, 0), (0.03, 0)];
    assert_eq!(nodes.map(|(joules, _)| planned(joules)), nodes.map(|(_, node)| (node, node)));
    let fixed = WithinBudget::new(FixedSplit::all_on(NodeId::new("n1").unwrap()), budget);
    let mut begun = camera(100);
    begun.spent.energy = Energy::from_joules(0.03);
    assert_eq!(begun.with(|problem| fixed.plan(&problem.chain)).unwrap().segments[0].node, 1);
}

#[test]
fn a_static_split_over_the_budget_is_refused_with_both_amounts() {
    let budget = SplitBudget::Energy(Energy::from_joules(0.01));
    let fixed = WithinBudget::new(FixedSplit::all_on(NodeId::new("n1").unwrap()), budget);
    let refused = camera(50).with(|problem| fixed.plan(&problem.chain)).unwrap_err();
    assert_eq!(refused.to_string(), "the cheapest split that was found comes to 0.035 J of a budget of 0.01 J");
    let mut uncounted = camera(50);
    uncounted.draws.clear();
    let refused = uncounted.with(|problem| fixed.plan(&problem.chain));
    assert_eq!(refused, Err(PlanError::Malformed { table: "draws" }));
}

/// Puts a block on a node, both of which may not be there.
#[derive(Debug)]
struct Nonsense(usize, usize);

impl SplitPlanner for Nonsense {
    fn name(&self) -> &'static str {
        "nonsense"
    }

    fn plan(&self, _: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        let segment = Segment { node: self.0, from: self.1, to: self.1 + 1, form: WireForm::Exact };
        Ok(SplitPlan { segments: std::iter::once(segment).collect(), predicted: Duration::ZERO })
    }
}

#[test]
fn a_plan_of_what_is_not_there_is_unsound_and_not_priced() {
    let budget = SplitBudget::Energy(Energy::from_joules(1.0));
    for (node, block) in [(2, 2), (0, 1), (0, 3), (usize::MAX, 2)] {
        let planner = WithinBudget::new(Nonsense(node, block), budget);
        let refused =
            camera(50).with(|problem| [planner.plan(&problem.chain).err(), planner.plan_network(problem).err()]);
        let unsound = Some(PlanError::Unsound { planner: "nonsense" });
        assert_eq!(refused, [unsound.clone(), unsound], "block {block} on node {node}");
    }
}
