//! Where in the world a node stands, what it runs on, and what functions may ask of that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Bandwidth;

/// Mean radius of the Earth in metres (IUGG 1980).
const EARTH_M: f64 = 6_371_008.8;

/// A point on the Earth (WGS 84), in 10^-7 degrees, about a centimetre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GeoPoint {
    /// Northwards, -90 to 90 degrees.
    pub latitude: i32,
    /// Eastwards, -180 to 180 degrees.
    pub longitude: i32,
}

impl GeoPoint {
    /// A point by degrees; held within the poles and the date line, what is no number counts as 0.
    #[must_use]
    pub fn degrees(latitude: f64, longitude: f64) -> Self {
        let fixed = |degrees: f64, most: f64| (degrees.clamp(-most, most) * 1e7) as i32;
        Self { latitude: fixed(latitude, 90.0), longitude: fixed(longitude, 180.0) }
    }

    /// A point by 10^-7 degrees.
    #[must_use]
    pub const fn fixed(latitude: i32, longitude: i32) -> Self {
        Self { latitude, longitude }
    }

    /// The great-circle distance in metres, by the haversine formula.
    #[must_use]
    pub fn metres_to(self, other: Self) -> f64 {
        let radians = |fixed: i32| (f64::from(fixed) * 1e-7).to_radians();
        let (a, b) = (radians(self.latitude), radians(other.latitude));
        let east = radians(other.longitude) - radians(self.longitude);
        let h = ((b - a) / 2.0).sin().powi(2) + a.cos() * b.cos() * (east / 2.0).sin().powi(2);
        2.0 * EARTH_M * h.sqrt().min(1.0).asin()
    }
}

/// A circle on the Earth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a function")]
pub struct Area {
    /// Its centre.
    pub centre: GeoPoint,
    /// Its radius in metres.
    pub metres: u32,
}

impl Area {
    /// Whether the point lies in it.
    #[must_use]
    pub fn contains(&self, point: GeoPoint) -> bool {
        self.centre.metres_to(point) <= f64::from(self.metres)
    }
}

/// What a node without mains runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a node")]
pub struct Battery {
    /// What it holds when full, in watt-hours.
    pub watt_hours: u32,
    /// What is left, in per cent, at most 100.
    pub percent: u8,
}

impl Battery {
    /// What is left in joules.
    #[must_use]
    pub fn joules_left(&self) -> f64 {
        f64::from(self.watt_hours) * 36.0 * f64::from(self.percent.min(100))
    }
}

/// What a function asks of a node's battery. A node on mains has what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a function")]
pub struct BatteryNeed {
    /// Least charge in per cent.
    pub percent: u8,
    /// The largest share, in parts per million of what is left, that one call may draw.
    pub share: u32,
}

/// What a function asks of the way between its caller, or the step before it, and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct LinkNeed {
    /// Least rate.
    pub bandwidth: Bandwidth,
    /// Longest one-way delay.
    pub latency: Duration,
    /// Largest standard deviation of the delay.
    pub jitter: Duration,
    /// Most messages lost, in parts per million.
    pub loss: u32,
}

impl Default for LinkNeed {
    /// Asks for nothing.
    fn default() -> Self {
        let (bandwidth, forever) = (Bandwidth::from_bits_per_s(0), Duration::MAX);
        Self { bandwidth, latency: forever, jitter: forever, loss: u32::MAX }
    }
}

/// Whether a need rules nodes out or makes them dearer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "a need is bent or it is not")]
pub enum Strength {
    /// A node that does not satisfy it is not used.
    #[default]
    Hard,
    /// A node that does not satisfy it counts as that much slower.
    Soft(Duration),
}

/// A need, hard or soft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that it is")]
pub struct Wanted<T> {
    /// What is needed.
    pub what: T,
    /// Whether nodes without it are ruled out.
    pub strength: Strength,
}

impl<T> Wanted<T> {
    /// A need that rules nodes out.
    pub const fn hard(what: T) -> Self {
        Self { what, strength: Strength::Hard }
    }

    /// A need whose want counts as `penalty` of time.
    pub const fn soft(what: T, penalty: Duration) -> Self {
        Self { what, strength: Strength::Soft(penalty) }
    }
}

/// What a function asks of the surroundings of a node. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct Context {
    /// Where it must stand. A node of unknown place stands nowhere.
    pub area: Option<Wanted<Area>>,
    /// What a node without mains must have left.
    pub battery: Option<Wanted<BatteryNeed>>,
    /// How long a moving node must be expected to stay within the cell or the asked area.
    pub dwell: Option<Wanted<Duration>>,
    /// The way from the caller and from every step before it.
    pub link: Option<Wanted<LinkNeed>>,
    /// How long its data inputs may take to arrive, all together.
    pub data: Option<Wanted<Duration>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vienna_lies_523_km_from_berlin() {
        let (vienna, berlin) = (GeoPoint::degrees(48.2082, 16.3738), GeoPoint::degrees(52.5200, 13.4050));
        assert!((vienna.metres_to(berlin) - 523_500.0).abs() < 2000.0, "{}", vienna.metres_to(berlin));
        assert!(Area { centre: vienna, metres: 530_000 }.contains(berlin));
        assert!(!Area { centre: vienna, metres: 500_000 }.contains(berlin));
    }

    #[test]
    fn a_half_full_battery_of_ten_watt_hours_has_eighteen_kilojoules() {
        assert!((Battery { watt_hours: 10, percent: 50 }.joules_left() - 18_000.0).abs() < f64::EPSILON);
    }
}
