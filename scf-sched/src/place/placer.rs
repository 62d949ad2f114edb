//! A scheduler: a policy, and claims on what it chose.

use std::time::Duration;

use scf_core::{Refusal, ScheduleError};
use smallvec::SmallVec;
use thiserror::Error;

use super::gang::{Found, Search};
use crate::{
    Decision, Neighbour, Policy, Reason, Request,
    fleet::{Conflict, Fleet, Hold, NodeIx},
    policy::Event,
};

/// How often a request is decided anew when everything that was chosen was taken meanwhile.
const ATTEMPTS: u32 = 10;
/// How long a node is held for a request that is on its way to it.
const HOLD: Duration = Duration::from_secs(5);

/// Why a request was not placed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unplaced {
    /// No node satisfies every need.
    #[error("none of {considered} nodes will do")]
    NoNode {
        /// Nodes that were looked at.
        considered: u32,
        /// Why they were refused, and how many for each reason.
        refused: Vec<(Reason, u32)>,
    },
    /// Everything that was chosen was claimed by others first.
    #[error("{attempts} decisions were claimed by others first")]
    Contended {
        /// How often it was decided.
        attempts: u32,
    },
    /// No nodes were found for a gang among those that were looked at; whether there are any is not known.
    #[error("no nodes were found for all of it in {looks} looks")]
    Undecided {
        /// Nodes that were looked at, each as often as it was.
        looks: u32,
    },
}

impl From<Unplaced> for ScheduleError {
    fn from(unplaced: Unplaced) -> Self {
        match unplaced {
            Unplaced::NoNode { considered, refused } => {
                let refusal = |(reason, nodes): (Reason, u32)| Refusal { filter: reason.as_str().into(), nodes };
                Self::Unplaceable { considered, refused: refused.into_iter().map(refusal).collect() }
            }
            Unplaced::Contended { attempts } => Self::Contended { attempts },
            Unplaced::Undecided { looks } => Self::Unplaceable { considered: looks, refused: Vec::new() },
        }
    }
}

/// One of any number of schedulers over a fleet: asks its policy and holds what that chose, the best first and the
/// next best when it was taken meanwhile. A `Send` value without shared state: a thread has its own.
#[derive(Debug)]
pub struct Placer<P> {
    policy: P,
    decision: Decision,
    cursor: u32,
    hold: Duration,
    attempts: u32,
}

impl<P: Policy> Placer<P> {
    /// A scheduler by `policy`. `number` tells the schedulers of a fleet apart: each looks for room for its holds in
    /// another place.
    #[must_use]
    pub fn new(policy: P, number: u32) -> Self {
        // A stride that spreads consecutive numbers (Knuth's multiplicative hashing).
        let cursor = number.wrapping_mul(2_654_435_769);
        Self { policy, decision: Decision::new(), cursor, hold: HOLD, attempts: ATTEMPTS }
    }

    /// How long a node is held until the hold must be committed; default 5 s.
    #[must_use]
    pub const fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// How often a request is decided at most; default 10, at least 1.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The policy.
    pub const fn policy(&mut self) -> &mut P {
        &mut self.policy
    }

    /// What was decided last.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Chooses a node for a request and holds it.
    ///
    /// # Errors
    /// [`Unplaced`] when no node satisfies every need, or everything that was chosen was taken meanwhile.
    pub fn place(&mut self, fleet: &Fleet, request: &Request<'_>) -> Result<Hold, Unplaced> {
        let mut request = *request;
        for _ in 0..self.attempts {
            self.decide(fleet, &request)?;
            for at in 0..self.decision.choices.len() {
                let node = self.decision.choices[at].node;
                match self.take(fleet, &request, node) {
                    Ok(hold) => return Ok(hold),
                    Err(_) => self.policy.note(fleet, &Event::Conflicted { node, now: request.now }),
                }
            }
            request.seed = request.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
        Err(Unplaced::Contended { attempts: self.attempts })
    }

    /// Holds one node for a request.
    ///
    /// # Errors
    /// [`Conflict`] when it was taken meanwhile.
    pub fn take(&mut self, fleet: &Fleet, request: &Request<'_>, node: NodeIx) -> Result<Hold, Conflict> {
        let hold = fleet.hold(node, request.demand.need, request.now + self.hold, &mut self.cursor)?;
        self.policy.note(fleet, &Event::Claimed { node, now: request.now });
        Ok(hold)
    }

    /// Chooses nodes for the requests of a gang, each knowing where others are, and holds all of them or none.
    ///
    /// `link` gives for each request the steps of the gang that it is joined to, by position and before it, with the
    /// [`Neighbour`] that they are to it; its node is filled in. They are placed one after the other, those with the
    /// heaviest edges best first. Where that leaves one without a node, nodes are searched for all of them together, among
    /// those that the policy [ranks](Policy::rank): up to 1,024 per step, in a bounded number of looks.
    /// [`Scf`](crate::Scf) ranks every node, so that a gang for which there are nodes within these bounds is placed.
    ///
    /// # Errors
    /// The position of the request that was not placed, and why: [`Unplaced::NoNode`] when there are no nodes for all of
    /// them, [`Unplaced::Undecided`] when the bounds were reached. Nothing is held then.
    pub fn place_all(
        &mut self,
        fleet: &Fleet,
        gang: &[Request<'_>],
        link: &[&[(usize, Neighbour)]],
    ) -> Result<SmallVec<[Hold; 8]>, (usize, Unplaced)> {
        let (position, unplaced) = match self.place_in_turn(fleet, gang, link) {
            Err((position, unplaced @ Unplaced::NoNode { .. })) if gang.len() > 1 => (position, unplaced),
            placed => return placed,
        };
        for _ in 0..self.attempts {
            let search = Search::new(fleet, &mut self.policy, &mut self.decision, gang, link);
            let nodes = match search.run(&mut self.policy, &mut self.decision) {
                Found::Nodes(nodes) => nodes,
                Found::Nothing => return Err((position, unplaced)),
                Found::Unknown { looks } => return Err((position, Unplaced::Undecided { looks })),
            };
            let needs: Vec<_> = nodes.into_iter().zip(gang.iter().map(|step| step.demand.need)).collect();
            let Some(now) = gang.first().map(|step| step.now) else { break };
            match fleet.hold_all(&needs, now + self.hold, &mut self.cursor) {
                Ok(holds) => {
                    holds.iter().for_each(|hold| self.policy.note(fleet, &Event::Claimed { node: hold.node(), now }));
                    return Ok(holds);
                }
                Err((taken, _)) => self.policy.note(fleet, &Event::Conflicted { node: needs[taken].0, now }),
            }
        }
        Err((position, Unplaced::Contended { attempts: self.attempts }))
    }

    /// Places the requests of a gang one after the other, each where those before it let it.
    fn place_in_turn(
        &mut self,
        fleet: &Fleet,
        gang: &[Request<'_>],
        link: &[&[(usize, Neighbour)]],
    ) -> Result<SmallVec<[Hold; 8]>, (usize, Unplaced)> {
        let mut holds: SmallVec<[Hold; 8]> = SmallVec::new();
        for (position, step) in gang.iter().enumerate() {
            let mut neighbours: SmallVec<[Neighbour; 8]> = SmallVec::from_slice(step.neighbours);
            for (other, neighbour) in link.get(position).copied().unwrap_or_default() {
                if let Some(hold) = holds.get(*other) {
                    neighbours.push(Neighbour { node: hold.node(), ..*neighbour });
                }
            }
            match self.place(fleet, &Request { neighbours: &neighbours, ..*step }) {
                Ok(hold) => holds.push(hold),
                Err(unplaced) => {
                    holds.into_iter().for_each(|hold| fleet.abort(hold));
                    return Err((position, unplaced));
                }
            }
        }
        Ok(holds)
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>) -> Result<(), Unplaced> {
        self.decision.clear();
        self.policy.decide(fleet, request, &mut self.decision);
        if self.decision.choices.is_empty() {
            let refused = self.decision.refused.to_vec();
            return Err(Unplaced::NoNode { considered: self.decision.evaluated, refused });
        }
        Ok(())
    }
}
