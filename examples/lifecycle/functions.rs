//! The functions of the life cycle: what they are given and do.

use std::{fmt::Display, sync::Arc};

use futures::future::{BoxFuture, try_join_all};
use rustix::time::{ClockId, clock_gettime};
use scf::{
    ai::{
        DigitImages, DigitsCnn,
        lifecycle::{
            ArtefactId, Catalogue, Checkpoint, Draft, DriftAction, DriftMetric, DriftMonitor, DriftPolicy,
            DriftReading, Lineage, Network as _, Observation, Parameters, Progress, Reference, Training, TrainingPlan,
            Update, evaluate, federated_average, predict,
        },
    },
    core::{
        ByteSize, Bytes, Callee, FunctionName, MediaType, Name, NodeId, ObjectId, ObjectStore, Payload, read_object,
    },
    runtime::{NativeCall, NativeError, NativeFactory},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::drifted::observation;

/// Largest model or data of this life cycle.
const LIMIT: ByteSize = ByteSize::from_mib(4);
/// The model, its training data and the rest, by name.
pub(crate) const MODEL: &str = "digits";

/// What the functions work on, and the functions.
#[derive(Clone, Debug)]
pub(crate) struct Functions {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) objects: Arc<dyn ObjectStore>,
}

/// Pictures are divided into parts by weight.
#[derive(Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) raw: ArtefactId,
    pub(crate) seed: u64,
    /// Name, tag `part` and weight of each.
    pub(crate) parts: Vec<(Name, String, u32)>,
}

/// One node trains a model with its data, so many batches at a time.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Train {
    /// The numbers from which it begins.
    pub(crate) base: ObjectId,
    pub(crate) data: Vec<ArtefactId>,
    pub(crate) plan: TrainingPlan,
    /// Batches of one call.
    pub(crate) batches: u64,
}

/// How far that is, and what came out once it is done.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Trained {
    pub(crate) progress: Progress,
    pub(crate) weights: Option<ObjectId>,
    pub(crate) examples: u64,
}

/// All nodes train, and the mean is made: one round for each call.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Federate {
    /// The nodes and the data that each has.
    pub(crate) sites: Vec<(NodeId, Vec<ArtefactId>)>,
    pub(crate) parent: Option<ArtefactId>,
    pub(crate) rounds: u32,
    pub(crate) plan: TrainingPlan,
    pub(crate) batches: u64,
}

/// How far the rounds are.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) round: u32,
    pub(crate) weights: ObjectId,
    /// Mean loss of the nodes' last batches.
    pub(crate) loss: f64,
    /// The model, after the last round.
    pub(crate) model: Option<ArtefactId>,
}

/// A model is measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Validate {
    pub(crate) model: ArtefactId,
    pub(crate) data: ArtefactId,
}

/// What came out, and what the model does where nothing drifts.
#[derive(Serialize, Deserialize)]
pub(crate) struct Validated {
    pub(crate) accuracy: f64,
    pub(crate) reference: ArtefactId,
}

/// Calls of the model that serves.
#[derive(Serialize, Deserialize)]
pub(crate) struct Watch {
    pub(crate) reference: ArtefactId,
    pub(crate) calls: Vec<Observation>,
}

type Answer<T> = Result<T, NativeError>;

/// A call of a function of the life cycle.
type Stage<I, O> = for<'a> fn(Functions, &'a NativeCall<'a>, I) -> BoxFuture<'a, Answer<O>>;

impl Functions {
    /// The functions by the names of their stages.
    pub(crate) fn natives(&self) -> Result<NativeFactory, Box<dyn std::error::Error + Send + Sync>> {
        let natives = NativeFactory::new();
        let natives = self.with(natives, "process", |f, call, input| Box::pin(f.process(call, input)))?;
        let natives = self.with(natives, "train", |f, call, input| Box::pin(f.train(call, input)))?;
        let natives = self.with(natives, "federate", |f, call, input| Box::pin(f.federate(call, input)))?;
        let natives = self.with(natives, "validate", |f, call, input| Box::pin(f.validate(call, input)))?;
        Ok(self.with(natives, "monitor", |f, call, input| Box::pin(f.monitor(call, input)))?)
    }

    fn with<I: DeserializeOwned + Send + 'static, O: Serialize + 'static>(
        &self,
        natives: NativeFactory,
        name: &str,
        run: Stage<I, O>,
    ) -> Result<NativeFactory, scf::core::InvalidName> {
        let functions = self.clone();
        natives.with(name, move |call, input| {
            let functions = functions.clone();
            Box::pin(async move {
                let input = serde_json::from_slice(&input.bytes).map_err(refused)?;
                let output = run(functions, call, input).await?;
                Ok(Payload::new(serde_json::to_vec(&output).map_err(refused)?))
            })
        })
    }

    async fn process(self, call: &NativeCall<'_>, Process { raw, seed, parts }: Process) -> Answer<Vec<ArtefactId>> {
        let images = self.images(&raw).await?;
        let weights: Vec<u32> = parts.iter().map(|(.., weight)| *weight).collect();
        let mut made = Vec::new();
        for ((name, part, _), images) in parts.into_iter().zip(images.split(seed, &weights)) {
            let lineage = Lineage::new().parent(raw.clone()).made_by(call.call().function.clone(), call.call().id);
            let draft = Draft::data(name).tag(tag("task")?, MODEL).tag(tag("part")?, part).lineage(lineage);
            made.push(self.catalogue.publish(draft, images.to_bytes()).await.map_err(refused)?.id);
        }
        Ok(made)
    }

    /// Goes on from the checkpoint in the node's state, or begins.
    async fn train(self, call: &NativeCall<'_>, train: Train) -> Answer<Trained> {
        let state = call.state()?;
        let job = serde_json::to_vec(&(&train.base, &train.data, &train.plan)).map_err(refused)?;
        let checkpoint = match state.get("job").await? {
            Some(known) if known == job => state.get("checkpoint").await?,
            _ => None,
        };
        let base = self.object(train.base).await?;
        let mut images = DigitImages::default();
        for data in &train.data {
            images.append(&self.images(data).await?);
        }
        let (checkpoint, progress, examples) = computed(call, move || {
            let examples = images.examples();
            let mut training = match checkpoint {
                Some(checkpoint) => Training::resume(&DigitsCnn, &examples, &Checkpoint::read(&checkpoint)?)?,
                None => {
                    let initial = Parameters::read(&base, &DigitsCnn.shapes())?;
                    Training::begin(&DigitsCnn, &examples, train.plan, &initial)?
                }
            };
            let progress = training.run(train.batches)?;
            Ok((training.checkpoint()?, progress, examples.len() as u64))
        })
        .await?;
        state.put("job", job.into());
        state.put("checkpoint", checkpoint.to_bytes());
        let weights = if progress.is_done() { Some(self.put(checkpoint.weights).await?) } else { None };
        Ok(Trained { progress, weights, examples })
    }

    /// The next round; after the last one the model is published.
    async fn federate(self, call: &NativeCall<'_>, job: Federate) -> Answer<Round> {
        let state = call.state()?;
        let known = serde_json::to_vec(&job).map_err(refused)?;
        let before: Option<Round> = match (state.get("job").await?, state.get("round").await?) {
            (Some(job), Some(round)) if job == known => serde_json::from_slice(&round).map_err(refused)?,
            _ => None,
        };
        let (round, base) = match (before, &job.parent) {
            (Some(done), _) if done.model.is_some() => return Ok(done),
            (Some(done), _) => (done.round + 1, done.weights),
            (None, Some(parent)) => (1, parent.content),
            (None, None) => {
                let initial = Parameters::random(&DigitsCnn.shapes(), job.plan.seed);
                (1, self.put(initial.to_bytes()).await?)
            }
        };
        let plan = TrainingPlan { seed: job.plan.seed.wrapping_add(u64::from(round) << 32), ..job.plan };
        let trained = self.all_train(call, &job, base, plan).await?;
        let loss = trained.iter().map(|one| one.progress.loss).sum::<f64>() / trained.len() as f64;
        let weights = self.averaged(call, &trained).await?;
        let object = self.put(weights.clone()).await?;
        let mut done = Round { round, weights: object, loss, model: None };
        if round >= job.rounds {
            let data = job.sites.iter().flat_map(|(_, data)| data);
            let mut lineage = Lineage::new().from_data(data).made_by(call.call().function.clone(), call.call().id);
            lineage.parent = job.parent;
            let draft = Draft::model(tag(MODEL)?).tag(tag("task")?, MODEL).metric(tag("training-loss")?, loss);
            let model = self.catalogue.publish(draft.lineage(lineage), weights).await.map_err(refused)?;
            done.model = Some(model.id);
        }
        state.put("job", known.into());
        state.put("round", serde_json::to_vec(&done).map_err(refused)?.into());
        Ok(done)
    }

    /// All nodes at the same time, in steps that a retry repeats in the same order.
    async fn all_train(
        &self,
        call: &NativeCall<'_>,
        job: &Federate,
        base: ObjectId,
        plan: TrainingPlan,
    ) -> Answer<Vec<Trained>> {
        let mut trained: Vec<Option<Trained>> = vec![None; job.sites.len()];
        while trained.iter().flatten().filter(|one| one.weights.is_some()).count() < job.sites.len() {
            let steps = job.sites.iter().zip(&mut trained).map(|((node, data), trained)| async move {
                if trained.as_ref().is_none_or(|one| one.weights.is_none()) {
                    let input = Train { base, data: data.clone(), plan, batches: job.batches };
                    let payload =
                        Payload::new(serde_json::to_vec(&input).map_err(refused)?).with_media(MediaType::JSON);
                    let function = FunctionName::new("train").map_err(refused)?;
                    let callee =
                        Callee { function, node: Some(node.clone()), key: Some(node.as_str().into()), payload };
                    let answer = call.invoke(callee).await?;
                    *trained = Some(serde_json::from_slice(&answer.bytes).map_err(refused)?);
                }
                Ok::<_, NativeError>(())
            });
            try_join_all(steps).await?;
        }
        Ok(trained.into_iter().flatten().collect())
    }

    async fn averaged(&self, call: &NativeCall<'_>, trained: &[Trained]) -> Answer<Bytes> {
        let mut files = Vec::new();
        for Trained { weights, examples, .. } in trained {
            let weights = weights.ok_or_else(|| refused("a node has not trained to the end"))?;
            files.push((self.object(weights).await?, *examples));
        }
        computed(call, move || {
            let read = |(file, examples): (Bytes, u64)| {
                Ok(Update { parameters: Parameters::read(&file, &DigitsCnn.shapes())?, examples })
            };
            let updates = files.into_iter().map(read).collect::<Result<Vec<_>, Failed>>()?;
            Ok(federated_average(&updates)?.to_bytes())
        })
        .await
    }

    async fn validate(self, call: &NativeCall<'_>, Validate { model, data }: Validate) -> Answer<Validated> {
        let (weights, images) = (self.object(model.content).await?, self.images(&data).await?);
        let (measured, reference) = computed(call, move || {
            let (weights, examples) = (Parameters::read(&weights, &DigitsCnn.shapes())?, images.examples());
            let measured = evaluate(&DigitsCnn, &weights, &examples)?;
            let logits = predict(&DigitsCnn, &weights, &examples)?;
            let seen = logits.iter().enumerate().filter_map(|(at, logits)| {
                let (pixels, label) = images.get(at)?;
                Some(observation(pixels, logits, Some(label)))
            });
            Ok((measured, serde_json::to_vec(&Reference::new(&seen.collect::<Vec<_>>())?)?))
        })
        .await?;
        let metrics = [(tag("accuracy")?, measured.accuracy), (tag("loss")?, measured.loss)];
        self.catalogue.measured(&model, metrics).await.map_err(refused)?;
        let lineage = Lineage::new().from_data([&data]).parent(model);
        let lineage = lineage.made_by(call.call().function.clone(), call.call().id);
        let draft = Draft::data(tag("digits-reference")?).tag(tag("part")?, "reference").lineage(lineage);
        let reference = self.catalogue.publish(draft, reference.into()).await.map_err(refused)?;
        Ok(Validated { accuracy: measured.accuracy, reference: reference.id })
    }

    /// Holds calls against the reference; begins anew when that is another one.
    async fn monitor(self, call: &NativeCall<'_>, Watch { reference, calls }: Watch) -> Answer<Vec<DriftReading>> {
        let state = call.state()?;
        let known: Option<(ArtefactId, DriftMonitor)> = match state.get("monitor").await? {
            Some(known) => Some(serde_json::from_slice(&known).map_err(refused)?),
            None => None,
        };
        let mut monitor = match known {
            Some((held_against, monitor)) if held_against == reference => monitor,
            known => {
                let content = self.catalogue.content(&reference, LIMIT).await.map_err(refused)?;
                let made: Reference = serde_json::from_slice(&content).map_err(refused)?;
                match known {
                    Some((_, mut monitor)) => {
                        monitor.rebase(made);
                        monitor
                    }
                    None => DriftMonitor::new(made, policies()),
                }
            }
        };
        let (now, mut readings) = (call.call().host.now(), Vec::new());
        for observation in calls {
            readings.extend(monitor.observe(observation, now).map_err(refused)?);
        }
        state.put("monitor", serde_json::to_vec(&(reference, monitor)).map_err(refused)?.into());
        Ok(readings)
    }

    async fn images(&self, data: &ArtefactId) -> Answer<DigitImages> {
        let content = self.catalogue.content(data, LIMIT).await.map_err(refused)?;
        DigitImages::read(&content).map_err(refused)
    }

    async fn object(&self, object: ObjectId) -> Answer<Bytes> {
        Ok(read_object(&*self.objects, object, LIMIT).await?)
    }

    async fn put(&self, content: Bytes) -> Answer<ObjectId> {
        Ok(self.objects.put_bytes(content).await?.object)
    }
}

/// When the model is trained anew, and when somebody is told.
pub(crate) fn policies() -> [DriftPolicy; 3] {
    [
        DriftPolicy::new(DriftMetric::Psi, 0.25, DriftAction::Retrain),
        DriftPolicy::new(DriftMetric::EmbeddingShift, 0.5, DriftAction::Alert),
        DriftPolicy::new(DriftMetric::AccuracyLoss, 0.15, DriftAction::Alert),
    ]
}

pub(crate) fn tag(text: &str) -> Answer<Name> {
    Name::new(text).map_err(refused)
}

fn refused(error: impl Display) -> NativeError {
    NativeError::refused(error.to_string())
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What `compute` gives, on a thread that may block; its CPU time is on the call's bill.
async fn computed<T: Send + 'static>(
    call: &NativeCall<'_>,
    compute: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Answer<T> {
    let timed = move || {
        let cpu = || {
            let time = clock_gettime(ClockId::ThreadCPUTime);
            std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        };
        let before = cpu();
        (compute(), cpu() - before)
    };
    let (result, cpu) = tokio::task::spawn_blocking(timed).await.map_err(refused)?;
    call.call().meter.add_cpu(cpu);
    call.call().host.pace(cpu).await;
    result.map_err(refused)
}
