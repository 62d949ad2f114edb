//! The ways between places in the network.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use scf_core::LinkQuality;

use super::{
    hot::HotView,
    names::{NodeIx, SiteIx},
    segments::Segments,
};

/// Places that are told apart. A matrix of their ways takes 16 bytes for a pair.
pub(crate) const MOST_SITES: u32 = 1024;

/// The way from one node to another, as a decision reckons with it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Way {
    /// One-way delay of the first bit, in seconds.
    pub delay: f32,
    /// Bytes per second; infinite inside a node.
    pub rate: f32,
    /// Standard deviation of the delay, in seconds.
    pub jitter: f32,
    /// Share of the messages that is lost.
    pub loss: f32,
}

impl Way {
    /// The way from a node to itself.
    pub const HERE: Self = Self { delay: 0.0, rate: f32::INFINITY, jitter: 0.0, loss: 0.0 };

    /// Seconds until `bytes` are there. What is lost is sent again.
    #[inline]
    #[must_use]
    pub fn time_for(&self, bytes: f32) -> f32 {
        self.delay + bytes / (self.rate * (1.0 - self.loss))
    }
}

/// A measured way: delay | rate, and jitter | loss, each a 32-bit float. A rate of zero: none was measured.
#[derive(Debug, Default)]
struct Cell {
    speed: AtomicU64,
    steadiness: AtomicU64,
}

/// Ways between sites, one row for each that has any. Nodes add their last mile: there is no entry for a pair of nodes.
#[derive(Debug)]
pub(crate) struct Network {
    rows: Segments<OnceLock<Box<[Cell]>>>,
}

impl Network {
    pub(crate) const fn new() -> Self {
        Self { rows: Segments::new() }
    }

    pub(crate) fn set(&self, from: SiteIx, to: SiteIx, quality: Option<LinkQuality>) {
        let row = self.rows.make(from.index());
        let row = row.get_or_init(|| (0..MOST_SITES).map(|_| Cell::default()).collect());
        let (speed, steadiness) = quality.map_or((0, 0), |quality| {
            let rate = (quality.bandwidth.bits_per_s() as f32 / 8.0).max(f32::MIN_POSITIVE);
            let loss = (quality.loss as f32 * 1e-6).min(0.999);
            (pair(seconds(quality.latency), rate), pair(seconds(quality.jitter), loss))
        });
        row[to.index()].steadiness.store(steadiness, Relaxed);
        row[to.index()].speed.store(speed, Relaxed);
    }

    /// The way between two sites; inside one without a measured way it takes no time.
    #[inline]
    pub(crate) fn between(&self, from: SiteIx, to: SiteIx) -> Option<Way> {
        let cell = self.rows.get(from.index()).and_then(OnceLock::get).map(|row| &row[to.index()]);
        let (delay, rate) = cell.map_or((0.0, 0.0), |cell| parts(cell.speed.load(Relaxed)));
        if rate == 0.0 {
            return (from == to).then_some(Way::HERE);
        }
        let (jitter, loss) = cell.map_or((0.0, 0.0), |cell| parts(cell.steadiness.load(Relaxed)));
        Some(Way { delay, rate, jitter, loss })
    }

    /// The way between two nodes, their last miles included.
    #[inline]
    pub(crate) fn way(&self, from: (NodeIx, &HotView), to: (NodeIx, &HotView)) -> Option<Way> {
        if from.0 == to.0 {
            return Some(Way::HERE);
        }
        let mut way = self.between(from.1.site(), to.1.site())?;
        let (a, b) = (from.1.edge(), to.1.edge());
        way.delay += a.delay + b.delay;
        way.rate = way.rate.min(a.rate).min(b.rate);
        Some(way)
    }
}

fn pair(high: f32, low: f32) -> u64 {
    u64::from(high.to_bits()) << 32 | u64::from(low.to_bits())
}

const fn parts(word: u64) -> (f32, f32) {
    (f32::from_bits((word >> 32) as u32), f32::from_bits(word as u32))
}

pub(crate) fn seconds(time: Duration) -> f32 {
    time.as_secs_f32()
}

#[cfg(test)]
mod tests {
    use scf_core::Bandwidth;

    use super::*;

    #[test]
    fn a_way_has_a_direction_and_can_be_forgotten() {
        let network = Network::new();
        let (a, b) = (SiteIx(3), SiteIx(700));
        let quality = LinkQuality {
            latency: Duration::from_millis(25),
            bandwidth: Bandwidth::from_mbit_per_s(20),
            jitter: Duration::from_millis(2),
            loss: 10_000,
        };
        network.set(a, b, Some(quality));
        let way = network.between(a, b).unwrap();
        assert_eq!((way.delay, way.rate, way.jitter, way.loss), (0.025, 2.5e6, 0.002, 0.01));
        assert!((way.time_for(250_000.0) - 0.126).abs() < 1e-4, "25 ms and 250 kB at 99 % of 2.5 MB/s");
        assert_eq!(network.between(b, a), None);
        network.set(a, b, None);
        assert_eq!(network.between(a, b), None);
        assert_eq!(network.between(b, b), Some(Way::HERE));
    }
}
