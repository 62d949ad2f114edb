//! The split of a network that is no chain.

use smallvec::SmallVec;

use crate::{EdgeCost, SplitPlan, SplitProblem};

/// The blocks that are left of a network that is no chain, and the tensors between them.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct NetworkProblem<'a> {
    /// The same as a chain: the blocks in an order in which they can run, and before each what is alive there, all of
    /// it travelling together.
    pub chain: SplitProblem<'a>,
    /// Of each block left the tensors that it takes, by their index in `tensors`.
    pub inputs: &'a [SmallVec<[usize; 2]>],
    /// What each tensor costs to send, once, however many blocks take it there: first those that are there already, then
    /// what each block left gives.
    pub tensors: &'a [EdgeCost<'a>],
}

impl NetworkProblem<'_> {
    /// How many tensors are there already.
    #[must_use]
    pub const fn alive(&self) -> usize {
        self.tensors.len().saturating_sub(self.chain.blocks)
    }
}

/// An order of the blocks that are left, and who runs which part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "planners of integrators write it as a literal")]
pub struct NetworkPlan {
    /// The blocks left, by their index among them, each behind those that it takes something from.
    pub order: SmallVec<[usize; 32]>,
    /// Segments of that order; they begin with [`SplitProblem::first`] at its start.
    pub plan: SplitPlan,
}
