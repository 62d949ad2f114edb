//! What several tests need.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{
    Call, Callee, Function, FunctionName, Host, InvocationId, InvokeError, Isolate, IsolateFactory, Node, NodeId,
    Outcome, Path, Payload, Receipt, Reply, TenantName, Tier, Timestamp,
};

pub(crate) fn name(text: &str) -> FunctionName {
    FunctionName::new(text).unwrap()
}

pub(crate) fn node(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

/// A host whose other functions give what they are given, and bill for it.
#[derive(Debug)]
pub(crate) struct Alone {
    node: Arc<Node>,
    paced: AtomicU64,
}

impl Alone {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { node: Arc::new(Node::new(node("here"), Tier::Edge)), paced: AtomicU64::new(0) })
    }

    pub(crate) fn paced(&self) -> Duration {
        Duration::from_nanos(self.paced.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Host for Alone {
    fn node(&self) -> &Arc<Node> {
        &self.node
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn hosts_of(&self, _: &FunctionName) -> Vec<Arc<Node>> {
        vec![Arc::clone(&self.node)]
    }

    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        (from == to).then_some(Path::HERE)
    }

    async fn pace(&self, cpu: Duration) -> Duration {
        self.paced.fetch_add(cpu.as_nanos() as u64, Ordering::Relaxed);
        cpu
    }

    async fn invoke(&self, call: &Call, step: u64, callee: Callee) -> Result<Outcome, InvokeError> {
        if callee.function == name("absent") {
            return Err(InvokeError::NotFound { function: callee.function });
        }
        let mut payload = format!("{} ", call.id.child(step)).into_bytes();
        payload.extend_from_slice(&callee.payload.bytes);
        Ok(Outcome {
            payload: payload.into(),
            receipt: Receipt::new(callee.function, TenantName::default(), self.node.id.clone()),
        })
    }
}

pub(crate) fn call(function: &Function, host: Arc<dyn Host>) -> Call {
    Call::new(
        InvocationId::new(1),
        function.name.clone(),
        function.tenant.clone(),
        Timestamp::from_nanos(u64::MAX),
        host,
    )
}

/// Prepares the function and calls it once.
pub(crate) async fn run(
    factory: &dyn IsolateFactory,
    function: &Function,
    input: impl Into<Payload>,
) -> Result<Reply, InvokeError> {
    let prepared = factory.prepare(function).await.unwrap();
    let mut isolate: Box<dyn Isolate> = prepared.instantiate().await?;
    isolate.invoke(&call(function, Alone::new()), input.into()).await
}
