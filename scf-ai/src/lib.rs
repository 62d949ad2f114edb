//! Infers: model blocks, split planning and split execution.
//!
//! A network is a [`BlockGraph`](scf_core::BlockGraph) of coarse [`ModelBlock`](scf_core::ModelBlock)s. Deployed
//! as a function through [`ModelFactory`], each call runs the blocks that its [`SplitPlanner`](scf_core::SplitPlanner)
//! puts on this node and calls itself on the next with the activation between them. Where to cut is decided per
//! call out of measured block times, measured links and the size of what would travel.
//!
//! | module | what it has |
//! |---|---|
//! | `efficientnet` | [`EfficientNetLite`]: image classification in three variants, from memory or out of an object store |
//! | `minilm` | [`MiniLm`]: sentence embeddings in 8 blocks; [`SentenceTokenizer`]: texts as its input |
//! | `llama` | [`Llama`]: language models out of GGUF files; [`Generation`]: tokens as they come, stored as session state |
//! | `vad` | [`SileroVad`]: is somebody speaking? [`SpeechDetector`]: chunk by chunk, stored as session state |
//! | `digits` | [`DigitsCnn`]: digits of 8x8 pixels, small enough to be trained here; [`DigitImages`] |
//! | [`lifecycle`] | models and data as artefacts; training, gates, drift, canaries: the life of a model |
//! | `device` | [`Device`]: CPU, CUDA, Metal |
//! | [`accelerator`] | [`Accelerator`](accelerator::Accelerator): memory granted before a load, models here or in a worker process |
//! | `codec` | [`to_wire`], [`from_wire`], [`codec_cost`]: activations on the wire, exact or in eight bits |
//! | `wire` | runs on the wire: what is done and every tensor still taken, [`run_to_wire`], [`run_from_wire`]; [`Agreement`]: which forms lose nothing |
//! | `split` | [`LatencyOptimal`], [`FixedSplit`]: planners of chains; [`MinCutSplit`] of networks that are none; [`BudgetOptimal`]: of both, within joules or money |
//! | `profile` | [`BlockProfiler`]: what blocks took where |
//! | `function` | [`ModelFactory`], [`SplitModel`]: models as functions; [`SplitTrace`]: which split a call used |
//! | `inference` | [`ModelHost`]: whole models by name |
//! | `registry` | [`ModelServer`]: queries answered by the variant that fits, out of [`ModelRegistry`], [`ModelCache`], [`Batcher`] |
//! | `kernel` | convolutions, channels last, and transformer layers for AVX-512, AVX2 and everything else |
//!
//! | feature | what it adds |
//! |---|---|
//! | `cuda` | [`Device::Cuda`]; needs nvcc when built: `scf-ai/with-cuda` runs cargo with one |
//! | `jpeg` | `behind_jpeg`, `jpeg_input`: photos as the files that they are, in front of a network |
//! | `metal` | [`Device::Metal`]; macOS only |
//!
//! A device that is configured and not there is an error that says what is missing; nothing falls back to the CPU.
//! [`candle_core::Device`] is part of this API, as what [`Device::open`] gives.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

pub mod accelerator;
mod causes;
mod codec;
mod device;
mod digits;
mod efficientnet;
#[cfg(test)]
#[path = "../../examples/assets/fetched.rs"]
mod fetched;
mod fixed;
mod function;
mod gguf;
mod header;
mod inference;
#[cfg(feature = "jpeg")]
mod jpeg;
mod kernel;
pub mod lifecycle;
mod llama;
mod minilm;
mod profile;
mod registry;
mod split;
mod tensor;
mod vad;
mod weights;
mod wire;

pub use candle_core;
pub use codec::{CodecError, codec_cost, from_wire, to_wire};
pub use device::Device;
pub use digits::{DigitImages, DigitsCnn, DigitsError};
pub use efficientnet::{EfficientNetLite, efficientnet_lite0, efficientnet_lite0_from};
pub use function::{ModelFactory, SplitModel, SplitPreview, SplitTrace, Stretch};
pub use inference::ModelHost;
#[cfg(feature = "jpeg")]
pub use jpeg::{behind_jpeg, jpeg_input};
pub use llama::{Generation, GenerationError, Llama, Role, Sampling, TextDecoder, TextTokenizer};
pub use minilm::{MiniLm, SentenceTokenizer, TokenizerError};
pub use profile::BlockProfiler;
pub use registry::{
    Admission, Batch, BatchError, BatchLimits, BatchQueue, BatchTimes, Batched, Batcher, CacheError, Executor,
    ModelCache, ModelRegistry, ModelServer, NoVariant, Query, Refused, Resident, Selection, ServeError, Variant,
};
pub use split::{
    BudgetOptimal, DagBlock, DagCut, DagProblem, FixedSplit, LatencyOptimal, MinCut, MinCutSplit, WithinBudget,
};
pub use vad::{Heard, SileroVad, SpeechDetector, SpeechLimits};
pub use wire::{Agreement, run_from_wire, run_to_wire, through_wire};
