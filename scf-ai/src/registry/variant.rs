//! One way to do a task, and what does it.

use std::{sync::Arc, time::Duration};

use scf_core::{ByteSize, ModelName, Money, Name, Share, Zone};

/// A model for a task, with what is known of it before it has run: the *model-variant* of INFaaS (Romero et al.,
/// USENIX ATC 2021, section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Variant {
    /// Its name.
    pub name: ModelName,
    /// What it does; variants of one task may stand in for each other.
    pub task: Name,
    /// How often it is right, as measured on the task's own test data.
    pub accuracy: Share,
    /// What it takes while it is resident.
    pub memory: ByteSize,
    /// The licence of its weights as an SPDX expression; empty where it is not said.
    pub licence: Arc<str>,
    /// The most inputs that are worth a batch.
    pub batch: usize,
    /// What an inference is expected to take until it was measured.
    pub runs_in: Duration,
    /// What becoming resident is expected to take until it was measured.
    pub loads_in: Duration,
}

impl Variant {
    /// A variant `name` for `task` that was measured to be right in `accuracy` of the cases and takes `memory` while it
    /// is resident. It takes one input at a time; until they are measured, an inference is expected to take 100 ms and
    /// loading a second.
    pub fn new(name: ModelName, task: Name, accuracy: Share, memory: ByteSize) -> Self {
        let (runs_in, loads_in) = (Duration::from_millis(100), Duration::from_secs(1));
        Self { name, task, accuracy, memory, licence: "".into(), batch: 1, runs_in, loads_in }
    }

    /// The licence of its weights as an SPDX expression.
    pub fn licence(mut self, licence: &str) -> Self {
        self.licence = licence.into();
        self
    }

    /// Lets up to `inputs` inputs be run as a batch; at least 1, which is what is set.
    pub const fn batch(mut self, inputs: usize) -> Self {
        self.batch = if inputs == 0 { 1 } else { inputs };
        self
    }

    /// What an inference and what loading are expected to take until they were measured.
    pub const fn expect(mut self, inference: Duration, load: Duration) -> Self {
        (self.runs_in, self.loads_in) = (inference, load);
        self
    }
}

/// What runs variants: the cores of a machine, or an accelerator. Its lanes share one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Executor {
    /// Its name.
    pub name: Name,
    /// Inferences that it runs at the same time.
    pub lanes: usize,
    /// What one second of one lane costs.
    pub price: Money,
    /// Where inputs are while it runs; none where nobody may rely on it.
    pub zone: Option<Zone>,
}

impl Executor {
    /// An executor that runs `lanes` inferences at the same time, at least 1; it costs nothing and lies in no zone.
    pub fn new(name: Name, lanes: usize) -> Self {
        Self { name, lanes: lanes.max(1), price: Money::ZERO, zone: None }
    }

    /// What one second of one lane costs.
    pub const fn price(mut self, second: Money) -> Self {
        self.price = second;
        self
    }

    /// Where inputs are while it runs.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self
    }

    /// What an inference of `time` costs.
    pub(super) fn cost(&self, time: Duration) -> Money {
        Money::from_units(self.price.units() * time.as_secs_f64())
    }
}
