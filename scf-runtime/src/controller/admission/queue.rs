//! Who waits and who is next: deficit round robin over tenants, without waiting, clock or lock.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use scf_core::Timestamp;
use smallvec::SmallVec;

/// The least that a call counts for, in nanoseconds: the round must end also where nothing was measured.
const LEAST_COST: u64 = 1_000;

/// Whose call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The tenant.
    pub(super) tenant: u32,
    /// Its share beside the others; at least 1.
    pub(super) weight: u32,
    /// The revision of a function that is called. The calls of one go in the order in which they came; one that
    /// has no room does not hold up the others of its tenant.
    pub(super) function: u64,
}

/// Where a call stands in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: Line,
    arrival: u64,
}

/// What became of a call that waited.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<T> {
    /// It has room.
    Run(T),
    /// Its deadline is over; it must not run.
    Expired(T),
}

/// Calls that wait, by tenant and function.
///
/// Deficit round robin (Shreedhar, Varghese: Efficient fair queuing using deficit round robin, SIGCOMM 1995): the
/// tenants take turns; a turn adds the quantum times the tenant's weight to what the tenant may spend, and lasts
/// until that does not pay for its next call. A call costs the time for which it is expected to hold a slot. The
/// quantum is the highest cost since somebody began to wait, so that every turn pays for a call.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    tenants: HashMap<u32, Waiting<T>>,
    /// Tenants with waiting calls; the first one's turn it is.
    ring: VecDeque<u32>,
    quantum: u64,
    arrivals: u64,
    /// Of all tenants with waiting calls.
    weights: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    weight: u64,
    functions: Vec<(u64, BTreeMap<u64, Entry<T>>)>,
    /// What the tenant may still spend, in nanoseconds.
    deficit: u64,
    /// Whether this turn's share was added.
    is_served: bool,
    /// What its waiting calls cost in all.
    cost: u64,
}

#[derive(Debug)]
struct Entry<T> {
    deadline: Timestamp,
    cost: u64,
    item: T,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { tenants: HashMap::new(), ring: VecDeque::new(), quantum: LEAST_COST, arrivals: 0, weights: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Queues a call that is expected to hold its slot for `cost`.
    pub(super) fn push(&mut self, line: Line, cost: Duration, deadline: Timestamp, item: T) -> Place {
        let cost = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX).clamp(LEAST_COST, u64::MAX >> 32);
        self.quantum = self.quantum.max(cost);
        self.arrivals += 1;
        let arrival = self.arrivals;
        let ring = &mut self.ring;
        let waiting = self.tenants.entry(line.tenant).or_insert_with(|| {
            ring.push_back(line.tenant);
            Waiting { weight: 0, functions: Vec::new(), deficit: 0, is_served: false, cost: 0 }
        });
        let weight = u64::from(line.weight.max(1));
        self.weights = self.weights - std::mem::replace(&mut waiting.weight, weight) + weight;
        waiting.cost = waiting.cost.saturating_add(cost);
        let at = waiting.functions.iter().position(|(function, _)| *function == line.function);
        let at = at.unwrap_or_else(|| {
            waiting.functions.push((line.function, BTreeMap::new()));
            waiting.functions.len() - 1
        });
        waiting.functions[at].1.insert(arrival, Entry { deadline, cost, item });
        Place { line, arrival }
    }

    /// Takes a call out that gives up; `None` when it is not there any more.
    pub(super) fn remove(&mut self, place: Place) -> Option<T> {
        let waiting = self.tenants.get_mut(&place.line.tenant)?;
        let at = waiting.functions.iter().position(|(function, _)| *function == place.line.function)?;
        let item = waiting.take(at, place.arrival)?;
        self.leave_if_done(place.line.tenant);
        Some(item)
    }

    /// The next call that `has_room`, or one whose deadline is over. `has_room` is asked for the first call of
    /// every function of a tenant, in the order of their arrival, and takes the room where it answers yes.
    pub(super) fn next(&mut self, now: Timestamp, mut has_room: impl FnMut(&T) -> bool) -> Option<Turn<T>> {
        let tenants = self.ring.len();
        // The first one's turn goes on; it comes again, to its next turn, after all the others.
        for at in 0..=tenants {
            let tenant = *self.ring.get(at % tenants.max(1))?;
            let waiting = self.tenants.get_mut(&tenant)?;
            let is_new_turn = at > 0 || !waiting.is_served;
            let more = if is_new_turn { self.quantum.saturating_mul(waiting.weight) } else { 0 };
            let Some(turn) = waiting.turn(now, waiting.deficit.saturating_add(more), &mut has_room) else { continue };
            if let Turn::Run(_) = turn {
                waiting.is_served = true;
                if at > 0 {
                    self.end_turn(at % tenants, tenant);
                }
            }
            self.leave_if_done(tenant);
            return Some(turn);
        }
        None
    }

    /// The first one's turn is over, and it is that of the one `ahead` of it in the ring.
    fn end_turn(&mut self, ahead: usize, next: u32) {
        if let Some(first) = self.ring.front().filter(|first| **first != next)
            && let Some(waiting) = self.tenants.get_mut(first)
        {
            waiting.is_served = false;
        }
        self.ring.rotate_left(ahead);
    }

    /// What the waiting calls of `tenant` cost.
    pub(super) fn cost_of(&self, tenant: u32) -> Duration {
        Duration::from_nanos(self.tenants.get(&tenant).map_or(0, |waiting| waiting.cost))
    }

    /// The weights of all tenants with waiting calls, `tenant` counted in with `weight`.
    pub(super) fn weights_with(&self, tenant: u32, weight: u32) -> u64 {
        let counted = self.tenants.get(&tenant).map_or(0, |waiting| waiting.weight);
        self.weights - counted + u64::from(weight.max(1))
    }

    fn leave_if_done(&mut self, tenant: u32) {
        if self.tenants.get(&tenant).is_some_and(|waiting| waiting.functions.is_empty()) {
            // Who does not wait saves nothing up.
            self.weights -= self.tenants.remove(&tenant).map_or(0, |waiting| waiting.weight);
            match self.ring.front() {
                Some(first) if *first == tenant => drop(self.ring.pop_front()),
                _ => self.ring.retain(|other| *other != tenant),
            }
        }
        if self.ring.is_empty() {
            self.quantum = LEAST_COST;
        }
    }
}

impl<T> Waiting<T> {
    /// A call of this tenant that has room and costs no more than `budget`; nothing is changed where there is none.
    fn turn(&mut self, now: Timestamp, budget: u64, has_room: &mut impl FnMut(&T) -> bool) -> Option<Turn<T>> {
        let mut firsts: SmallVec<[(u64, usize); 4]> = self
            .functions
            .iter()
            .enumerate()
            .filter_map(|(at, (_, calls))| Some((*calls.first_key_value()?.0, at)))
            .collect();
        firsts.sort_unstable();
        for (arrival, at) in firsts {
            let entry = &self.functions[at].1[&arrival];
            if entry.deadline <= now {
                return self.take(at, arrival).map(Turn::Expired);
            }
            if entry.cost <= budget && has_room(&entry.item) {
                self.deficit = budget - entry.cost;
                return self.take(at, arrival).map(Turn::Run);
            }
        }
        None
    }

    fn take(&mut self, at: usize, arrival: u64) -> Option<T> {
        let entry = self.functions[at].1.remove(&arrival)?;
        self.cost = self.cost.saturating_sub(entry.cost);
        if self.functions[at].1.is_empty() {
            self.functions.swap_remove(at);
        }
        Some(entry.item)
    }
}

#[cfg(test)]
mod tests;
