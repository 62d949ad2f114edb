//! Steps that are placed together: a search for nodes between which all ways are as they must be.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::context;
use crate::{
    Bound, Decision, LinkBound, Neighbour, Policy, Request,
    fleet::{Amount, Fleet, NodeIx, Spot, Units},
};

/// Nodes that are considered for a step.
const RANKED: usize = 1024;
/// Candidates that are looked at in a search, for all steps together: some tens of milliseconds.
const LOOKS: u32 = 1 << 20;
/// Nodes that are tried before the search begins anew with those steps that were hard to place; doubled each time.
const TRIES: u32 = 128;

/// What came of a search.
#[derive(Debug)]
pub(super) enum Found {
    /// A node for each step.
    Nodes(Vec<NodeIx>),
    /// There is no placement.
    Nothing,
    /// None was found after so many looks, or not every node was considered.
    Unknown { looks: u32 },
}

/// A joint of a gang: what the other step is to this one.
#[derive(Clone, Copy, Debug)]
struct Joint {
    other: usize,
    neighbour: Neighbour,
}

/// A node that a step may be placed on.
#[derive(Clone, Copy, Debug)]
struct Seat {
    spot: Spot,
    /// How many steps were placed when it was ruled out.
    ruled_out: Option<usize>,
}

#[derive(Debug)]
struct Step<'a> {
    request: Request<'a>,
    joints: Vec<Joint>,
    seats: Vec<Seat>,
    /// Seats that are not ruled out.
    open: usize,
    node: Option<NodeIx>,
    /// How often no seat was left.
    weight: u32,
}

/// A step that is placed, and the nodes that it can be placed on instead.
#[derive(Debug)]
struct Placed {
    step: usize,
    others: std::vec::IntoIter<NodeIx>,
}

/// Looks for a node for each step: depth first, the step with fewest seats next and those before the others that had none
/// left before (Boussemart et al.: Boosting systematic search by weighting constraints, ECAI 2004), each on the node that
/// the policy ranks first. What is placed rules out the seats of others to which no way leads that is as it must be, or
/// where no room is left (forward checking). Takes nothing: who holds the nodes may find that they were taken meanwhile.
#[derive(Debug)]
pub(super) struct Search<'a> {
    fleet: &'a Fleet,
    steps: Vec<Step<'a>>,
    /// What is left of the nodes that steps are placed on.
    left: HashMap<NodeIx, (Amount, Units)>,
    looks: u32,
    is_whole: bool,
}

impl<'a> Search<'a> {
    /// Prepares a search over the nodes that `policy` ranks for each step alone.
    pub(super) fn new(
        fleet: &'a Fleet,
        policy: &mut impl Policy,
        decision: &mut Decision,
        gang: &[Request<'a>],
        link: &[&[(usize, Neighbour)]],
    ) -> Self {
        let mut is_whole = true;
        let mut looks = 0;
        let mut steps: Vec<Step<'a>> = Vec::with_capacity(gang.len());
        for request in gang {
            decision.clear();
            policy.rank(fleet, request, RANKED, decision);
            is_whole &= decision.choices.len() < RANKED;
            looks += decision.evaluated;
            let spots = decision.choices.iter().filter_map(|choice| fleet.spot(choice.node));
            let seats: Vec<Seat> = spots.map(|spot| Seat { spot, ruled_out: None }).collect();
            let (open, joints) = (seats.len(), Vec::new());
            steps.push(Step { request: *request, joints, seats, open, node: None, weight: 1 });
        }
        for (position, links) in link.iter().enumerate().take(gang.len()) {
            for (other, neighbour) in links.iter().filter(|(other, _)| *other < position) {
                let link = neighbour.link.or(gang[position].demand.link);
                let here = Neighbour { link, ..*neighbour };
                let there = Neighbour {
                    incoming: neighbour.outgoing,
                    outgoing: neighbour.incoming,
                    link: Some(link.unwrap_or(ANY_WAY)),
                    ..*neighbour
                };
                steps[position].joints.push(Joint { other: *other, neighbour: here });
                steps[*other].joints.push(Joint { other: position, neighbour: there });
            }
        }
        Self { fleet, steps, left: HashMap::new(), looks, is_whole }
    }

    /// Searches until all steps are placed, all was tried, or the bound is reached.
    pub(super) fn run(mut self, policy: &mut impl Policy, decision: &mut Decision) -> Found {
        if self.steps.iter().any(|step| step.open == 0) {
            return self.nothing();
        }
        let mut path: Vec<Placed> = Vec::with_capacity(self.steps.len());
        let (mut tried, mut most) = (0, TRIES);
        loop {
            let Some(step) = self.next_step() else {
                return Found::Nodes(self.steps.iter().filter_map(|step| step.node).collect());
            };
            let others = self.ranked(step, policy, decision).into_iter();
            path.push(Placed { step, others });
            if tried > most {
                (tried, most) = (0, most.saturating_mul(2));
                while let Some(placed) = path.pop() {
                    self.take_back(placed.step, path.len());
                }
                continue;
            }
            // Places the last step on the next of its nodes, or the one before it elsewhere when there is none.
            loop {
                let depth = path.len();
                let Some(placed) = path.last_mut() else { return self.nothing() };
                self.take_back(placed.step, depth - 1);
                if self.looks > LOOKS {
                    return Found::Unknown { looks: self.looks };
                }
                match placed.others.next() {
                    Some(node) => {
                        tried += 1;
                        if self.place(placed.step, node, depth - 1) {
                            break;
                        }
                    }
                    None => drop(path.pop()),
                }
            }
        }
    }

    const fn nothing(&self) -> Found {
        if self.is_whole { Found::Nothing } else { Found::Unknown { looks: self.looks } }
    }

    /// The step that is hardest to place; none when all are.
    fn next_step(&self) -> Option<usize> {
        let unplaced = self.steps.iter().enumerate().filter(|(_, step)| step.node.is_none());
        let ease = |step: &Step<'_>| step.open as f64 / f64::from(step.weight);
        unplaced.min_by(|(_, a), (_, b)| ease(a).total_cmp(&ease(b))).map(|(position, _)| position)
    }

    /// The open seats of a step, as the policy ranks them where the others are placed so far.
    fn ranked(&mut self, step: usize, policy: &mut impl Policy, decision: &mut Decision) -> Vec<NodeIx> {
        let of = &self.steps[step];
        let mut neighbours: SmallVec<[Neighbour; 8]> = SmallVec::from_slice(of.request.neighbours);
        neighbours.extend(of.joints.iter().filter_map(|joint| {
            let node = self.steps[joint.other].node?;
            Some(Neighbour { node, ..joint.neighbour })
        }));
        decision.clear();
        policy.rank(self.fleet, &Request { neighbours: &neighbours, ..of.request }, RANKED, decision);
        self.looks = self.looks.saturating_add(decision.evaluated);
        let is_open = |node: NodeIx| of.seats.iter().any(|seat| seat.spot.node == node && seat.ruled_out.is_none());
        decision.choices.iter().map(|choice| choice.node).filter(|node| is_open(*node)).collect()
    }

    /// Places a step and rules out what others cannot have any more; `false` when one of them has no seat left then.
    fn place(&mut self, step: usize, node: NodeIx, depth: usize) -> bool {
        let Some((spot, hot)) = self.fleet.spot(node).zip(self.fleet.look(node)) else { return false };
        let need = self.steps[step].request.demand.need;
        let left = self.left.entry(node).or_insert_with(|| (hot.free(), hot.units()));
        *left = (left.0.minus(need.amount), left.1.minus(need.units));
        let left = *left;
        self.steps[step].node = Some(node);
        let joints = self.steps[step].joints.clone();
        for joint in joints {
            let link = joint.neighbour.link;
            self.rule_out(joint.other, depth, |fleet, seat| !context::is_carried(fleet, &spot, &seat.spot, link));
        }
        for other in 0..self.steps.len() {
            let need = self.steps[other].request.demand.need;
            if !(left.0.fits(need.amount) && left.1.fits(need.units)) {
                self.rule_out(other, depth, |_, seat| seat.spot.node == node);
            }
        }
        let mut is_possible = true;
        for other in self.steps.iter_mut().filter(|other| other.node.is_none() && other.open == 0) {
            other.weight += 1;
            is_possible = false;
        }
        is_possible
    }

    fn rule_out(&mut self, step: usize, depth: usize, is_out: impl Fn(&Fleet, &Seat) -> bool) {
        let step = &mut self.steps[step];
        if step.node.is_some() {
            return;
        }
        self.looks = self.looks.saturating_add(step.open as u32);
        for seat in step.seats.iter_mut().filter(|seat| seat.ruled_out.is_none()) {
            if is_out(self.fleet, seat) {
                seat.ruled_out = Some(depth);
                step.open -= 1;
            }
        }
    }

    /// Undoes the placement of a step that was placed after `depth` others; nothing when it is not placed.
    fn take_back(&mut self, step: usize, depth: usize) {
        let Some(node) = self.steps[step].node.take() else { return };
        let need = self.steps[step].request.demand.need;
        if let Some(left) = self.left.get_mut(&node) {
            *left = (left.0.plus(need.amount), left.1.plus(need.units));
        }
        for step in &mut self.steps {
            for seat in step.seats.iter_mut().filter(|seat| seat.ruled_out == Some(depth)) {
                seat.ruled_out = None;
                step.open += 1;
            }
        }
    }
}

/// For a step that the link of another one's function does not speak of.
const ANY_WAY: Bound<LinkBound> = Bound {
    what: LinkBound { rate: 0.0, delay: f32::INFINITY, jitter: f32::INFINITY, loss: f32::INFINITY },
    penalty: 0.0,
};
