//! What cutting a network that is no chain costs: 20, 60 and 150 blocks, each output taken by the next block and
//! by the third after it, as in networks of inception modules.
//!
//! Ends with one JSON line per figure for `benches/figures`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use scf_ai::{DagBlock, DagProblem, MinCut};

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
}
