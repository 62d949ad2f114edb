//! Other callers of the cloud, behind whom the calls of the experiment wait.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use scf::{
    core::{
        BoxError, Clock, Envelope, Function, FunctionName, Handler, InvalidName, Invocation, Name, NodeId, Path,
        Payload, Subject, Transport, TransportError,
    },
    runtime::{Fabric, NativeCall, NativeError, NativeFactory, NativeFuture, transport::InProcess},
};
use tokio::sync::oneshot;

/// The function that the others call.
const NEIGHBOUR: &str = "neighbour";

/// Links on which every call that comes to the crowded node finds another one running there, which takes up all of the
/// node's room for a time that is set: it waits in the node's own queue.
pub(crate) struct Crowd {
    links: Arc<InProcess>,
    node: NodeId,
    others: Arc<Others>,
}

struct Others {
    node: NodeId,
    /// How long one runs, in nanoseconds; 0: there are none.
    runs: AtomicU64,
    /// Told when the one that was sent last has the room.
    begun: Mutex<Option<oneshot::Sender<()>>>,
    fabric: OnceLock<Fabric>,
}

impl Crowd {
    pub(crate) fn new(links: Arc<InProcess>, node: NodeId) -> Self {
        let (runs, begun, fabric) = Default::default();
        Self { links, others: Arc::new(Others { node: node.clone(), runs, begun, fabric }), node }
    }

    /// How long calls that come from now on wait.
    pub(crate) fn set(&self, wait: Duration) {
        self.others.runs.store(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What the others' function does.
    pub(crate) fn function(&self, clock: Arc<dyn Clock>) -> Result<NativeFactory, InvalidName> {
        let others = Arc::clone(&self.others);
        NativeFactory::new().with(NEIGHBOUR, move |_: &NativeCall<'_>, _: Payload| -> NativeFuture<'_> {
            let (others, clock) = (Arc::clone(&others), Arc::clone(&clock));
            Box::pin(async move {
                if let Some(begun) = others.begun.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    // Nobody waits any more where the call that this one is in front of was given up.
                    let _ = begun.send(());
                }
                clock.sleep(Duration::from_nanos(others.runs.load(Ordering::Relaxed))).await;
                Ok::<_, NativeError>(Payload::new(""))
            })
        })
    }

    /// Deploys the others' function on `fabric`, of which these are the links.
    pub(crate) async fn arrive(&self, fabric: &Fabric) -> Result<(), BoxError> {
        let function = Function::native(FunctionName::new(NEIGHBOUR)?, Name::new(NEIGHBOUR)?);
        fabric.deploy(function.on([self.node.clone()])).await?;
        self.others.fabric.get_or_init(|| fabric.clone());
        Ok(())
    }
}

impl Others {
    /// Returns once another call has the node's room.
    async fn send_one(self: &Arc<Self>) {
        let Some(fabric) = self.fabric.get().filter(|_| self.runs.load(Ordering::Relaxed) > 0).cloned() else { return };
        let (begun, has_begun) = oneshot::channel();
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        let node = self.node.clone();
        let function = FunctionName::new(NEIGHBOUR).expect("the literal is a name");
        tokio::spawn(async move {
            let call = Invocation::new(fabric.new_id(), function, Payload::new("")).on(node.clone());
            drop(fabric.invoke_from(&node, call).await);
        });
        drop(has_begun.await);
    }
}

impl fmt::Debug for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Answers calls behind one of the others.
struct Behind {
    others: Arc<Others>,
    handler: Arc<dyn Handler>,
}

impl fmt::Debug for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behind").field("handler", &self.handler).finish_non_exhaustive()
    }
}

#[async_trait]
impl Handler for Behind {
    async fn handle(&self, from: &NodeId, request: Envelope) -> Envelope {
        self.others.send_one().await;
        self.handler.handle(from, request).await
    }
}

#[async_trait]
impl Transport for Crowd {
    fn attach(&self, node: &NodeId, subject: Subject, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        let behind = *node == self.node && subject == Subject::Invoke;
        let others = Arc::clone(&self.others);
        let handler = if behind { Arc::new(Behind { others, handler }) } else { handler };
        self.links.attach(node, subject, handler)
    }

    fn detach(&self, node: &NodeId) {
        self.links.detach(node);
    }

    async fn request(
        &self,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        request: Envelope,
        patience: Duration,
    ) -> Result<Envelope, TransportError> {
        self.links.request(from, to, subject, request, patience).await
    }

    async fn send(
        &self,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        message: Envelope,
    ) -> Result<(), TransportError> {
        self.links.send(from, to, subject, message).await
    }

    async fn probe(&self, node: &NodeId) {
        self.links.probe(node).await;
    }

    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        self.links.path(from, to)
    }

    fn hops(&self, from: &NodeId, to: &NodeId) -> Option<usize> {
        self.links.hops(from, to)
    }
}
