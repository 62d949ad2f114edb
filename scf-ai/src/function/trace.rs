//! Which split a call used, read off its bill.

use std::fmt;

use scf_core::{NodeId, Receipt};

/// Name of the span of bringing a quantised activation back.
pub(super) const DECODE: &str = "codec.decode";
/// Name of the span of bringing an activation into the form in which it travels.
pub(super) const ENCODE: &str = "codec.encode";
/// Name of the span of deciding where the blocks run.
pub(super) const PLAN: &str = "split.plan";

/// Where the blocks of a call of a model ran, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SplitTrace {
    /// One part per node in the order of the run.
    pub stretches: Vec<Stretch>,
}

/// Consecutive blocks on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stretch {
    /// The node.
    pub node: NodeId,
    /// The blocks' names.
    pub blocks: Vec<String>,
}

impl SplitTrace {
    /// Reads the bill of a call of a model, and of the calls it made.
    #[must_use]
    pub fn of(receipt: &Receipt) -> Self {
        let mut trace = Self::default();
        trace.add(receipt);
        trace
    }

    fn add(&mut self, receipt: &Receipt) {
        let ran = receipt.spans.iter().map(|span| &*span.name).filter(|name| ![DECODE, ENCODE, PLAN].contains(name));
        let blocks: Vec<String> = ran.map(str::to_owned).collect();
        if !blocks.is_empty() {
            self.stretches.push(Stretch { node: receipt.node.clone(), blocks });
        }
        receipt.calls.iter().for_each(|callee| self.add(callee));
    }
}

impl fmt::Display for SplitTrace {
    /// `cam stem..mbconv2 > cloud mbconv3..head`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Stretch { node, blocks }) in self.stretches.iter().enumerate() {
            let before = if i == 0 { "" } else { " > " };
            match &blocks[..] {
                [] => write!(f, "{before}{node}")?,
                [only] => write!(f, "{before}{node} {only}")?,
                [first, .., last] => write!(f, "{before}{node} {first}..{last}")?,
            }
        }
        Ok(())
    }
}
