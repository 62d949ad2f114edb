//! What a node offers to the isolates that run on it.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{
    Call, Callee, Clock, FunctionName, Host, Invocation, InvokeError, LimitKind, Node, NodeId, ObjectStore, Outcome,
    Path, Qualifier, Slowdown, Timestamp,
};

use crate::{depth::within_stack, fabric::Inner};

/// The host of one member of a fabric.
#[repr(align(128))]
pub(crate) struct MemberHost {
    pub(crate) node: Arc<Node>,
    pub(crate) position: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fabric: Weak<Inner>,
}

#[async_trait]
impl Host for MemberHost {
    fn node(&self) -> &Arc<Node> {
        &self.node
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn hosts_of(&self, function: &FunctionName) -> Vec<Arc<Node>> {
        self.fabric.upgrade().map(|fabric| fabric.hosts_of(self.position, function)).unwrap_or_default()
    }

    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        if from == to {
            return Some(Path::HERE);
        }
        self.fabric.upgrade()?.transport.as_ref()?.path(from, to)
    }

    async fn pace(&self, cpu: Duration) -> Duration {
        let stretched = self.node.slowdown.stretch(cpu);
        if stretched > cpu {
            self.clock.sleep(stretched - cpu).await;
        }
        stretched
    }

    fn paces(&self) -> bool {
        self.node.slowdown != Slowdown::NONE
    }

    fn objects(&self) -> Option<Arc<dyn ObjectStore>> {
        self.fabric.upgrade()?.objects.clone()
    }

    async fn invoke(&self, call: &Call, step: u64, callee: Callee) -> Result<Outcome, InvokeError> {
        let Some(fabric) = self.fabric.upgrade() else {
            return Err(InvokeError::Unreachable { function: callee.function, node: self.node.id.clone() });
        };
        if let Some(output) = &call.output {
            let (function, key) = (call.function.clone(), call.key.clone().unwrap_or_default());
            output.open().await.map_err(|source| InvokeError::State { function, key, source })?;
        }
        let mut invocation = Invocation::new(call.id.child(step), callee.function, callee.payload)
            .patience(call.deadline.since(self.clock.now()));
        invocation.key = callee.key;
        invocation.target = callee.node;
        invocation.tenant = Some(call.tenant.clone());
        // The parts of one call are of one revision, as long as there is such a revision.
        if invocation.function == call.function && fabric.find_revision(&call.function, call.revision).is_some() {
            invocation.qualifier = Qualifier::Revision(call.revision);
        }
        let function = invocation.function.clone();
        let too_deep = Err(InvokeError::Limit { function, limit: LimitKind::Stack });
        within_stack(fabric.route(self.position, invocation, true)).await.unwrap_or(too_deep)
    }
}

impl fmt::Debug for MemberHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberHost").field("node", &self.node.id).finish()
    }
}
