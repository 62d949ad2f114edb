//! Which variant answers: a pure decision.

use std::time::Duration;

use scf_core::{ModelName, Money, Name, Share, Zone};
use thiserror::Error;

/// What an inference has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Query {
    /// What is to be done.
    pub task: Name,
    /// The one variant that may answer; none where any of the task may.
    pub variant: Option<ModelName>,
    /// Time until the answer has to be there.
    pub within: Duration,
    /// The least accuracy that will do.
    pub accuracy: Share,
    /// The most that it may cost; none when money does not matter.
    pub price: Option<Money>,
    /// The zone that the input must not leave; none where it may go anywhere.
    pub zone: Option<Zone>,
}

impl Query {
    /// A query for `task` to be answered within `within`, at any accuracy, price and place.
    pub const fn new(task: Name, within: Duration) -> Self {
        Self { task, variant: None, within, accuracy: Share::NONE, price: None, zone: None }
    }

    /// The one variant that may answer.
    pub fn variant(mut self, name: ModelName) -> Self {
        self.variant = Some(name);
        self
    }

    /// The least accuracy that will do.
    pub const fn accuracy(mut self, least: Share) -> Self {
        self.accuracy = least;
        self
    }

    /// The most that it may cost.
    pub const fn price(mut self, most: Money) -> Self {
        self.price = Some(most);
        self
    }

    /// The zone that the input must not leave.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self
    }
}

/// A variant on an executor, as the decision sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) accuracy: Share,
    /// What the inference costs there.
    pub(super) price: Money,
    /// Whether the input may be there.
    pub(super) allowed: bool,
    /// Time until the inference could begin: what is ahead of it, and loading where it is not resident.
    pub(super) wait: Duration,
    /// What the inference takes, in the worst case that is seen.
    pub(super) time: Duration,
    /// Whether it has to be loaded first.
    pub(super) loads: bool,
    /// Whether it misses its promises at the moment.
    pub(super) avoided: bool,
}

impl Candidate {
    const fn done(&self) -> Duration {
        self.wait.saturating_add(self.time)
    }
}

/// Why no variant answers: what was asked, and the nearest that could be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoVariant {
    /// No variant is registered for the task, or nothing that runs it.
    #[error("no variant of {task} is registered")]
    Task {
        /// The task.
        task: Name,
    },
    /// None is accurate enough.
    #[error("no variant of {task} reaches accuracy {asked}; the best has {best}")]
    Accuracy {
        /// The task.
        task: Name,
        /// What was asked.
        asked: Share,
        /// The best there is.
        best: Share,
    },
    /// None that is accurate enough runs where the input may be.
    #[error("no variant of {task} reaches accuracy {accuracy} inside zone {zone}, which the input must not leave")]
    Zone {
        /// The task.
        task: Name,
        /// The least accuracy that will do.
        accuracy: Share,
        /// The zone.
        zone: Zone,
    },
    /// None that is accurate enough is cheap enough.
    #[error("no variant of {task} reaches accuracy {accuracy} for {asked}; the cheapest costs {cheapest}")]
    Price {
        /// The task.
        task: Name,
        /// The least accuracy that will do.
        accuracy: Share,
        /// The most that it may cost.
        asked: Money,
        /// The cheapest there is.
        cheapest: Money,
    },
    /// None of those that would do is done in time; the request was refused before it ran.
    #[error("no variant of {task} reaches accuracy {accuracy} within {asked:?}; the earliest would take {earliest:?}")]
    Late {
        /// The task.
        task: Name,
        /// The least accuracy that will do.
        accuracy: Share,
        /// Time until the answer had to be there.
        asked: Duration,
        /// When the first of them would be done: what the request would have had to allow.
        earliest: Duration,
    },
}

/// Chooses among the variants of a task. Pure.
///
/// Of those that may answer and are in time, a resident one is taken before one that has to be loaded, and one that
/// keeps its promises before one that does not. Among those, the most accurate that leaves others their time: one that
/// is done within `headroom` of the time that is left. Where none is, the one that is done first. So accuracy goes up
/// while there is little to do and down under load: the up- and downgrades of INFaaS (Romero et al., USENIX ATC 2021,
/// section 4.2), decided per query. Equal ones: the cheaper, then the earlier in the list.
///
/// # Errors
/// [`NoVariant`], which says by how much the nearest one misses; the request is refused before it costs anything, as
/// in Clockwork (Gujarati et al., OSDI 2020, section 4.2).
pub(super) fn choose(query: &Query, candidates: &[Candidate], headroom: Share) -> Result<usize, NoVariant> {
    let (task, accuracy) = (query.task.clone(), query.accuracy);
    let Some(best) = candidates.iter().map(|c| c.accuracy).max() else { return Err(NoVariant::Task { task }) };
    if best < accuracy {
        return Err(NoVariant::Accuracy { task, asked: accuracy, best });
    }
    let accurate = || candidates.iter().enumerate().filter(|(_, c)| c.accuracy >= accuracy);
    let allowed = || accurate().filter(|(_, c)| c.allowed);
    if let (Some(zone), None) = (&query.zone, allowed().next()) {
        return Err(NoVariant::Zone { task, accuracy, zone: zone.clone() });
    }
    let affordable = || allowed().filter(|(_, c)| query.price.is_none_or(|most| c.price <= most));
    let Some(earliest) = affordable().map(|(_, c)| c.done()).min() else {
        let cheapest = allowed().map(|(_, c)| c.price).min().unwrap_or_default();
        return Err(NoVariant::Price { task, accuracy, asked: query.price.unwrap_or_default(), cheapest });
    };
    let calm = query.within.mul_f64(headroom.fraction());
    // The least of these is taken; what is spread in time is told apart by accuracy, what is not by time.
    let rank = |(index, c): (usize, &Candidate)| {
        let upgrade = c.done() <= calm;
        let (less_accurate, done) = if upgrade { (c.accuracy.rest(), Duration::ZERO) } else { (Share::ALL, c.done()) };
        (c.loads, c.avoided, !upgrade, less_accurate, done, c.price, index)
    };
    let chosen = affordable().filter(|(_, c)| c.done() <= query.within).map(rank).min();
    chosen.map(|(.., index)| index).ok_or(NoVariant::Late { task, accuracy, asked: query.within, earliest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(accuracy: f64, price: u64, wait: u64, time: u64) -> Candidate {
        Candidate {
            accuracy: Share::from_percent(accuracy),
            price: Money::from_nanos(price),
            allowed: true,
            wait: Duration::from_millis(wait),
            time: Duration::from_millis(time),
            loads: false,
            avoided: false,
        }
    }

    fn query(accuracy: f64, within: u64) -> Query {
        let query = Query::new(Name::new("classify").unwrap(), Duration::from_millis(within));
        query.accuracy(Share::from_percent(accuracy))
    }

    fn chosen(query: &Query, candidates: &[Candidate]) -> Result<usize, NoVariant> {
        choose(query, candidates, Share::from_percent(50.0))
    }

    #[test]
    fn accuracy_goes_up_while_there_is_time_and_down_under_load() {
        let free = [candidate(75.0, 1, 0, 10), candidate(77.0, 2, 0, 20), candidate(78.0, 3, 0, 40)];
        assert_eq!(chosen(&query(0.0, 100), &free), Ok(2));
        assert_eq!(chosen(&query(0.0, 60), &free), Ok(1));
        let busy = free.map(|c| Candidate { wait: Duration::from_millis(45), ..c });
        assert_eq!(chosen(&query(0.0, 100), &busy), Ok(0));
        assert_eq!(chosen(&query(78.0, 100), &busy), Ok(2), "what is asked is not given up");
    }

    #[test]
    fn what_cannot_be_in_time_is_refused_with_what_would_be_needed() {
        let busy = [candidate(75.0, 1, 90, 20), candidate(78.0, 3, 90, 40)];
        let refused = |query: &Query| chosen(query, &busy).unwrap_err().to_string();
        assert_eq!(
            refused(&query(0.0, 100)),
            "no variant of classify reaches accuracy 0 % within 100ms; the earliest would take 110ms"
        );
        assert_eq!(
            refused(&query(77.0, 100)),
            "no variant of classify reaches accuracy 77 % within 100ms; the earliest would take 130ms"
        );
        assert_eq!(refused(&query(80.0, 100)), "no variant of classify reaches accuracy 80 %; the best has 78 %");
        assert!(matches!(chosen(&query(0.0, 100), &[]), Err(NoVariant::Task { task }) if task.as_str() == "classify"));
        assert!(chosen(&query(0.0, 110), &busy).is_ok(), "what is needed is enough");
    }

    #[test]
    fn a_price_is_a_bound_and_breaks_ties() {
        let same = [candidate(75.0, 5, 0, 10), candidate(75.0, 4, 0, 10)];
        assert_eq!(chosen(&query(0.0, 100), &same), Ok(1));
        let bounded = query(0.0, 100).price(Money::from_nanos(3));
        let error = chosen(&bounded, &same).unwrap_err();
        assert!(matches!(error, NoVariant::Price { cheapest, .. } if cheapest == Money::from_nanos(4)), "{error}");
    }

    #[test]
    fn an_input_stays_in_its_zone_also_when_that_is_less_accurate_or_late() {
        let outside = Candidate { allowed: false, ..candidate(78.0, 1, 0, 10) };
        let zone = Zone::new("clinic").unwrap();
        let query = |accuracy, within| query(accuracy, within).zone(zone.clone());
        assert_eq!(chosen(&query(0.0, 100), &[outside, candidate(75.0, 1, 0, 10)]), Ok(1));
        let busy = [outside, candidate(75.0, 1, 95, 10)];
        assert!(matches!(chosen(&query(0.0, 100), &busy), Err(NoVariant::Late { .. })));
        let error = chosen(&query(77.0, 100), &busy).unwrap_err();
        assert!(matches!(&error, NoVariant::Zone { zone, .. } if zone.as_str() == "clinic"), "{error}");
    }

    #[test]
    fn what_must_be_loaded_or_misses_is_taken_where_no_other_will_do() {
        let loads = Candidate { loads: true, ..candidate(78.0, 1, 30, 10) };
        let avoided = Candidate { avoided: true, ..candidate(78.0, 1, 0, 10) };
        for other in [loads, avoided] {
            assert_eq!(chosen(&query(0.0, 100), &[candidate(75.0, 1, 0, 10), other]), Ok(0), "no need");
            assert_eq!(chosen(&query(78.0, 100), &[candidate(75.0, 1, 0, 10), other]), Ok(1), "accuracy needs it");
            assert_eq!(chosen(&query(0.0, 100), &[candidate(75.0, 1, 95, 10), other]), Ok(1), "the other is late");
        }
        assert_eq!(chosen(&query(0.0, 100), &[loads, avoided]), Ok(1), "a load costs more than a miss");
    }
}
