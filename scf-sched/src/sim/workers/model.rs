//! The events of the model.

use std::{collections::VecDeque, mem, sync::Arc};

use scf_core::{Code, Function, FunctionName, Name, Node, NodeId, Tier};

use super::{Technique, Workers, WorkersReport};
use crate::{
    Binding, Decision, Demand, Policy, Request,
    fleet::{Fleet, NodeIx},
    policy,
    sim::{Engine, Event, Rng, Station},
};

/// Streams of random numbers.
const JOBS: u64 = 0;
const DECISIONS: u64 = 1;
const OFFERS: u64 = 2;

#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A job comes.
    Come,
    /// Its tasks, or what is left of them, are at a scheduler, and were at others before.
    Decide { job: u32, scheduler: u32, before: u32 },
    /// A task or a reservation is at a worker.
    Reach { job: u32, worker: u32 },
    /// A task ends, or a reservation got no task.
    Leave { worker: u32 },
    /// A reservation is not wanted any more.
    Cancel { job: u32, worker: u32 },
    /// A scheduler gets the offer of a slot.
    Offer { worker: u32, scheduler: u32 },
    /// A slot of the omniscient queue is free.
    Free,
}

impl Event for Happening {
    fn digest(&self) -> u64 {
        let mix = |kind: u64, a: u32, b: u32| kind << 60 ^ u64::from(a) << 30 ^ u64::from(b);
        match *self {
            Self::Come => mix(1, 0, 0),
            Self::Decide { job, scheduler, .. } => mix(2, job, scheduler),
            Self::Reach { job, worker } => mix(3, job, worker),
            Self::Leave { worker } => mix(4, worker, 0),
            Self::Cancel { job, worker } => mix(5, job, worker),
            Self::Offer { worker, scheduler } => mix(6, worker, scheduler),
            Self::Free => mix(7, 0, 0),
        }
    }
}

#[derive(Debug)]
struct Job {
    /// Seconds from the start of the run.
    came: f64,
    /// Seconds of each task.
    takes: f64,
    /// Tasks without a worker.
    left: u32,
    started: u32,
    /// When the last task ends of those that have started.
    ends: f64,
    /// Workers with reservations that will be cancelled.
    reserved: Vec<u32>,
}

#[derive(Debug)]
struct Scheduler {
    policy: Box<dyn Policy>,
    /// Jobs with tasks that wait for an offer.
    waiting: VecDeque<u32>,
}

#[derive(Debug)]
pub(super) struct Model {
    of: Workers,
    technique: Technique,
    engine: Engine<Happening>,
    fleet: Fleet,
    demand: Demand,
    stations: Vec<Station<u32>>,
    schedulers: Vec<Scheduler>,
    jobs: Vec<Job>,
    come: Rng,
    seeds: Rng,
    offers: Rng,
    decision: Decision,
    /// Of the omniscient queue.
    free: u64,
    queue: VecDeque<u32>,
    done: u64,
    report: WorkersReport,
}

impl Model {
    pub(super) fn new(of: Workers, technique: Technique, seed: u64) -> Self {
        let fleet = Fleet::new();
        let name = |text| Name::new(text).expect("letters are a name");
        for worker in 0..of.workers {
            let id = NodeId::new(&format!("worker-{worker}")).expect("letters, a dash and digits are an id");
            let node = Node::new(id, Tier::Cloud).site(name("room")).slots(u16::MAX);
            fleet.join(Arc::new(node)).expect("each id joins once");
        }
        let function =
            Function::new(FunctionName::new("task").expect("letters are a name"), Code::Native { entry: name("task") });
        let demand = fleet.demand(&function).expect("it asks for nothing but a slot");
        let schedulers = technique.policies().into_iter().map(|policy| Scheduler { policy, waiting: VecDeque::new() });
        Self {
            of,
            technique,
            engine: Engine::new(),
            demand,
            stations: vec![Station::new(of.slots); of.workers as usize],
            schedulers: schedulers.collect(),
            jobs: Vec::new(),
            come: Rng::of(seed, JOBS, 0),
            seeds: Rng::of(seed, DECISIONS, 0),
            offers: Rng::of(seed, OFFERS, 0),
            decision: Decision::new(),
            free: u64::from(of.workers) * u64::from(of.slots),
            queue: VecDeque::new(),
            done: 0,
            report: WorkersReport::default(),
            fleet,
        }
    }

    pub(super) fn run(mut self) -> WorkersReport {
        if let Technique::IdleFirst { .. } = self.technique {
            for worker in 0..self.of.workers {
                for _ in 0..self.of.slots {
                    self.offer(worker);
                }
            }
        }
        self.engine.after_s(0.0, Happening::Come);
        while self.done < self.of.jobs {
            let Some(happening) = self.engine.next() else { break };
            match happening {
                Happening::Come => self.come(),
                Happening::Decide { job, scheduler, before } => self.decide(job, scheduler, before),
                Happening::Reach { job, worker } => {
                    let started = self.stations[worker as usize].come(job);
                    self.loaded(worker);
                    self.start(worker, started);
                }
                Happening::Leave { worker } => self.leave(worker),
                Happening::Cancel { job, worker } => {
                    self.stations[worker as usize].cancel(|waiting| *waiting == job);
                    self.loaded(worker);
                }
                Happening::Offer { worker, scheduler } => self.offered(worker, scheduler),
                Happening::Free => {
                    self.free += 1;
                    self.drain();
                }
            }
        }
        self.report.hash = self.engine.log().hash();
        self.report.events = self.engine.log().events();
        let counted = if self.of.first { self.of.jobs as usize } else { usize::MAX };
        for job in self.jobs.iter().take(counted) {
            if job.started == self.of.tasks && job.came > self.of.warm_up {
                self.report.response.add(job.ends - job.came);
                self.report.delay.add((job.ends - job.came - job.takes).max(0.0));
            }
        }
        self.report
    }

    fn now(&self) -> f64 {
        self.engine.now().nanos() as f64 * 1e-9
    }

    fn come(&mut self) {
        let job = self.jobs.len() as u32;
        let (came, takes) = (self.now(), self.come.exponential(self.of.mean));
        self.jobs.push(Job { came, takes, left: self.of.tasks, started: 0, ends: 0.0, reserved: Vec::new() });
        let slots = f64::from(self.of.workers) * f64::from(self.of.slots);
        let between = self.of.mean * f64::from(self.of.tasks) / (self.of.load * slots);
        let next = self.come.exponential(between);
        self.engine.after_s(next, Happening::Come);
        match self.technique {
            Technique::Omniscient => {
                self.queue.push_back(job);
                self.drain();
            }
            // The answers are of the moment at which the workers were asked.
            Technique::PowerOf { .. } | Technique::Batch { binding: Binding::Early, .. } => {
                self.engine.after_s(self.of.delay, Happening::Decide { job, scheduler: 0, before: 0 });
            }
            Technique::Random | Technique::Batch { .. } => self.decide(job, 0, 0),
            Technique::IdleFirst { .. } => {
                let scheduler = self.offers.below(self.schedulers.len()) as u32;
                self.decide(job, scheduler, 0);
            }
        }
    }

    /// Asks a scheduler's policy for the tasks of a job that have no worker.
    fn decide(&mut self, job: u32, scheduler: u32, before: u32) {
        let tasks = self.jobs[job as usize].left;
        let request = Request { tasks, ..Request::new(&self.demand, self.seeds.bits(), self.engine.now()) };
        self.decision.clear();
        self.schedulers[scheduler as usize].policy.decide(&self.fleet, &request, &mut self.decision);
        let asks = u64::from(self.decision.messages);
        let binding = self.decision.binding;
        if binding == Binding::Early {
            // Choices beyond the tasks are for conflicts, which there are none of here.
            self.decision.choices.truncate(tasks as usize);
        }
        self.report.messages += asks + self.decision.choices.len() as u64;
        // The rest of a round trip with the workers, and the way of the task.
        let way = if asks > 0 { 2.0 * self.of.delay } else { self.of.delay };
        for at in 0..self.decision.choices.len() {
            let worker = self.decision.choices[at].node.index() as u32;
            self.engine.after_s(way, Happening::Reach { job, worker });
            if binding == (Binding::Late { cancels: true }) {
                self.jobs[job as usize].reserved.push(worker);
            }
        }
        if binding != Binding::Early {
            return;
        }
        let placed = self.decision.choices.len() as u32;
        self.jobs[job as usize].left -= placed;
        if placed == tasks {
            return;
        }
        // Those that nobody took.
        let schedulers = self.schedulers.len() as u32;
        if before + 1 < schedulers {
            self.report.messages += 1;
            let next = Happening::Decide { job, scheduler: (scheduler + 1) % schedulers, before: before + 1 };
            self.engine.after_s(self.of.delay, next);
        } else {
            self.schedulers[scheduler as usize].waiting.push_back(job);
        }
    }

    /// A slot was given to a task or a reservation.
    fn start(&mut self, worker: u32, started: Option<u32>) {
        let Some(job) = started else { return };
        if let Technique::Batch { binding: Binding::Late { cancels }, .. } = self.technique {
            self.ask(worker, job, cancels);
        } else {
            let ends = self.now() + self.jobs[job as usize].takes;
            self.run_task(job, ends);
            self.engine.after_s(self.jobs[job as usize].takes, Happening::Leave { worker });
        }
    }

    /// A worker has come to a reservation and asks for a task; its slot waits for the answer.
    fn ask(&mut self, worker: u32, job: u32, cancels: bool) {
        self.report.messages += 2;
        let answer = 2.0 * self.of.delay;
        let of = &mut self.jobs[job as usize];
        if of.left == 0 {
            self.engine.after_s(answer, Happening::Leave { worker });
            return;
        }
        of.left -= 1;
        let (takes, left) = (of.takes, of.left);
        self.run_task(job, self.now() + answer + takes);
        self.engine.after_s(answer + takes, Happening::Leave { worker });
        if cancels && left == 0 {
            for worker in mem::take(&mut self.jobs[job as usize].reserved) {
                self.report.messages += 1;
                self.engine.after_s(answer, Happening::Cancel { job, worker });
            }
        }
    }

    fn run_task(&mut self, job: u32, ends: f64) {
        let is_counted = !self.of.first || u64::from(job) < self.of.jobs;
        let job = &mut self.jobs[job as usize];
        job.started += 1;
        job.ends = job.ends.max(ends);
        self.report.tasks += 1;
        self.done += u64::from(is_counted && job.started == self.of.tasks);
    }

    fn leave(&mut self, worker: u32) {
        let next = self.stations[worker as usize].leave();
        self.loaded(worker);
        if next.is_none() && matches!(self.technique, Technique::IdleFirst { .. }) {
            self.offer(worker);
        }
        self.start(worker, next);
    }

    /// A worker offers a slot to one of the schedulers.
    fn offer(&mut self, worker: u32) {
        self.report.messages += 1;
        let scheduler = self.offers.below(self.schedulers.len()) as u32;
        self.engine.after_s(self.of.delay, Happening::Offer { worker, scheduler });
    }

    fn offered(&mut self, worker: u32, scheduler: u32) {
        let idle = policy::Event::Idle { node: NodeIx::new(worker), now: self.engine.now() };
        let at = &mut self.schedulers[scheduler as usize];
        at.policy.note(&self.fleet, &idle);
        if let Some(job) = at.waiting.pop_front() {
            // It has been everywhere: what is left waits on here, before those that came later.
            let before = self.schedulers.len() as u32;
            self.decide(job, scheduler, before);
            let waiting = &mut self.schedulers[scheduler as usize].waiting;
            if waiting.back() == Some(&job) {
                waiting.rotate_right(1);
            }
        }
    }

    /// Tells the fleet, which is what workers answer when they are asked.
    fn loaded(&self, worker: u32) {
        let station = &self.stations[worker as usize];
        self.fleet.set_load(NodeIx::new(worker), station.busy() + station.waiting() as u32, 0.0);
    }

    /// Gives free slots to the jobs of the omniscient queue.
    fn drain(&mut self) {
        while self.free > 0 {
            let Some(job) = self.queue.front().copied() else { return };
            self.free -= 1;
            let of = &mut self.jobs[job as usize];
            of.left -= 1;
            let (left, takes) = (of.left, of.takes);
            if left == 0 {
                self.queue.pop_front();
            }
            let delay = self.of.delay;
            self.run_task(job, self.now() + takes + delay);
            // A message there, and one back that says that the slot is free.
            self.engine.after_s(takes + 2.0 * delay, Happening::Free);
        }
    }
}
