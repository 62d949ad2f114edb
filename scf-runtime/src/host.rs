//! What a node offers to the isolates that run on it.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
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
    pub(crate) pace: Arc<Pace>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fabric: Weak<Inner>,
}

/// How fast an emulated node computes now.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU32);

impl Pace {
    /// As slow as its description says.
    pub(crate) fn new(slowdown: Slowdown) -> Self {
        Self(AtomicU32::new(slowdown.factor().to_bits()))
    }

    pub(crate) fn set(&self, slowdown: Slowdown) {
        self.0.store(slowdown.factor().to_bits(), Relaxed);
    }

    fn slowdown(&self) -> Slowdown {
        Slowdown::new(f32::from_bits(self.0.load(Relaxed)))
    }
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

    fn members_of(&self, function: &FunctionName) -> Vec<Arc<Node>> {
        self.fabric.upgrade().map(|fabric| fabric.members_of(self.position, function)).unwrap_or_default()
    }

    fn members_version(&self) -> Option<u64> {
        self.fabric.upgrade()?.members_version()
    }

    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        if from == to {
            return Some(Path::HERE);
        }
        self.fabric.upgrade()?.path(from, to)
    }

    async fn pace(&self, cpu: Duration) -> Duration {
        let stretched = self.pace.slowdown().stretch(cpu);
        if stretched > cpu {
            self.clock.sleep(stretched - cpu).await;
        }
        stretched
    }

    fn paces(&self) -> bool {
        self.pace.slowdown() != Slowdown::NONE
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
            let failed = |source| InvokeError::State { function, key, source: Box::new(source) };
            output.open().await.map_err(failed)?;
        }
        let mut invocation = Invocation::new(call.id.child(step), callee.function, callee.payload)
            .patience(call.deadline.since(self.clock.now()));
        invocation.key = callee.key;
        invocation.target = callee.node;
        invocation.tenant = Some(call.tenant.clone());
        invocation.trace.clone_from(&call.trace);
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use scf_core::{ManualClock, Tier};

    use super::*;

    #[test]
    fn an_emulated_node_that_is_made_slower_takes_that_much_longer_from_the_next_work_on() {
        let clock = ManualClock::new();
        let node = Node::new(NodeId::new("edge").unwrap(), Tier::Device).slowdown(Slowdown::new(2.0));
        let pace = Arc::new(Pace::new(node.slowdown));
        let host = MemberHost {
            node: Arc::new(node),
            position: 0,
            pace: Arc::clone(&pace),
            clock: Arc::new(clock.clone()),
            fabric: Weak::new(),
        };
        let ms = Duration::from_millis;
        for (slowdown, took) in [(2.0, 20), (6.0, 60), (1.0, 10)] {
            pace.set(Slowdown::new(slowdown));
            let mut work = host.pace(ms(10));
            if took > 10 {
                // The 10 ms that were computed have passed; what the slower node adds has not.
                for step in [took - 11, 1] {
                    assert!(work.as_mut().now_or_never().is_none());
                    clock.advance(ms(step));
                }
            }
            assert_eq!(work.now_or_never(), Some(ms(took)));
            assert_eq!(host.paces(), slowdown > 1.0);
        }
        assert_eq!(host.node().slowdown, Slowdown::new(2.0));
    }
}
