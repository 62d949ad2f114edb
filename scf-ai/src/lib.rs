//! Infers: model blocks, split planning and split execution.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod codec;
mod device;
mod efficientnet;
mod kernel;
mod tensor;
mod weights;

pub use codec::{CodecError, codec_cost, from_wire, to_wire};
pub use device::Device;
pub use efficientnet::efficientnet_lite0;
