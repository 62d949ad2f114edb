//! A model whose requests run together.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use scf_core::{Activation, BlockGraph, Clock, Flow, ModelError, Usage};
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

use super::{Batch, BatchLimits, BatchQueue, BatchTimes, Refused};
use crate::{fixed, inference::metered};

/// Runs a model for many callers, as many inputs at once as their deadlines allow ([`BatchQueue`]).
///
/// Each batch runs on a thread that may compute; as many run at the same time as there are lanes. Nothing runs while
/// nobody asks. Clones are the same batcher.
#[derive(Clone, Debug)]
pub struct Batcher(Arc<Line>);

#[derive(Debug)]
struct Line {
    graph: BlockGraph,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// One for each batch that may run, also of other models.
    cores: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    queue: BatchQueue<Request>,
    lanes: usize,
    /// Lanes on which somebody works, or waits for a core to do so.
    working: usize,
}

#[derive(Debug)]
struct Request {
    input: Activation,
    answer: oneshot::Sender<Result<Batched, BatchError>>,
}

/// What a model answered to an input that ran in a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Batched {
    /// The output.
    pub output: Activation,
    /// Its share of what computing the batch used.
    pub usage: Usage,
    /// Inputs that ran together.
    pub size: usize,
    /// Which of them it was.
    pub place: usize,
    /// How long they ran.
    pub took: Duration,
}

/// Why a batcher gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The request was refused before it ran.
    #[error("refused before it ran")]
    Refused(#[from] Refused),
    /// The model failed on the input.
    #[error("the model failed")]
    Model(#[from] ModelError),
}

impl Batcher {
    /// Runs `graph` within `limits`; one inference is expected to take `expected` until it was measured.
    #[must_use]
    pub fn new(graph: BlockGraph, limits: BatchLimits, expected: Duration, clock: Arc<dyn Clock>) -> Self {
        Self::on(Arc::new(Semaphore::new(limits.lanes.max(1))), graph, limits, expected, clock)
    }

    /// Runs `graph` on `cores` that it shares with other models.
    pub(super) fn on(
        cores: Arc<Semaphore>,
        graph: BlockGraph,
        limits: BatchLimits,
        expected: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let queue = BatchQueue::new(limits, expected);
        let state = Mutex::new(State { queue, lanes: limits.lanes.max(1), working: 0 });
        Self(Arc::new(Line { graph, clock, state, cores }))
    }

    /// The model.
    #[must_use]
    pub fn graph(&self) -> &BlockGraph {
        &self.0.graph
    }

    /// What batches took so far.
    #[must_use]
    pub fn times(&self) -> BatchTimes {
        self.0.state().queue.times().clone()
    }

    /// Runs the model on `input`, to be answered within `within`. A caller that goes away before its batch has begun
    /// takes its input out of it.
    ///
    /// # Errors
    /// [`BatchError::Refused`] at once where it cannot be in time or too many wait, and later where it became late
    /// before it ran; [`BatchError::Model`] with what a block reports for this input.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn infer(&self, input: Activation, within: Duration) -> Result<Batched, BatchError> {
        self.0.graph.blocks()[0].output(&input.spec)?;
        let (answer, answered) = oneshot::channel();
        if self.0.accept(Request { input, answer }, within)? {
            tokio::spawn(Arc::clone(&self.0).work());
        }
        answered.await.unwrap_or_else(|gone| Err(self.0.stopped(gone).into()))
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `request` into the queue; says whether there is a lane on which nobody works yet.
    fn accept(&self, request: Request, within: Duration) -> Result<bool, Refused> {
        let mut state = self.state();
        state.queue.push(request, within, self.clock.now())?;
        let free = state.working < state.lanes;
        state.working += usize::from(free);
        Ok(free)
    }

    /// What is to run now; where it is nothing, the lane that asks is given up. Tells those that became late.
    fn next(&self) -> Option<Batch<Request>> {
        let mut late = Vec::new();
        let mut state = self.state();
        let batch = state.queue.next(self.clock.now(), &mut late);
        state.working -= usize::from(batch.is_none());
        drop(state);
        for (request, refused) in late {
            reply(request.answer, Err(refused.into()));
        }
        batch
    }

    /// Runs batches on one lane until nobody waits. What runs is chosen once there is a core for it.
    async fn work(self: Arc<Self>) {
        loop {
            let core = self.cores.acquire().await;
            let Some(batch) = self.next() else { return };
            self.run(batch).await;
            drop(core);
        }
    }

    async fn run(&self, Batch { id, requests }: Batch<Request>) {
        let wanted = requests.into_iter().filter(|request| !request.answer.is_closed());
        let (inputs, answers): (Vec<_>, Vec<_>) = wanted.map(|request| (request.input, request.answer)).unzip();
        if inputs.is_empty() {
            self.state().queue.failed(id);
            return;
        }
        let (size, graph, since) = (inputs.len(), self.graph.clone(), self.clock.now());
        let run = tokio::task::spawn_blocking(move || metered(&graph, inputs));
        match run.await {
            Ok((flows, used)) => {
                let now = self.clock.now();
                self.state().queue.finished(id, size, now);
                // No memory has a batch of more than 32 bits.
                let share = u32::try_from(size).unwrap_or(u32::MAX);
                let usage = Usage { cpu: used.cpu / share, accelerator: used.accelerator / share, ..used };
                let took = now.since(since);
                for (place, (answer, flow)) in answers.into_iter().zip(flows).enumerate() {
                    let output = flow.map(Flow::into_activation).map_err(Into::into);
                    reply(answer, output.map(|output| Batched { output, usage, size, place, took }));
                }
            }
            Err(stopped) => {
                self.state().queue.failed(id);
                let why = stopped.to_string();
                answers.into_iter().for_each(|answer| reply(answer, Err(self.stopped(&*why).into())));
            }
        }
    }

    /// A block panicked, or the runtime shut down.
    fn stopped(&self, why: impl Into<scf_core::BoxError>) -> ModelError {
        fixed::failed(self.graph.model.as_str())(why)
    }
}

/// A caller that went away does not want to know.
fn reply(answer: oneshot::Sender<Result<Batched, BatchError>>, outcome: Result<Batched, BatchError>) {
    drop(answer.send(outcome));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use scf_core::{BlockCost, DType, ManualClock, ModelBlock, ModelName, TensorSpec, WireForm};

    use super::*;

    /// Gives what it takes, in batches that it tells of; each begins when it is let. Fails on a 1, panics at a 2.
    #[derive(Debug)]
    struct Gate {
        sizes: Mutex<Sender<usize>>,
        open: Mutex<Receiver<()>>,
    }

    impl ModelBlock for Gate {
        fn name(&self) -> &str {
            "gate"
        }

        fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
            if input.dtype == DType::U8 {
                return Ok(input.clone());
            }
            Err(ModelError::Shape { block: "gate".into(), takes: "bytes".into(), given: input.clone() })
        }

        fn cost(&self, _input: &TensorSpec) -> BlockCost {
            BlockCost::default()
        }

        fn wire_forms(&self) -> &[WireForm] {
            &[WireForm::Exact]
        }

        fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
            match input.bytes().unwrap()[0] {
                1 => Err(ModelError::Exit { block: "gate".into(), problem: "a 1" }),
                2 => panic!("a block's bug"),
                _ => Ok(input),
            }
        }

        fn step_batch(&self, inputs: Vec<Activation>) -> Vec<Result<Flow, ModelError>> {
            self.sizes.lock().unwrap().send(inputs.len()).unwrap();
            self.open.lock().unwrap().recv().unwrap();
            inputs.into_iter().map(|input| self.step(input)).collect()
        }
    }

    struct Bench {
        batcher: Batcher,
        clock: ManualClock,
        sizes: Receiver<usize>,
        open: Sender<()>,
    }

    fn bench(batch: usize, queue: usize) -> Bench {
        let (sizes, told) = mpsc::channel();
        let (open, opened) = mpsc::channel();
        let gate = Gate { sizes: Mutex::new(sizes), open: Mutex::new(opened) };
        let input = TensorSpec::new(DType::U8, &[1]);
        let graph = BlockGraph::chain(ModelName::new("gate").unwrap(), input, vec![Arc::new(gate)]).unwrap();
        let clock = ManualClock::new();
        let limits = BatchLimits { batch, queue, lanes: 1 };
        let batcher = Batcher::new(graph, limits, Duration::from_millis(10), Arc::new(clock.clone()));
        Bench { batcher, clock, sizes: told, open }
    }

    fn byte(value: u8) -> Activation {
        Activation::new(TensorSpec::new(DType::U8, &[1]), vec![value].into()).unwrap()
    }

    impl Bench {
        /// Asks, and comes back once the request waits or runs.
        async fn ask(&self, value: u8, within: u64) -> tokio::task::JoinHandle<Result<Batched, BatchError>> {
            let batcher = self.batcher.clone();
            let asked = tokio::spawn(async move { batcher.infer(byte(value), Duration::from_millis(within)).await });
            // The executor has one thread: what was spawned runs until it waits for its answer.
            tokio::task::yield_now().await;
            asked
        }

        async fn running(&self) -> usize {
            loop {
                match self.sizes.try_recv() {
                    Ok(size) => return size,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        }
    }

    #[tokio::test]
    async fn those_that_wait_run_together_and_each_gets_its_own_answer() {
        let bench = bench(8, 64);
        let first = bench.ask(10, 100).await;
        assert_eq!(bench.running().await, 1);
        let mut waiting = Vec::new();
        for value in [11, 1, 13] {
            waiting.push(bench.ask(value, 100).await);
        }
        bench.clock.advance(Duration::from_millis(4));
        bench.open.send(()).unwrap();
        let first = first.await.unwrap().unwrap();
        assert_eq!((first.size, first.took), (1, Duration::from_millis(4)));
        assert_eq!(bench.running().await, 3);
        bench.open.send(()).unwrap();
        let mut answers = Vec::new();
        for asked in waiting {
            answers.push(asked.await.unwrap());
        }
        for (place, value) in [(0, 11u8), (2, 13)] {
            let Batched { output, place: at, size, .. } = answers[place].as_ref().unwrap();
            assert_eq!((&output.bytes().unwrap()[..], *at, *size), (&[value][..], place, 3));
        }
        assert!(matches!(answers[1], Err(BatchError::Model(ModelError::Exit { .. }))), "{:?}", answers[1]);
        assert_eq!(bench.batcher.times().estimate(1, bench.clock.now()), Duration::ZERO, "a batch of three took none");
    }

    #[tokio::test]
    async fn who_cannot_be_in_time_is_refused_at_once_and_who_became_late_before_running() {
        let bench = bench(1, 64);
        let first = bench.ask(10, 100).await;
        assert_eq!(bench.running().await, 1);
        let refused = bench.ask(11, 15).await.await.unwrap().unwrap_err();
        let BatchError::Refused(Refused::Late { needed, .. }) = refused else { panic!("{refused}") };
        assert_eq!(needed, Duration::from_millis(20));
        let accepted = bench.ask(12, 20).await;
        bench.clock.advance(Duration::from_millis(15));
        bench.open.send(()).unwrap();
        first.await.unwrap().unwrap();
        let late = accepted.await.unwrap().unwrap_err();
        assert!(matches!(late, BatchError::Refused(Refused::Late { .. })), "{late}");
        assert!(bench.sizes.try_recv().is_err(), "it never ran");
    }

    #[tokio::test]
    async fn who_goes_away_is_left_out_and_a_full_queue_and_a_wrong_shape_are_refused() {
        let bench = bench(8, 2);
        let first = bench.ask(10, 100).await;
        assert_eq!(bench.running().await, 1);
        let (gone, stays) = (bench.ask(11, 100).await, bench.ask(12, 100).await);
        let refused = bench.ask(13, 100).await.await.unwrap().unwrap_err();
        assert!(matches!(refused, BatchError::Refused(Refused::Full { waiting: 2 })), "{refused}");
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        bench.open.send(()).unwrap();
        assert_eq!(bench.running().await, 1, "who went away is no part of the batch");
        bench.open.send(()).unwrap();
        assert_eq!(stays.await.unwrap().unwrap().size, 1);
        first.await.unwrap().unwrap();
        let wide = Activation::new(TensorSpec::new(DType::F32, &[1]), vec![0; 4].into()).unwrap();
        let error = bench.batcher.infer(wide, Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, BatchError::Model(ModelError::Shape { .. })), "{error}");
    }

    #[tokio::test]
    async fn a_block_that_panics_fails_its_batch_and_the_next_one_runs() {
        let bench = bench(8, 64);
        let broken = bench.ask(2, 100).await;
        bench.open.send(()).unwrap();
        let error = broken.await.unwrap().unwrap_err();
        assert!(matches!(error, BatchError::Model(ModelError::Block { .. })), "{error}");
        let next = bench.ask(3, 100).await;
        bench.open.send(()).unwrap();
        assert_eq!(next.await.unwrap().unwrap().output.bytes().unwrap()[..], [3]);
    }
}
