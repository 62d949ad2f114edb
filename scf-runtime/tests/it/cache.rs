//! State at home on another node, with a cache in front of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{
    Bandwidth, ByteSize, Clock, Envelope, Function, Handler, Invocation, InvocationId, Link, Name, Node, NodeId, Path,
    Payload, Scope, StateBackend, Subject, Tier, Transport, TransportError,
};
use scf_runtime::{Fabric, NativeFactory, SystemClock, transport::InProcess};
use scf_sched::Pipeline;
use scf_state::{AlwaysRemote, CacheReads, CachedState, MemoryState, PhasedState, RemoteState, StateServer};

use crate::support::{name, node};

const KEYS: u64 = 8;

/// Counts the questions to state servers.
#[derive(Debug)]
struct Counted {
    network: InProcess,
    asked: AtomicU64,
}

#[async_trait]
impl Transport for Counted {
    fn attach(&self, node: &NodeId, subject: Subject, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        self.network.attach(node, subject, handler)
    }

    fn detach(&self, node: &NodeId) {
        self.network.detach(node);
    }

    async fn request(
        &self,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        request: Envelope,
        patience: Duration,
    ) -> Result<Envelope, TransportError> {
        self.asked.fetch_add(u64::from(subject == Subject::State), Ordering::SeqCst);
        self.network.request(from, to, subject, request, patience).await
    }

    async fn send(
        &self,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        message: Envelope,
    ) -> Result<(), TransportError> {
        self.network.send(from, to, subject, message).await
    }

    async fn probe(&self, node: &NodeId) {
        self.network.probe(node).await;
    }

    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        self.network.path(from, to)
    }
}

/// `sum` reads eight settings and gives them; `add` counts.
fn natives() -> NativeFactory {
    NativeFactory::new()
        .with("sum", |call, _| {
            Box::pin(async move {
                let mut sum = Vec::new();
                for key in 0..KEYS {
                    sum.extend_from_slice(&call.state()?.get(&format!("setting-{key}")).await?.unwrap_or_default());
                }
                Ok(Payload::new(sum))
            })
        })
        .unwrap()
        .with("add", |call, input| {
            Box::pin(async move {
                let state = call.state()?;
                let before = state.get("count").await?.unwrap_or_default();
                let after = if &input.bytes[..] == b"look" { before } else { [&before[..], b"|"].concat().into() };
                if &input.bytes[..] != b"look" {
                    state.put("count", after.clone());
                }
                Ok(Payload::new(after))
            })
        })
        .unwrap()
}

/// Node `a`, whose reads of the state at home on `b` are kept as `reads` says, and `b` itself.
async fn site(reads: Option<CacheReads>) -> (Fabric, Arc<Counted>, Arc<dyn StateBackend>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let link = Link { latency: Duration::from_millis(1), bandwidth: Bandwidth::from_mbit_per_s(1000) };
    let network = InProcess::builder().link(node("a"), node("b"), link).build(Arc::clone(&clock)).unwrap();
    let network = Arc::new(Counted { network, asked: AtomicU64::new(0) });
    let home: Arc<dyn StateBackend> = Arc::new(MemoryState::new());
    let server = StateServer::new(Arc::clone(&home), Arc::clone(&clock));
    network.attach(&node("b"), Subject::State, Arc::new(server)).unwrap();

    let remote = RemoteState::new(Arc::clone(&network) as _, node("a"), node("b")).caps(home.caps());
    let mut near: Arc<dyn StateBackend> = Arc::new(remote);
    if let Some(reads) = reads {
        near = Arc::new(CachedState::new(near, Arc::clone(&clock), ByteSize::from_mib(4), reads));
    }
    let store = |at: &str, home: &Arc<dyn StateBackend>| {
        let local = Arc::new(MemoryState::new());
        Arc::new(PhasedState::new(node(at), Arc::clone(home), local, Arc::new(AlwaysRemote), Arc::clone(&clock)))
    };
    let fabric = Fabric::builder()
        .node(Node::new(node("a"), Tier::Edge))
        .node(Node::new(node("b"), Tier::Cloud))
        .transport(Arc::clone(&network) as _)
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(Arc::new(natives()))
        .state(node("a"), store("a", &near))
        .state(node("b"), store("b", &home))
        .clock(clock)
        .build()
        .unwrap();
    for function in ["sum", "add"] {
        fabric.deploy(Function::native(name(function), Name::new(function).unwrap()).stateful()).await.unwrap();
    }
    fabric.ready().await;
    (fabric, network, home)
}

async fn call(fabric: &Fabric, at: &str, function: &str, input: &'static str, id: u128) -> Payload {
    let invocation = Invocation::new(InvocationId::new(id), name(function), input).key("k").on(node(at));
    let outcome = fabric.invoke_from(&node(at), invocation).await.unwrap();
    assert_eq!(outcome.receipt.node, node(at));
    outcome.payload
}

#[tokio::test]
async fn a_cache_in_front_of_a_remote_home_saves_a_round_trip_for_every_read_after_the_first() {
    const CALLS: u64 = 10;
    let mut asked = Vec::new();
    for reads in [None, Some(CacheReads::Sole)] {
        let (fabric, network, home) = site(reads).await;
        let scope = Scope { function: name("sum"), key: "k".into() };
        let settings = (0..KEYS).fold(scf_core::Batch::new(scope), |batch, key| {
            batch.put(format!("setting-{key}"), vec![b'a' + key as u8])
        });
        home.commit(settings.durability(home.caps().durability)).await.unwrap();
        let before = network.asked.load(Ordering::SeqCst);
        for id in 0..CALLS {
            assert_eq!(call(&fabric, "a", "sum", "", id.into()).await.bytes, "abcdefgh");
        }
        asked.push(network.asked.load(Ordering::SeqCst) - before);
    }
    assert_eq!(asked[0] - asked[1], (CALLS - 1) * KEYS, "{asked:?}");
}

#[tokio::test]
async fn a_call_that_read_a_stale_version_never_commits_what_it_made_of_it() {
    for reads in [CacheReads::Aged(Duration::from_secs(3600)), CacheReads::Validated] {
        let (fabric, _, _) = site(Some(reads)).await;
        call(&fabric, "b", "add", "", 1).await;
        assert_eq!(call(&fabric, "a", "add", "look", 2).await.bytes, "|", "{reads:?}");
        // Behind the back of the cache, which has been told that it may be an hour late.
        call(&fabric, "b", "add", "", 3).await;
        assert_eq!(call(&fabric, "a", "add", "", 4).await.bytes, "|||", "{reads:?}");
        assert_eq!(call(&fabric, "b", "add", "look", 5).await.bytes, "|||", "{reads:?}");
    }
}
