//! Which call could run now: everything about pending calls but their content, in memory.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use scf_core::{FunctionName, InvocationId, Lease, LeaseAsk, NodeId, Scope, WallTime};

use super::{
    lane::{Lane, Ticket},
    outbox::Outbox,
    pending::{Pending, Place, Run},
    time::{DueAt, Moment},
};

/// How long such a call waits for a moment in which nothing else runs, before nothing else is started.
const PATIENCE: Duration = Duration::from_secs(1);
/// Functions beyond so many are forgotten when none of their calls waits or runs.
const LANES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) calls: HashMap<InvocationId, Pending>,
    /// The calls of one scope that are due; the first may run, or waits for its next attempt.
    lines: HashMap<Arc<Scope>, VecDeque<InvocationId>>,
    pub(super) held: HashSet<Scope>,
    lanes: HashMap<FunctionName, Lane>,
    turns: VecDeque<FunctionName>,
    pub(super) outboxes: HashMap<NodeId, Outbox>,
    suspects: VecDeque<(Ticket, InvocationId)>,
    /// A suspect that runs; nothing else does.
    alone: Option<InvocationId>,
    /// Whether a suspect ran since others had their turn.
    was_alone: bool,
    passing: BTreeSet<(Duration, InvocationId)>,
    walls: BTreeSet<(WallTime, InvocationId)>,
    expiries: BTreeSet<(Duration, InvocationId)>,
    leases: BTreeSet<(Duration, InvocationId)>,
    timers: HashMap<(Arc<Scope>, String), InvocationId>,
    running: usize,
    numbers: u64,
}

impl Board {
    pub(super) fn len(&self) -> u64 {
        self.calls.len() as u64
    }

    pub(super) const fn running(&self) -> u64 {
        self.running as u64
    }

    pub(super) fn get(&self, id: InvocationId) -> Option<&Pending> {
        self.calls.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: InvocationId) -> Option<&mut Pending> {
        self.calls.get_mut(&id)
    }

    pub(super) fn lane(&mut self, function: &FunctionName) -> &mut Lane {
        if self.lanes.len() >= LANES && !self.lanes.contains_key(function) {
            self.lanes.retain(|_, lane| lane.has_turn || lane.waiting > 0 || lane.running > 0);
        }
        self.lanes.entry(function.clone()).or_default()
    }

    /// The functions with calls that could run now.
    pub(super) fn ready(&self) -> Vec<(FunctionName, u64)> {
        let waiting = self.lanes.iter().filter(|(_, lane)| lane.waiting > 0);
        waiting.map(|(name, lane)| (name.clone(), lane.waiting)).collect()
    }

    /// Takes a call in that becomes due at `at`.
    pub(super) fn insert(&mut self, id: InvocationId, pending: Pending, at: DueAt, now: Moment) {
        if let (Some(line), Some(name)) = (&pending.line, &pending.timer) {
            self.timers.insert((Arc::clone(line), name.clone()), id);
        }
        let mut pending = pending;
        if let (Some(line), true, None) = (&pending.line, pending.due_since.is_some(), &pending.destination) {
            // It waits for its next attempt, in its place in the line.
            self.lines.entry(Arc::clone(line)).or_default().push_back(id);
            pending.is_in_line = true;
        }
        self.calls.insert(id, pending);
        self.schedule(id, at, now);
    }

    /// What waits or runs under a timer's name.
    pub(super) fn timer(&self, scope: &Scope, name: &str) -> Option<InvocationId> {
        self.timers.get(&(Arc::new(scope.clone()), name.to_owned())).copied()
    }

    /// Makes a call one that is no timer any more, nor comes again.
    pub(super) fn detach(&mut self, id: InvocationId) {
        let Some(pending) = self.calls.get_mut(&id) else { return };
        pending.every = None;
        if let (Some(line), Some(name)) = (&pending.line, pending.timer.take()) {
            self.timers.remove(&(Arc::clone(line), name));
        }
    }

    /// Lets a call that is nowhere, or in the place it leaves by this, wait until `at`.
    pub(super) fn schedule(&mut self, id: InvocationId, at: DueAt, now: Moment) {
        self.leave(id);
        let Some(pending) = self.calls.get_mut(&id) else { return };
        match at {
            DueAt::Passed(at) if at > now.passed => {
                pending.place = Place::Passed(at);
                self.passing.insert((at, id));
            }
            DueAt::Wall(at) if at > now.wall => {
                pending.place = Place::Wall(at);
                self.walls.insert((at, id));
            }
            _ => self.arrive(id, now.passed),
        }
    }

    /// A call is due.
    pub(super) fn arrive(&mut self, id: InvocationId, now: Duration) {
        let Some(pending) = self.calls.get_mut(&id) else { return };
        let since = *pending.due_since.get_or_insert(now);
        self.expiries.insert((since.saturating_add(pending.max_age), id));
        if let Some(to) = pending.destination.clone() {
            self.numbers += 1;
            pending.place = Place::Outbox(self.numbers);
            return self.outboxes.entry(to).or_default().put(self.numbers, id);
        }
        let Some(line) = pending.line.clone() else { return self.make_ready(id, now) };
        pending.place = Place::Line;
        if !std::mem::replace(&mut pending.is_in_line, true) {
            self.lines.entry(Arc::clone(&line)).or_default().push_back(id);
        }
        self.promote(&line, now);
    }

    /// Lets the first of a line run if it only waited for that.
    fn promote(&mut self, line: &Scope, now: Duration) {
        let Some(&first) = self.lines.get(line).and_then(VecDeque::front) else { return };
        let waits = self.calls.get(&first).is_some_and(|pending| matches!(pending.place, Place::Line));
        if waits && !self.held.contains(line) {
            self.make_ready(first, now);
        }
    }

    fn make_ready(&mut self, id: InvocationId, now: Duration) {
        self.numbers += 1;
        let ticket = Ticket { number: self.numbers, since: now };
        let Some(pending) = self.calls.get_mut(&id) else { return };
        pending.place = Place::Ready(ticket);
        if pending.is_suspect() {
            return self.suspects.push_back((ticket, id));
        }
        let function = pending.function.clone();
        let lane = self.lane(&function);
        lane.line.push_back((ticket, id));
        lane.waiting += 1;
        if !std::mem::replace(&mut lane.has_turn, true) {
            self.turns.push_back(function);
        }
    }

    /// Takes a call out of its place, but not out of its line.
    pub(super) fn leave(&mut self, id: InvocationId) {
        let Some(pending) = self.calls.get_mut(&id) else { return };
        let place = std::mem::replace(&mut pending.place, Place::New);
        let (function, is_suspect) = (pending.function.clone(), pending.is_suspect());
        match place {
            Place::Outbox(number) | Place::Offered(number) => {
                let Some(to) = pending.destination.clone() else { return };
                let Some(outbox) = self.outboxes.get_mut(&to) else { return };
                outbox.remove(number);
                if outbox.is_empty() {
                    self.outboxes.remove(&to);
                }
            }
            Place::New | Place::Line => {}
            Place::Passed(at) => drop(self.passing.remove(&(at, id))),
            Place::Wall(at) => drop(self.walls.remove(&(at, id))),
            Place::Ready(_) if is_suspect => {}
            Place::Ready(_) => self.lane(&function).waiting -= 1,
            Place::Running(run) => {
                self.leases.remove(&(run.until, id));
                self.running -= 1;
                self.lane(&function).running -= 1;
                if self.alone == Some(id) {
                    self.alone = None;
                }
            }
        }
    }

    /// Takes a call out altogether and lets the next of its line run.
    pub(super) fn remove(&mut self, id: InvocationId, now: Duration) -> Option<Pending> {
        self.leave(id);
        self.detach(id);
        let pending = self.calls.remove(&id)?;
        if let Some(since) = pending.due_since {
            self.expiries.remove(&(since.saturating_add(pending.max_age), id));
        }
        if let Some(line) = pending.line.as_ref().filter(|_| pending.is_in_line)
            && let Some(calls) = self.lines.get_mut(line)
        {
            calls.retain(|other| *other != id);
            if calls.is_empty() {
                self.lines.remove(line);
            }
            self.promote(line, now);
        }
        Some(pending)
    }

    /// Holds the calls of a scope back.
    pub(super) fn pause(&mut self, scope: Scope) {
        let first = self.lines.get(&scope).and_then(VecDeque::front).copied();
        self.held.insert(scope);
        if let Some(first) = first
            && self.calls.get(&first).is_some_and(|pending| matches!(pending.place, Place::Ready(_)))
        {
            self.leave(first);
            if let Some(pending) = self.calls.get_mut(&first) {
                pending.place = Place::Line;
            }
        }
    }

    pub(super) fn resume(&mut self, scope: &Scope, now: Duration) {
        if self.held.remove(scope) {
            self.promote(scope, now);
        }
    }

    /// The call of a scope that runs.
    pub(super) fn runs_in(&self, scope: &Scope) -> Option<InvocationId> {
        let first = self.lines.get(scope)?.front()?;
        self.calls.get(first)?.run().map(|_| *first)
    }

    /// Goes on where `before` stood: calls that run, and are kept to run, run on under the leases they have.
    pub(super) fn resume_runs(&mut self, before: &Self, kept: &[InvocationId], now: Duration) {
        self.numbers = self.numbers.max(before.numbers);
        for (&id, run) in before.calls.iter().filter_map(|(id, pending)| Some((id, pending.run()?))) {
            if !kept.contains(&id) || !self.calls.contains_key(&id) {
                continue;
            }
            self.start(id, run.lease, now);
            let Some(pending) = self.calls.get_mut(&id) else { continue };
            pending.attempts -= 1;
            self.leases.remove(&(now.saturating_add(run.lease), id));
            self.leases.insert((run.until, id));
            pending.place = Place::Running(run);
        }
        self.alone = before.alone.filter(|id| self.calls.get(id).is_some_and(|pending| pending.run().is_some()));
    }

    /// The call that `lease` is for, while it lasts.
    pub(super) fn leased(&self, lease: Lease) -> Option<&Pending> {
        self.calls.get(&lease.id).filter(|pending| pending.run().is_some_and(|run| run.token == lease.token))
    }

    /// Begins the lease anew.
    pub(super) fn extend(&mut self, lease: Lease, now: Duration) -> bool {
        let Some(pending) = self.calls.get_mut(&lease.id) else { return false };
        let Place::Running(run) = &mut pending.place else { return false };
        if run.token != lease.token {
            return false;
        }
        self.leases.remove(&(run.until, lease.id));
        run.until = now.saturating_add(run.lease);
        self.leases.insert((run.until, lease.id));
        true
    }

    /// Moves the calls on that have become due. Answers whether there were any.
    pub(super) fn advance(&mut self, now: Moment) -> bool {
        let before = self.passing.len() + self.walls.len();
        while let Some(&(at, id)) = self.passing.first().filter(|(at, _)| *at <= now.passed) {
            self.passing.remove(&(at, id));
            self.arrive(id, now.passed);
        }
        while let Some(&(at, id)) = self.walls.first().filter(|(at, _)| *at <= now.wall) {
            self.walls.remove(&(at, id));
            self.arrive(id, now.passed);
        }
        before > self.passing.len() + self.walls.len()
    }

    /// The calls whose workers made no progress.
    pub(super) fn lost(&self, now: Duration) -> Vec<InvocationId> {
        self.leases.iter().take_while(|(until, _)| *until <= now).map(|(_, id)| *id).collect()
    }

    /// The calls that are due for too long and do not run.
    pub(super) fn expired(&self, now: Duration) -> Vec<InvocationId> {
        let expired = self.expiries.iter().take_while(|(until, _)| *until <= now).map(|(_, id)| *id);
        expired.filter(|id| self.calls.get(id).is_some_and(|pending| !pending.is_elsewhere())).collect()
    }

    /// Leases calls, the functions in turn.
    pub(super) fn pick(&mut self, ask: &LeaseAsk, now: Duration) -> Vec<InvocationId> {
        let mut picked = Vec::new();
        if ask.calls == 0 || self.alone.is_some() {
            return picked;
        }
        if let Some((ticket, id)) = self.suspect(ask) {
            let others_wait = self.lanes.values().any(|lane| lane.waiting > 0);
            if self.running == 0 && !(self.was_alone && others_wait) {
                self.suspects.retain(|(_, suspect)| *suspect != id);
                self.start(id, ask.lease, now);
                (self.alone, self.was_alone) = (Some(id), true);
                return vec![id];
            }
            if !self.was_alone && now.saturating_sub(ticket.since) >= PATIENCE {
                return picked;
            }
        }
        let mut passed_over = 0;
        while picked.len() < ask.calls && passed_over < self.turns.len() {
            let Some(function) = self.turns.pop_front() else { break };
            let is_asked = ask.functions.as_ref().is_none_or(|functions| functions.contains(&function));
            let Some(lane) = self.lanes.get_mut(&function) else { continue };
            if !is_asked || lane.running >= ask.per_function {
                self.turns.push_back(function);
                passed_over += 1;
                continue;
            }
            let calls = &self.calls;
            let is_there = |(ticket, id): &(Ticket, InvocationId)| {
                calls.get(id).is_some_and(|pending| matches!(pending.place, Place::Ready(at) if at == *ticket))
            };
            let next = std::iter::from_fn(|| lane.line.pop_front()).find(is_there);
            let Some((_, id)) = next else {
                lane.has_turn = false;
                continue;
            };
            self.turns.push_back(function);
            passed_over = 0;
            self.start(id, ask.lease, now);
            picked.push(id);
        }
        self.was_alone &= picked.is_empty();
        picked
    }

    /// The suspect that waits longest of those that the worker can run.
    fn suspect(&mut self, ask: &LeaseAsk) -> Option<(Ticket, InvocationId)> {
        let calls = &self.calls;
        let there = |ticket: Ticket, id| {
            calls.get(&id).filter(|pending| matches!(pending.place, Place::Ready(at) if at == ticket))
        };
        self.suspects.retain(|&(ticket, id)| there(ticket, id).is_some());
        let is_asked = |function| ask.functions.as_ref().is_none_or(|functions| functions.contains(function));
        let can_run = |&(ticket, id): &(Ticket, InvocationId)| {
            there(ticket, id).is_some_and(|pending| is_asked(&pending.function))
        };
        self.suspects.iter().copied().find(can_run)
    }

    fn start(&mut self, id: InvocationId, lease: Duration, now: Duration) {
        self.leave(id);
        self.numbers += 1;
        let run = Run { token: self.numbers, until: now.saturating_add(lease), lease };
        let Some(pending) = self.calls.get_mut(&id) else { return };
        pending.place = Place::Running(run);
        pending.attempts += 1;
        let function = pending.function.clone();
        self.leases.insert((run.until, id));
        self.running += 1;
        self.lane(&function).running += 1;
    }

    /// When something may be different without anybody doing anything: in so much time, and when civil time is so
    /// late.
    pub(super) fn next(&self) -> (Option<Duration>, Option<WallTime>) {
        let waiting = self.expiries.iter().find(|(_, id)| self.calls.get(id).is_some_and(|p| !p.is_elsewhere()));
        let passing = [self.passing.first(), self.leases.first(), waiting];
        (passing.into_iter().flatten().map(|(at, _)| *at).min(), self.walls.first().map(|(at, _)| *at))
    }
}
