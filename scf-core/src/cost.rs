//! What a call costs beside time, with the unit in the type.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign},
    time::Duration,
};

use serde::{Deserialize, Serialize};

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident, $unit:literal, $one:literal, $from:ident, $to:ident, $whole_from:ident, $whole:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// An amount in the unit that it is counted in.
            #[must_use]
            pub const fn $from(amount: u64) -> Self {
                Self(amount)
            }

            /// The amount in the unit that it is counted in.
            #[must_use]
            pub const fn $to(self) -> u64 {
                self.0
            }

            /// An amount in whole units and fractions of them; what is no number above zero counts as nothing.
            #[must_use]
            pub fn $whole_from(amount: f64) -> Self {
                // A cast saturates, and NaN becomes zero.
                Self((amount * $one).round() as u64)
            }

            /// The amount in whole units.
            #[must_use]
            pub fn $whole(self) -> f64 {
                self.0 as f64 / $one
            }
        }

        impl Add for $name {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
                amounts.fold(Self::ZERO, Add::add)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{} ", $unit), self.$whole())
            }
        }
    };
}

amount!(
    /// An amount of money, in billionths of the currency unit that the fabric's operator counts in.
    Money, "units", 1e9, from_nanos, nanos, from_units, units
);
amount!(
    /// An amount of energy, in microjoules.
    Energy, "J", 1e6, from_microjoules, microjoules, from_joules, joules
);
amount!(
    /// An amount of emissions, in micrograms of CO2 equivalent.
    Carbon, "gCO2e", 1e6, from_micrograms, micrograms, from_grams, grams
);

impl Energy {
    /// What `watts` come to over `time`.
    #[must_use]
    pub fn of(watts: f64, time: Duration) -> Self {
        Self::from_joules(watts * time.as_secs_f64())
    }

    /// The emissions of it where electricity causes `grams_per_kwh`.
    #[must_use]
    pub fn carbon(self, grams_per_kwh: f64) -> Carbon {
        Carbon::from_grams(self.joules() / 3.6e6 * grams_per_kwh)
    }
}

/// What work came to beside time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct Spent {
    /// Its price.
    pub money: Money,
    /// The energy that it used.
    pub energy: Energy,
    /// The emissions that it caused.
    pub carbon: Carbon,
}

impl Spent {
    /// Nothing.
    pub const NOTHING: Self = Self { money: Money::ZERO, energy: Energy::ZERO, carbon: Carbon::ZERO };
}

impl Add for Spent {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (money, energy) = (self.money + other.money, self.energy + other.energy);
        Self { money, energy, carbon: self.carbon + other.carbon }
    }
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Spent {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::NOTHING, Add::add)
    }
}

/// A share of a whole, in millionths; at most all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Share(u32);

impl Share {
    /// Nothing of it.
    pub const NONE: Self = Self(0);
    /// All of it.
    pub const ALL: Self = Self(1_000_000);

    /// A share in per cent, held between 0 and 100; what is no number counts as 0.
    #[must_use]
    pub fn from_percent(percent: f64) -> Self {
        Self::from_fraction(percent / 100.0)
    }

    /// A share as a fraction, held between 0 and 1; what is no number counts as 0.
    #[must_use]
    pub fn from_fraction(fraction: f64) -> Self {
        Self((fraction.clamp(0.0, 1.0) * 1e6).round() as u32)
    }

    /// The share as a fraction of 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// The share in per cent.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 1e4
    }

    /// What is left of the whole.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::ALL.0 - self.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(u32::deserialize(from)?.min(Self::ALL.0)))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_say_their_unit_and_saturate() {
        assert_eq!(Money::from_units(0.25).to_string(), "0.25 units");
        assert_eq!(Energy::of(5.0, Duration::from_millis(200)), Energy::from_joules(1.0));
        assert_eq!((Energy::from_microjoules(u64::MAX) + Energy::from_joules(1.0)).microjoules(), u64::MAX);
        assert_eq!(Money::from_units(f64::NAN), Money::ZERO);
    }

    #[test]
    fn a_kilowatt_hour_emits_what_its_grid_does() {
        assert_eq!(Energy::from_joules(3.6e6).carbon(400.0), Carbon::from_grams(400.0));
    }

    #[test]
    fn a_share_is_never_more_than_all() {
        assert_eq!(Share::from_percent(140.0), Share::ALL);
        assert_eq!(Share::from_percent(99.9).rest(), Share::from_percent(0.1));
        assert_eq!(Share::from_fraction(f64::NAN), Share::NONE);
    }
}
