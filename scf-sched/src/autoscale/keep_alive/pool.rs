//! Which functions are kept warm in how much memory.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use scf_core::{ByteSize, FunctionName, Timestamp};

use super::histogram::{IdleTimes, Population};

/// Functions that are remembered by default.
const FUNCTIONS: usize = 1 << 16;
/// A warm function that is worth less than a call in this time is let go by default.
const PATIENCE: Duration = Duration::from_secs(7 * 60);

/// Decides which functions are warm while nobody calls them, under a bound of memory.
///
/// A function is kept while [its worth](IdleTimes::worth) is at least the price, started ahead of calls when it
/// becomes so, and what is worth least per byte goes where memory is short: the eviction by
/// `probability × cold start / bytes` of FaasCache (Fuerst and Sharma, ASPLOS 2021), with the learned idle times in
/// place of a frequency. The price is a call in seven minutes; the bound is hard for what is kept, and says nothing
/// about functions while they run.
#[derive(Debug)]
pub struct WarmPool {
    limit: ByteSize,
    price: f64,
    functions: usize,
    known: HashMap<FunctionName, Known>,
    others: Population,
    warm: ByteSize,
    /// When something about a function may change; what is outdated is skipped when its time comes.
    due: BinaryHeap<Reverse<(Timestamp, FunctionName)>>,
}

/// A function as the pool knows it.
#[derive(Debug)]
struct Known {
    bytes: ByteSize,
    cold: Duration,
    times: IdleTimes,
    /// Since when nobody calls it; none while somebody does.
    idle: Option<Timestamp>,
    is_warm: bool,
    due: Timestamp,
    /// What was found out for the time right after a call, and of how many idle times: it takes some microseconds.
    after_call: Option<(u32, (bool, Option<Duration>))>,
}

impl Known {
    /// As [`IdleTimes::phase`]; right after a call what was found out while an eighth less was known.
    fn phase(&mut self, idle: Duration, price: f64, others: &Population) -> (bool, Option<Duration>) {
        let counted = self.times.counted();
        match self.after_call {
            Some((then, phase)) if idle.is_zero() && counted.abs_diff(then) <= counted / 8 => phase,
            _ => {
                let phase = self.times.phase(idle, price, others);
                if idle.is_zero() {
                    self.after_call = Some((counted, phase));
                }
                phase
            }
        }
    }
}

/// How a call met its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// It was kept or started ahead.
    Warm,
    /// It has to be started.
    Cold,
}

/// What is to be done about a function.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is started, for a call that is expected.
    Start(FunctionName),
    /// It is let go.
    Stop(FunctionName),
}

impl WarmPool {
    /// Keeps functions warm in at most `limit`.
    #[must_use]
    pub fn new(limit: ByteSize) -> Self {
        Self {
            limit,
            price: 1.0 / PATIENCE.as_secs_f64(),
            functions: FUNCTIONS,
            known: HashMap::new(),
            others: Population::default(),
            warm: ByteSize::ZERO,
            due: BinaryHeap::new(),
        }
    }

    /// How long a warm function may wait for one call, in the mean, and still be worth its memory: longer means fewer
    /// cold starts in more memory. Default 7 minutes.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.price = 1.0 / patience.as_secs_f64().max(1e-3);
        self
    }

    /// Functions that are remembered; of more, the one that was not called for longest is forgotten. At least 1;
    /// default 65,536, some 300 bytes each.
    #[must_use]
    pub fn functions(mut self, functions: usize) -> Self {
        self.functions = functions.max(1);
        self
    }

    /// A function that takes `bytes` while it is warm and `cold` to start; replaces what was said of it before.
    pub fn add(&mut self, function: &FunctionName, bytes: ByteSize, cold: Duration) {
        if let Some(known) = self.known.get_mut(function) {
            if known.is_warm {
                self.warm = self.warm.saturating_sub(known.bytes) + bytes;
            }
            (known.bytes, known.cold) = (bytes, cold);
            return;
        }
        if self.known.len() >= self.functions {
            let oldest = self.known.iter().filter_map(|(name, known)| Some((known.idle?, name))).min();
            if let Some(name) = oldest.map(|(_, name)| name.clone()) {
                self.forget(&name);
            }
        }
        let (times, due) = (IdleTimes::default(), Timestamp::default());
        self.known
            .insert(function.clone(), Known { bytes, cold, times, idle: None, is_warm: false, due, after_call: None });
    }

    /// Forgets a function.
    pub fn forget(&mut self, function: &FunctionName) {
        if let Some(known) = self.known.remove(function)
            && known.is_warm
        {
            self.warm = self.warm.saturating_sub(known.bytes);
        }
    }

    /// Memory of what is warm and not called.
    #[must_use]
    pub fn warm(&self) -> ByteSize {
        self.warm
    }

    /// Whether a function that nobody calls is kept.
    #[must_use]
    pub fn is_warm(&self, function: &FunctionName) -> bool {
        self.known.get(function).is_some_and(|known| known.is_warm)
    }

    /// The function is called after nobody did.
    pub fn called(&mut self, function: &FunctionName, now: Timestamp) -> Start {
        let Some(known) = self.known.get_mut(function) else { return Start::Cold };
        if let Some(since) = known.idle.take() {
            let idle = now.since(since);
            self.others.observe(idle, known.times.counted());
            known.times.observe(idle);
        }
        if std::mem::take(&mut known.is_warm) {
            self.warm = self.warm.saturating_sub(known.bytes);
            return Start::Warm;
        }
        Start::Cold
    }

    /// Nobody calls the function any more; answers whether it is kept, and adds to `changes` what makes room for it.
    pub fn rests(&mut self, function: &FunctionName, now: Timestamp, changes: &mut Vec<Change>) -> bool {
        let Some(known) = self.known.get_mut(function) else { return false };
        known.idle = Some(now);
        self.look_at(function, now, changes);
        self.is_warm(function)
    }

    /// When [`tick`](Self::tick) has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// When something may be done about one function next, while nobody calls it.
    #[must_use]
    pub fn due(&self, function: &FunctionName) -> Option<Timestamp> {
        self.known.get(function).filter(|known| known.idle.is_some()).map(|known| known.due)
    }

    /// Adds to `changes` what is due until `now`.
    pub fn tick(&mut self, now: Timestamp, changes: &mut Vec<Change>) {
        while self.due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, name))) = self.due.pop() else { return };
            let is_current = self.known.get(&name).is_some_and(|known| known.idle.is_some() && known.due == at);
            if is_current {
                self.look_at(&name, now, changes);
            }
        }
    }

    /// Starts, keeps or lets go of a function that nobody calls, and notes when to look at it again.
    fn look_at(&mut self, function: &FunctionName, now: Timestamp, changes: &mut Vec<Change>) {
        let Some(known) = self.known.get_mut(function) else { return };
        let Some(since) = known.idle else { return };
        let (idle, was_warm, bytes) = (now.since(since), known.is_warm, known.bytes);
        let (is_worth, until) = known.phase(idle, self.price, &self.others);
        let has_room = is_worth && (was_warm || self.make_room(function, bytes, now, changes));
        let Some(known) = self.known.get_mut(function) else { return };
        // What found no room asks again after a twentieth of the time that it rests by then.
        let again = if is_worth && !has_room { Some(idle + idle / 20 + Duration::from_secs(1)) } else { until };
        known.is_warm = has_room;
        match (was_warm, has_room) {
            (false, true) => self.warm += bytes,
            (true, false) => self.warm = self.warm.saturating_sub(bytes),
            _ => {}
        }
        // Right after a call it is there already, and is kept or stopped; later it has to be started.
        if !has_room && (was_warm || idle.is_zero()) {
            changes.push(Change::Stop(function.clone()));
        } else if !was_warm && has_room && !idle.is_zero() {
            changes.push(Change::Start(function.clone()));
        }
        if let Some(again) = again {
            known.due = since + again;
            self.due.push(Reverse((known.due, function.clone())));
        }
    }

    /// Lets go of what is worth less per byte than `function` until it fits; of nothing where that is not enough.
    fn make_room(
        &mut self,
        function: &FunctionName,
        bytes: ByteSize,
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) -> bool {
        let needed = (self.warm + bytes).saturating_sub(self.limit);
        if needed == ByteSize::ZERO {
            return true;
        }
        let value = |known: &Known| {
            let idle = known.idle.map_or(Duration::ZERO, |since| now.since(since));
            known.times.worth(idle, &self.others) * known.cold.as_secs_f64() / known.bytes.bytes().max(1) as f64
        };
        let Some(own) = self.known.get(function).map(value) else { return false };
        let kept = self.known.iter().filter(|(_, known)| known.is_warm);
        let mut cheaper: Vec<_> = kept.map(|(name, known)| (value(known), name)).filter(|(v, _)| *v < own).collect();
        cheaper.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
        let (mut freed, mut gone) = (ByteSize::ZERO, Vec::new());
        for (_, name) in cheaper {
            if freed >= needed {
                break;
            }
            freed += self.known[name].bytes;
            gone.push(name.clone());
        }
        if freed < needed {
            return false;
        }
        for name in gone {
            let Some(known) = self.known.get_mut(&name) else { continue };
            known.is_warm = false;
            self.warm = self.warm.saturating_sub(known.bytes);
            changes.push(Change::Stop(name));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn name(text: &str) -> FunctionName {
        FunctionName::new(text).unwrap()
    }

    /// A pool that knows `function` to be called every `period` seconds for an instant, `calls` times.
    fn called(pool: &mut WarmPool, function: &str, period: u64, calls: u64) -> Vec<Start> {
        let function = name(function);
        pool.add(&function, ByteSize::from_mib(100), Duration::from_secs(1));
        let mut changes = Vec::new();
        let mut call = |i: u64| {
            pool.tick(at(i * period), &mut changes);
            let start = pool.called(&function, at(i * period));
            pool.rests(&function, at(i * period), &mut changes);
            start
        };
        (1..=calls).map(&mut call).collect()
    }

    #[test]
    fn a_function_called_every_two_hours_is_cold_between_and_warm_when_it_is_called() {
        let mut pool = WarmPool::new(ByteSize::from_mib(1000));
        let starts = called(&mut pool, "hourly", 7200, 40);
        assert_eq!(starts[20..], [Start::Warm; 20]);
        assert!(!pool.is_warm(&name("hourly")), "it is let go after the call");
        let mut changes = Vec::new();
        pool.tick(at(41 * 7200 - 60), &mut changes);
        assert_eq!(changes, [Change::Start(name("hourly"))]);
    }

    #[test]
    fn where_memory_is_short_what_is_called_less_goes() {
        let mut pool = WarmPool::new(ByteSize::from_mib(150));
        called(&mut pool, "rare", 300, 40);
        called(&mut pool, "often", 20, 600);
        assert!(pool.is_warm(&name("often")) && !pool.is_warm(&name("rare")));
        assert_eq!(pool.warm(), ByteSize::from_mib(100));
    }

    #[test]
    fn what_does_not_fit_is_not_kept_and_nothing_goes_for_it() {
        let mut pool = WarmPool::new(ByteSize::from_mib(150));
        called(&mut pool, "small", 10, 50);
        let large = name("large");
        pool.add(&large, ByteSize::from_mib(200), Duration::from_secs(1));
        pool.called(&large, at(500));
        assert!(!pool.rests(&large, at(500), &mut Vec::new()));
        assert!(pool.is_warm(&name("small")));
    }

    #[test]
    fn of_too_many_functions_the_oldest_is_forgotten() {
        let mut pool = WarmPool::new(ByteSize::from_mib(1000)).functions(2);
        called(&mut pool, "a", 10, 3);
        called(&mut pool, "b", 20, 3);
        called(&mut pool, "c", 30, 3);
        assert!(!pool.is_warm(&name("a")) && pool.is_warm(&name("b")) && pool.is_warm(&name("c")));
        assert_eq!(pool.warm(), ByteSize::from_mib(200));
    }
}
