//! Calls of applications, shaped like those of Azure Functions.
//!
//! The published facts of "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020): 45 % of the applications are
//! called at most once an hour and 81 % at most once a minute, over eight orders of magnitude; a quarter is called by
//! timers, at the periods that people choose; of the others most are more bursty than Poisson; half of the functions
//! run for less than a second; 90 % of the applications take at most 400 MB, the median is 170 MB.

use std::time::Duration;

use scf_core::ByteSize;

use crate::random::Random;

/// An application: its memory and its calls.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) bytes: ByteSize,
    /// When each call begins and ends, in seconds; none overlap.
    pub(crate) calls: Vec<(f64, f64)>,
}

/// Periods of timers, in minutes.
const PERIODS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 240.0, 360.0, 720.0, 1440.0];
/// Applications that are called more often than this, per day, never rest; nothing can be decided about them.
const MOST_CALLS: f64 = 1000.0;

/// `count` applications over `span`.
pub(crate) fn applications(count: usize, span: Duration, seed: u64) -> Vec<Application> {
    let mut random = Random::new(seed);
    (0..count).map(|_| application(&mut random, span.as_secs_f64())).collect()
}

fn application(random: &mut Random, span: f64) -> Application {
    // The two quantiles above, as a normal distribution of the decimal logarithm of calls per day.
    let per_day = 10f64.powf(1.603 + 1.772 * random.normal()).clamp(0.2, MOST_CALLS);
    let mean = 86_400.0 / per_day;
    let bytes = ByteSize::from_bytes((170e6 * (0.668 * random.normal()).exp()) as u64);
    let run = (-0.38 + 2.36 * random.normal()).exp().clamp(0.001, 600.0).min(mean / 4.0);
    let kind = random.unit();
    let period = PERIODS.into_iter().map(|minutes| minutes * 60.0);
    let period = period.min_by(|a, b| (a - mean).abs().total_cmp(&(b - mean).abs())).unwrap_or(mean);
    let (mut now, mut calls) = (random.unit() * mean, Vec::new());
    while now < span {
        let takes = run * (0.3 * random.normal()).exp();
        calls.push((now, now + takes));
        let wait = match kind {
            // A timer, with what it is late.
            _ if kind < 0.25 => period + 0.5 * random.exponential() - takes,
            // By people, more at day than at night.
            _ if kind < 0.55 => {
                let hour = (now / 3600.0) % 24.0;
                let by_day = 1.0 + 0.7 * ((hour - 8.0) / 24.0 * std::f64::consts::TAU).sin();
                mean * random.exponential() / by_day
            }
            // In bursts: 80 % of the waits are a twentieth of the mean.
            _ if random.unit() < 0.8 => mean / 20.0 * random.exponential(),
            _ => mean * 4.8 * random.exponential(),
        };
        now += takes + wait.max(0.01);
    }
    Application { bytes, calls }
}

#[test]
fn the_applications_have_the_published_shape() {
    let days = 4.0;
    let all = applications(3000, Duration::from_secs_f64(days * 86_400.0), 5);
    let share = |of: &dyn Fn(&Application) -> bool| all.iter().filter(|a| of(a)).count() as f64 / all.len() as f64;
    let hourly = share(&|app| app.calls.len() as f64 <= days * 24.0);
    assert!((hourly - 0.45).abs() < 0.04, "{hourly} at most once an hour");
    let small = share(&|app| app.bytes.bytes() <= 400_000_000);
    assert!((small - 0.9).abs() < 0.03, "{small} of at most 400 MB");
}
