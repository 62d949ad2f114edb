//! What can be wrong with accelerators.

use std::{sync::Arc, time::Duration};

use scf_core::{ByteSize, ModelError, ModelName};
use thiserror::Error;

use crate::device::Device;

/// Why an accelerator is not there or did not do what it was asked. Clones share the cause.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum AcceleratorError {
    /// The device, its driver, or what drives it, is not there.
    #[error("accelerator {device} is not there: it needs the feature {feature} and {driver}; {problem}")]
    Absent {
        /// The device.
        device: Device,
        /// The feature that the program which computes on it has to be built with.
        feature: &'static str,
        /// The driver that it is reached through.
        driver: &'static str,
        /// What was found instead.
        problem: String,
    },
    /// There is not enough memory that nobody else has.
    #[error("accelerator {device} has {free} of memory free of {total}, not {asked}")]
    Memory {
        /// The device.
        device: Device,
        /// What was asked for.
        asked: ByteSize,
        /// What is free.
        free: ByteSize,
        /// What there is.
        total: ByteSize,
    },
    /// The memory was set aside on another accelerator.
    #[error("the lease is of accelerator {found}, the model was to be loaded onto another one, {device}")]
    ForeignLease {
        /// The accelerator that was asked to load.
        device: Device,
        /// That which granted the lease.
        found: Device,
    },
    /// The model takes more memory than was set aside for it.
    #[error("model {model} takes {takes} on {device}, and {leased} was set aside for it")]
    OverLease {
        /// The model.
        model: ModelName,
        /// The accelerator.
        device: Device,
        /// What its weights take.
        takes: ByteSize,
        /// What was set aside.
        leased: ByteSize,
    },
    /// The model's file is not what it should be, or the accelerator does not run such networks.
    #[error("model {model} was not loaded onto {device}")]
    Load {
        /// The model.
        model: ModelName,
        /// The accelerator.
        device: Device,
        /// Why.
        #[source]
        source: Arc<ModelError>,
    },
    /// The worker's program could not be started, or is no worker.
    #[error("the worker {program} of {device} was not started: {problem}")]
    NotStarted {
        /// The accelerator.
        device: Device,
        /// The program.
        program: String,
        /// Why.
        problem: String,
    },
    /// The worker computes on something else than it was started for.
    #[error("the worker of {device} computes on {found}")]
    OtherDevice {
        /// What was asked for.
        device: Device,
        /// What it computes on.
        found: Device,
    },
    /// The worker's process ended.
    #[error("the worker of {device} ended while it was asked to {asked}: {how}")]
    Died {
        /// The accelerator.
        device: Device,
        /// What it was doing.
        asked: &'static str,
        /// How it ended, and the last that it said.
        how: String,
    },
    /// The worker did not answer in time; it was killed.
    #[error("the worker of {device} did not {asked} within {within:?} and was ended")]
    Late {
        /// The accelerator.
        device: Device,
        /// What it was doing.
        asked: &'static str,
        /// How long it was waited for.
        within: Duration,
    },
    /// The worker said what cannot be; it was killed.
    #[error("the worker of {device} was ended: asked to {asked}, it answered with a {field} that cannot be")]
    Garbage {
        /// The accelerator.
        device: Device,
        /// What it was doing.
        asked: &'static str,
        /// The part of its answer.
        field: &'static str,
    },
    /// The worker ended several times in a row, and is left alone for a while.
    #[error("the worker of {device} ended {deaths} times in a row and is not started again for {rest:?}")]
    Resting {
        /// The accelerator.
        device: Device,
        /// How often it ended since it last did what it was asked.
        deaths: u32,
        /// How long it is left alone.
        rest: Duration,
    },
    /// A model that was loaded could not be loaded again after the worker had ended. Its lease is given back.
    #[error("model {model} is gone from {device}: load it again")]
    Lost {
        /// The model.
        model: ModelName,
        /// The accelerator.
        device: Device,
        /// Why it could not be loaded again.
        #[source]
        source: Arc<Self>,
    },
    /// A tensor is larger than the memory that is shared with the worker has room for.
    #[error("a tensor of {needs} does not fit into the {room} that the worker of {device} has for one way: share more")]
    TooLarge {
        /// The accelerator.
        device: Device,
        /// The tensor's size.
        needs: ByteSize,
        /// What one way has room for.
        room: ByteSize,
    },
    /// The worker ran the blocks and one of them reported an error.
    #[error("{problem}")]
    Block {
        /// What it reported.
        problem: String,
    },
    /// The system did not give this process what it needs to talk to a worker.
    #[error("talking to the worker of {device}: {what}")]
    System {
        /// The accelerator.
        device: Device,
        /// What was to be done.
        what: &'static str,
        /// Why it could not be.
        #[source]
        source: Arc<std::io::Error>,
    },
}

impl AcceleratorError {
    /// `device` is not there: `problem`.
    pub(super) fn absent(device: Device, problem: impl Into<String>) -> Self {
        let (feature, driver) = device.needs();
        Self::Absent { device, feature, driver, problem: problem.into() }
    }
}
