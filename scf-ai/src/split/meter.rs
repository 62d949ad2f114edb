//! What splits spend, in the unit of a budget.

use std::time::Duration;

use scf_core::{
    ByteSize, Draw, Energy, Money, NetworkPlan, NetworkProblem, PlanError, Segment, SplitBudget, SplitProblem,
    SplitSpent,
};
use smallvec::SmallVec;

use super::{Sending, nanos};

/// What one node spends, in microjoules or billionths of the currency unit.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Per nanosecond in which it computes.
    busy: f64,
    /// Per byte.
    sent: f64,
    received: f64,
}

impl Rate {
    fn of(draw: &Draw, budget: SplitBudget) -> Self {
        // What is no number above zero counts as nothing.
        let [money, joules, sent, received] =
            [draw.rates.money, draw.rates.joules, draw.radio.sent, draw.radio.received]
                .map(|rate| f64::from(rate).max(0.0));
        let joules =
            |weight: f64| Self { busy: 1e-3 * joules * weight, sent: sent * weight, received: received * weight };
        match (budget, draw.battery) {
            (SplitBudget::Money(_), _) => Self { busy: money, sent: 0.0, received: 0.0 },
            (SplitBudget::Battery(_), None) => joules(0.0),
            (SplitBudget::Battery(_), Some(battery)) => joules(100.0 / f64::from(battery.percent.clamp(1, 100))),
            (SplitBudget::Energy(_) | _, _) => joules(1.0),
        }
    }
}

/// What the nodes of a problem spend.
#[derive(Debug)]
pub(super) struct Meter {
    budget: SplitBudget,
    /// What was spent before.
    before: f64,
    rates: SmallVec<[Rate; 8]>,
}

/// What a node spends on computing for `busy`, and on what it sends and receives.
pub(crate) fn spent(draw: &Draw, busy: Duration, sent: ByteSize, received: ByteSize) -> SplitSpent {
    let in_unit = |budget| {
        let Rate { busy: computing, sent: sending, received: receiving } = Rate::of(draw, budget);
        let bytes = |size: ByteSize| size.bytes() as f64;
        (nanos(busy) * computing + bytes(sent) * sending + bytes(received) * receiving).ceil() as u64
    };
    SplitSpent {
        energy: Energy::from_microjoules(in_unit(SplitBudget::Energy(Energy::ZERO))),
        battery: Energy::from_microjoules(in_unit(SplitBudget::Battery(Energy::ZERO))),
        money: Money::from_nanos(in_unit(SplitBudget::Money(Money::ZERO))),
    }
}

impl Meter {
    /// # Errors
    /// [`PlanError::Malformed`] when the problem does not say what its nodes spend.
    pub(super) fn new(problem: &SplitProblem<'_>, budget: SplitBudget) -> Result<Self, PlanError> {
        if problem.draws.len() != problem.nodes {
            return Err(PlanError::Malformed { table: "draws" });
        }
        let before = match budget {
            SplitBudget::Battery(_) => problem.spent.battery.microjoules(),
            SplitBudget::Money(_) => problem.spent.money.nanos(),
            _ => problem.spent.energy.microjoules(),
        };
        Ok(Self {
            budget,
            before: before as f64,
            rates: problem.draws.iter().map(|draw| Rate::of(draw, budget)).collect(),
        })
    }

    fn budgeted(&self) -> f64 {
        match self.budget {
            SplitBudget::Energy(energy) | SplitBudget::Battery(energy) => energy.microjoules() as f64,
            SplitBudget::Money(money) => money.nanos() as f64,
            _ => 0.0,
        }
    }

    /// What may still be spent; sums round.
    pub(super) fn limit(&self) -> f64 {
        (self.budgeted() * (1.0 + 1e-9) - self.before).max(0.0)
    }

    /// Whether the run was begun elsewhere: it was within the budget by what was known there, and is finished.
    pub(super) fn has_begun(&self) -> bool {
        self.before > 0.0
    }

    /// Whether `spent` is not more than may be.
    pub(super) fn allows(&self, spent: f64) -> bool {
        spent <= self.limit()
    }

    /// The error where `needed` is more than may be spent.
    pub(super) fn exceeded(&self, needed: f64) -> PlanError {
        let amount = (self.before + needed).ceil() as u64;
        let needed = match self.budget {
            SplitBudget::Energy(_) => SplitBudget::Energy(Energy::from_microjoules(amount)),
            SplitBudget::Battery(_) => SplitBudget::Battery(Energy::from_microjoules(amount)),
            _ => SplitBudget::Money(Money::from_nanos(amount)),
        };
        PlanError::OverBudget { budget: self.budget, needed }
    }

    /// What `node` spends on computing for so many nanoseconds.
    pub(super) fn computing(&self, node: usize, nanos: f64) -> f64 {
        if nanos.is_finite() { nanos * self.rates[node].busy } else { f64::INFINITY }
    }

    /// What both ends spend on an activation, codec time half on each side.
    pub(super) fn sending(&self, problem: &SplitProblem<'_>, from: usize, to: usize, what: Sending) -> f64 {
        let codec = |node: usize| self.computing(node, what.codec / 2.0 * f64::from(problem.slowdowns[node].factor()));
        what.bytes * (self.rates[from].sent + self.rates[to].received) + codec(from) + codec(to)
    }

    /// What both ends spend on the result's way back over a hop.
    pub(super) fn reply(&self, problem: &SplitProblem<'_>, from: usize, to: usize) -> f64 {
        problem.result.bytes() as f64 * (self.rates[to].sent + self.rates[from].received)
    }

    /// What a chain's plan spends; infinite where it needs what cannot be had.
    pub(super) fn of_chain(&self, problem: &SplitProblem<'_>, segments: &[Segment]) -> f64 {
        self.total(
            problem,
            segments,
            |segment| segment.from - problem.first..segment.to - problem.first,
            |segment| {
                let forms = problem.edges[segment.from - problem.first].forms;
                forms.iter().find(|cost| cost.form == segment.form).map(Sending::of)
            },
        )
    }

    /// What a plan of a network spends: at each hop, every tensor that is still taken travels.
    pub(super) fn of_network(&self, problem: &NetworkProblem<'_>, plan: &NetworkPlan) -> f64 {
        let (chain, alive) = (&problem.chain, problem.alive());
        let place = |segment: &Segment| segment.from - chain.first;
        let travels = |segment: &Segment| {
            let (done, left) = plan.order.split_at(place(segment));
            let is_there = |tensor: usize| tensor < alive || done.contains(&(tensor - alive));
            let is_taken = |tensor: usize| left.iter().any(|&block| problem.inputs[block].contains(&tensor));
            let tensors = (0..problem.tensors.len()).filter(|&tensor| is_there(tensor) && is_taken(tensor));
            tensors
                .map(|tensor| super::network::in_form(&problem.tensors[tensor], segment.form))
                .try_fold(Sending { bytes: 0.0, codec: 0.0 }, |sum, part| {
                    part.map(|part| Sending { bytes: sum.bytes + part.bytes, codec: sum.codec + part.codec })
                })
        };
        let blocks = |segment: &Segment| &plan.order[place(segment)..segment.to - chain.first];
        self.total(chain, &plan.plan.segments, |segment| blocks(segment).iter().copied(), travels)
    }

    fn total<I: IntoIterator<Item = usize>>(
        &self,
        problem: &SplitProblem<'_>,
        segments: &[Segment],
        blocks: impl Fn(&Segment) -> I,
        travels: impl Fn(&Segment) -> Option<Sending>,
    ) -> f64 {
        let (mut at, mut spent) = (0, 0.0);
        for segment in segments {
            let times = &problem.times[segment.node * problem.blocks..][..problem.blocks];
            let busy: f64 = blocks(segment).into_iter().map(|block| nanos(times[block])).sum();
            spent += self.computing(segment.node, busy);
            if segment.node != at {
                let Some(what) = travels(segment) else { return f64::INFINITY };
                spent += self.sending(problem, at, segment.node, what) + self.reply(problem, at, segment.node);
            }
            at = segment.node;
        }
        spent
    }
}
