//! What a function may reach outside its isolate. Nothing by default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{FunctionName, ModelName, Name};

/// What a function's manifest grants it. A function reaches nothing that is not listed here.
///
/// Isolates enforce it; what a function imports and was not granted is refused when it is deployed, where the
/// import alone says what it is for, and when it is used otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct Grants {
    /// The clocks; default stopped.
    pub clock: ClockGrant,
    /// Unpredictable random numbers. Without it they are a sequence that the invocation id determines.
    pub random: bool,
    /// Environment variables, as name and value.
    pub environment: Vec<(String, String)>,
    /// Configuration, as key and value.
    pub config: Vec<(String, String)>,
    /// Secrets that it may read, by the name the host keeps them under.
    pub secrets: Vec<Name>,
    /// Folders that it may open.
    pub files: Vec<FileGrant>,
    /// Origins that it may send HTTP requests to.
    pub http: Vec<HttpGrant>,
    /// Buckets of the key-value store.
    pub buckets: Vec<BucketGrant>,
    /// Functions that it may call.
    pub functions: Vec<FunctionName>,
    /// Models that it may ask for inference.
    pub models: Vec<ModelName>,
    /// Attached devices that it holds while it runs.
    pub devices: Vec<DeviceGrant>,
}

/// How well a function can measure time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ClockGrant {
    /// The clocks stand at the time at which the call began, so that nothing can be timed by them.
    #[default]
    Stopped,
    /// The clocks go in steps of a millisecond.
    Coarse,
    /// The clocks are the machine's.
    Precise,
}

/// A folder of the host that a function may open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "manifests write it as a literal")]
pub struct FileGrant {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where the function sees it.
    pub guest: String,
    /// Whether the function may also change what is in it.
    pub write: bool,
}

/// An origin that a function may send HTTP requests to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "manifests write it as a literal")]
pub struct HttpGrant {
    /// `http` or `https`.
    pub scheme: String,
    /// The host: a name, an address, or `*.` and a name for everything below it.
    pub host: String,
    /// The port; none: the scheme's own.
    pub port: Option<u16>,
    /// Whether the name may resolve to loopback, link-local, private or other addresses that are not public.
    pub private: bool,
}

/// A bucket of the key-value store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "manifests write it as a literal")]
pub struct BucketGrant {
    /// Its name.
    pub bucket: Name,
    /// Whether the function may also write.
    pub write: bool,
}

/// A device that a function holds while it runs: an accelerator, a sensor, an actuator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "manifests write it as a literal")]
pub struct DeviceGrant {
    /// The device's name on the node.
    pub device: Name,
    /// How many of its units; none: all of them, so that nobody else uses it at the same time.
    pub units: Option<u32>,
}
