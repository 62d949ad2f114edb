//! Functions as their developers describe them.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Accelerator, ByteSize, Context, DataInput, FunctionName, Grants, MediaType, MilliCpu, ModelName, Name, Node,
    NodeId, ObjectId, Objectives, Resources, TenantName, Tier, Zone,
};

/// What runs when a function is called. An [`IsolateFactory`](crate::IsolateFactory) accepts a kind of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Code {
    /// A WebAssembly component, as its binary or as a signed artefact that was compiled from it before.
    Component {
        /// The binary or the artefact.
        bytes: Bytes,
        /// The exported WIT function that is called: `resize`, `acme:image/codec@1.0.0#resize`; or the interface
        /// of a kind of trigger: `wasi:http/incoming-handler`.
        export: String,
    },
    /// The same out of the fabric's object store. The fabric reads it once, when the function is deployed, and gives
    /// factories the component; the revision does not need the object after that.
    Stored {
        /// The binary or the artefact.
        object: ObjectId,
        /// As of a component.
        export: String,
    },
    /// Rust code of the embedding program, by the name it was registered under.
    Native {
        /// The registered name.
        entry: Name,
    },
    /// A program that runs as a process of its own, jailed, by the name it was registered under.
    Process {
        /// The registered name.
        entry: Name,
    },
    /// The blocks of a model, by the name it was registered under; every call may split between nodes.
    Model {
        /// The registered name.
        model: ModelName,
    },
}

impl Code {
    /// The kind, for messages: `component`, `stored component`, `native`, `process` or `model`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Component { .. } => "component",
            Self::Stored { .. } => "stored component",
            Self::Native { .. } => "native",
            Self::Process { .. } => "process",
            Self::Model { .. } => "model",
        }
    }
}

/// What one invocation may use at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct Limits {
    /// Memory of the isolate.
    pub memory: ByteSize,
    /// CPU time of the isolate.
    pub cpu: Duration,
    /// Time from acceptance to reply, waiting included.
    pub wall: Duration,
    /// Size of the input and of the output, each.
    pub payload: ByteSize,
    /// Calls that run at the same time on one node; more wait.
    pub concurrency: u32,
    /// Calls that wait on one node; more are refused.
    pub queue: u32,
}

impl Default for Limits {
    /// 64 MiB (a bulk memory operation cannot be interrupted, so memory bounds it), 10 s of CPU,
    /// 30 s in all, payloads of 16 MiB, 16 calls at once, 256 waiting.
    fn default() -> Self {
        Self {
            memory: ByteSize::from_mib(64),
            cpu: Duration::from_secs(10),
            wall: Duration::from_secs(30),
            payload: ByteSize::from_mib(16),
            concurrency: 16,
            queue: 256,
        }
    }
}

/// What a node must offer before a function is placed there. All of it is hard, no node, no placement, but for
/// what [`Context`] says to be soft.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct Needs {
    /// Free processor and memory.
    pub resources: Resources,
    /// Tiers that will do; empty: every tier.
    pub tiers: Vec<Tier>,
    /// Nodes that will do; empty: every node.
    pub nodes: Vec<NodeId>,
    /// An accelerator that must be there.
    pub accelerator: Option<Accelerator>,
    /// The zone that data of the function must not leave.
    pub zone: Option<Zone>,
    /// Longest one-way delay from the caller.
    pub within: Option<Duration>,
    /// Units of the accelerator that a call holds; 0 counts as 1.
    pub accelerator_units: u16,
    /// Legal regions that will do; empty: every one, and nodes of none.
    pub regions: Vec<Zone>,
    /// What else the node must be able to do, by name; all of it.
    pub labels: Vec<Name>,
    /// What is asked of the node's surroundings.
    pub context: Context,
}

impl Needs {
    /// Whether `node` satisfies what does not change over time: node, tier, accelerator, zone, region, total
    /// resources.
    #[must_use]
    pub fn allow(&self, node: &Node) -> bool {
        (self.nodes.is_empty() || self.nodes.contains(&node.id))
            && (self.tiers.is_empty() || self.tiers.contains(&node.tier))
            && self.accelerator.is_none_or(|kind| node.units_of(kind) >= self.accelerator_units.max(1))
            && (self.regions.is_empty() || node.region.as_ref().is_some_and(|region| self.regions.contains(region)))
            && self.labels.iter().all(|label| node.labels.contains(label))
            && self.zone.as_ref().is_none_or(|zone| node.zone.as_ref() == Some(zone))
            && node.resources.fits(&self.resources)
    }
}

/// Whether an isolate serves one call or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reuse {
    /// A fresh isolate for every call; nothing is left of the call before.
    #[default]
    Fresh,
    /// Isolates are kept for later calls of the same function, memory and all. One whose call trapped, went over
    /// a limit or was given up is never used again.
    Warm {
        /// Isolates kept while nothing calls.
        max_idle: u32,
        /// Calls that one isolate serves.
        max_calls: u32,
        /// Age at which an isolate is replaced.
        max_age: Duration,
    },
    /// Of a stateful function: while the state of a key is local on a node, one isolate and one slot there are kept
    /// for the calls of this key, memory and all, so that it can keep what it made of the state. It is replaced
    /// whenever a call failed or something else than its own calls may have changed the state. Calls of keys whose
    /// state is remote have fresh isolates. Keys that are kept leave at least one slot to the others.
    Pinned,
}

/// Where a function's state lives between calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Statefulness {
    /// The function keeps nothing.
    #[default]
    Stateless,
    /// The function keeps state per key; calls of one key run one after the other.
    PerKey,
}

/// Whether a call of which it is not known that it did not run may be made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Repeat {
    /// Not at all: its effects would come twice. A call whose node stops answering ends with
    /// [`InvokeError::Interrupted`](crate::InvokeError::Interrupted); one that did not reach a node is sent to another.
    Never,
    /// Where its node stopped answering: a repeated call has the same id, by which effects on state happen once.
    #[default]
    AfterLoss,
    /// At any time, also while it runs elsewhere: it is idempotent. A call that takes longer than most is sent to a second
    /// node, within a budget, where it keeps no state and has no streams.
    Freely,
}

/// A function: what runs, on what conditions, within what limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Function {
    /// Its name in the fabric.
    pub name: FunctionName,
    /// What runs.
    pub code: Code,
    /// What it takes.
    pub input: MediaType,
    /// What it gives.
    pub output: MediaType,
    /// What a node must offer.
    pub needs: Needs,
    /// What one call may use.
    pub limits: Limits,
    /// Whether it keeps state.
    pub state: Statefulness,
    /// Whose it is; who is billed where the caller does not say.
    pub tenant: TenantName,
    /// What it may reach outside its isolate.
    pub grants: Grants,
    /// Whether its isolates serve one call or several.
    pub reuse: Reuse,
    /// What is promised about its calls.
    #[serde(default)]
    pub objectives: Objectives,
    /// Data that every call reads from where it lies.
    #[serde(default)]
    pub data: Vec<DataInput>,
    /// Whether its calls may be made again.
    #[serde(default)]
    pub repeat: Repeat,
}

impl Function {
    /// A function of `code` that takes and gives bytes of any kind, needs nothing special and keeps no state.
    #[must_use]
    pub fn new(name: FunctionName, code: Code) -> Self {
        Self {
            name,
            code,
            input: MediaType::OCTETS,
            output: MediaType::OCTETS,
            needs: Needs::default(),
            limits: Limits::default(),
            state: Statefulness::Stateless,
            tenant: TenantName::default(),
            grants: Grants::default(),
            reuse: Reuse::default(),
            objectives: Objectives::default(),
            data: Vec::new(),
            repeat: Repeat::default(),
        }
    }

    /// A WebAssembly component of which `export` is called.
    #[must_use]
    pub fn component(name: FunctionName, bytes: impl Into<Bytes>, export: impl Into<String>) -> Self {
        Self::new(name, Code::Component { bytes: bytes.into(), export: export.into() })
    }

    /// A WebAssembly component that is kept as `object` in the fabric's object store and of which `export` is called.
    #[must_use]
    pub fn stored(name: FunctionName, object: ObjectId, export: impl Into<String>) -> Self {
        Self::new(name, Code::Stored { object, export: export.into() })
    }

    /// Rust code registered as `entry`.
    #[must_use]
    pub fn native(name: FunctionName, entry: Name) -> Self {
        Self::new(name, Code::Native { entry })
    }

    /// A program registered as `entry` that runs as a process of its own.
    #[must_use]
    pub fn process(name: FunctionName, entry: Name) -> Self {
        Self::new(name, Code::Process { entry })
    }

    /// The blocks of the model registered as `model`; takes and gives [`MediaType::ACTIVATION`].
    #[must_use]
    pub fn model(name: FunctionName, model: ModelName) -> Self {
        Self::new(name, Code::Model { model }).takes(MediaType::ACTIVATION).gives(MediaType::ACTIVATION)
    }

    /// What it takes; default bytes of any kind.
    #[must_use]
    pub fn takes(mut self, media: MediaType) -> Self {
        self.input = media;
        self
    }

    /// What it gives; default bytes of any kind.
    #[must_use]
    pub fn gives(mut self, media: MediaType) -> Self {
        self.output = media;
        self
    }

    /// What a node must offer; default nothing.
    #[must_use]
    pub fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }

    /// Nodes that will do; default all.
    #[must_use]
    pub fn on(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        self.needs.nodes = nodes.into_iter().collect();
        self
    }

    /// Processor and memory that must be free where it is placed; default none.
    #[must_use]
    pub const fn reserves(mut self, cpu: MilliCpu, memory: ByteSize) -> Self {
        self.needs.resources = Resources { cpu, memory };
        self
    }

    /// What one call may use; default [`Limits::default`].
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whose it is; default the tenant `default`.
    #[must_use]
    pub fn tenant(mut self, tenant: TenantName) -> Self {
        self.tenant = tenant;
        self
    }

    /// What it may reach outside its isolate; default nothing.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// Whether its isolates serve one call or several; default one.
    #[must_use]
    pub const fn reuse(mut self, reuse: Reuse) -> Self {
        self.reuse = reuse;
        self
    }

    /// What is promised about its calls; default nothing.
    #[must_use]
    pub fn objectives(mut self, objectives: Objectives) -> Self {
        self.objectives = objectives;
        self
    }

    /// Adds data that every call reads, `size` of it from `node`; default none. It is placed where the data is soon
    /// there; [`Context::data`] bounds how long that may take.
    #[must_use]
    pub fn reads(mut self, node: NodeId, size: ByteSize) -> Self {
        self.data.push(DataInput { node, size });
        self
    }

    /// Whether its calls may be made again; default where their node stopped answering.
    #[must_use]
    pub const fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// Keeps state per key of the invocation; default no state.
    #[must_use]
    pub const fn stateful(mut self) -> Self {
        self.state = Statefulness::PerKey;
        self
    }
}
