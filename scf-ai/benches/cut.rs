//! What cutting a network that is no chain costs: 20, 60 and 150 blocks, each output taken by the next block and
//! by the third after it, as in networks of inception modules; and a chain of 20 blocks within a budget of energy.
//!
//! Ends with one JSON line per figure for `benches/figures`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use scf_ai::{BudgetOptimal, DagBlock, DagProblem, MinCut};
use scf_core::{
    Bandwidth, ByteSize, Draw, EdgeCost, Energy, FormCost, NodeId, Path, PlanError, Radio, Rates, Slowdown,
    SplitBudget, SplitPlanner as _, SplitProblem, SplitSpent, Timestamp, WireForm,
};

/// Runs `f` with a network of `n` blocks whose uploads are those of way number `way`.
fn with_network<T>(n: usize, way: usize, f: impl FnOnce(&DagProblem<'_>) -> T) -> T {
    let us = |us: usize| Duration::from_micros(us as u64);
    let inputs: Vec<Vec<usize>> =
        (0..n).map(|i| [1, 3].into_iter().filter_map(|back| i.checked_sub(back)).collect()).collect();
    let blocks: Vec<DagBlock<'_>> = inputs
        .iter()
        .enumerate()
        .map(|(i, inputs)| DagBlock {
            inputs,
            here: us(1000 + 1000 * (i % 5)),
            there: us(200),
            upload: us(50_000 * (1 + way % 7) / (1 + i)),
        })
        .collect();
    f(&DagProblem { blocks: &blocks, upload: us(80_000), download: us(500) })
}

/// Runs `f` with a chain of 20 blocks on three nodes, each faster and hungrier than the one before, whose way is number
/// `way`.
fn with_chain<T>(way: usize, f: impl FnOnce(&SplitProblem<'_>) -> T) -> T {
    let names = ["camera", "gateway", "cloud"].map(|name| NodeId::new(name).expect("a valid name"));
    let factors = [10, 3, 1];
    let us = |us: usize| Duration::from_micros(us as u64);
    let times: Vec<Duration> =
        factors.iter().flat_map(|slower| (0..20).map(move |block| us(slower * (300 + 100 * (block % 4))))).collect();
    let bandwidth = Bandwidth::from_mbit_per_s(2 + 3 * (way % 7) as u64);
    let path = Path { latency: us(2000), bandwidth, measured: Timestamp::default() };
    let size = |block: usize| ByteSize::from_bytes(150_000 / (1 + block as u64));
    let forms: Vec<[FormCost; 1]> =
        (0..20).map(|i| [FormCost { form: WireForm::Exact, size: size(i), codec: Duration::ZERO }]).collect();
    let edges: Vec<EdgeCost<'_>> = forms.iter().map(|forms| EdgeCost { forms }).collect();
    let radio = Radio { sent: 0.5, received: 0.1 };
    let draws =
        [2.0, 9.0, 40.0].map(|joules| Draw { rates: Rates { joules, ..Rates::default() }, radio, battery: None });
    f(&SplitProblem {
        nodes: 3,
        names: &names.each_ref(),
        slowdowns: &factors.map(|slower| Slowdown::new(slower as f32)),
        blocks: 20,
        first: 0,
        times: &times,
        waits: &[Duration::ZERO; 3],
        paths: &[Some(path); 9],
        edges: &edges,
        result: ByteSize::from_bytes(4000),
        draws: &draws,
        spent: SplitSpent::NOTHING,
    })
}

/// A fifth more than the cheapest split spends.
fn binding(problem: &SplitProblem<'_>) -> SplitBudget {
    let nothing = SplitBudget::Energy(Energy::ZERO);
    match BudgetOptimal::new(nothing).plan(problem) {
        Err(PlanError::OverBudget { needed: SplitBudget::Energy(least), .. }) => {
            SplitBudget::Energy(Energy::from_joules(least.joules() * 1.2))
        }
        other => panic!("no split is free: {other:?}"),
    }
}

fn main() {
    let rounds = if std::env::var_os("SCF_FIGURES_QUICK").is_some() { 210 } else { 7000 };
    for n in [20, 60, 150] {
        let mut planner = MinCut::new();
        let mut far = 0;
        let mut times: Vec<f64> = (0..rounds)
            .map(|way| {
                with_network(n, way, |problem| {
                    let start = Instant::now();
                    let cut = black_box(planner.cut(black_box(problem))).expect("every block runs here");
                    let took = start.elapsed();
                    far += cut.there.iter().filter(|&&there| there).count();
                    took.as_secs_f64() * 1e6
                })
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let bar = if n == 150 { "ai.plan.dag_us".to_owned() } else { format!("ai.plan.dag_{n}_us") };
        eprintln!("{n} blocks: {:.1} of them on the far machine on average", far as f64 / rounds as f64);
        println!("{{\"bar\":\"{bar}\",\"value\":{:.4},\"unit\":\"us\",\"n\":{rounds}}}", times[rounds / 2]);
    }
    let mut times: Vec<f64> = (0..rounds)
        .map(|way| {
            with_chain(way, |problem| {
                let planner = BudgetOptimal::new(binding(problem));
                let start = Instant::now();
                black_box(planner.plan(black_box(problem))).expect("the cheapest split is within the budget");
                start.elapsed().as_secs_f64() * 1e6
            })
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(r#"{{"bar":"ai.plan.budget_us","value":{:.4},"unit":"us","n":{rounds}}}"#, times[rounds / 2]);
}
