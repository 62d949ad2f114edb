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

/// Places that are told apart. A way between two of them takes 16 bytes.
pub(crate) const MOST_SITES: u32 = 1024;

/// The way from one node to another, as a decision reckons with it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Way {
    /// One-way delay of the first bit, in seconds.
    pub delay: f32,
    /// Bytes per second that arrive, what is lost and sent again left out; infinite inside a node.
    pub rate: f32,
}

impl Way {
    /// The way from a node to itself.
    pub const HERE: Self = Self { delay: 0.0, rate: f32::INFINITY };

    /// Seconds until `bytes` are there.
    #[inline]
    #[must_use]
    pub fn time_for(&self, bytes: f32) -> f32 {
        self.delay + bytes / self.rate
    }
}

/// How even a way is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Evenness {
    /// Standard deviation of the delay, in seconds.
    pub jitter: f32,
    /// Share of the messages that is lost.
    pub loss: f32,
}

/// Where a node is in the network: its site, and its last mile there.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Spot {
    /// The node.
    pub node: NodeIx,
    /// Its site.
    pub site: SiteIx,
    /// Bytes per second of its last mile; infinite when that is no bound.
    pub rate: f32,
    /// Delay of its last mile in seconds.
    pub delay: f32,
}

impl Spot {
    /// Where a node is of which `hot` was read.
    #[inline]
    #[must_use]
    pub fn of(node: NodeIx, hot: &HotView) -> Self {
        let edge = hot.edge();
        Self { node, site: hot.site(), rate: edge.rate, delay: edge.delay }
    }
}

/// A pair of floats for a way between two sites in either direction.
type Pair = [AtomicU64; 2];

/// Ways between sites: for each site a row of those to itself and the ones numbered below it. Nodes add their last
/// mile: there is no entry for a pair of nodes.
#[derive(Debug)]
pub(crate) struct Network {
    /// Delay | rate; a rate of zero: none was measured.
    speeds: Segments<OnceLock<Box<[Pair]>>>,
    /// Jitter | loss, looked at only for functions that ask for them.
    evenness: Segments<OnceLock<Box<[Pair]>>>,
}

impl Network {
    pub(crate) const fn new() -> Self {
        Self { speeds: Segments::new(), evenness: Segments::new() }
    }

    pub(crate) fn set(&self, from: SiteIx, to: SiteIx, quality: Option<LinkQuality>) {
        let (high, low, back) = place(from, to);
        let (speed, evenness) = quality.map_or((0, 0), |quality| {
            let loss = (quality.loss as f32 * 1e-6).min(0.999);
            let rate = (quality.bandwidth.bits_per_s() as f32 / 8.0 * (1.0 - loss)).max(f32::MIN_POSITIVE);
            (pair(seconds(quality.latency), rate), pair(seconds(quality.jitter), loss))
        });
        for (rows, word) in [(&self.evenness, evenness), (&self.speeds, speed)] {
            let row = rows.make(high.index());
            let row = row.get_or_init(|| (0..=high.index()).map(|_| Pair::default()).collect());
            row[low.index()][back].store(word, Relaxed);
        }
    }

    /// The way between two sites; inside one without a measured way it takes no time.
    #[inline]
    pub(crate) fn between(&self, from: SiteIx, to: SiteIx) -> Option<Way> {
        let here = (from == to).then_some(Way::HERE);
        let Some(pair) = pair_of(&self.speeds, from, to) else { return here };
        way(pair, place(from, to).2).or(here)
    }

    /// How even the way between two nodes is; the last miles count as even.
    pub(crate) fn evenness(&self, from: &Spot, to: &Spot) -> Evenness {
        let pair = pair_of(&self.evenness, from.site, to.site).filter(|_| from.node != to.node);
        let (jitter, loss) = pair.map_or((0.0, 0.0), |pair| parts(pair[place(from.site, to.site).2].load(Relaxed)));
        Evenness { jitter, loss }
    }

    /// The way between two nodes, their last miles included.
    #[inline]
    pub(crate) fn way(&self, from: &Spot, to: &Spot) -> Option<Way> {
        if from.node == to.node {
            return Some(Way::HERE);
        }
        Some(self.between(from.site, to.site)?.over(from, to))
    }

    /// The ways between two nodes there and back, their last miles included.
    #[inline]
    pub(crate) fn ways(&self, from: &Spot, to: &Spot) -> Option<(Way, Way)> {
        if from.node == to.node {
            return Some((Way::HERE, Way::HERE));
        }
        let here = (from.site == to.site).then_some(Way::HERE);
        let Some(pair) = pair_of(&self.speeds, from.site, to.site) else {
            return here.map(|way| (way.over(from, to), way.over(from, to)));
        };
        let back = place(from.site, to.site).2;
        // Inside a site there is one way, both there and back.
        let other = if from.site == to.site { back } else { 1 - back };
        Some((way(pair, back).or(here)?.over(from, to), way(pair, other).or(here)?.over(from, to)))
    }
}

#[inline]
fn pair_of(rows: &Segments<OnceLock<Box<[Pair]>>>, from: SiteIx, to: SiteIx) -> Option<&Pair> {
    let (high, low, _) = place(from, to);
    rows.get(high.index())?.get()?.get(low.index())
}

#[inline]
fn way(pair: &Pair, back: usize) -> Option<Way> {
    let (delay, rate) = parts(pair[back].load(Relaxed));
    (rate != 0.0).then_some(Way { delay, rate })
}

impl Way {
    /// This way between two sites, with the last miles of two nodes there.
    #[inline]
    fn over(mut self, from: &Spot, to: &Spot) -> Self {
        self.delay += from.delay + to.delay;
        self.rate = self.rate.min(from.rate).min(to.rate);
        self
    }
}

/// The higher and the lower of two sites, and 1 when the way leads to the lower, 0 otherwise.
#[inline]
const fn place(from: SiteIx, to: SiteIx) -> (SiteIx, SiteIx, usize) {
    if from.0 > to.0 { (from, to, 1) } else { (to, from, 0) }
}

const fn pair(high: f32, low: f32) -> u64 {
    (high.to_bits() as u64) << 32 | low.to_bits() as u64
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
        assert!(way.delay == 0.025 && (way.rate - 2.475e6).abs() < 1.0);
        let spot = |site| Spot { node: NodeIx(u32::from(SiteIx::index(site) as u16)), site, rate: 1e9, delay: 0.0 };
        assert_eq!(network.evenness(&spot(a), &spot(b)), Evenness { jitter: 0.002, loss: 0.01 });
        assert!((way.time_for(250_000.0) - 0.126).abs() < 1e-4, "25 ms and 250 kB at 99 % of 2.5 MB/s");
        assert_eq!(network.between(b, a), None);
        network.set(a, b, None);
        assert_eq!(network.between(a, b), None);
        assert_eq!(network.between(b, b), Some(Way::HERE));
    }
}
