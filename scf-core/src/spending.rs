//! What a split costs beside time.

use std::{fmt, ops::Add};

use crate::{Battery, Energy, Money, Node, Radio, Rates};

/// What a node spends while it computes and sends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct Draw {
    /// Of a second in which it computes.
    pub rates: Rates,
    /// Of a byte that it sends or receives.
    pub radio: Radio,
    /// What it runs on; none: mains.
    pub battery: Option<Battery>,
}

impl Draw {
    /// What `node` spends, as its operator describes it.
    #[must_use]
    pub const fn of(node: &Node) -> Self {
        Self { rates: node.rates, radio: node.radio, battery: node.battery }
    }
}

/// What an inference has spent so far, on all of its nodes together, in each unit that there is a budget of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct SplitSpent {
    /// Energy, wherever it came from.
    pub energy: Energy,
    /// Energy out of batteries, counted as [`SplitBudget::Battery`] does.
    pub battery: Energy,
    /// The price of computing.
    pub money: Money,
}

impl SplitSpent {
    /// Nothing.
    pub const NOTHING: Self = Self { energy: Energy::ZERO, battery: Energy::ZERO, money: Money::ZERO };
}

impl Add for SplitSpent {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { energy: self.energy + more.energy, battery: self.battery + more.battery, money: self.money + more.money }
    }
}

/// The most that one inference may spend on all of its nodes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SplitBudget {
    /// Energy, wherever it comes from.
    Energy(Energy),
    /// Energy out of batteries, each joule counting as often as what is left in its battery goes into a full one: at
    /// 25 % four times. Less than 1 % counts as 1 %; mains count nothing.
    Battery(Energy),
    /// The price of computing.
    Money(Money),
}

impl fmt::Display for SplitBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Energy(energy) => energy.fmt(f),
            Self::Battery(energy) => write!(f, "{energy} of full batteries"),
            Self::Money(money) => money.fmt(f),
        }
    }
}
