//! Schedulers that decide at the same time over one fleet.

use crate::{
    Decision, Demand, Policy, Request,
    fleet::{Claim, Fleet, NodeIx},
    policy,
    sim::{Engine, Event, Rng},
};

const JOBS: u64 = 0;
const SCHEDULER: u64 = 1;

/// Shared state with optimistic claims (Schwarzkopf et al.: Omega, EuroSys 2013, section 4; its simulator is
/// github.com/google/cluster-scheduler-simulator): each scheduler looks at the fleet, thinks for a while, and then claims
/// what it chose, which others may have taken meanwhile.
///
/// Schedulers are saturated: each begins with the next job as soon as it is done with one. What is not claimed is decided
/// again at once.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "benches and tests change a field of one that is given")]
pub struct SharedState {
    /// Schedulers.
    pub schedulers: u32,
    /// Seconds that a decision takes.
    pub per_job: f64,
    /// Seconds that it takes longer for every task.
    pub per_task: f64,
    /// Tasks of a job.
    pub tasks: u32,
    /// Mean seconds of a task; exponentially distributed.
    pub lasts: f64,
    /// Choices that are tried beyond one for each task: MultiBind (Pusztai et al.: Vela, IC2E 2023).
    pub spare: u32,
    /// What happens when some tasks of a job conflict.
    pub commit: Commit,
    /// What a conflict is.
    pub conflict: ConflictTest,
    /// Jobs before what happens is counted.
    pub warm_up: u64,
    /// Jobs that are counted.
    pub jobs: u64,
}

/// What happens when some tasks of a job conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the two that Omega compares")]
pub enum Commit {
    /// The others are placed.
    Incremental,
    /// None is: a gang.
    AllOrNothing,
}

/// What a conflict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the two that Omega compares")]
pub enum ConflictTest {
    /// The task does not fit any more.
    ResourceFit,
    /// Anything was taken of the node or given back since.
    Sequence,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SharedStateReport {
    /// Claims of jobs, each after a decision.
    pub transactions: u64,
    /// Those of them that conflicted for some task.
    pub conflicted: u64,
    /// Tasks that were decided.
    pub decided: u64,
    /// Those that were to be decided again because everything chosen for them was taken.
    pub requeued: u64,
    /// Decisions that found too few nodes with room: no conflict, and decided again.
    pub without_room: u64,
    /// Nodes of which more was in use than they have, at any time.
    pub double_bookings: u64,
    /// Share of the processors of the fleet that was in use at the end.
    pub used: f64,
    /// Nodes that were looked at.
    pub evaluated: u64,
    /// The hash of all events.
    pub hash: u64,
}

impl SharedStateReport {
    /// Share of transactions that conflicted.
    #[must_use]
    pub fn conflict_fraction(&self) -> f64 {
        self.conflicted as f64 / self.transactions.max(1) as f64
    }

    /// Share of decided tasks that were decided again.
    #[must_use]
    pub fn requeued_share(&self) -> f64 {
        self.requeued as f64 / self.decided.max(1) as f64
    }
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Look { scheduler: u32 },
    Claim { scheduler: u32 },
    End { task: u32 },
}

impl Event for Happening {
    fn digest(&self) -> u64 {
        match *self {
            Self::Look { scheduler } => 1 << 32 | u64::from(scheduler),
            Self::Claim { scheduler } => 2 << 32 | u64::from(scheduler),
            Self::End { task } => 3 << 32 | u64::from(task),
        }
    }
}

/// Of one scheduler.
#[derive(Debug)]
struct Deciding {
    policy: Box<dyn Policy>,
    decision: Decision,
    /// The free processor and memory of each choice as it was seen.
    seen: Vec<(u32, u32)>,
    left: u32,
    rng: Rng,
}

#[derive(Debug)]
struct Model<'a> {
    of: &'a SharedState,
    fleet: &'a Fleet,
    demand: &'a Demand,
    engine: Engine<Happening>,
    schedulers: Vec<Deciding>,
    running: Vec<Option<Claim>>,
    vacant: Vec<u32>,
    /// Thousandths of cores and MiB in use by each node, counted beside the fleet.
    used: Vec<(u32, u32)>,
    jobs: Rng,
    placed: u64,
    report: SharedStateReport,
}

impl SharedState {
    /// One task per job, decided in 10 ms, and MultiBind over three nodes.
    #[must_use]
    pub const fn single(schedulers: u32, lasts: f64, jobs: u64) -> Self {
        Self {
            schedulers,
            per_job: 0.01,
            per_task: 0.0,
            tasks: 1,
            lasts,
            spare: 2,
            commit: Commit::Incremental,
            conflict: ConflictTest::ResourceFit,
            warm_up: jobs,
            jobs,
        }
    }

    /// Runs it on a fleet, of which nobody else takes anything; what still runs at the end is given back. `policy` makes
    /// that of each scheduler, by number.
    pub fn run(
        &self,
        fleet: &Fleet,
        demand: &Demand,
        mut policy: impl FnMut(u32) -> Box<dyn Policy>,
        seed: u64,
    ) -> SharedStateReport {
        let deciding = |number: u32| Deciding {
            policy: policy(number),
            decision: Decision::new(),
            seen: Vec::new(),
            left: self.tasks,
            rng: Rng::of(seed, SCHEDULER, u64::from(number)),
        };
        let model = Model {
            of: self,
            fleet,
            demand,
            engine: Engine::new(),
            schedulers: (0..self.schedulers).map(deciding).collect(),
            running: Vec::new(),
            vacant: Vec::new(),
            used: vec![(0, 0); fleet.len()],
            jobs: Rng::of(seed, JOBS, 0),
            placed: 0,
            report: SharedStateReport::default(),
        };
        model.run()
    }
}

impl Model<'_> {
    fn run(mut self) -> SharedStateReport {
        let think = self.think(self.of.tasks);
        for scheduler in 0..self.of.schedulers {
            // Not all at the same moment.
            let first = self.jobs.unit() * think;
            self.engine.after_s(first, Happening::Look { scheduler });
        }
        while self.placed < self.of.warm_up + self.of.jobs {
            let Some(happening) = self.engine.next() else { break };
            match happening {
                Happening::Look { scheduler } => self.look(scheduler),
                Happening::Claim { scheduler } => self.claim(scheduler),
                Happening::End { task } => {
                    if let Some(claim) = self.running[task as usize].take() {
                        self.end(claim);
                    }
                    self.vacant.push(task);
                }
            }
        }
        self.report.used = self.share_used();
        self.report.hash = self.engine.log().hash();
        for claim in std::mem::take(&mut self.running).into_iter().flatten() {
            self.end(claim);
        }
        self.report
    }

    fn think(&self, tasks: u32) -> f64 {
        self.of.per_task.mul_add(f64::from(tasks), self.of.per_job)
    }

    const fn is_counted(&self) -> bool {
        self.placed >= self.of.warm_up
    }

    fn look(&mut self, scheduler: u32) {
        let at = &mut self.schedulers[scheduler as usize];
        let tasks = at.left;
        let request = Request { tasks, ..Request::new(self.demand, at.rng.bits(), self.engine.now()) };
        at.decision.clear();
        at.policy.decide(self.fleet, &request, &mut at.decision);
        at.decision.choices.truncate((tasks + self.of.spare) as usize);
        at.seen.clear();
        let free = |node: NodeIx| self.fleet.look(node).map_or((0, 0), |hot| (hot.free().milli(), hot.free().mib()));
        at.seen.extend(at.decision.choices.iter().map(|choice| free(choice.node)));
        self.engine.after_s(self.think(tasks), Happening::Claim { scheduler });
    }

    fn claim(&mut self, scheduler: u32) {
        let (now, is_counted) = (self.engine.now(), self.is_counted());
        let at = &mut self.schedulers[scheduler as usize];
        let tasks = at.left as usize;
        let mut claims: Vec<Claim> = Vec::with_capacity(tasks);
        for (choice, seen) in at.decision.choices.iter().zip(&at.seen) {
            if claims.len() == tasks {
                break;
            }
            let node = choice.node;
            let is_as_seen =
                || self.fleet.look(node).is_some_and(|hot| (hot.free().milli(), hot.free().mib()) == *seen);
            let claim = (self.of.conflict == ConflictTest::ResourceFit || is_as_seen())
                .then(|| self.fleet.claim(node, self.demand.need).ok())
                .flatten();
            match claim {
                Some(claim) => {
                    at.policy.note(self.fleet, &policy::Event::Claimed { node, now });
                    claims.push(claim);
                }
                None => at.policy.note(self.fleet, &policy::Event::Conflicted { node, now }),
            }
        }
        let chosen = at.decision.choices.len().min(tasks);
        let conflicts = chosen - claims.len().min(chosen);
        if conflicts > 0 && self.of.commit == Commit::AllOrNothing {
            for claim in claims.drain(..) {
                self.fleet.release(claim);
            }
        }
        at.left -= claims.len() as u32;
        if is_counted {
            self.report.evaluated += u64::from(at.decision.evaluated);
            self.report.without_room += u64::from(chosen < tasks);
            self.report.transactions += u64::from(chosen > 0);
            self.report.conflicted += u64::from(conflicts > 0);
            self.report.decided += chosen as u64;
            self.report.requeued += (chosen - claims.len()) as u64;
        }
        let is_done = at.left == 0;
        if is_done {
            at.left = self.of.tasks;
        }
        for claim in claims {
            self.begin(claim);
        }
        self.placed += u64::from(is_done);
        self.engine.after_s(0.0, Happening::Look { scheduler });
    }

    fn begin(&mut self, claim: Claim) {
        let used = &mut self.used[claim.node().index()];
        let need = claim.need().amount;
        *used = (used.0 + need.milli(), used.1 + need.mib());
        let total = self.fleet.look(claim.node()).map(|hot| hot.total()).unwrap_or_default();
        self.report.double_bookings += u64::from(used.0 > total.milli() || used.1 > total.mib());
        let task = self.vacant.pop().unwrap_or_else(|| {
            self.running.push(None);
            self.running.len() as u32 - 1
        });
        self.running[task as usize] = Some(claim);
        let lasts = self.jobs.exponential(self.of.lasts);
        self.engine.after_s(lasts, Happening::End { task });
    }

    fn end(&mut self, claim: Claim) {
        let used = &mut self.used[claim.node().index()];
        let need = claim.need().amount;
        *used = (used.0 - need.milli(), used.1 - need.mib());
        self.fleet.release(claim);
    }

    fn share_used(&self) -> f64 {
        let used: u64 = self.used.iter().map(|used| u64::from(used.0)).sum();
        let nodes = (0..self.fleet.len()).filter_map(|node| self.fleet.look(NodeIx::new(node as u32)));
        let total: u64 = nodes.map(|hot| u64::from(hot.total().milli())).sum();
        used as f64 / total.max(1) as f64
    }
}
