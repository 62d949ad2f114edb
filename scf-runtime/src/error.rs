//! What can go wrong before the first call.

use scf_core::{FunctionName, NodeId, ObjectError, ObjectId, PrepareError, Revision, StateError, TransportError};
use thiserror::Error;

/// Why a fabric was not built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two nodes have the same name.
    #[error("node {node} was added twice")]
    DuplicateNode {
        /// The name.
        node: NodeId,
    },
    /// A part was given for a node that was not added.
    #[error("{part} was given for node {node}, which was not added")]
    UnknownNode {
        /// The part.
        part: &'static str,
        /// The node.
        node: NodeId,
    },
    /// More than one node, and nothing to carry messages between them.
    #[error("{nodes} nodes need a transport: call FabricBuilder::transport")]
    NoTransport {
        /// Number of nodes.
        nodes: usize,
    },
    /// Nothing decides where functions run.
    #[error("a fabric needs a scheduler: call FabricBuilder::scheduler")]
    NoScheduler,
    /// Nothing runs functions.
    #[error("a fabric needs an isolate factory: call FabricBuilder::isolates")]
    NoIsolates,
    /// The transport does not carry messages for one of the nodes.
    #[error("the transport does not take node {node}")]
    Transport {
        /// The node.
        node: NodeId,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// The fabric's background work needs a tokio runtime.
    #[error("build the fabric inside a tokio runtime")]
    NoRuntime,
}

/// Why a function was not deployed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeployError {
    /// It could not be made ready; the error names the function and what is wrong.
    #[error("not deployed to node {node}")]
    Prepare {
        /// Where it was tried.
        node: NodeId,
        /// Why.
        #[source]
        source: PrepareError,
    },
    /// Its name is one that the fabric keeps for itself.
    #[error("no function can be called {function}: the fabric keeps that name for itself")]
    Reserved {
        /// The name.
        function: FunctionName,
    },
    /// No node of the fabric satisfies its needs, however idle.
    #[error("function {function}: no node of the fabric satisfies its needs")]
    NoNode {
        /// The function.
        function: FunctionName,
    },
    /// Something is promised of it, and nobody keeps it.
    #[error("function {function} has objectives and the fabric has nobody who keeps them: call FabricBuilder::slo")]
    NoSlo {
        /// The function.
        function: FunctionName,
    },
    /// It is ready, and as many revisions of it as are kept have traffic.
    #[error("not deployed")]
    Traffic(#[from] TrafficError),
    /// Its tenant is not known and there is no room for one more.
    #[error("function {function}: there are {tenants} tenants, which is all there can be")]
    Tenants {
        /// The function.
        function: FunctionName,
        /// How many are known.
        tenants: usize,
    },
    /// Its code is an object, or it is granted objects, and there is no store of them.
    #[error("function {function} uses objects and the fabric has no object store: call FabricBuilder::objects")]
    NoObjects {
        /// The function.
        function: FunctionName,
    },
    /// Its code could not be read out of the object store: it is not there, is not what its name says, or is larger
    /// than what runs it takes.
    #[error("function {function}: code {object} was not read")]
    Code {
        /// The function.
        function: FunctionName,
        /// What the code is kept as.
        object: ObjectId,
        /// Why.
        #[source]
        source: ObjectError,
    },
    /// Another process deployed it, and this one does not take it.
    #[error("function {function} of another process is not accepted: {why}")]
    Guest {
        /// The function.
        function: FunctionName,
        /// Why.
        why: String,
    },
    /// The function keeps state, and a node that it may run on has no state store.
    #[error("function {function} keeps state and node {node} has no state store: call FabricBuilder::state")]
    NoState {
        /// The function.
        function: FunctionName,
        /// The node.
        node: NodeId,
    },
}

/// Why a function's traffic or revisions stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// No function of that name is deployed.
    #[error("function {function} is not deployed")]
    NotDeployed {
        /// The function.
        function: FunctionName,
    },
    /// The revision was never there or is not kept any more.
    #[error("function {function} has no revision {revision}")]
    NoRevision {
        /// The function.
        function: FunctionName,
        /// The revision.
        revision: Revision,
    },
    /// No revision was given a weight above zero.
    #[error("function {function}: no revision has a weight above zero")]
    NoWeight {
        /// The function.
        function: FunctionName,
    },
    /// There is nothing to roll back to: the traffic was never changed, or what it went to is not kept any more.
    #[error("function {function}: there is no earlier traffic to return to")]
    NothingBefore {
        /// The function.
        function: FunctionName,
    },
    /// The revision still gets calls.
    #[error("function {function}: traffic or an alias points to revision {revision}")]
    Serving {
        /// The function.
        function: FunctionName,
        /// The revision.
        revision: Revision,
    },
    /// As many revisions as are kept, and all of them get calls.
    #[error("function {function}: all {kept} revisions that are kept have traffic; retire one")]
    Full {
        /// The function.
        function: FunctionName,
        /// How many are kept.
        kept: usize,
    },
}

/// Why a node does not do what its operator orders.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OperateError {
    /// It is none of the fabric.
    #[error("{node} is no node of this fabric")]
    NoSuchNode {
        /// The name.
        node: NodeId,
    },
    /// It has left and does not come back to this fabric.
    #[error("node {node} has left")]
    Left {
        /// The node.
        node: NodeId,
    },
    /// It was let take calls again before all had left.
    #[error("node {node} was uncordoned while it was drained")]
    Uncordoned {
        /// The node.
        node: NodeId,
    },
    /// What is local to it was not all published, and stays on its disk; it has not left, and may be told to again.
    #[error("state that is local to node {node} was not published")]
    State {
        /// The node.
        node: NodeId,
        /// Why.
        #[source]
        source: StateError,
    },
}
