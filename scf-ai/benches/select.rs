//! Choosing among variants and running requests together: `cargo bench -p scf-ai --bench select`.
//!
//! `ai.select.miss_reduction`: a seeded trace of queries with bursts, in virtual time, is given to a [`ModelRegistry`]
//! of three EfficientNet variants and to three registries that have one of them each; all refuse what cannot be in
//! time. A query misses when it is refused, late, or asks for more accuracy than there is. The best single variant is
//! the one that misses least. The headroom of the three is the least with which they are as accurate as that one on
//! another trace than the figure's. Service times are drawn from those of the three networks measured here.
//!
//! `ai.batch.throughput_gain`: as many callers as keep a [`Batcher`] busy embed search queries of four words with
//! MiniLM-L6, in batches of up to 16 and one by one, arms interleaved. Time is CPU time of this process, also that of
//! the clock which the deadlines are counted by, so what else runs on the machine does not count.

use std::{
    collections::VecDeque,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rustix::time::{ClockId, clock_gettime};
use scf_ai::{
    BatchError, BatchLimits, Batcher, Device, EfficientNetLite, Executor, MiniLm, ModelRegistry, Query, Selection,
    SentenceTokenizer, Variant,
};
use scf_core::{Activation, BlockGraph, ByteSize, Clock, ModelName, Name, Share, Timestamp};

#[path = "../../examples/assets/fetched.rs"]
mod fetched;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The variants and their top-1 accuracy on ImageNet in per cent, as the network's authors publish it.
const VARIANTS: [(EfficientNetLite, f64); 3] =
    [(EfficientNetLite::Lite0, 75.1), (EfficientNetLite::Lite1, 76.7), (EfficientNetLite::Lite2, 77.6)];
/// Cores that answer queries.
const LANES: usize = 2;
/// Time that a query allows, in times that the smallest variant takes.
const WITHIN: f64 = 10.0;
/// Share of the queries that ask for the accuracy of each variant.
const ASKED: [f64; 3] = [0.75, 0.15, 0.10];
/// Shares of a query's time that may be gone before a less accurate variant is taken, of which one is chosen.
const HEADROOMS: [f64; 5] = [50.0, 60.0, 70.0, 80.0, 90.0];
/// Arrivals while it is calm and in bursts, as a share of what the smallest variant can answer, and mean length of both
/// in times that it takes: the load of bursts is within what the smallest can do and beyond what the others can.
const CALM: (f64, f64) = (0.25, 1000.0);
const BURST: (f64, f64) = (0.85, 200.0);

/// Texts of so many words are embedded, by so many callers at a time, each to be answered in so much CPU time.
const WORDS: usize = 4;
const CALLERS: usize = 48;
const SLO: Duration = Duration::from_millis(100);
const BATCH: usize = 16;
/// Tokens that a query has at most.
const TOKENS: usize = 32;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform, above 0 and up to 1.
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.share().ln()
    }
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of this process.
#[derive(Debug)]
struct CpuClock;

#[async_trait]
impl Clock for CpuClock {
    fn now(&self) -> Timestamp {
        Timestamp::default() + cpu(ClockId::ProcessCPUTime)
    }

    async fn sleep(&self, wait: Duration) {
        let until = self.now() + wait;
        while self.now() < until {
            tokio::task::yield_now().await;
        }
    }
}

/// CPU times of an inference of each variant, shortest first.
type Times = [Vec<Duration>; 3];

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / times.len() as u32
}

fn measured(rounds: usize) -> Result<Times> {
    let mut networks = Vec::new();
    for (variant, _) in VARIANTS {
        let name = format!("{}.safetensors", variant.name());
        let kept = format!("{}/../examples/assets/{name}", env!("CARGO_MANIFEST_DIR"));
        let weights = std::fs::read(kept).or_else(|_| fetched::read(&name))?;
        let graph = variant.load(&weights, Device::Cpu)?;
        let elements = graph.input.elements().ok_or("the input has a size")?;
        let bytes: Vec<u8> = (0..elements).flat_map(|i| ((i % 97) as f32 / 48.5 - 1.0).to_le_bytes()).collect();
        let x = Activation::new(graph.input.clone(), bytes.into())?;
        networks.push((graph, x));
    }
    let mut times = Times::default();
    for round in 0..rounds + 3 {
        for ((graph, x), times) in networks.iter().zip(&mut times) {
            let before = cpu(ClockId::ThreadCPUTime);
            graph.run(0..graph.blocks().len(), x.clone())?;
            // The first runs fault memory in.
            if round >= 3 {
                times.push(cpu(ClockId::ThreadCPUTime) - before);
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    Ok(times)
}

/// One query of the trace.
struct Arrival {
    at: Timestamp,
    asked: usize,
    /// Where in the sorted measured times its service lies.
    luck: f64,
}

fn trace(queries: usize, mean: Duration, asked: [f64; 3], seed: u64) -> Vec<Arrival> {
    let mut random = Random(seed);
    let (mut at, mut burst, mut changes) = (0.0, false, random.exponential(CALM.1));
    let mut arrivals = Vec::with_capacity(queries);
    while arrivals.len() < queries {
        let (load, _) = if burst { BURST } else { CALM };
        let next = at + random.exponential(1.0 / (load * LANES as f64));
        if next > changes {
            at = changes;
            burst = !burst;
            changes += random.exponential(if burst { BURST.1 } else { CALM.1 });
            continue;
        }
        at = next;
        let draw = random.share();
        let asked = if draw <= asked[0] { 0 } else { 1 + usize::from(draw > asked[0] + asked[1]) };
        arrivals.push(Arrival { at: Timestamp::default() + mean.mul_f64(at), asked, luck: random.share() });
    }
    arrivals
}

/// What a registry made of the trace.
#[derive(Default)]
struct Tally {
    misses: usize,
    answered: [usize; 3],
}

impl Tally {
    /// Mean accuracy of what was answered in time, in per cent.
    fn accuracy(&self) -> f64 {
        let sum: f64 = self.answered.iter().zip(VARIANTS).map(|(n, (_, accuracy))| *n as f64 * accuracy).sum();
        sum / self.answered.iter().sum::<usize>() as f64
    }

    fn print(&self, who: &str) {
        let queries = self.misses + self.answered.iter().sum::<usize>();
        let missed = 100.0 * self.misses as f64 / queries as f64;
        eprintln!("{who:<20} {missed:6.2} % missed, accuracy {:.2} %", self.accuracy());
    }
}

/// Runs the trace in virtual time: the registry chooses at each arrival, lanes work the queue off in order.
fn run(variants: &[usize], headroom: f64, trace: &[Arrival], times: &Times) -> Result<Tally> {
    let within = mean(&times[0]).mul_f64(WITHIN);
    let (task, cpu) = (Name::new("classify")?, Name::new("cpu")?);
    let mut registry = ModelRegistry::new(1).executor(Executor::new(cpu.clone(), LANES));
    registry = registry.headroom(Share::from_percent(headroom));
    for &v in variants {
        let (variant, accuracy) = VARIANTS[v];
        let (name, expected) = (ModelName::new(variant.name())?, mean(&times[v]));
        let variant = Variant::new(name.clone(), task.clone(), Share::from_percent(accuracy), ByteSize::from_mib(20));
        registry.register(variant.expect(expected, expected));
        registry.loaded(&name, &cpu, expected, Timestamp::default());
    }
    let mut tally = Tally::default();
    let mut queue: VecDeque<(Selection, Duration)> = VecDeque::new();
    let mut lanes: Vec<Option<(Timestamp, Duration, Selection)>> = (0..LANES).map(|_| None).collect();
    let mut arrivals = trace.iter().peekable();
    let mut now = Timestamp::default();
    loop {
        for lane in &mut lanes {
            if lane.is_none()
                && let Some((selection, took)) = queue.pop_front()
            {
                *lane = Some((now + took, took, selection));
            }
        }
        let ends = lanes.iter().enumerate().filter_map(|(i, lane)| Some((lane.as_ref()?.0, i))).min();
        match (ends, arrivals.peek().map(|arrival| arrival.at)) {
            (Some((end, lane)), next) if next.is_none_or(|next| end <= next) => {
                let (end, took, selection) = lanes[lane].take().ok_or("the lane is taken")?;
                now = end;
                let v = place(&selection)?;
                if end <= selection.deadline {
                    tally.answered[v] += 1
                } else {
                    tally.misses += 1
                }
                registry.observe(&selection.variant, &selection.executor, 1, took, end);
                registry.finished(selection, end);
            }
            (_, Some(next)) => {
                now = next;
                let arrival = arrivals.next().ok_or("it was there")?;
                let least = Share::from_percent(VARIANTS[arrival.asked].1);
                match registry.select(&Query::new(task.clone(), within).accuracy(least), now) {
                    Ok(selection) => {
                        let times = &times[place(&selection)?];
                        let drawn = times[((arrival.luck * times.len() as f64) as usize).min(times.len() - 1)];
                        queue.push_back((selection, drawn));
                    }
                    Err(_) => tally.misses += 1,
                }
            }
            (_, None) => return Ok(tally),
        }
    }
}

/// Which of the variants was chosen.
fn place(selection: &Selection) -> Result<usize> {
    let place = VARIANTS.iter().position(|(variant, _)| variant.name() == selection.variant.as_str());
    place.ok_or_else(|| format!("{} is none of the variants", selection.variant).into())
}

fn selection(quick: bool) -> Result<()> {
    let times = measured(if quick { 60 } else { 400 })?;
    let queries = if quick { 200_000 } else { 1_000_000 };
    let taken: Vec<String> = times.iter().map(|times| format!("{:.1?}", mean(times))).collect();
    eprintln!("{queries} queries; inferences take {}", taken.join(", "));
    let trace = |asked, seed| trace(queries, mean(&times[0]), asked, seed);
    let rehearsal = trace(ASKED, 11);
    let (_, least) = best_single(&rehearsal, &times)?;
    let headroom = HEADROOMS.into_iter().find_map(|headroom| match run(&[0, 1, 2], headroom, &rehearsal, &times) {
        Ok(tally) => (tally.accuracy() >= least.accuracy()).then_some(Ok(headroom)),
        Err(error) => Some(Err(error)),
    });
    let headroom = headroom.ok_or("no headroom makes the three as accurate as the best single variant")??;
    eprintln!("when no query asks for accuracy:");
    let undemanding = trace([1.0, 0.0, 0.0], 12);
    best_single(&undemanding, &times)?;
    run(&[0, 1, 2], headroom, &undemanding, &times)?.print(&format!("any, {headroom} % headroom"));
    eprintln!("when a quarter asks for more than the smallest has:");
    let trace = trace(ASKED, 12);
    let (name, best) = best_single(&trace, &times)?;
    let ours = run(&[0, 1, 2], headroom, &trace, &times)?;
    ours.print(&format!("any, {headroom} % headroom"));
    if ours.accuracy() < best.accuracy() {
        return Err(format!("the mean accuracy is below that of {name}").into());
    }
    let reduction = best.misses as f64 / ours.misses.max(1) as f64;
    println!(r#"{{"bar":"ai.select.miss_reduction","value":{reduction:.2},"unit":"ratio","n":{queries}}}"#);
    Ok(())
}

/// The variant that alone misses least.
fn best_single(trace: &[Arrival], times: &Times) -> Result<(&'static str, Tally)> {
    let mut best: Option<(&str, Tally)> = None;
    for (v, (variant, _)) in VARIANTS.into_iter().enumerate() {
        let name = variant.name();
        let tally = run(&[v], HEADROOMS[0], trace, times)?;
        tally.print(name);
        if best.as_ref().is_none_or(|(_, best)| tally.misses < best.misses) {
            best = Some((name, tally));
        }
    }
    best.ok_or_else(|| "there are three variants".into())
}

/// Search queries: the words of the Lee corpus, a few at a time.
fn queries() -> Result<Vec<Activation>> {
    let tokenizer = SentenceTokenizer::open(&fetched::read("minilm-l6-tokenizer.json")?, TOKENS)?;
    let texts = String::from_utf8(fetched::read("lee.txt")?)?;
    let words: Vec<&str> = texts.split_whitespace().collect();
    words.chunks_exact(WORDS).step_by(7).map(|words| Ok(tokenizer.encode(&words.join(" "))?)).collect()
}

/// Answers in time per second while more is asked than can be answered, and how many ran together on average.
async fn peak(graph: &BlockGraph, queries: &Arc<Vec<Activation>>, batch: usize, answers: usize) -> Result<(f64, f64)> {
    let limits = BatchLimits { batch, queue: CALLERS, lanes: 1 };
    let batcher = Batcher::new(graph.clone(), limits, Duration::from_millis(5), Arc::new(CpuClock));
    let (asked, in_time) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let start = CpuClock.now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (batcher, queries) = (batcher.clone(), Arc::clone(queries));
            let (asked, in_time) = (Arc::clone(&asked), Arc::clone(&in_time));
            tokio::spawn(async move {
                let mut batches = 0.0;
                while in_time.load(Ordering::Relaxed) < answers {
                    let query = queries[asked.fetch_add(1, Ordering::Relaxed) % queries.len()].clone();
                    let deadline = CpuClock.now() + SLO;
                    match batcher.infer(query, SLO).await {
                        Ok(answer) if CpuClock.now() <= deadline => {
                            in_time.fetch_add(1, Ordering::Relaxed);
                            batches += 1.0 / answer.size as f64;
                        }
                        // Late all the same, which is no answer.
                        Ok(_) => {}
                        Err(BatchError::Refused(_)) => tokio::time::sleep(Duration::from_millis(2)).await,
                        Err(error) => return Err(error.to_string()),
                    }
                }
                Ok(batches)
            })
        })
        .collect();
    let mut batches = 0.0;
    for caller in callers {
        batches += caller.await??;
    }
    let answered = in_time.load(Ordering::Relaxed) as f64;
    Ok((answered / CpuClock.now().since(start).as_secs_f64(), answered / batches))
}

fn batching(quick: bool) -> Result<()> {
    let graph = MiniLm::new(TOKENS).load(&fetched::read("minilm-l6.safetensors")?, Device::Cpu)?;
    let queries = Arc::new(queries()?);
    let (rounds, answers) = if quick { (5, 150) } else { (15, 400) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut gains = Vec::new();
    for round in 0..=rounds {
        let (alone, _) = runtime.block_on(peak(&graph, &queries, 1, answers))?;
        let (together, size) = runtime.block_on(peak(&graph, &queries, BATCH, answers))?;
        // The first round faults memory in.
        if round > 0 {
            eprintln!("{alone:.0} answers per second one by one, {together:.0} in batches of {size:.1}");
            gains.push(together / alone);
        }
    }
    gains.sort_by(f64::total_cmp);
    let gain = gains[rounds / 2];
    println!(r#"{{"bar":"ai.batch.throughput_gain","value":{gain:.2},"unit":"ratio","n":{rounds}}}"#);
    Ok(())
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    selection(quick)?;
    batching(quick)
}
