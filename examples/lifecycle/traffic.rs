//! Clients that never stop asking, and what became of every call.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use scf::{
    ai::{
        DigitImages,
        lifecycle::{ArtefactId, DriftAction, DriftReading, Fared, Observation},
    },
    core::{Activation, Bytes, DType, FunctionName, Invocation, Revision, TensorSpec, Timestamp},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    drifted::{Drift, observation},
    functions::{MODEL, Watch},
    random::Random,
    site::{Failure, SERVE, Site},
};

/// Clients of each edge node.
const CLIENTS: usize = 2;
/// Between an answer and the client's next question.
const PAUSE: Duration = Duration::from_millis(8);
/// Calls that the monitor is told of at a time.
const BATCH: usize = 25;
/// Calls that are on their way to the log; clients wait where there are more.
const ON_THE_WAY: usize = 64;
/// How long the run waits for calls before it is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whether a picture of the stream is never labelled for training: three of ten are not.
pub(crate) const fn is_held_back(picture: usize) -> bool {
    picture % 10 >= 7
}

/// One call, for the figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) at: Timestamp,
    pub(crate) took: Duration,
    /// Which revision answered; none where the call failed.
    pub(crate) revision: Option<Revision>,
    /// Whether the answer was right, of pictures that no model is ever trained with.
    pub(crate) right: Option<bool>,
    pub(crate) drifted: bool,
}

/// What became of all calls.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) calls: Vec<Call>,
    pub(crate) fared: BTreeMap<Revision, Fared>,
    pub(crate) readings: Vec<DriftReading>,
    /// Drifted pictures whose digit became known, each picture of the stream once.
    pub(crate) labelled: DigitImages,
    is_labelled: Vec<bool>,
    pub(crate) errors: Vec<String>,
}

impl Log {
    pub(crate) fn alarm(&self) -> Option<&DriftReading> {
        self.readings.iter().find(|reading| reading.action == Some(DriftAction::Retrain))
    }

    pub(crate) fn fared(&self, revision: Revision) -> Fared {
        self.fared.get(&revision).copied().unwrap_or_default()
    }
}

/// The clients of a site, the log of their calls, and the monitor that is told of them.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    changed: watch::Receiver<usize>,
    tasks: JoinSet<Result<(), Failure>>,
}

struct Shared {
    stream: DigitImages,
    drift: Drift,
    drifts: AtomicBool,
    stops: AtomicBool,
    next: AtomicUsize,
    reference: Mutex<ArtefactId>,
    log: Mutex<Log>,
}

/// What a client sends to the log.
struct Served {
    call: Call,
    picture: usize,
    pixels: [u8; 64],
    label: u8,
    logits: Result<Vec<f32>, String>,
}

impl Traffic {
    /// Starts the clients of every edge, who show the pictures of `stream` in turn, as they are for now.
    pub(crate) fn start(site: &Arc<Site>, stream: DigitImages, reference: ArtefactId, drift: Drift, seed: u64) -> Self {
        let (reference, log) = (Mutex::new(reference), Mutex::default());
        let (drifts, stops, next) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        let shared = Arc::new(Shared { stream, drift, drifts, stops, next, reference, log });
        let (served, log) = mpsc::channel(ON_THE_WAY);
        let (changes, changed) = watch::channel(0);
        let mut tasks = JoinSet::new();
        for client in 0..CLIENTS * site.edges.len() {
            let random = Random::new(seed.wrapping_add(1 + client as u64));
            tasks.spawn(ask(Arc::clone(site), Arc::clone(&shared), client, random, served.clone()));
        }
        tasks.spawn(keep(Arc::clone(site), Arc::clone(&shared), log, changes));
        Self { shared, changed, tasks }
    }

    /// From now on pictures are as another camera takes them.
    pub(crate) fn drift(&self) {
        self.shared.drifts.store(true, Relaxed);
    }

    /// From now on calls are held against another reference.
    pub(crate) fn refer_to(&self, reference: ArtefactId) {
        *self.shared.reference.lock().unwrap_or_else(PoisonError::into_inner) = reference;
    }

    /// What `read` makes of the log.
    pub(crate) fn log<T>(&self, read: impl FnOnce(&Log) -> T) -> T {
        read(&self.shared.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until `read` gives something.
    pub(crate) async fn until<T>(&mut self, mut read: impl FnMut(&Log) -> Option<T>) -> Result<T, Failure> {
        let waiting = async {
            loop {
                if let Some(found) = self.log(&mut read) {
                    return Ok(found);
                }
                self.changed.changed().await.map_err(|_| "the traffic has ended")?;
            }
        };
        timeout(PATIENCE, waiting).await.map_err(|_| "the calls that were waited for never came")?
    }

    /// Ends the clients and gives the log.
    pub(crate) async fn stop(mut self) -> Result<Log, Failure> {
        self.shared.stops.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(std::mem::take(&mut self.shared.log.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A client: asks, pauses, asks.
async fn ask(
    site: Arc<Site>,
    shared: Arc<Shared>,
    client: usize,
    mut random: Random,
    served: mpsc::Sender<Served>,
) -> Result<(), Failure> {
    let (node, function) = (&site.edges[client % site.edges.len()], FunctionName::new(SERVE)?);
    while !shared.stops.load(Relaxed) {
        let picture = shared.next.fetch_add(1, Relaxed) % shared.stream.len();
        let (pixels, label) = shared.stream.get(picture).ok_or("the stream has pictures")?;
        let drifted = shared.drifts.load(Relaxed);
        let pixels = if drifted { shared.drift.apply(pixels, &mut random) } else { *pixels };
        let elements: Bytes = pixels.iter().flat_map(|pixel| (f32::from(*pixel) / 16.0).to_le_bytes()).collect();
        let input = Activation::new(TensorSpec::new(DType::F32, &[1, 1, 8, 8]), elements)?.encode()?;
        let invocation = Invocation::new(site.fabric.new_id(), function.clone(), input);
        let at = site.fabric.now();
        let outcome = site.fabric.invoke_from(node, invocation).await;
        let took = site.fabric.now().since(at);
        let mut call = Call { at, took, revision: None, right: None, drifted };
        let logits = match outcome {
            Ok(outcome) => {
                call.revision = Some(outcome.receipt.revision);
                let bytes = Activation::decode(&outcome.payload)?.bytes()?;
                Ok(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
            }
            Err(error) => Err(error.to_string()),
        };
        if served.send(Served { call, picture, pixels, label, logits }).await.is_err() {
            return Ok(());
        }
        sleep(PAUSE.mul_f64(0.5 + random.unit())).await;
    }
    Ok(())
}

/// Takes calls down and tells the monitor of them.
async fn keep(
    site: Arc<Site>,
    shared: Arc<Shared>,
    mut served: mpsc::Receiver<Served>,
    changes: watch::Sender<usize>,
) -> Result<(), Failure> {
    let mut calls: Vec<Observation> = Vec::with_capacity(BATCH);
    while let Some(one) = served.recv().await {
        calls.extend(shared.log.lock().unwrap_or_else(PoisonError::into_inner).take(one, shared.stream.len()));
        if calls.len() == BATCH {
            let reference = shared.reference.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let watch = Watch { reference, calls: std::mem::take(&mut calls) };
            let readings: Vec<DriftReading> = site.call("monitor", Some(MODEL), &watch).await?;
            shared.log.lock().unwrap_or_else(PoisonError::into_inner).readings.extend(readings);
        }
        changes.send_modify(|calls| *calls += 1);
    }
    Ok(())
}

impl Log {
    /// Takes a call down, and gives what the monitor is told of it.
    fn take(&mut self, served: Served, stream: usize) -> Option<Observation> {
        let Served { mut call, picture, pixels, label, logits } = served;
        let logits = match logits {
            Ok(logits) => logits,
            Err(error) => {
                self.errors.push(error);
                self.calls.push(call);
                return None;
            }
        };
        let seen = observation(&pixels, &logits, Some(label));
        let right = seen.answer == u32::from(label);
        call.right = is_held_back(picture).then_some(right);
        if let Some(revision) = call.revision {
            let fared = self.fared.entry(revision).or_default();
            fared.calls += 1;
            fared.labelled += 1;
            fared.right += u64::from(right);
        }
        self.is_labelled.resize(stream, false);
        if call.drifted && !is_held_back(picture) && !std::mem::replace(&mut self.is_labelled[picture], true) {
            self.labelled.push(&pixels, label);
        }
        self.calls.push(call);
        Some(seen)
    }
}
