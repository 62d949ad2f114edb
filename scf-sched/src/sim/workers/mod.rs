//! Many workers with few slots, and jobs of many short tasks: the model of Sparrow's simulation (Ousterhout et al., SOSP
//! 2013, section 8; github.com/radlab/sparrow, `simulation/`).

mod model;

use self::model::Model;
use super::Summary;
use crate::{
    Binding, Policy,
    policy::{BatchSampling, IdleFirst, PowerOfD, UniformRandom},
};

/// The cluster, and the jobs that come to it: all tasks of a job take the same time, which is exponentially distributed
/// over the jobs; jobs come as a Poisson process.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "benches and tests change a field of one that is given")]
pub struct Workers {
    /// Workers.
    pub workers: u32,
    /// Tasks that a worker runs at once.
    pub slots: u32,
    /// Tasks of a job.
    pub tasks: u32,
    /// Mean seconds of a task.
    pub mean: f64,
    /// Share of all slots that is in use on average.
    pub load: f64,
    /// Seconds that a message takes.
    pub delay: f64,
    /// Jobs whose tasks have all started when the run ends; more come all the time.
    pub jobs: u64,
    /// Whether these are the first that came, and the only ones that are counted. Otherwise they are whichever start first,
    /// as in Sparrow's simulation, and those that wait long at the end are left out.
    pub first: bool,
    /// Jobs that come within so many seconds from the start are not counted.
    pub warm_up: f64,
}

impl Workers {
    /// The published parameters: 10,000 workers with 4 slots, 20,000 jobs of 100 tasks of 100 ms, 0.5 ms per message.
    #[must_use]
    pub const fn published(load: f64) -> Self {
        Self {
            workers: 10_000,
            slots: 4,
            tasks: 100,
            mean: 0.1,
            load,
            delay: 0.5e-3,
            jobs: 20_000,
            first: false,
            warm_up: 0.5,
        }
    }

    /// The same with 1,000 workers and jobs of 10 tasks, which takes a tenth of the time.
    #[must_use]
    pub const fn small(load: f64) -> Self {
        Self { workers: 1_000, tasks: 10, ..Self::published(load) }
    }

    /// One server each and one task per job, without delays: the queues of the supermarket model, whose mean time in
    /// system is known (Mitzenmacher 2001).
    #[must_use]
    pub const fn supermarket(servers: u32, load: f64, jobs: u64) -> Self {
        Self { workers: servers, slots: 1, tasks: 1, mean: 1.0, load, delay: 0.0, jobs, first: true, warm_up: 200.0 }
    }

    /// Runs it once. Techniques that are compared under one seed see the same jobs.
    #[must_use]
    pub fn run(&self, technique: Technique, seed: u64) -> WorkersReport {
        Model::new(*self, technique, seed).run()
    }
}

/// How tasks get to workers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Technique {
    /// One queue, which knows every slot the moment it is free.
    Omniscient,
    /// [`UniformRandom`].
    Random,
    /// [`PowerOfD`] per task.
    PowerOf {
        /// Workers that are asked per task.
        d: u32,
    },
    /// [`BatchSampling`].
    Batch {
        /// Workers per task.
        ratio: f32,
        /// When tasks are bound to workers.
        binding: Binding,
    },
    /// [`IdleFirst`]: a slot that gets free is offered to one of the schedulers, drawn at random. Tasks for which a
    /// scheduler knows of no slot are sent on, all in one message, until each scheduler was asked once; the last keeps
    /// them and places them as slots are offered to it.
    IdleFirst {
        /// Schedulers that jobs come to.
        schedulers: u32,
    },
}

impl Technique {
    /// Per-task sampling, batch sampling and late binding with probe ratio 2 and without and with cancellation: what
    /// Sparrow's evaluation compares.
    pub const SPARROW: [Self; 5] = [
        Self::Random,
        Self::PowerOf { d: 2 },
        Self::Batch { ratio: 2.0, binding: Binding::Early },
        Self::Batch { ratio: 2.0, binding: Binding::Late { cancels: false } },
        Self::Batch { ratio: 2.0, binding: Binding::Late { cancels: true } },
    ];

    /// The policies of the schedulers.
    fn policies(self) -> Vec<Box<dyn Policy>> {
        match self {
            Self::Omniscient => Vec::new(),
            Self::Random => vec![Box::new(UniformRandom::new())],
            Self::PowerOf { d } => vec![Box::new(PowerOfD::new(d as usize))],
            Self::Batch { ratio, binding } => vec![Box::new(BatchSampling::new(ratio).binding(binding))],
            Self::IdleFirst { schedulers } => {
                (0..schedulers.max(1)).map(|_| -> Box<dyn Policy> { Box::new(IdleFirst::only()) }).collect()
            }
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WorkersReport {
    /// Seconds from the coming of a job to the end of its last task.
    pub response: Summary,
    /// The same less the time of a task.
    pub delay: Summary,
    /// Messages of all kinds: questions, answers, tasks, reservations, requests for a task, cancellations, offers.
    pub messages: u64,
    /// Tasks that have started.
    pub tasks: u64,
    /// The hash of all events.
    pub hash: u64,
    /// How many there were.
    pub events: u64,
}

impl WorkersReport {
    /// Messages per task.
    #[must_use]
    pub fn messages_per_task(&self) -> f64 {
        self.messages as f64 / self.tasks.max(1) as f64
    }
}
