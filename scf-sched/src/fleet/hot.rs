//! What a decision reads of a node: one cache line.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use scf_core::{Accelerator, GeoPoint, Health, Tier};

use super::{
    amount::{Amount, Units},
    names::{ClassIx, SiteIx, ZoneIx},
};

/// The node takes calls.
const READY: u64 = 1 << 63;
/// It answers.
const REACHABLE: u64 = 1 << 62;
/// The first of the tiers' bits.
const TIER_AT: u32 = 56;

/// A node's record, 64 bytes. Every word is written on its own; a reader may see words of two moments, which a claim
/// finds out.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Hot {
    pub(crate) free: AtomicU64,
    pub(crate) units: AtomicU64,
    /// Capabilities: health, tier, what the node was labelled with.
    pub(crate) caps: AtomicU64,
    pub(crate) total: AtomicU64,
    /// Calls there | expected wait in microseconds.
    pub(crate) load: AtomicU64,
    /// Site | zone | region | class, 16 bits each.
    pub(crate) place: AtomicU64,
    /// Latitude | longitude; [`NOWHERE`] when unknown.
    pub(crate) point: AtomicU64,
    /// Last mile: 24 bits of 64 kbit/s | 16 bits of 10 us | 12 bits of decimetres per second | 8 bits of charge.
    pub(crate) edge: AtomicU64,
}

const NOWHERE: u64 = u64::MAX;
/// The charge of a node on mains.
const MAINS: u64 = 0xff;

/// Capabilities that a node has, or that a function needs, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caps(pub(crate) u64);

impl Caps {
    pub(crate) const fn tier(tier: Tier) -> Self {
        Self(1 << (TIER_AT + tier as u32))
    }

    pub(crate) const fn tiers() -> Self {
        Self(0xf << TIER_AT)
    }

    pub(crate) const fn health(health: Health) -> Self {
        Self(match health {
            Health::Ready => READY | REACHABLE,
            Health::Draining => REACHABLE,
            _ => 0,
        })
    }

    /// Some unit of a kind of accelerator.
    pub(crate) const fn accelerator(kind: Accelerator) -> Self {
        Self(1 << (LABELS + Units::position(kind)))
    }

    /// The label numbered `bit`, below [`LABELS`].
    pub(crate) const fn label(bit: u32) -> Self {
        Self(1 << bit)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without what changes over time.
    pub(crate) const fn fixed(self) -> Self {
        Self(self.0 & !(READY | REACHABLE))
    }

    /// Whether everything of `need` is there.
    #[must_use]
    pub const fn has(self, need: Self) -> bool {
        self.0 & need.0 == need.0
    }

    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Labels that are told apart.
pub(crate) const LABELS: u32 = 48;

impl Hot {
    #[inline]
    pub(crate) fn read(&self) -> HotView {
        HotView {
            free: self.free.load(Relaxed),
            units: self.units.load(Relaxed),
            caps: self.caps.load(Relaxed),
            total: self.total.load(Relaxed),
            load: self.load.load(Relaxed),
            place: self.place.load(Relaxed),
            point: self.point.load(Relaxed),
            edge: self.edge.load(Relaxed),
        }
    }

    pub(crate) fn set_health(&self, health: Health) {
        let bits = Caps::health(health).0;
        let change = |caps: u64| Some(caps & !(READY | REACHABLE) | bits);
        // A closure that always gives a value never fails.
        let _changed = self.caps.fetch_update(SeqCst, SeqCst, change);
    }

    pub(crate) fn set_point(&self, point: Option<GeoPoint>) {
        let word = point.map_or(NOWHERE, |point| {
            u64::from(point.latitude.cast_unsigned()) << 32 | u64::from(point.longitude.cast_unsigned())
        });
        self.point.store(word, Relaxed);
    }

    pub(crate) fn set_edge(&self, edge: Edge) {
        self.edge.store(edge.pack(), Relaxed);
    }
}

/// What is between a node and its site, and how long it will be there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Edge {
    /// Rate of the last mile in bytes per second; unlimited when infinite.
    pub(crate) rate: f32,
    /// Delay of the last mile in seconds.
    pub(crate) delay: f32,
    /// Metres per second.
    pub(crate) speed: f32,
    /// Charge in per cent; none on mains.
    pub(crate) charge: Option<u8>,
}

/// Bytes per second of one step of the packed rate.
const RATE_STEP: f32 = 8000.0;
const MOST_RATE: u64 = (1 << 24) - 1;

impl Edge {
    fn pack(self) -> u64 {
        let rate =
            if self.rate.is_finite() { ((self.rate / RATE_STEP) as u64).clamp(1, MOST_RATE - 1) } else { MOST_RATE };
        let delay = ((self.delay * 1e5).round() as u64).min(0xffff);
        let speed = ((self.speed * 10.0).ceil() as u64).min(0xfff);
        let charge = self.charge.map_or(MAINS, |charge| u64::from(charge.min(100)));
        rate << 40 | delay << 24 | speed << 12 | charge
    }

    #[inline]
    fn unpack(word: u64) -> Self {
        let rate = word >> 40;
        let charge = word & 0xff;
        Self {
            rate: if rate == MOST_RATE { f32::INFINITY } else { rate as f32 * RATE_STEP },
            delay: ((word >> 24) & 0xffff) as f32 * 1e-5,
            speed: ((word >> 12) & 0xfff) as f32 * 0.1,
            charge: (charge != MAINS).then_some(charge as u8),
        }
    }
}

/// What was read of a node's record.
#[derive(Clone, Copy, Debug)]
pub struct HotView {
    free: u64,
    units: u64,
    caps: u64,
    total: u64,
    load: u64,
    place: u64,
    point: u64,
    edge: u64,
}

impl HotView {
    /// What nobody has claimed.
    #[inline]
    #[must_use]
    pub const fn free(&self) -> Amount {
        Amount::of_word(self.free)
    }

    /// Accelerators that nobody has claimed.
    #[inline]
    #[must_use]
    pub const fn units(&self) -> Units {
        Units::of_word(self.units)
    }

    /// What it has in all.
    #[inline]
    #[must_use]
    pub const fn total(&self) -> Amount {
        Amount::of_word(self.total)
    }

    /// What it can.
    #[inline]
    #[must_use]
    pub const fn caps(&self) -> Caps {
        Caps(self.caps)
    }

    /// Whether it takes calls.
    #[must_use]
    pub const fn health(&self) -> Health {
        match (self.caps & READY != 0, self.caps & REACHABLE != 0) {
            (true, _) => Health::Ready,
            (false, true) => Health::Draining,
            (false, false) => Health::Unreachable,
        }
    }

    /// Whether it takes calls.
    #[inline]
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.caps & READY != 0
    }

    /// Calls that run or wait there.
    #[inline]
    #[must_use]
    pub const fn queued(&self) -> u32 {
        (self.load >> 32) as u32
    }

    /// How long a call is expected to wait there, in seconds.
    #[inline]
    #[must_use]
    pub const fn wait(&self) -> f32 {
        self.load as u32 as f32 * 1e-6
    }

    /// Its place in the network.
    #[inline]
    #[must_use]
    pub const fn site(&self) -> SiteIx {
        SiteIx((self.place >> 48) as u16)
    }

    /// The zone that its data counts as being in.
    #[inline]
    #[must_use]
    pub const fn zone(&self) -> Option<ZoneIx> {
        ZoneIx::of_bits((self.place >> 32) as u16)
    }

    /// Its legal region.
    #[inline]
    #[must_use]
    pub const fn region(&self) -> Option<ZoneIx> {
        ZoneIx::of_bits((self.place >> 16) as u16)
    }

    /// Its kind of hardware.
    #[inline]
    #[must_use]
    pub const fn class(&self) -> ClassIx {
        ClassIx(self.place as u16)
    }

    /// Where it stands.
    #[must_use]
    pub const fn point(&self) -> Option<GeoPoint> {
        if self.point == NOWHERE {
            return None;
        }
        let (latitude, longitude) = ((self.point >> 32) as u32, self.point as u32);
        Some(GeoPoint::fixed(latitude.cast_signed(), longitude.cast_signed()))
    }

    /// Rate of its last mile in bytes per second; infinite when that is no bound.
    #[must_use]
    pub fn rate(&self) -> f32 {
        Edge::unpack(self.edge).rate
    }

    /// Delay of its last mile in seconds.
    #[must_use]
    pub fn delay(&self) -> f32 {
        Edge::unpack(self.edge).delay
    }

    /// How fast it moves, in metres per second.
    #[must_use]
    pub fn speed(&self) -> f32 {
        Edge::unpack(self.edge).speed
    }

    /// Its charge in per cent; none on mains.
    #[must_use]
    pub fn charge(&self) -> Option<u8> {
        Edge::unpack(self.edge).charge
    }

    #[inline]
    pub(crate) fn edge(&self) -> Edge {
        Edge::unpack(self.edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_cache_line() {
        assert_eq!((size_of::<Hot>(), align_of::<Hot>()), (64, 64));
    }

    #[test]
    fn the_last_mile_is_read_as_it_was_written() {
        let edge = Edge { rate: 1.25e6, delay: 0.004, speed: 13.9, charge: Some(70) };
        let read = Edge::unpack(edge.pack());
        assert!((read.rate - edge.rate).abs() < RATE_STEP && (read.delay - edge.delay).abs() < 1e-5);
        assert!((read.speed - edge.speed).abs() < 0.11 && read.charge == Some(70));
        let mains = Edge { rate: f32::INFINITY, charge: None, ..edge };
        assert_eq!((Edge::unpack(mains.pack()).rate, Edge::unpack(mains.pack()).charge), (f32::INFINITY, None));
    }

    #[test]
    fn health_does_not_touch_other_capabilities() {
        let hot = Hot::default();
        hot.caps.store(Caps::tier(Tier::Edge).and(Caps::label(7)).0, SeqCst);
        for health in [Health::Ready, Health::Draining, Health::Unreachable] {
            hot.set_health(health);
            assert_eq!(hot.read().health(), health);
            assert!(hot.read().caps().has(Caps::tier(Tier::Edge).and(Caps::label(7))));
        }
    }

    #[test]
    fn a_point_south_and_west_is_read_as_it_was_written() {
        let hot = Hot::default();
        let point = GeoPoint::degrees(-33.9, -70.6);
        hot.set_point(Some(point));
        assert_eq!(hot.read().point(), Some(point));
        hot.set_point(None);
        assert_eq!(hot.read().point(), None);
    }
}
