use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use scf::{
    core::{
        BlobStore, ByteSize, Bytes, Function, FunctionName, Health, InvokeError, Node, NodeId, ObjectError, ObjectId,
        ScheduleError, Tier,
    },
    runtime::{
        ArtefactSigner, Fabric, GuestPolicy, Puller, WasmFactory,
        transport::{Nats, Presence},
    },
    sched::Pipeline,
    state::{FolderObjects, MemoryObjects, NatsBlobs, NatsOptions, ObjectConfig},
};
use tempfile::TempDir;

use crate::nats_server::NatsServer;

const ECHO: &[u8] = include_bytes!("../../examples/guests/components/echo.wasm");
const SECRET: [u8; 32] = [7; 32];

/// One process of a fleet: a node that runs components, and where it pulls them from.
struct Process {
    fabric: Fabric,
    puller: Arc<Puller>,
    wasm: Arc<WasmFactory>,
}

impl Process {
    /// With what it pulls in a folder.
    async fn caching(server: &NatsServer, id: &str, policy: GuestPolicy, folder: &Path) -> Self {
        let cache = FolderObjects::open(folder, ObjectConfig::new()).unwrap();
        Self::start(server, id, policy, Puller::new(Arc::new(blobs(server).await)).cache(Arc::new(cache))).await
    }

    async fn sharing(server: &NatsServer, id: &str, policy: GuestPolicy) -> Self {
        Self::start(server, id, policy, Puller::new(Arc::new(blobs(server).await))).await
    }

    async fn start(server: &NatsServer, id: &str, policy: GuestPolicy, puller: Puller) -> Self {
        let broker = options(server).connect().await.unwrap();
        let nats = Nats::builder(broker.client()).node(node(id)).join().await.unwrap();
        let trusted = ArtefactSigner::new(&SECRET).verifying_key();
        let wasm = Arc::new(WasmFactory::builder().instances(16).trust(trusted).build().unwrap());
        let puller = Arc::new(puller);
        let fabric = Fabric::builder()
            .node(Node::new(node(id), Tier::Edge))
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::clone(&wasm) as Arc<_>)
            .join(Arc::new(nats))
            .pull(Arc::clone(&puller))
            .guests(policy)
            .build()
            .unwrap();
        Self { fabric, puller, wasm }
    }

    /// Waits until calls may go to a node of another process.
    async fn meets(&self, id: &str) {
        let is_there = || {
            let peers = self.fabric.peers();
            let is_ready = |presence, health| (presence, health) == (Presence::Alive, Health::Ready);
            let peer = peers.iter().find(|peer| peer.status.node.id == node(id));
            peer.is_some_and(|peer| is_ready(peer.presence, peer.status.health))
                && self.fabric.path(&self.fabric.nodes()[0].id, &node(id)).is_some()
        };
        while !is_there() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Deploys `code` here, to be run on `on`.
    async fn deploy(&self, function: &str, code: impl Into<Bytes>, on: &str) {
        let function = Function::component(name(function), code, "echo").on([node(on)]);
        self.fabric.deploy(function).await.unwrap();
    }

    /// Calls a function that gives what it is given; where it ran.
    async fn call(&self, function: &str) -> Result<NodeId, InvokeError> {
        let outcome = self.fabric.call(&name(function), "hello").await?;
        assert_eq!(outcome.payload.bytes, "hello");
        Ok(outcome.receipt.node)
    }

    /// Why the other process does not run a function.
    async fn refusal(&self, function: &str) -> String {
        match self.call(function).await {
            Err(InvokeError::Unplaceable { source: ScheduleError::Refused { node: by, why }, .. }) => {
                assert_eq!(by, node("b"));
                why
            }
            other => panic!("{other:?}"),
        }
    }
}

fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

fn name(text: &str) -> FunctionName {
    FunctionName::new(text).unwrap()
}

fn options(server: &NatsServer) -> NatsOptions {
    // A disk that others write to may stall for longer than the default.
    NatsOptions::new([server.url()]).patience(Duration::from_secs(60))
}

async fn blobs(server: &NatsServer) -> NatsBlobs {
    let broker = options(server).connect().await.unwrap();
    NatsBlobs::at(broker).quota(ByteSize::from_mib(64)).open().await.unwrap()
}

#[tokio::test]
async fn a_node_that_never_saw_a_functions_code_pulls_it_once_and_keeps_it_over_a_restart() {
    let Some(server) = NatsServer::durable() else { return };
    let folder = TempDir::new().unwrap();
    let a = Process::sharing(&server, "a", GuestPolicy::own()).await;
    let b = Process::caching(&server, "b", GuestPolicy::components(), folder.path()).await;
    a.meets("b").await;
    a.deploy("f", ECHO, "b").await;
    assert_eq!(a.wasm.counters().compiled, 0, "who deploys it for others does not compile it");
    for called in join_all((0..8).map(|_| a.call("f"))).await {
        assert_eq!(called, Ok(node("b")));
    }
    assert_eq!(a.call("f").await, Ok(node("b")));
    assert_eq!((b.puller.counters().pulled, b.wasm.counters().compiled), (1, 1));

    b.fabric.leave(&node("b")).await.unwrap();
    drop(b);
    blobs(&server).await.remove(ObjectId::of(ECHO)).await.unwrap();
    let b = Process::caching(&server, "b", GuestPolicy::components(), folder.path()).await;
    while a.call("f").await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let counters = b.puller.counters();
    assert_eq!((counters.pulled, counters.found), (0, 1));
}

#[tokio::test]
async fn a_process_that_pulled_a_function_hands_it_on_when_the_one_that_deployed_it_is_gone() {
    let Some(server) = NatsServer::durable() else { return };
    let a = Process::sharing(&server, "a", GuestPolicy::own()).await;
    let b = Process::sharing(&server, "b", GuestPolicy::components()).await;
    let c = Process::sharing(&server, "c", GuestPolicy::components()).await;
    a.meets("b").await;
    b.meets("c").await;
    let function = Function::component(name("f"), ECHO, "echo").on([node("b"), node("c")]);
    a.fabric.deploy(function).await.unwrap();
    a.fabric.call(&name("f"), "hello").await.unwrap();
    let (has_it, other, there) = if b.puller.counters().pulled == 1 { (&b, &c, "c") } else { (&c, &b, "b") };
    has_it.meets(there).await;
    drop(a);
    let called = scf::core::Invocation::new(has_it.fabric.new_id(), name("f"), "hello").on(node(there));
    assert_eq!(has_it.fabric.invoke(called).await.unwrap().receipt.node, node(there));
    assert_eq!(other.puller.counters().pulled, 1);
}

#[tokio::test]
async fn a_node_runs_code_of_others_only_where_it_was_told_to() {
    let Some(server) = NatsServer::durable() else { return };
    let signed = ArtefactSigner::new(&SECRET).sign(ECHO).unwrap();
    let by_another = ArtefactSigner::new(&[8; 32]).sign(ECHO).unwrap();
    for policy in [GuestPolicy::own(), GuestPolicy::artefacts()] {
        let a = Process::sharing(&server, "a", GuestPolicy::own()).await;
        let b = Process::sharing(&server, "b", policy.clone()).await;
        a.meets("b").await;
        a.deploy("plain", ECHO, "b").await;
        a.deploy("signed", signed.clone(), "b").await;
        a.deploy("twisted", by_another.clone(), "b").await;
        if policy == GuestPolicy::own() {
            for function in ["plain", "signed", "twisted"] {
                let why = a.refusal(function).await;
                assert!(why.contains(function) && why.contains("FabricBuilder::guests"), "{why}");
            }
            assert_eq!(b.puller.counters().pulled, 0);
        } else {
            assert!(a.refusal("plain").await.contains("no signed artefact"));
            assert_eq!(a.call("signed").await, Ok(node("b")));
            assert!(a.refusal("twisted").await.contains("artefact"));
            assert_eq!(b.wasm.counters().compiled, 0);
        }
        for process in [&a, &b] {
            let id = process.fabric.nodes()[0].id.clone();
            process.fabric.leave(&id).await.unwrap();
        }
    }
}

/// A store that takes everything and gives something else.
#[derive(Debug)]
struct Wrong(fn(ObjectId) -> ObjectError);

#[async_trait]
impl BlobStore for Wrong {
    async fn put_blob(&self, content: Bytes) -> Result<ObjectId, ObjectError> {
        Ok(ObjectId::of(&content))
    }

    async fn get_blob(&self, object: ObjectId, _: ByteSize) -> Result<Bytes, ObjectError> {
        Err((self.0)(object))
    }
}

#[tokio::test]
async fn code_that_can_not_be_had_is_told_with_the_function_and_its_hash() {
    let Some(server) = NatsServer::durable() else { return };
    let a = Process::start(&server, "a", GuestPolicy::own(), Puller::new(Arc::new(blobs(&server).await))).await;
    let hash = ObjectId::of(ECHO).to_string();
    let wrong: [(Arc<dyn BlobStore>, &str); 3] = [
        (Arc::new(MemoryObjects::new(ObjectConfig::new())), "is not there"),
        (Arc::new(Wrong(|object| ObjectError::Corrupt { object, chunk: None })), "is damaged"),
        (
            Arc::new(Wrong(|_| ObjectError::Unavailable { what: "x".into(), source: "gone".into() })),
            "could not x: gone",
        ),
    ];
    for (at, (store, expected)) in wrong.into_iter().enumerate() {
        let b = Process::start(&server, "b", GuestPolicy::components(), Puller::new(store)).await;
        a.meets("b").await;
        let function = format!("f{at}");
        a.deploy(&function, ECHO, "b").await;
        let why = a.refusal(&function).await;
        assert!([&function, &hash, expected].iter().all(|part| why.contains(part)), "{why}");
        b.fabric.leave(&node("b")).await.unwrap();
    }
    let small = GuestPolicy::components().largest(ByteSize::from_kib(1));
    let b = Process::sharing(&server, "b", small).await;
    a.meets("b").await;
    a.deploy("large", ECHO, "b").await;
    let why = a.refusal("large").await;
    assert!(why.contains("large") && why.contains("at most 1024 B"), "{why}");
    drop(b);
}
