//! Why a model gave no answer.

use thiserror::Error;

use crate::{BoxError, ModelName, ObjectError, ObjectId, TensorSpec};

/// Why a model gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A model without blocks.
    #[error("model {model} has no blocks")]
    NoBlocks {
        /// The model.
        model: ModelName,
    },
    /// No model of that name is hosted here.
    #[error("model {model} is not hosted here")]
    NotFound {
        /// The model.
        model: ModelName,
    },
    /// The model's server did not run the request: it could not be answered in time, or there is no room.
    #[error("model {model} refused the request before it ran")]
    Refused {
        /// The model.
        model: ModelName,
        /// Why, and what would be needed.
        #[source]
        source: BoxError,
    },
    /// A block was given another shape or element type than it takes.
    #[error("block {block} takes {takes}, not {given:?}")]
    Shape {
        /// The block.
        block: String,
        /// What it takes.
        takes: String,
        /// What it was given.
        given: TensorSpec,
    },
    /// A block was given more or fewer inputs than it takes.
    #[error("block {block} does not take {given} inputs")]
    Inputs {
        /// The block.
        block: String,
        /// How many it was given.
        given: usize,
    },
    /// A block of a graph takes what is not there, or gives what nobody takes.
    #[error("block {block} cannot be part of the network: {problem}")]
    Wiring {
        /// The block.
        block: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A run of a network cannot be cut there, or go on from there.
    #[error("a run of {model} cannot go on: {problem}")]
    Cut {
        /// The model.
        model: ModelName,
        /// What is wrong.
        problem: &'static str,
    },
    /// A block runs on other nodes and has no weights here.
    #[error("block {block} is not hosted here")]
    Absent {
        /// The block.
        block: String,
    },
    /// A block answered early with what cannot be the model's answer.
    #[error("block {block} exits with {problem}")]
    Exit {
        /// The block.
        block: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What a block kept of a sequence is not what it keeps, or it keeps as much as it can.
    #[error("memory of block {block}: {problem}")]
    Memory {
        /// The block.
        block: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A field of a model file's description is missing, or says what cannot be.
    #[error("model metadata {key}: {problem}")]
    Metadata {
        /// The field's name in the file.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The model file lacks a weight, or has it in another shape.
    #[error("weight {weight}: {problem}")]
    Weight {
        /// The weight's name in the file.
        weight: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The model file could not be read out of an object store: it is not there, is not what its name says, or is
    /// larger than it may be.
    #[error("model file {object} was not read")]
    Object {
        /// The file.
        object: ObjectId,
        /// Why.
        #[source]
        source: ObjectError,
    },
    /// The device is not there or not built in.
    #[error("device {device} is not available: {hint}")]
    Device {
        /// The device.
        device: &'static str,
        /// The feature to enable, or what to install.
        hint: &'static str,
    },
    /// The block or its device failed.
    #[error("block {block} failed")]
    Block {
        /// The block.
        block: String,
        /// Why.
        #[source]
        source: BoxError,
    },
}
