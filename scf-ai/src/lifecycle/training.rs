//! Training that can stop after any batch and go on elsewhere.

use std::fmt::Debug;

use bytes::Bytes;
use candle_core::{D, Device, Result as Candle, Tensor};
use scf_core::ModelError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::parameters::{Parameters, Variables, shuffled};

/// A network that is trained: its numbers, and what it makes of inputs with them.
///
/// [`DigitsCnn`](crate::DigitsCnn) is one; yours is another.
pub trait Network: Debug + Send + Sync + 'static {
    /// The names and shapes of its numbers.
    fn shapes(&self) -> Vec<(String, Vec<usize>)>;

    /// The logits `[n, classes]` of `inputs` `[n, …]`. Called for every batch; gradients are taken of what it does, so
    /// it uses operations of candle that have one.
    ///
    /// # Errors
    /// What candle reports.
    fn logits(&self, weights: &Variables, inputs: &Tensor) -> Candle<Tensor>;
}

const _: fn(&dyn Network) = |_| {};

/// Inputs of one shape, with a class for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    shape: Vec<usize>,
    inputs: Vec<f32>,
    labels: Vec<u32>,
}

impl Examples {
    /// Inputs of `shape` one after the other, and their classes.
    ///
    /// # Errors
    /// [`TrainingError::Examples`] when there are not as many inputs as labels.
    pub fn new(shape: Vec<usize>, inputs: Vec<f32>, labels: Vec<u32>) -> Result<Self, TrainingError> {
        let each: usize = shape.iter().product();
        if each.checked_mul(labels.len()) != Some(inputs.len()) {
            return Err(TrainingError::Examples { numbers: inputs.len(), each, labels: labels.len() });
        }
        Ok(Self { shape, inputs, labels })
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The numbers of input `at`.
    #[must_use]
    pub fn input(&self, at: usize) -> &[f32] {
        let each: usize = self.shape.iter().product();
        &self.inputs[at * each..][..each]
    }

    /// The classes.
    #[must_use]
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Those of `places` as tensors: the inputs and the classes.
    fn tensors(&self, places: &[usize]) -> Candle<(Tensor, Tensor)> {
        let inputs: Vec<f32> = places.iter().flat_map(|at| self.input(*at)).copied().collect();
        let labels: Vec<u32> = places.iter().map(|at| self.labels[*at]).collect();
        let shape: Vec<usize> = [places.len()].iter().chain(&self.shape).copied().collect();
        Ok((Tensor::from_vec(inputs, shape, &Device::Cpu)?, Tensor::new(labels, &Device::Cpu)?))
    }
}

/// How long and how fast a network is trained: stochastic gradient descent with momentum (Sutskever et al., "On the
/// importance of initialization and momentum in deep learning", ICML 2013, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct TrainingPlan {
    /// Passes over the examples.
    pub epochs: u32,
    /// Examples of a batch.
    pub batch: u32,
    /// Learning rate.
    pub rate: f64,
    /// Momentum, 0 to below 1.
    pub momentum: f64,
    /// Determines the order of the examples.
    pub seed: u64,
}

impl Default for TrainingPlan {
    /// One pass in batches of 32 at a rate of 0.05 with momentum 0.9.
    fn default() -> Self {
        Self { epochs: 1, batch: 32, rate: 0.05, momentum: 0.9, seed: 0 }
    }
}

/// How far a training is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// Batches that were done.
    pub done: u64,
    /// Batches that there are.
    pub of: u64,
    /// Mean loss of the last batch; 0 before the first.
    pub loss: f64,
}

impl Progress {
    /// Whether nothing is left to do.
    #[must_use]
    pub const fn is_done(self) -> bool {
        self.done >= self.of
    }
}

/// A training that stopped after some batch, with all that it needs to go on: numbers, momentum, place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checkpoint {
    /// How it trains.
    pub plan: TrainingPlan,
    /// How far it is.
    pub progress: Progress,
    /// The numbers, as a safetensors file.
    pub weights: Bytes,
    /// The momentum, as a safetensors file.
    pub velocity: Bytes,
}

impl Checkpoint {
    /// The checkpoint as bytes, for a function's state or an object.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "plain numbers and bytes can be written")]
    pub fn to_bytes(&self) -> Bytes {
        postcard::to_allocvec(self).expect("plain numbers and bytes can be written").into()
    }

    /// Reads what [`Checkpoint::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`TrainingError::Damaged`].
    pub fn read(bytes: &[u8]) -> Result<Self, TrainingError> {
        postcard::from_bytes(bytes).map_err(|source| TrainingError::Damaged { source })
    }
}

/// A training under way. What becomes of it is the same whether it runs at one go or stops at checkpoints.
#[derive(Debug)]
pub struct Training<'a> {
    network: &'a dyn Network,
    examples: &'a Examples,
    plan: TrainingPlan,
    progress: Progress,
    weights: Variables,
    velocity: Variables,
}

impl<'a> Training<'a> {
    /// Begins to train `network` from `initial` numbers with `examples`.
    ///
    /// # Errors
    /// [`TrainingError`] when there is nothing to train with, or the plan cannot be followed.
    pub fn begin(
        network: &'a dyn Network,
        examples: &'a Examples,
        plan: TrainingPlan,
        initial: &Parameters,
    ) -> Result<Self, TrainingError> {
        let progress = Progress { of: batches(examples, plan)?, ..Progress::default() };
        let (weights, velocity) = (Variables::of_parameters(initial)?, Variables::of_parameters(&initial.zeros())?);
        Ok(Self { network, examples, plan, progress, weights, velocity })
    }

    /// Goes on where `checkpoint` stopped, with the same network and examples.
    ///
    /// # Errors
    /// [`TrainingError`]; [`TrainingError::Checkpoint`] when it is of other examples.
    pub fn resume(
        network: &'a dyn Network,
        examples: &'a Examples,
        checkpoint: &Checkpoint,
    ) -> Result<Self, TrainingError> {
        let Checkpoint { plan, progress, weights, velocity } = checkpoint;
        let of = batches(examples, *plan)?;
        if of != progress.of {
            return Err(TrainingError::Checkpoint { had: progress.of, has: of });
        }
        let shapes = network.shapes();
        let weights = Variables::of_parameters(&Parameters::read(weights, &shapes)?)?;
        let velocity = Variables::of_parameters(&Parameters::read(velocity, &shapes)?)?;
        Ok(Self { network, examples, plan: *plan, progress: *progress, weights, velocity })
    }

    /// Trains with the next `batches` batches, or as many as are left. Blocks.
    ///
    /// # Errors
    /// [`TrainingError::Diverged`] when the loss is no finite number; otherwise what candle reports.
    pub fn run(&mut self, batches: u64) -> Result<Progress, TrainingError> {
        let each = u64::from(self.plan.batch);
        let per_epoch = (self.examples.len() as u64).div_ceil(each);
        let (mut epoch, mut order) = (u64::MAX, Vec::new());
        for _ in 0..batches.min(self.progress.of - self.progress.done) {
            let done = self.progress.done;
            if done / per_epoch != epoch {
                epoch = done / per_epoch;
                order = shuffled(self.examples.len(), self.plan.seed.wrapping_add(epoch));
            }
            let from = (done % per_epoch * each) as usize;
            let to = (from + each as usize).min(order.len());
            let loss = self.step(&order[from..to])?;
            if !loss.is_finite() {
                return Err(TrainingError::Diverged { batch: done, rate: self.plan.rate });
            }
            self.progress = Progress { done: done + 1, loss, ..self.progress };
        }
        Ok(self.progress)
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// What it needs to go on elsewhere.
    ///
    /// # Errors
    /// What candle reports.
    pub fn checkpoint(&self) -> Result<Checkpoint, TrainingError> {
        let (weights, velocity) = (self.weights.parameters()?.to_bytes(), self.velocity.parameters()?.to_bytes());
        Ok(Checkpoint { plan: self.plan, progress: self.progress, weights, velocity })
    }

    /// The numbers as they are now.
    ///
    /// # Errors
    /// What candle reports.
    pub fn parameters(&self) -> Result<Parameters, TrainingError> {
        Ok(self.weights.parameters()?)
    }

    fn step(&self, places: &[usize]) -> Candle<f64> {
        let (inputs, labels) = self.examples.tensors(places)?;
        let loss = cross_entropy(&self.network.logits(&self.weights, &inputs)?, &labels)?;
        let gradients = loss.backward()?;
        for (name, weight) in &self.weights.vars {
            let Some(gradient) = gradients.get(weight) else { continue };
            let velocity = &self.velocity.vars[name];
            let next = ((velocity.as_tensor() * self.plan.momentum)? + gradient)?;
            weight.set(&(weight.as_tensor() - (&next * self.plan.rate)?)?)?;
            velocity.set(&next)?;
        }
        loss.to_scalar::<f32>().map(f64::from)
    }
}

/// How good numbers are on examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// Share of the examples whose class has the highest logit.
    pub accuracy: f64,
    /// Mean cross entropy.
    pub loss: f64,
}

/// The logits that `network` with `weights` gives for each of `examples`. Blocks.
///
/// # Errors
/// [`TrainingError`].
pub fn predict(
    network: &dyn Network,
    weights: &Parameters,
    examples: &Examples,
) -> Result<Vec<Vec<f32>>, TrainingError> {
    Ok(all_logits(network, weights, examples)?.0.to_vec2()?)
}

/// Measures `network` with `weights` on `examples`. Blocks.
///
/// # Errors
/// [`TrainingError`].
pub fn evaluate(network: &dyn Network, weights: &Parameters, examples: &Examples) -> Result<Evaluation, TrainingError> {
    let (logits, labels) = all_logits(network, weights, examples)?;
    let loss = f64::from(cross_entropy(&logits, &labels)?.to_scalar::<f32>()?);
    let best = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let right = best.iter().zip(&examples.labels).filter(|(best, label)| best == label).count();
    Ok(Evaluation { accuracy: right as f64 / examples.len() as f64, loss })
}

/// The logits of all examples, and their classes.
fn all_logits(
    network: &dyn Network,
    weights: &Parameters,
    examples: &Examples,
) -> Result<(Tensor, Tensor), TrainingError> {
    if examples.is_empty() {
        return Err(TrainingError::NoExamples);
    }
    let places: Vec<usize> = (0..examples.len()).collect();
    let (inputs, labels) = examples.tensors(&places)?;
    Ok((network.logits(&Variables::of_parameters(weights)?, &inputs)?, labels))
}

/// Mean cross entropy of `logits` `[n, classes]` against `labels` `[n]`.
fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Candle<Tensor> {
    // The maximum goes out of the sum of exponentials, which overflows otherwise.
    let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?;
    let all = shifted.exp()?.sum_keepdim(1)?.log()?;
    let own = shifted.gather(&labels.unsqueeze(1)?, 1)?;
    (all - own)?.mean_all()
}

fn batches(examples: &Examples, plan: TrainingPlan) -> Result<u64, TrainingError> {
    if examples.is_empty() {
        return Err(TrainingError::NoExamples);
    }
    let problem = match plan {
        TrainingPlan { epochs: 0, .. } => Some("epochs must be at least 1"),
        TrainingPlan { batch: 0, .. } => Some("batch must be at least 1"),
        TrainingPlan { rate, .. } if !(rate > 0.0 && rate.is_finite()) => Some("rate must be a number above 0"),
        TrainingPlan { momentum, .. } if !(0.0..1.0).contains(&momentum) => Some("momentum must be from 0 to below 1"),
        _ => None,
    };
    match problem {
        Some(problem) => Err(TrainingError::Plan { problem }),
        None => Ok((examples.len() as u64).div_ceil(u64::from(plan.batch)) * u64::from(plan.epochs)),
    }
}

/// Why a network was not trained.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// There are none.
    #[error("there are no examples")]
    NoExamples,
    /// Inputs and labels do not belong together.
    #[error("{numbers} numbers are not {labels} inputs of {each} numbers each")]
    Examples {
        /// Numbers of all inputs.
        numbers: usize,
        /// Numbers that an input has.
        each: usize,
        /// How many labels there are.
        labels: usize,
    },
    /// The plan cannot be followed.
    #[error("training plan: {problem}")]
    Plan {
        /// The field and what it must be.
        problem: &'static str,
    },
    /// The checkpoint is of other examples.
    #[error("the checkpoint is of {had} batches, these examples make {has}")]
    Checkpoint {
        /// Batches in all of the training that was stopped.
        had: u64,
        /// Batches in all with the examples that were given.
        has: u64,
    },
    /// The checkpoint cannot be read.
    #[error("the checkpoint is damaged or none")]
    Damaged {
        /// What is wrong with it.
        #[source]
        source: postcard::Error,
    },
    /// The loss is no finite number any more.
    #[error("the training diverged in batch {batch} at a rate of {rate}: lower the rate")]
    Diverged {
        /// The batch, counted from 0.
        batch: u64,
        /// The learning rate.
        rate: f64,
    },
    /// The numbers are not the network's.
    #[error("the network's weights")]
    Weights(#[from] ModelError),
    /// The network or its device failed.
    #[error("the network failed")]
    Network(#[from] candle_core::Error),
}
