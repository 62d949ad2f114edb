//! What is known of the ways between nodes from the messages that went over them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use scf_core::{Bandwidth, ByteSize, NodeId, Path, Timestamp};

/// Weight of the newest measurement in the averages.
const WEIGHT: f64 = 0.3;
/// A measurement this many times over or under the average replaces it: the way has changed.
const CHANGED: f64 = 2.0;
/// Differences in time below this are none: a timer and an executor add as much. In seconds.
const NOISE: f64 = 0.5e-3;
/// Shortest time to send the bytes of a message that a measurement is believed. In seconds.
const SHORTEST: f64 = 10e-6;
/// Messages of so many bytes tell of the bandwidth whatever it is.
const TELLING: f64 = 16384.0;

/// Estimates latency and bandwidth between nodes from how long messages of known size took.
///
/// For transports: tell it of every probe and transfer, and answer [`Transport::path`] from it. The time of
/// a message is modelled as `latency + size / bandwidth`, end to end, over however many links. A probe gives
/// both; after the first one, transfers correct them: the bandwidth where the bytes are what takes the time,
/// the latency otherwise. Both are exponential averages (weight 0.3), which a change to more than double or
/// less than half replaces, so that one probe or one large transfer is enough to notice it. Holds one
/// estimate for every ordered pair of nodes it was told of.
///
/// [`Transport::path`]: scf_core::Transport::path
#[derive(Debug, Default)]
pub struct PathEstimator {
    /// By the node from which, then by the node to which.
    ways: Mutex<HashMap<NodeId, HashMap<NodeId, Way>>>,
}

#[derive(Debug, Default)]
struct Way {
    cut: bool,
    estimate: Option<Estimate>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    latency: f64,
    seconds_per_byte: f64,
    measured: Timestamp,
}

impl PathEstimator {
    /// An estimator that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Two messages, a small one and then a larger one, each of a size as on the wire, took so long one way.
    /// The second one arrived at `now`.
    pub fn probed(
        &self,
        from: &NodeId,
        to: &NodeId,
        small: (ByteSize, Duration),
        large: (ByteSize, Duration),
        now: Timestamp,
    ) {
        let bytes = large.0.saturating_sub(small.0).bytes().max(1) as f64;
        // The small one waited behind other messages: the pair says nothing of the bandwidth.
        let disturbed = large.1 <= small.1;
        let sending = (large.1.as_secs_f64() - small.1.as_secs_f64()).max(SHORTEST);
        let seconds_per_byte = sending / bytes;
        let latency = (small.1.as_secs_f64() - small.0.bytes() as f64 * seconds_per_byte).max(0.0);
        self.update(from, to, |way| {
            way.cut = false;
            way.estimate = Some(match way.estimate {
                None => Estimate { latency, seconds_per_byte, measured: now },
                Some(known) if disturbed => Estimate { measured: now, ..known },
                Some(known) => Estimate {
                    latency: replace_or_average(known.latency, latency, NOISE),
                    seconds_per_byte: replace_or_average(known.seconds_per_byte, seconds_per_byte, NOISE / bytes),
                    measured: now,
                },
            });
        });
    }

    /// Whether a probe says about what is known. One that does not may have waited behind other messages or for a
    /// busy machine, and is worth repeating; so is the first one, which the averages begin with.
    #[must_use]
    pub fn agrees(&self, from: &NodeId, to: &NodeId, small: (ByteSize, Duration), large: (ByteSize, Duration)) -> bool {
        let ways = self.ways();
        let Some(known) = ways.get(from).and_then(|ways| ways.get(to)).and_then(|way| way.estimate) else {
            return false;
        };
        let near = |(size, took): (ByteSize, Duration)| {
            let expected = known.latency + size.bytes() as f64 * known.seconds_per_byte;
            let took = took.as_secs_f64();
            took <= expected * CHANGED + NOISE && took >= expected / CHANGED - NOISE
        };
        near(small) && near(large) && large.1 > small.1
    }

    /// A message of `size`, as on the wire, took `took` one way and arrived at `now`.
    pub fn observe(&self, from: &NodeId, to: &NodeId, size: ByteSize, took: Duration, now: Timestamp) {
        self.update(from, to, |way| {
            way.cut = false;
            if let Some(estimate) = &mut way.estimate {
                estimate.correct(size.bytes() as f64, took.as_secs_f64());
                estimate.measured = now;
            }
        });
    }

    /// A message of `size` has been on its way for `so_long` and had not arrived `now`, when it was given up: the way is
    /// at least so slow. Who is never told of such messages would send the next ones as if the way were as before.
    pub fn overdue(&self, from: &NodeId, to: &NodeId, size: ByteSize, so_long: Duration, now: Timestamp) {
        self.update(from, to, |way| {
            let (bytes, so_long) = (size.bytes() as f64, so_long.as_secs_f64());
            let late = |known: &&mut Estimate| so_long > known.latency + bytes * known.seconds_per_byte + NOISE;
            if let Some(known) = way.estimate.as_mut().filter(late) {
                if bytes >= TELLING {
                    known.seconds_per_byte = (so_long - known.latency) / bytes;
                } else {
                    known.latency = so_long - bytes * known.seconds_per_byte;
                }
                known.measured = now;
            }
        });
    }

    /// A message did not arrive. There is no path until one does.
    pub fn failed(&self, from: &NodeId, to: &NodeId) {
        self.update(from, to, |way| way.cut = true);
    }

    /// The way as last measured; `None` when the last message failed or it was never probed.
    #[must_use]
    pub fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        if from == to {
            return Some(Path::HERE);
        }
        let ways = self.ways();
        let way = ways.get(from)?.get(to)?;
        way.estimate.filter(|_| !way.cut).map(Estimate::path)
    }

    fn update(&self, from: &NodeId, to: &NodeId, change: impl FnOnce(&mut Way)) {
        if from == to {
            return;
        }
        let mut ways = self.ways();
        // The entry interface would clone both names every time.
        match ways.get_mut(from).and_then(|ways| ways.get_mut(to)) {
            Some(way) => change(way),
            None => change(ways.entry(from.clone()).or_default().entry(to.clone()).or_default()),
        }
    }

    fn ways(&self) -> MutexGuard<'_, HashMap<NodeId, HashMap<NodeId, Way>>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Estimate {
    fn correct(&mut self, bytes: f64, took: f64) {
        let sending = bytes * self.seconds_per_byte;
        let beyond = took - self.latency;
        if beyond > 0.0 && (bytes >= TELLING || sending >= 4.0 * NOISE) {
            let measured = beyond.max(SHORTEST) / bytes;
            self.seconds_per_byte = replace_or_average(self.seconds_per_byte, measured, NOISE / bytes);
        } else {
            // One late message is no new latency: only probes replace it. Of a message that came sooner than
            // any could, the bytes keep their share of the time.
            let share = self.latency / (self.latency + sending).max(f64::MIN_POSITIVE);
            self.latency += WEIGHT * ((took - sending).max(took * share) - self.latency);
        }
    }

    fn path(self) -> Path {
        Path {
            latency: Duration::from_secs_f64(self.latency),
            // At least 1; the cast saturates.
            bandwidth: Bandwidth::from_bits_per_s((8.0 / self.seconds_per_byte).round().max(1.0) as u64),
            measured: self.measured,
        }
    }
}

fn replace_or_average(average: f64, measured: f64, noise: f64) -> f64 {
    let changed = measured > average * CHANGED + noise || measured < average / CHANGED - noise;
    if changed { measured } else { average + WEIGHT * (measured - average) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Wire {
        estimator: PathEstimator,
        ends: [NodeId; 2],
    }

    impl Wire {
        fn new() -> Self {
            let ends = ["a", "b"].map(|id| NodeId::new(id).unwrap());
            Self { estimator: PathEstimator::new(), ends }
        }

        fn time(ms: u64, mbit: u64, bytes: u64) -> (ByteSize, Duration) {
            let size = ByteSize::from_bytes(bytes);
            (size, Duration::from_millis(ms) + Bandwidth::from_mbit_per_s(mbit).time_for(size))
        }

        fn probe(&self, ms: u64, mbit: u64) {
            let [a, b] = &self.ends;
            let [small, large] = [64, 2048].map(|bytes| Self::time(ms, mbit, bytes));
            self.estimator.probed(a, b, small, large, Timestamp::default());
        }

        fn transfer(&self, ms: u64, mbit: u64, bytes: u64) {
            let (size, took) = Self::time(ms, mbit, bytes);
            self.estimator.observe(&self.ends[0], &self.ends[1], size, took, Timestamp::default());
        }

        /// Latency in milliseconds and bandwidth in Mbit/s.
        fn path(&self) -> (f64, f64) {
            let path = self.estimator.path(&self.ends[0], &self.ends[1]).unwrap();
            (path.latency.as_secs_f64() * 1e3, path.bandwidth.bits_per_s() as f64 / 1e6)
        }
    }

    fn assert_near((latency, rate): (f64, f64), ms: f64, mbit: f64) {
        assert!((latency - ms).abs() < 0.05 * ms && (rate - mbit).abs() < 0.05 * mbit, "{latency} ms, {rate} Mbit/s");
    }

    #[test]
    fn one_probe_gives_latency_and_bandwidth() {
        let wire = Wire::new();
        wire.probe(20, 4);
        assert_near(wire.path(), 20.0, 4.0);
    }

    #[test]
    fn one_probe_replaces_what_changed_to_more_than_double() {
        let wire = Wire::new();
        wire.probe(20, 10);
        wire.probe(20, 1);
        assert_near(wire.path(), 20.0, 1.0);
        wire.probe(80, 1);
        assert_near(wire.path(), 80.0, 1.0);
    }

    #[test]
    fn one_large_transfer_replaces_the_bandwidth() {
        let wire = Wire::new();
        wire.probe(5, 100);
        wire.transfer(5, 8, 600_000);
        assert_near(wire.path(), 5.0, 8.0);
        wire.transfer(5, 100, 600_000);
        assert_near(wire.path(), 5.0, 100.0);
    }

    #[test]
    fn a_probe_whose_first_message_waited_is_no_new_bandwidth() {
        let wire = Wire::new();
        wire.probe(10, 20);
        let [a, b] = &wire.ends;
        let [small, large] = [Wire::time(90, 20, 64), Wire::time(10, 20, 2048)];
        assert!(!wire.estimator.agrees(a, b, small, large));
        wire.estimator.probed(a, b, small, large, Timestamp::default());
        assert_near(wire.path(), 10.0, 20.0);
        assert!(wire.estimator.agrees(a, b, Wire::time(10, 20, 64), large));
    }

    #[test]
    fn a_late_small_message_does_not_count_for_much() {
        let wire = Wire::new();
        wire.probe(10, 100);
        wire.transfer(20, 100, 200);
        assert_near(wire.path(), 13.0, 100.0);
    }

    #[test]
    fn small_changes_are_averaged() {
        let wire = Wire::new();
        wire.probe(10, 10);
        wire.transfer(10, 8, 100_000);
        let (latency, rate) = wire.path();
        assert!((9.9..10.1).contains(&latency) && (9.0..9.6).contains(&rate), "{latency} ms, {rate} Mbit/s");
    }

    #[test]
    fn a_message_that_was_given_up_on_its_way_says_that_it_is_at_least_so_slow() {
        let wire = Wire::new();
        let [a, b] = &wire.ends;
        wire.probe(10, 80);
        let overdue = |bytes, ms| {
            let (size, so_long) = (ByteSize::from_bytes(bytes), Duration::from_millis(ms));
            wire.estimator.overdue(a, b, size, so_long, Timestamp::default());
            wire.path()
        };
        assert_near(overdue(100_000, 15), 10.0, 80.0);
        assert_near(overdue(100_000, 210), 10.0, 4.0);
        assert_near(overdue(1000, 42), 40.0, 4.0);
        // What then arrives says what it is really like.
        wire.transfer(40, 1, 100_000);
        assert_near(wire.path(), 40.0, 1.0);
    }

    #[test]
    fn a_way_is_unknown_from_a_failure_to_the_next_arrival() {
        let wire = Wire::new();
        let [a, b] = &wire.ends;
        assert_eq!(wire.estimator.path(a, b), None);
        wire.probe(10, 10);
        wire.estimator.failed(a, b);
        assert_eq!(wire.estimator.path(a, b), None);
        wire.transfer(10, 10, 100);
        assert_near(wire.path(), 10.0, 10.0);
        assert_eq!(wire.estimator.path(a, a), Some(Path::HERE));
    }
}
