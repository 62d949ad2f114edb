//! Elasticity and objectives: `cargo bench -p scf-sched --bench scale`, with `-- --quick` for less.
//!
//! Autoscaler: CPU time of a decision, over 10,000 functions that are asked one after the other, as the fabric does by
//! time. Learner: CPU time of an update and of a prediction, and how far the share of calls that take no longer than
//! promised is from the 95 % promised, after 200 calls, for four kinds of spread. Budget: the cost of replayed
//! workflows over the least cost in time, which is found by going through all combinations.

#[path = "../tests/it/chunkfunc.rs"]
mod chunkfunc;
#[path = "../tests/it/coverage.rs"]
mod coverage;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/random.rs"]
mod random;

use std::{hint::black_box, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use scf_core::{Autoscaler, Load, Name, Timestamp};
use scf_sched::{Kpa, Learner};

use crate::{
    chunkfunc::replays,
    coverage::{SPREADS, Spread, coverage},
    random::Random,
};

const FUNCTIONS: usize = 10_000;

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn autoscaler(ticks: u64) {
    let mut scalers = vec![Kpa::default(); FUNCTIONS];
    let mut random = Random::new(1);
    let (mut took, mut current) = (Vec::new(), vec![1; FUNCTIONS]);
    for tick in 0..ticks {
        let now = Timestamp::from_nanos(tick * 2_000_000_000);
        let running: Vec<u32> = (0..FUNCTIONS).map(|_| random.below(20) as u32).collect();
        let start = cpu();
        for ((scaler, current), running) in scalers.iter_mut().zip(&mut current).zip(running) {
            *current = black_box(scaler.desired(&Load { now, running, current: *current, ..Load::default() }));
        }
        // The windows are full after half a minute.
        if tick >= 30 {
            took.push((cpu() - start).as_secs_f64());
        }
    }
    let (ticks, tick) = (took.len(), median(took));
    figure("scale.kpa_us", tick / FUNCTIONS as f64 * 1e6, "us", ticks * FUNCTIONS);
    figure("scale.kpa_tick_10k_ms", tick * 1e3, "ms", ticks);
}

fn learner(rounds: usize) {
    let class = Name::new("edge").expect("the literal is a name");
    let (mut learner, mut random) = (Learner::new(0.95, 9), Random::new(2));
    let calls: Vec<_> = (0..1000)
        .map(|number| {
            let (mut features, took) = coverage::call(&mut random, Spread::LogNormal, number);
            features.others = (0..9).map(|_| random.unit()).collect();
            (features, took)
        })
        .collect();
    let (mut updates, mut predictions) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = cpu();
        for (features, took) in &calls {
            learner.observe(&class, features, *took);
        }
        let between = cpu();
        for (features, _) in &calls {
            black_box(learner.predict(&class, features));
        }
        updates.push((between - start).as_secs_f64() / calls.len() as f64);
        predictions.push((cpu() - between).as_secs_f64() / calls.len() as f64);
    }
    figure("slo.update_us", median(updates) * 1e6, "us", rounds * calls.len());
    figure("slo.predict_us", median(predictions) * 1e6, "us", rounds * calls.len());
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    autoscaler(if quick { 60 } else { 330 });
    learner(if quick { 20 } else { 200 });
    let (functions, calls) = if quick { (6, 2000) } else { (40, 5000) };
    let apart = SPREADS.map(|spread| (coverage(spread, functions, calls) - 0.95).abs());
    let worst = apart.into_iter().fold(0.0, f64::max);
    figure("slo.coverage_error", worst, "share", SPREADS.len() * functions as usize * (calls - 200));
    let rounds = if quick { 10 } else { 100 };
    let exact = replays(rounds, 0.0, 4);
    let missed = exact.runs - exact.in_time;
    // A run that is late has no cost that could be compared.
    let over = if missed == 0 { exact.worst } else { f64::INFINITY };
    figure("budget.over_optimum", over, "ratio", exact.runs as usize);
    let noisy = replays(rounds * 10, 0.1, 5);
    figure("budget.noisy_in_time", f64::from(noisy.in_time) / f64::from(noisy.runs), "share", noisy.runs as usize);
}
