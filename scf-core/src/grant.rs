//! What a function may reach outside its isolate. Nothing by default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ByteSize, FunctionName, ModelName, Name};

/// What a function's manifest grants it. A function reaches nothing that is not listed here.
///
/// Isolates enforce it. What a component imports and was not granted is empty, stands still or answers with the
/// interface's own error when it is used, so that components made elsewhere can be deployed as they are; what is
/// granted and cannot be had is refused when the function is deployed.
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
    /// Secrets of the function's tenant that it may read, by the name the host keeps them under. Components read
    /// them as configuration, by the key `secret:NAME`.
    pub secrets: Vec<Name>,
    /// Folders that it may open. They are opened when the function is deployed.
    pub files: Vec<FileGrant>,
    /// Origins that it may send HTTP requests to.
    pub http: Vec<HttpGrant>,
    /// Buckets of the key-value store, of the tenant on whose behalf a call is made.
    pub buckets: Vec<BucketGrant>,
    /// Functions that it may call.
    pub functions: Vec<FunctionName>,
    /// Models that it may ask for inference.
    pub models: Vec<ModelName>,
    /// Attached devices that it holds while it runs.
    pub devices: Vec<DeviceGrant>,
    /// The fabric's object store; default nothing of it. Components have it as containers of `wasi:blobstore`.
    #[serde(default)]
    pub objects: ObjectGrant,
}

/// What a function may do with the fabric's object store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "whoever grants must know all that can be granted")]
pub enum ObjectGrant {
    /// Nothing.
    #[default]
    None,
    /// Read the objects whose names it knows, and the references of the tenant on whose behalf a call is made.
    Read,
    /// Also put objects, and change those references.
    Write,
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
    /// What may be in it where the function may write.
    #[serde(default)]
    pub quota: FolderQuota,
}

/// What may be in a folder, at all depths and whoever put it there, for a function to add to it.
///
/// Components are told that there is no space left where they would go over it; what is gone makes room again. Jailed
/// processes are not held to it: give them folders on a file system of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct FolderQuota {
    /// Length of all files together, holes included.
    pub size: ByteSize,
    /// Files, folders and links.
    pub entries: u32,
}

impl Default for FolderQuota {
    /// 64 MiB in 1000 entries.
    fn default() -> Self {
        Self { size: ByteSize::from_mib(64), entries: 1000 }
    }
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
    /// Whether the host may be, or resolve to, a loopback, link-local, private or other address that is not public.
    pub private: bool,
}

/// A bucket of the key-value store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "manifests write it as a literal")]
pub struct BucketGrant {
    /// Its name. Components that open the store with the empty name open `default`.
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
