//! The whole life: train, gate, serve, watch, train again, swap.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use scf::{
    ai::{
        DigitImages, DigitsCnn,
        lifecycle::{
            Artefact, ArtefactId, Canary, CanaryPolicy, CanaryStep, DriftReading, Fared, Gate, Network as _,
            Parameters, TrainingPlan, evaluate,
        },
    },
    core::{ByteSize, FunctionName, Name, NodeId, Revision, Timestamp, read_object},
};

use super::{
    drifted::Drift,
    functions::{Federate, MODEL, Process, Round, Validate, Validated},
    site::{ACCURATE, Disks, EDGES, Failure, SERVE, Site},
    traffic::{Log, Traffic, is_held_back},
};

/// How large the run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Rounds of federated training, each time.
    pub(crate) rounds: u32,
    /// Calls before the drift and after the swap.
    pub(crate) calm: usize,
    pub(crate) seed: u64,
    pub(crate) drift: Drift,
}

/// What happens, as it happens.
pub(crate) enum Event<'a> {
    /// A round of training ended.
    Round { version: u32, round: u32, of: u32, loss: f64, accuracy: f64 },
    /// Something else did.
    Step(&'a str),
}

/// What a model's training came to, round by round.
pub(crate) struct Learned {
    pub(crate) model: Artefact,
    /// Accuracy on the data that it was validated with.
    pub(crate) accuracy: Vec<f64>,
    pub(crate) examples: usize,
}

/// A change of the traffic: when, and which revision has which share.
pub(crate) type Split = (Timestamp, Vec<(Revision, u32)>);

/// All that happened.
pub(crate) struct Story {
    pub(crate) begun: Timestamp,
    pub(crate) learned: Vec<Learned>,
    /// Accuracy of the first version on what the second was validated with.
    pub(crate) first_on_drifted: f64,
    /// When the pictures changed, and the calls until then.
    pub(crate) drifted: (Timestamp, usize),
    pub(crate) alarm: DriftReading,
    pub(crate) splits: Vec<Split>,
    pub(crate) log: Log,
    /// What the model that serves at the end was made of.
    pub(crate) origins: Vec<Artefact>,
    pub(crate) serving: Revision,
}

/// The run under way.
struct Cycle<'a> {
    site: Arc<Site>,
    scale: Scale,
    /// The data of each edge, by version.
    shards: BTreeMap<NodeId, Vec<ArtefactId>>,
    tell: &'a mut dyn FnMut(Event<'_>),
}

/// Runs a model's life with `digits` on a site over `disks`.
pub(crate) async fn live(
    disks: &Disks,
    digits: DigitImages,
    scale: Scale,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Story, Failure> {
    let site = Arc::new(Site::new(disks).await?);
    let begun = site.fabric.now();
    let mut cycle = Cycle { site: Arc::clone(&site), scale, shards: BTreeMap::new(), tell };

    let raw = site.arrives("digits-raw", digits.to_bytes()).await?;
    let stream = cycle.process(raw, &[3, 2, 2, 3, 8]).await?;
    let first = cycle.learn(None).await?;
    let validated = cycle.validate(&first.model.id).await?;
    let serving = cycle.gated(&first.model.id, None).await?;
    site.release(&serving.id, true).await?;
    let old = Revision::new(1);
    let mut splits = vec![(site.fabric.now(), vec![(old, 1)])];

    let stream = DigitImages::read(&site.catalogue.content(&stream, ByteSize::from_mib(1)).await?)?;
    let labelled = (0..stream.len()).filter(|picture| !is_held_back(*picture)).count();
    let mut traffic = Traffic::start(&site, stream, validated.reference, scale.drift, scale.seed);
    (cycle.tell)(Event::Step("version 1 serves"));
    traffic.until(|log| (log.calls.len() >= scale.calm).then_some(())).await?;
    let drifted = (site.fabric.now(), traffic.log(|log| log.calls.len()));
    traffic.drift();
    (cycle.tell)(Event::Step("the pictures change"));
    let alarm = traffic.until(|log| log.alarm().copied()).await?;
    (cycle.tell)(Event::Step("drift is found; labels are waited for"));
    let arrived = traffic.until(|log| (log.labelled.len() >= labelled).then(|| log.labelled.clone())).await?;

    let raw = site.arrives("digits-raw", arrived.to_bytes()).await?;
    cycle.process(raw, &[3, 2, 2, 3, 0]).await?;
    let second = cycle.learn(Some(first.model.id.clone())).await?;
    let first_on_drifted = cycle.validate(&serving.id).await?.accuracy;
    let validated = cycle.validate(&second.model.id).await?;
    let candidate = cycle.gated(&second.model.id, Some(&serving.id)).await?;
    let new = site.release(&candidate.id, false).await?;
    cycle.swap(&mut traffic, old, new, &mut splits).await?;
    traffic.refer_to(validated.reference);
    (cycle.tell)(Event::Step("version 2 serves"));
    let so_far = traffic.log(|log| log.calls.len());
    traffic.until(|log| (log.calls.len() >= so_far + scale.calm).then_some(())).await?;

    let log = traffic.stop().await?;
    let origins = site.catalogue.lineage(&candidate).await?;
    site.fabric.shutdown().await?;
    let learned = vec![first, second];
    Ok(Story { begun, learned, first_on_drifted, drifted, alarm, splits, log, origins, serving: new })
}

impl Cycle<'_> {
    /// Divides data by `weights` between the edges, validation and the stream; gives the stream.
    async fn process(&mut self, raw: ArtefactId, weights: &[u32; 5]) -> Result<ArtefactId, Failure> {
        let parts = EDGES.into_iter().chain(["validation", "stream"]).zip(weights);
        let part =
            |(part, weight): (&str, &u32)| Ok((Name::new(&format!("{MODEL}-{part}"))?, part.to_owned(), *weight));
        let parts = parts.map(part).collect::<Result<Vec<_>, Failure>>()?;
        let input = Process { raw, seed: self.scale.seed, parts };
        let made: Vec<ArtefactId> = self.site.call("process", None, &input).await?;
        for (edge, data) in self.site.edges.iter().zip(self.site.consumed("federate").await?) {
            self.shards.entry(edge.clone()).or_default().push(data);
        }
        made.into_iter().next_back().ok_or_else(|| "process made nothing".into())
    }

    /// Trains a model on all edges, round by round.
    async fn learn(&mut self, parent: Option<ArtefactId>) -> Result<Learned, Failure> {
        let sites: Vec<_> = self.shards.iter().map(|(edge, data)| (edge.clone(), data.clone())).collect();
        let plan = TrainingPlan { epochs: 4, batch: 16, rate: 0.03, seed: self.scale.seed, ..TrainingPlan::default() };
        let version = if parent.is_some() { 2 } else { 1 };
        let job = Federate { sites, parent, rounds: self.scale.rounds, plan, batches: 40 };
        let validation = self.images(&self.site.validation().await?).await?.examples();
        let mut accuracies = Vec::new();
        loop {
            let round: Round = self.site.call("federate", Some(MODEL), &job).await?;
            let weights = read_object(&*self.site.objects, round.weights, ByteSize::from_mib(1)).await?;
            let weights = Parameters::read(&weights, &DigitsCnn.shapes())?;
            let measured = evaluate(&DigitsCnn, &weights, &validation)?;
            accuracies.push(measured.accuracy);
            let (of, loss, accuracy) = (job.rounds, round.loss, measured.accuracy);
            (self.tell)(Event::Round { version, round: round.round, of, loss, accuracy });
            if let Some(model) = round.model {
                let mut examples = 0;
                for data in job.sites.iter().flat_map(|(_, data)| data) {
                    examples += self.images(data).await?.len();
                }
                let model = self.site.catalogue.get(&model).await?;
                return Ok(Learned { model, accuracy: accuracies, examples });
            }
        }
    }

    async fn validate(&self, model: &ArtefactId) -> Result<Validated, Failure> {
        let data = self.site.validation().await?;
        self.site.call("validate", None, &Validate { model: model.clone(), data }).await
    }

    /// The model as it was measured, if it may serve.
    async fn gated(&self, model: &ArtefactId, serving: Option<&ArtefactId>) -> Result<Artefact, Failure> {
        let candidate = self.site.catalogue.get(model).await?;
        let serving = match serving {
            Some(serving) => Some(self.site.catalogue.get(serving).await?),
            None => None,
        };
        Gate::new(Name::new("accuracy")?, ACCURATE).check(&candidate, serving.as_ref())?;
        // What serves is what the function says that it consumes.
        let consumed = self.site.consumed(SERVE).await?;
        if consumed.first() != Some(&candidate.id) {
            return Err(format!("{SERVE} consumes another model than {}", candidate.id).into());
        }
        Ok(candidate)
    }

    /// Gives the new revision more and more of the traffic, and at last all.
    async fn swap(
        &mut self,
        traffic: &mut Traffic,
        old: Revision,
        new: Revision,
        splits: &mut Vec<Split>,
    ) -> Result<(), Failure> {
        let (function, fabric) = (FunctionName::new(SERVE)?, self.site.fabric.clone());
        let policy = CanaryPolicy::default().dwell(40, Duration::ZERO);
        let (mut canary, mut share) = Canary::begin(policy, fabric.now());
        loop {
            let percent = share.percent() as u32;
            let weights = vec![(old, 100 - percent), (new, percent)];
            fabric.traffic(&function, &weights)?;
            splits.push((fabric.now(), weights));
            (self.tell)(Event::Step(&format!("version 2 has {percent} % of the calls")));
            let failed = traffic.log(|log| log.errors.len() as u64);
            let from = traffic.log(|log| (log.fared(old), log.fared(new)));
            let step = traffic.until(|log| {
                let (before, mut now) = (since(log.fared(old), from.0), since(log.fared(new), from.1));
                // A call that failed does not say whom it was for: the new version is blamed.
                now.failed = log.errors.len() as u64 - failed;
                match canary.decide(now, before, fabric.now()) {
                    CanaryStep::Stay => None,
                    step => Some(step),
                }
            });
            let end = match step.await? {
                CanaryStep::Share(next) => {
                    share = next;
                    continue;
                }
                CanaryStep::RollBack(worse) => {
                    fabric.traffic(&function, &[(old, 1)])?;
                    return Err(format!("version 2 was taken back: {worse:?}").into());
                }
                _ => vec![(new, 1)],
            };
            fabric.traffic(&function, &end)?;
            splits.push((fabric.now(), end));
            fabric.retire(&function, old)?;
            return Ok(());
        }
    }

    async fn images(&self, data: &ArtefactId) -> Result<DigitImages, Failure> {
        Ok(DigitImages::read(&self.site.catalogue.content(data, ByteSize::from_mib(1)).await?)?)
    }
}

fn since(now: Fared, from: Fared) -> Fared {
    Fared {
        calls: now.calls - from.calls,
        failed: now.failed - from.failed,
        labelled: now.labelled - from.labelled,
        right: now.right - from.right,
    }
}
