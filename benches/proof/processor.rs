//! A processor that is as fast whatever else runs on this machine, and as fast as others': every block takes its share of
//! what the network takes on the cloud.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, SyncSender},
    },
    thread,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use scf::core::{Activation, BlockGraph, BlockRunner, BoxError, Flow, ModelError, Ran, Usage};

use crate::clock::LeapingClock;

/// What the network takes on the cloud: as long as EfficientNet-Lite0 does on one core with AVX-512, by `ai.lite0.whole_ms`
/// of `benches/split.rs`. Links and queues are given in
/// absolute times, so that on a faster machine it would pay to cut elsewhere: the world has one speed.
const CLOUD: Duration = Duration::from_micros(8700);
/// Runs of each input that a block's time is the median of.
const RUNS: usize = 3;

/// What each block of a network takes on the cloud.
#[derive(Clone, Debug)]
pub(crate) struct Profile(Arc<[Duration]>);

impl Profile {
    /// Of [`CLOUD`], each block's share: the medians of the blocks' CPU times over `inputs`, scaled so that those of the
    /// `network`, the last ones of `graph`, take all of it. Measured once and before everything else, so that all arms,
    /// whenever their turn comes, meet the same nodes.
    pub(crate) fn measure(graph: &BlockGraph, network: usize, inputs: &[Activation]) -> Result<Self, BoxError> {
        let mut times = vec![Vec::new(); graph.blocks().len()];
        for input in inputs.iter().cycle().take(inputs.len() * RUNS) {
            let mut activation = input.clone();
            for (block, times) in times.iter_mut().enumerate() {
                let before = thread_cpu();
                activation = graph.run(block..block + 1, activation)?;
                times.push(thread_cpu().saturating_sub(before));
            }
        }
        let median = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        let medians: Vec<Duration> = times.into_iter().map(median).collect();
        let here: Duration = medians[medians.len() - network..].iter().sum();
        let scale = CLOUD.as_secs_f64() / here.as_secs_f64();
        Ok(Self(medians.into_iter().map(|time| time.mul_f64(scale)).collect()))
    }

    /// Of each block.
    pub(crate) fn times(&self) -> &[Duration] {
        &self.0
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

type Job = Box<dyn FnOnce() + Send>;
/// What is run, from which block to before which, and the hash of what it is given.
type Question = (usize, usize, blake3::Hash);

/// A network and a thread that runs its blocks, once for each input: they give the same for it again. Clones are the
/// same.
#[derive(Clone)]
pub(crate) struct Processor {
    graph: BlockGraph,
    profile: Profile,
    jobs: SyncSender<Job>,
    known: Arc<Mutex<HashMap<Question, Activation>>>,
}

impl Processor {
    /// Of `graph`, whose blocks take what `profile` says.
    pub(crate) fn new(graph: &BlockGraph, profile: Profile) -> Self {
        let (jobs, asked) = mpsc::sync_channel::<Job>(1);
        thread::spawn(move || asked.into_iter().for_each(|job| job()));
        Self { graph: graph.clone(), profile, jobs, known: Arc::default() }
    }

    /// The network as it runs in real time.
    pub(crate) const fn network(&self) -> &BlockGraph {
        &self.graph
    }

    pub(crate) const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The network as it runs in the time of `clock`.
    pub(crate) fn graph(&self, clock: &Arc<LeapingClock>) -> BlockGraph {
        self.graph.clone().behind(Arc::new(Charged { processor: self.clone(), clock: Arc::clone(clock) }))
    }

    /// What `blocks` give for `input`.
    fn answer(&self, blocks: Range<usize>, input: Activation) -> Result<Activation, ModelError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(bytes) = input.bytes() else { return self.graph.run(blocks, input) };
        let key = (blocks.start, blocks.end, blake3::hash(&bytes));
        if let Some(answer) = known().get(&key) {
            return Ok(answer.clone());
        }
        let answer = self.graph.run(blocks, input)?;
        known().insert(key, answer.clone());
        Ok(answer)
    }
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processor").field("graph", &self.graph.model).finish_non_exhaustive()
    }
}

/// Runs blocks on another thread, beside the time of a clock, and then lets as much of it pass as they take.
#[derive(Debug)]
struct Charged {
    processor: Processor,
    clock: Arc<LeapingClock>,
}

impl BlockRunner for Charged {
    fn run(&self, blocks: Range<usize>, inputs: Vec<Activation>) -> Ran {
        let times: Vec<Duration> =
            self.processor.profile.times()[blocks.clone()].iter().map(|&time| time * inputs.len() as u32).collect();
        let took = times.iter().sum();
        let processor = self.processor.clone();
        let (answered, answers) = mpsc::sync_channel(1);
        let job = move || {
            let answer = |input| processor.answer(blocks.clone(), input).map(Flow::Continue);
            // Nobody waits any more where the experiment ends meanwhile.
            drop(answered.send(inputs.into_iter().map(answer).collect()));
        };
        let computed = self.clock.beside(took, || {
            self.processor.jobs.send(Box::new(job)).ok()?;
            answers.recv().ok()
        });
        // None where a block panicked: fewer answers than inputs, which the graph makes an error of.
        let flows = computed.unwrap_or_default();
        Ran { flows, blocks: times, usage: Usage { cpu: took, ..Usage::default() } }
    }
}
