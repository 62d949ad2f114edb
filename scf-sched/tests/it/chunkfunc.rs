//! Profiles of workflows, shaped like those that ChunkFunc (IEEE TPDS 2025) measured on AWS and GCF, and replays.
//!
//! A function's time falls with its memory as far as it can use the cores that come with it, its cost is time by memory,
//! and both grow with the input.

use std::time::Duration;

use scf_core::Money;
use scf_sched::budget::{BudgetRun, BudgetStep, longest};

use crate::random::Random;

/// Memory of the configurations, in MiB; 1,769 MiB come with one core.
const MEMORY: [f64; 9] = [128.0, 256.0, 512.0, 1024.0, 1769.0, 2560.0, 3538.0, 5307.0, 10240.0];
/// Of a GiB for a second, in nano units.
const PRICE: f64 = 16_666.7;

/// What is after what: sequences, a fork, forks within a fork, two ways that cross.
const SHAPES: [&[&[usize]]; 6] = [
    &[&[], &[0], &[1]],
    &[&[], &[0], &[1], &[2], &[3]],
    &[&[], &[0], &[0], &[1, 2]],
    &[&[], &[0], &[0], &[0], &[1, 2, 3]],
    &[&[], &[0], &[1], &[0], &[2, 3]],
    &[&[], &[0], &[0], &[1], &[1, 2], &[3, 4]],
];
const WORKFLOWS: usize = SHAPES.len();

fn step(random: &mut Random, after: &[usize], input: f64) -> BudgetStep {
    let work = (0.2 + 6.0 * random.unit()) * input.powf(0.6 + 0.6 * random.unit());
    let (fixed, cores) = (0.02 + 0.3 * random.unit(), [1.0, 1.0, 2.0, 4.0, 6.0][random.below(5) as usize]);
    let option = |memory: f64| {
        let seconds = fixed + work / (memory / 1769.0).min(cores);
        (Duration::from_secs_f64(seconds), Money::from_nanos((seconds * memory / 1024.0 * PRICE) as u64))
    };
    BudgetStep { after: after.to_vec(), options: MEMORY.map(option).to_vec() }
}

/// A workflow of the given shape with random functions and a random input.
pub(crate) fn workflow(shape: usize, random: &mut Random) -> Vec<BudgetStep> {
    let input = [0.25, 1.0, 4.0][random.below(3) as usize];
    SHAPES[shape % SHAPES.len()].iter().map(|after| step(random, after, input)).collect()
}

/// A deadline that the fastest options keep, up to three times what they take.
pub(crate) fn deadline(steps: &[BudgetStep], random: &mut Random) -> Duration {
    let fastest = longest(steps, |at| steps[at].options.iter().map(|option| option.0).min().unwrap());
    fastest.mul_f64(1.0 + 2.0 * random.unit()) + Duration::from_nanos(1)
}

/// The least cost in time, found by going through all combinations that can still be cheaper.
pub(crate) fn optimum(steps: &[BudgetStep], within: Duration) -> u64 {
    fn go(steps: &[BudgetStep], within: Duration, ends: &mut Vec<Duration>, cost: u64, least: &[u64], best: &mut u64) {
        let at = ends.len();
        if at == steps.len() {
            *best = cost.min(*best);
            return;
        }
        let begins = steps[at].after.iter().map(|after| ends[*after]).max().unwrap_or_default();
        for (time, price) in &steps[at].options {
            let (end, cost) = (begins + *time, cost + price.nanos());
            if end <= within && cost + least[at + 1] < *best {
                ends.push(end);
                go(steps, within, ends, cost, least, best);
                ends.pop();
            }
        }
    }
    let mut least = vec![0; steps.len() + 1];
    for at in (0..steps.len()).rev() {
        least[at] = least[at + 1] + steps[at].options.iter().map(|option| option.1.nanos()).min().unwrap();
    }
    let mut best = u64::MAX;
    go(steps, within, &mut Vec::new(), 0, &least, &mut best);
    best
}

/// What a run came to.
pub(crate) struct Ran {
    pub(crate) took: Duration,
    pub(crate) cost: u64,
}

/// Runs a workflow in virtual time; `factor` says how many times longer a step takes than its option says.
pub(crate) fn replay(steps: &[BudgetStep], within: Duration, slower: f64, factor: &[f64]) -> Ran {
    let mut run = BudgetRun::new(steps.to_vec(), within).unwrap().slower(slower);
    let (mut ends, mut cost): (Vec<Option<Duration>>, u64) = (vec![None; steps.len()], 0);
    let mut begun = vec![false; steps.len()];
    let mut now = Duration::ZERO;
    let mut told = vec![false; steps.len()];
    loop {
        for at in 0..steps.len() {
            if ends[at].is_some_and(|end| end <= now) && !told[at] {
                run.end(at, ends[at].unwrap());
                told[at] = true;
            }
        }
        for at in 0..steps.len() {
            if !begun[at] && steps[at].after.iter().all(|after| told[*after]) {
                let (time, price) = steps[at].options[run.begin(at, now)];
                let took = time.mul_f64(factor[at]);
                ends[at] = Some(now + took);
                cost += (price.nanos() as f64 * factor[at]) as u64;
                begun[at] = true;
            }
        }
        match (0..steps.len()).filter(|at| !told[*at]).filter_map(|at| ends[at]).min() {
            Some(next) => now = next,
            None => return Ran { took: now, cost },
        }
    }
}

/// How long all steps take at their fastest.
pub(crate) fn all_fastest(steps: &[BudgetStep], factor: &[f64]) -> Duration {
    longest(steps, |at| steps[at].options.iter().map(|option| option.0).min().unwrap().mul_f64(factor[at]))
}

/// What many runs came to.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) runs: u32,
    pub(crate) in_time: u32,
    pub(crate) cost: f64,
    pub(crate) optimum: f64,
    /// The largest ratio of a run's cost to its optimum.
    pub(crate) worst: f64,
}

/// Replays `rounds` workflows of each shape. With `noise`, steps take log-normally more or less than their options say;
/// runs that would be late with all steps at their fastest do not count. Times are planned as they are exceeded once in
/// a hundred.
pub(crate) fn replays(rounds: usize, noise: f64, seed: u64) -> Replayed {
    let mut random = Random::new(seed);
    let mut all = Replayed::default();
    for round in 0..rounds * WORKFLOWS {
        let steps = workflow(round, &mut random);
        let within = deadline(&steps, &mut random);
        let factor: Vec<f64> = steps.iter().map(|_| (noise * random.normal()).exp()).collect();
        if all_fastest(&steps, &factor) > within {
            continue;
        }
        let ran = replay(&steps, within, (2.33 * noise).exp(), &factor);
        all.runs += 1;
        all.in_time += u32::from(ran.took <= within);
        if noise == 0.0 {
            let optimum = optimum(&steps, within);
            all.cost += ran.cost as f64;
            all.optimum += optimum as f64;
            all.worst = all.worst.max(ran.cost as f64 / optimum as f64);
        }
    }
    all
}
