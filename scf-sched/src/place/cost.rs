//! What a placement costs.

use std::{
    fmt,
    ops::{Add, AddAssign},
};

/// Time, money and energy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "scores of integrators write it as a literal")]
pub struct Cost {
    /// Seconds until the reply is there.
    pub seconds: f32,
    /// In the operator's currency.
    pub money: f32,
    /// Energy in joules.
    pub joules: f32,
}

impl Cost {
    /// Time alone.
    #[must_use]
    pub const fn seconds(seconds: f32) -> Self {
        Self { seconds, money: 0.0, joules: 0.0 }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            seconds: self.seconds + other.seconds,
            money: self.money + other.money,
            joules: self.joules + other.joules,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What money and energy are worth in time, so that costs can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who weighs costs")]
pub struct Exchange {
    /// Seconds that one unit of the operator's currency is worth.
    pub money: f32,
    /// Seconds that one joule is worth.
    pub joule: f32,
}

impl Exchange {
    /// A cost in seconds.
    #[inline]
    #[must_use]
    pub fn seconds(&self, cost: Cost) -> f32 {
        cost.seconds + cost.money * self.money + cost.joules * self.joule
    }
}

/// The parts of a cost in seconds, for people to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Parts {
    /// Until the calls before it are done.
    pub wait: f32,
    /// Until the function is started.
    pub cold: f32,
    /// For the payload and the reply.
    pub transfer: f32,
    /// For what it reads and writes elsewhere.
    pub inputs: f32,
    /// For what it gets from and gives to other steps.
    pub neighbours: f32,
    /// While it runs.
    pub execution: f32,
    /// What counts as time: soft needs that are not satisfied, bytes that leave their site.
    pub penalty: f32,
    /// What an objective that is probably missed counts as.
    pub objective: f32,
}

impl Parts {
    /// All of them.
    #[inline]
    #[must_use]
    pub fn sum(&self) -> f32 {
        self.latency() + self.penalty + self.objective
    }

    /// Those that are time.
    #[inline]
    #[must_use]
    pub fn latency(&self) -> f32 {
        self.wait + self.cold + self.transfer + self.inputs + self.neighbours + self.execution
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6} s", self.sum())?;
        let parts = [
            ("wait", self.wait),
            ("cold start", self.cold),
            ("transfer", self.transfer),
            ("inputs", self.inputs),
            ("neighbours", self.neighbours),
            ("execution", self.execution),
            ("penalty", self.penalty),
            ("objective", self.objective),
        ];
        let mut before = " = ";
        for (name, part) in parts.into_iter().filter(|(_, part)| *part > 0.0) {
            write!(f, "{before}{name} {part:.6}")?;
            before = " + ";
        }
        Ok(())
    }
}
