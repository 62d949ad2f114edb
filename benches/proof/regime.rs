//! The world that the inputs meet: link, queue and load change in steps, and jitter.

use std::time::Duration;

use scf::core::{Bandwidth, Link};

/// One way, each way.
const LATENCY: Duration = Duration::from_millis(5);
/// How likely each of link, queue and load changes before an input.
const SWITCH: f64 = 0.01;
/// Mbit/s between which the link's rate is drawn, log-uniformly.
const RATES: (f64, f64) = (0.5, 80.0);
/// Milliseconds that calls wait in the cloud, of which one is drawn.
const WAITS: [f64; 5] = [0.0, 0.0, 5.0, 20.0, 80.0];
/// How many times slower than usual the edge is, of which one is drawn.
const LOADS: [f64; 4] = [1.0, 1.0, 1.5, 3.0];

/// What one input meets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) link: Link,
    /// How long a call waits in the cloud before it runs.
    pub(crate) wait: Duration,
    /// How many times slower than usual the edge is.
    pub(crate) load: f64,
}

/// What each of `inputs` inputs meets; the same for the same seed.
pub(crate) fn moments(inputs: usize, seed: u64) -> Vec<Moment> {
    let mut random = Random(seed);
    let (mut rate, mut wait, mut load) = (20.0, 0.0, 1.0);
    let next = |_| {
        if random.unit() < SWITCH {
            rate = RATES.0 * (RATES.1 / RATES.0).powf(random.unit());
        }
        if random.unit() < SWITCH {
            wait = WAITS[random.below(WAITS.len())];
        }
        if random.unit() < SWITCH {
            load = LOADS[random.below(LOADS.len())];
        }
        let bits = rate * 1e6 * random.around(0.2);
        Moment {
            link: Link { latency: LATENCY, bandwidth: Bandwidth::from_bits_per_s(bits as u64) },
            wait: Duration::from_secs_f64(wait * 1e-3 * random.around(0.5)),
            load: load * random.around(0.05),
        }
    };
    (0..inputs).map(next).collect()
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Between `1 - spread` and `1 + spread`.
    fn around(&mut self, spread: f64) -> f64 {
        1.0 + spread * (2.0 * self.unit() - 1.0)
    }

    /// Between a twentieth and three quarters.
    pub(crate) fn share(&mut self) -> f64 {
        0.05 + 0.7 * self.unit()
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
