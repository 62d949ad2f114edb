//! Why a node was or was not chosen.

use std::fmt;

use scf_core::NodeId;

use super::{Cost, Parts};
use crate::Reason;

/// What the filters and the cost say about one node: a request's best node is the one of those not refused that
/// costs the fewest seconds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The node.
    pub node: NodeId,
    /// Everything that it does not satisfy; nothing when it will do.
    pub refused: Vec<Reason>,
    /// What it costs, or would.
    pub cost: Cost,
    /// The same in seconds, as nodes are compared.
    pub seconds: f32,
    /// What its time is made of, where the cost says so.
    pub parts: Option<Parts>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.node)?;
        match self.parts {
            Some(parts) => write!(f, "{parts}")?,
            None => write!(f, "{:.6} s", self.seconds)?,
        }
        if self.cost.money > 0.0 {
            write!(f, ", price {:.3e}", self.cost.money)?;
        }
        if self.cost.joules > 0.0 {
            write!(f, ", {:.3} J", self.cost.joules)?;
        }
        for (position, reason) in self.refused.iter().enumerate() {
            write!(f, "{}{reason}", if position == 0 { ", refused for " } else { ", " })?;
        }
        Ok(())
    }
}
