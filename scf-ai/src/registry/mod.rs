//! Which variant of a model answers, decided per query out of what was measured.
//!
//! [`ModelRegistry`] decides; [`ModelCache`] keeps what is resident; [`BatchQueue`] decides what runs together and
//! [`Batcher`] runs it; [`ModelServer`] is all of them put together. The deciding parts take the time and have no
//! threads, so tests and simulations run the same code as servers.

mod batcher;
mod cache;
mod choose;
mod queue;
mod residency;
mod server;
mod standing;
mod times;
mod variant;

use std::time::Duration;

use scf_core::{ModelName, Name, Share, Timestamp};

pub use self::{
    batcher::{BatchError, Batched, Batcher},
    cache::{CacheError, ModelCache, Resident},
    choose::{NoVariant, Query},
    queue::{Batch, BatchLimits, BatchQueue, Refused},
    server::{Admission, ModelServer, ServeError},
    times::BatchTimes,
    variant::{Executor, Variant},
};
use self::{
    choose::{Candidate, choose},
    standing::Standing,
};

/// Share of the time of a query that may be gone before a more accurate variant is no longer taken for it, where
/// nothing else is set.
const HEADROOM: f64 = 0.5;
/// One query in so many goes to a variant that misses its promises, so that it is known when it keeps them again:
/// INFaaS lets a tenth through.
const PROBES: u64 = 10;

/// The variants of models, what they take on each executor, and who answers a query. Pure: the time is passed in, and
/// chance comes from a seed.
///
/// Work that was chosen and has not ended is the load that the next decision sees. An executor works its queue off in
/// order on its lanes: with so much work ahead that, shared by all lanes, it lasts a time, an inference begins by then
/// at the latest. Whoever runs what was chosen tells the registry when it ended ([`ModelRegistry::finished`]) or will
/// not run ([`ModelRegistry::cancelled`]), and which variants are resident.
///
/// The decision is made by [`ModelRegistry::select`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ModelRegistry {
    variants: Vec<Variant>,
    executors: Vec<Line>,
    /// By variant and then executor.
    runs: Vec<Vec<Runs>>,
    headroom: Share,
    random: u64,
}

/// An executor with the work that was given to it and has not ended.
#[derive(Clone, Debug)]
struct Line {
    executor: Executor,
    ahead: Duration,
    outstanding: usize,
}

/// A variant on one executor.
#[derive(Clone, Debug)]
struct Runs {
    batches: BatchTimes,
    loads: BatchTimes,
    resident: bool,
    standing: Standing,
}

/// A variant that was chosen for a query. The work counts as load of its executor until it is given back to
/// [`ModelRegistry::finished`] or [`ModelRegistry::cancelled`].
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "the work counts as load until it is finished or cancelled"]
pub struct Selection {
    /// The variant.
    pub variant: ModelName,
    /// What runs it.
    pub executor: Name,
    /// When the answer is expected to be there.
    pub expected: Timestamp,
    /// When it has to be there.
    pub deadline: Timestamp,
    /// Its accuracy.
    pub accuracy: Share,
    charge: Duration,
}

impl ModelRegistry {
    /// A registry without variants whose chance comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            variants: Vec::new(),
            executors: Vec::new(),
            runs: Vec::new(),
            headroom: Share::from_fraction(HEADROOM),
            random: seed,
        }
    }

    /// Share of a query's time that may be gone before a more accurate variant is no longer taken for it; half, where
    /// it is not set. Less leaves more time to queries that come later.
    pub const fn headroom(mut self, share: Share) -> Self {
        self.headroom = share;
        self
    }

    /// Lets `executor` run every variant, in place of an earlier one of its name.
    pub fn executor(mut self, executor: Executor) -> Self {
        if let Some(at) = self.executors.iter().position(|line| line.executor.name == executor.name) {
            self.executors.remove(at);
            self.runs.iter_mut().for_each(|runs| drop(runs.remove(at)));
        }
        self.executors.push(Line { executor, ahead: Duration::ZERO, outstanding: 0 });
        for (variant, runs) in self.variants.iter().zip(&mut self.runs) {
            runs.push(Runs::new(variant));
        }
        self
    }

    /// As [`ModelRegistry::register`].
    pub fn variant(mut self, variant: Variant) -> Self {
        self.register(variant);
        self
    }

    /// Registers `variant`, in place of an earlier one of its name; what was measured of that one is forgotten.
    pub fn register(&mut self, variant: Variant) {
        let runs = self.executors.iter().map(|_| Runs::new(&variant)).collect();
        match self.variants.iter().position(|known| known.name == variant.name) {
            Some(at) => (self.variants[at], self.runs[at]) = (variant, runs),
            None => {
                self.variants.push(variant);
                self.runs.push(runs);
            }
        }
    }

    /// The variants, in the order in which they were registered.
    pub fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// Chooses who answers `query`, asked at `now`, and counts the work as load of its executor.
    ///
    /// Of the variants that are accurate, cheap and near enough and would be done in time, a resident one is taken
    /// before one that has to be loaded, and one that keeps its promises before one that missed two of its last ten; a
    /// tenth of the queries goes there all the same, so that it is known when it keeps them again. Among those, the
    /// most accurate that is done within the headroom, and where none is, the one that is done first: accuracy goes up
    /// while there is little to do and down under load, as variants are up- and downgraded in INFaaS (Romero et al.,
    /// USENIX ATC 2021, section 4.2). Equal ones: the cheaper. Linear in variants times executors.
    ///
    /// # Errors
    /// [`NoVariant`], which says what the nearest one would need; the request is refused before it costs anything, as
    /// in Clockwork (Gujarati et al., OSDI 2020, section 4.2).
    pub fn select(&mut self, query: &Query, now: Timestamp) -> Result<Selection, NoVariant> {
        let probe = self.draw().is_multiple_of(PROBES);
        let mut places = Vec::new();
        let mut candidates = Vec::new();
        for (v, (variant, runs)) in self.variants.iter().zip(&self.runs).enumerate() {
            if variant.task != query.task || query.variant.as_ref().is_some_and(|name| *name != variant.name) {
                continue;
            }
            for (e, (line, runs)) in self.executors.iter().zip(runs).enumerate() {
                places.push((v, e));
                candidates.push(line.candidate(variant, runs, query, probe, now));
            }
        }
        let chosen = choose(query, &candidates, self.headroom)?;
        let (v, e) = places[chosen];
        let Candidate { wait, time, accuracy, .. } = candidates[chosen];
        let runs = &self.runs[v][e];
        let load = if runs.resident { Duration::ZERO } else { runs.loads.estimate(1, now) };
        let charge = runs.batches.share(now).saturating_add(load);
        let line = &mut self.executors[e];
        line.ahead = line.ahead.saturating_add(charge);
        line.outstanding += 1;
        let (variant, executor) = (self.variants[v].name.clone(), line.executor.name.clone());
        let (expected, deadline) = (now + wait + time, now + query.within);
        Ok(Selection { variant, executor, expected, deadline, accuracy, charge })
    }

    /// The work of `selection` ended with an answer at `now`. Times of what ran are told apart from that, with
    /// [`ModelRegistry::observe`].
    pub fn finished(&mut self, selection: Selection, now: Timestamp) {
        if let Some(runs) = self.runs_mut(&selection.variant, &selection.executor) {
            runs.standing.observe(now <= selection.deadline);
        }
        self.cancelled(selection);
    }

    /// The work of `selection` was refused after it had been chosen, since what was ahead took longer than expected.
    pub fn missed(&mut self, selection: Selection) {
        self.finished(selection, Timestamp::from_nanos(u64::MAX));
    }

    /// The work of `selection` will not run, or the model failed.
    #[expect(clippy::needless_pass_by_value, reason = "a selection is given back once")]
    pub fn cancelled(&mut self, selection: Selection) {
        if let Some(line) = self.executors.iter_mut().find(|line| line.executor.name == selection.executor) {
            line.ahead = line.ahead.saturating_sub(selection.charge);
            line.outstanding = line.outstanding.saturating_sub(1);
        }
    }

    /// Takes down that a batch of `size` inputs of `variant` ran on `executor` for `took` and ended at `now`.
    pub fn observe(&mut self, variant: &ModelName, executor: &Name, size: usize, took: Duration, now: Timestamp) {
        if let Some(runs) = self.runs_mut(variant, executor) {
            runs.batches.observe(size, took, now);
        }
    }

    /// Takes down that `variant` is resident for `executor` since `now`, and that loading took `took`.
    pub fn loaded(&mut self, variant: &ModelName, executor: &Name, took: Duration, now: Timestamp) {
        if let Some(runs) = self.runs_mut(variant, executor) {
            runs.loads.observe(1, took, now);
            runs.resident = true;
        }
    }

    /// Takes down that `variant` is no longer resident for `executor`.
    pub fn evicted(&mut self, variant: &ModelName, executor: &Name) {
        if let Some(runs) = self.runs_mut(variant, executor) {
            runs.resident = false;
        }
    }

    /// The time that a batch of `size` inputs of `variant` will take on `executor`; none where either is not known.
    #[must_use]
    pub fn estimate(&self, variant: &ModelName, executor: &Name, size: usize, now: Timestamp) -> Option<Duration> {
        let (v, e) = self.place(variant, executor)?;
        Some(self.runs[v][e].batches.estimate(size, now))
    }

    fn place(&self, variant: &ModelName, executor: &Name) -> Option<(usize, usize)> {
        let variant = self.variants.iter().position(|known| known.name == *variant)?;
        Some((variant, self.executors.iter().position(|line| line.executor.name == *executor)?))
    }

    fn runs_mut(&mut self, variant: &ModelName, executor: &Name) -> Option<&mut Runs> {
        let (v, e) = self.place(variant, executor)?;
        Some(&mut self.runs[v][e])
    }

    /// The next of a sequence that the seed determines: SplitMix64 (Steele et al., OOPSLA 2014).
    const fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Runs {
    fn new(variant: &Variant) -> Self {
        let batches = BatchTimes::new(variant.batch, variant.runs_in);
        let loads = BatchTimes::new(1, variant.loads_in);
        Self { batches, loads, resident: false, standing: Standing::default() }
    }
}

impl Line {
    fn candidate(&self, variant: &Variant, runs: &Runs, query: &Query, probe: bool, now: Timestamp) -> Candidate {
        // Who works a queue off in order on `n` lanes begins the next after an `n`th of the work ahead at the latest.
        let lanes = u32::try_from(self.executor.lanes).unwrap_or(u32::MAX);
        let queue = if self.outstanding < self.executor.lanes { Duration::ZERO } else { self.ahead / lanes };
        let load = if runs.resident { Duration::ZERO } else { runs.loads.estimate(1, now) };
        // Under load it will be one of a batch.
        let size = (self.outstanding / self.executor.lanes + 1).min(runs.batches.largest());
        Candidate {
            accuracy: variant.accuracy,
            price: self.executor.cost(runs.batches.estimate(1, now)),
            allowed: query.zone.is_none() || query.zone == self.executor.zone,
            wait: queue.saturating_add(load),
            time: runs.batches.estimate(size, now),
            loads: !runs.resident,
            avoided: runs.standing.misses() && !probe,
        }
    }
}

#[cfg(test)]
mod tests;
