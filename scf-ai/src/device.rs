//! Which device computes.

use std::fmt;

use scf_core::ModelError;
use serde::{Deserialize, Serialize};

/// A device that model blocks run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Device {
    /// The processor, one thread per inference.
    #[default]
    Cpu,
    /// An NVIDIA GPU by its ordinal; needs the feature `cuda`.
    Cuda(usize),
    /// An Apple GPU by its ordinal; needs the feature `metal`.
    Metal(usize),
}

impl Device {
    /// The kind as one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Metal(_) => "metal",
        }
    }

    /// The feature that computing on it takes, and the driver that it is reached through.
    pub(crate) const fn needs(self) -> (&'static str, &'static str) {
        match self {
            Self::Cpu => ("default", "no driver"),
            Self::Cuda(_) => ("cuda", "the driver libcuda.so.1"),
            Self::Metal(_) => ("metal", "the framework Metal"),
        }
    }

    /// Opens the device. Called once per model that is loaded.
    ///
    /// # Errors
    /// [`ModelError::Device`] when it is not built in or not there; there is no other device in its place.
    pub fn open(self) -> Result<candle_core::Device, ModelError> {
        match self {
            Self::Cpu => Ok(candle_core::Device::Cpu),
            Self::Cuda(ordinal) => cuda(ordinal),
            Self::Metal(ordinal) => metal(ordinal),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) | Self::Metal(ordinal) => write!(f, "{}:{ordinal}", self.as_str()),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(ordinal: usize) -> Result<candle_core::Device, ModelError> {
    candle_core::Device::new_cuda(ordinal).map_err(|error| {
        tracing::warn!(%error, ordinal, "no CUDA device");
        ModelError::Device { device: "cuda", hint: "no NVIDIA GPU of this ordinal, or its driver is missing" }
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda(_ordinal: usize) -> Result<candle_core::Device, ModelError> {
    Err(ModelError::Device { device: "cuda", hint: "enable the feature cuda" })
}

#[cfg(feature = "metal")]
fn metal(ordinal: usize) -> Result<candle_core::Device, ModelError> {
    candle_core::Device::new_metal(ordinal).map_err(|error| {
        tracing::warn!(%error, ordinal, "no Metal device");
        ModelError::Device { device: "metal", hint: "no Apple GPU of this ordinal" }
    })
}

#[cfg(not(feature = "metal"))]
fn metal(_ordinal: usize) -> Result<candle_core::Device, ModelError> {
    Err(ModelError::Device { device: "metal", hint: "enable the feature metal" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_is_not_built_in_is_an_error_that_names_the_feature() {
        let error = Device::Cuda(0).open().unwrap_err().to_string();
        assert_eq!(error, "device cuda is not available: enable the feature cuda");
    }

    #[test]
    fn prints_kind_and_ordinal() {
        assert_eq!([Device::Cpu, Device::Cuda(1)].map(|d| d.to_string()), ["cpu", "cuda:1"]);
    }
}
