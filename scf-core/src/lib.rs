//! Vocabulary and contracts of the Serverless Computing Fabric.
//!
//! What things are called ([`Function`], [`Invocation`], [`Node`], [`Path`], [`Workflow`], [`Activation`],
//! units) and what parts promise each other:
//!
//! | contract | who implements it | who calls it |
//! |---|---|---|
//! | [`Scheduler`] | scf-sched, you | the router, once per placement |
//! | [`Autoscaler`] | scf-sched, you | the functions controller |
//! | [`SloPolicy`] | scf-sched, you | the router, and the fabric by time |
//! | [`IsolateFactory`], [`Prepared`], [`Isolate`] | scf-runtime, scf-ai, you | the functions controller |
//! | [`Host`] | scf-runtime | isolates |
//! | [`InvocationQueue`] | scf-state, you | the fabric, which accepts into it and drains it |
//! | [`StateBackend`] | scf-state, you | [`StateStore`]s and state servers |
//! | [`StateStore`], [`StateSession`], [`PhasePolicy`] | scf-state, you | the functions controller, functions |
//! | [`ObjectStore`] | scf-state, you | whoever keeps models, images and snapshots |
//! | [`BlobStore`] | scf-state, you | the fabric, which pulls code of other processes out of it |
//! | [`KeyValue`], [`Secrets`] | scf-runtime, you | the services that guests are given |
//! | [`ModelBlock`], [`BlockRunner`], [`SplitPlanner`], [`Inference`] | scf-ai, you | the split runtime |
//! | [`Transport`], [`Handler`] | scf-runtime, you | routers, state servers |
//! | [`Clock`], [`Disk`] | scf-runtime, scf-state, you | whoever waits, stamps or stores |
//!
//! Depend on this crate alone to implement a part. It never spawns, sleeps, reads a clock or opens anything.
//! With the feature `conformance`, the module of that name has the suites that an implementation must pass.
//!
//! [`bytes::Bytes`] and [`smallvec::SmallVec`] are part of this API.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod absent;
mod activation;
mod attachment;
mod autoscaler;
mod block_set;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
mod cost;
mod dag;
mod disk;
mod error;
mod function;
mod grant;
mod id;
mod inference;
mod invocation;
mod invoke_error;
mod isolate;
mod item_stream;
mod keyvalue;
mod meter;
mod model;
mod model_error;
mod network;
mod node;
mod object;
mod payload;
mod phase;
mod queue;
mod revision;
mod run_slo;
mod runner;
mod scheduler;
mod secret;
mod slo;
mod slo_policy;
mod spending;
mod split;
mod state;
mod stream;
mod tenant;
mod topology;
mod trace;
mod trace_state;
mod transport;
mod units;
mod value;
mod verdict;
mod workflow;

pub use activation::{
    Activation, ActivationError, DType, DeviceTensor, Elements, MAX_RANK, Quantisation, Shape, TensorSpec,
};
pub use attachment::{Attached, Attachment};
pub use autoscaler::{Autoscaler, Load};
pub use block_set::BlockSet;
pub use bytes::Bytes;
pub use clock::{Clock, ManualClock, Timestamp, WallTime};
pub use context::{Area, Battery, BatteryNeed, Context, GeoPoint, LinkNeed, Strength, Wanted};
pub use cost::{Carbon, Energy, Money, Share, Spent};
pub use dag::{DagNode, Frontier};
pub use disk::Disk;
pub use error::BoxError;
pub use function::{Code, Function, Limits, Needs, Repeat, Reuse, Statefulness};
pub use grant::{BucketGrant, ClockGrant, DeviceGrant, FileGrant, FolderQuota, Grants, HttpGrant, ObjectGrant};
pub use id::{FunctionName, InvalidName, InvocationId, MAX_NAME, ModelName, Name, NodeId, TenantName, Zone};
pub use inference::{Inference, Inferred, ModelInfo};
pub use invocation::{Invocation, Outcome, Receipt, Span, Usage};
pub use invoke_error::{InvokeError, LimitKind};
pub use isolate::{Begun, Call, Callee, Host, Isolate, IsolateFactory, PrepareError, Prepared, Reply};
pub use item_stream::{ItemReceiver, ItemSender, StreamError, item_cost, item_stream};
pub use keyvalue::{Bucket, KeyValue, KeyValueError, KeyValueLimits};
pub use meter::Meter;
pub use model::{BlockCost, BlockGraph, BlockMemory, Flow, ModelBlock, WireForm};
pub use model_error::ModelError;
pub use network::{NetworkPlan, NetworkProblem};
pub use node::{Accelerator, AcceleratorUnits, Device, Node, Radio, Rates, Resources, Tier};
pub use object::{
    BlobStore, ChunkId, Collected, GrantedObjects, InvalidDigest, MAX_REFERENCE, ObjectChunk, ObjectError, ObjectId,
    ObjectManifest, ObjectReader, ObjectStat, ObjectStore, ObjectUsage, ObjectWriter, Stored, read_object,
};
pub use payload::{MediaType, Payload};
pub use phase::{NodeCondition, Phase, PhaseChoice, PhaseLoad, PhasePolicy, PhaseRule, PhaseStats, ServiceTimes};
pub use queue::{
    Acceptance, CallState, CallStatus, Cause, DeadLetter, Delivery, Due, Handover, Hold, InvocationQueue, Lease,
    LeaseAsk, OfferAsk, QueueError, QueueLoad, QueuedCall, RetryPolicy, Room, Settle, TimerName,
};
pub use revision::{Qualifier, Revision};
pub use run_slo::{DueStep, ObservedRun, StepShare, StepSites};
pub use runner::{BlockRunner, Ran};
pub use scheduler::{
    ClusterView, DataInput, Health, NodeStatus, Placement, PlacementRequest, Refusal, ScheduleError, Scheduler,
};
pub use secret::{Secret, Secrets, SecretsError};
pub use slo::{Objectives, Slo, SloReport};
pub use slo_policy::{Expectation, ObservedCall, Progress, Reaction, Site, SloPolicy};
pub use spending::{Draw, SplitBudget, SplitSpent};
pub use split::{EdgeCost, FormCost, PlanError, Segment, SplitPlan, SplitPlanner, SplitProblem};
pub use state::{
    Batch, Caps, Commit, Delta, Durability, Entry, Fence, Guard, Head, Moved, Op, Opened, OutputGate, Ownership, Page,
    Scope, Snapshot, StateBackend, StateError, StateSession, StateStore, Version, Watch, Watched,
};
pub use stream::Streams;
pub use tenant::Tenant;
pub use topology::{Link, LinkQuality, Path};
pub use trace::{InvalidTraceContext, TraceContext};
pub use trace_state::TraceState;
pub use transport::{Envelope, Handler, Subject, Transport, TransportError};
pub use units::{Bandwidth, ByteSize, MilliCpu, Slowdown};
pub use value::{Value, ValueKind};
pub use verdict::Verdict;
pub use workflow::{Step, Workflow, WorkflowError};
