//! Calls that belong to another process, and a process that goes on without the others.

use std::{sync::Arc, time::Duration};

use scf_core::{
    CallState, Cause, Clock, Function, FunctionName, InvocationId, InvocationQueue as _, Name, Node, Payload,
    QueuedCall, Scope, StateBackend, StateStore, Subject, Tier, Transport as _,
};
use scf_runtime::{
    EnqueueError, Fabric, NativeError, NativeFactory, SystemClock,
    transport::{Nats, Presence},
};
use scf_sched::Pipeline;
use scf_state::{
    AlwaysLocal, AlwaysRemote, MemoryDisk, MemoryState, PhasedState, QueueConfig, RedbQueue, RedbState, RemoteState,
    StateServer,
};

use crate::{
    nats_server::NatsServer,
    support::{node, process},
};

/// One process with a queue and state on a disk.
pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    state: Arc<RedbState>,
    queue: Arc<RedbQueue>,
    phased: Arc<PhasedState>,
}

impl Site {
    /// One whose state is its own.
    pub(crate) async fn start(server: &NatsServer, id: &str) -> Self {
        Self::on(Arc::new(process(server, id).await), id, None).await
    }

    /// One whose state is at home with `home`, and local while it is worked on; its own otherwise.
    pub(crate) async fn on(nats: Arc<Nats>, id: &str, home: Option<&str>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let state = Arc::new(RedbState::on(Arc::new(MemoryDisk::new())).unwrap());
        let queue =
            Arc::new(RedbQueue::open(Arc::clone(&state), Arc::clone(&clock), QueueConfig::default()).await.unwrap());
        let own = Arc::clone(&state) as Arc<dyn StateBackend>;
        let phased = match home {
            Some(home) => {
                let remote = RemoteState::new(Arc::clone(&nats) as _, node(id), node(home));
                PhasedState::new(node(id), Arc::new(remote), own, Arc::new(AlwaysLocal), Arc::clone(&clock))
            }
            None => {
                let local = Arc::new(MemoryState::new());
                PhasedState::new(node(id), own, local, Arc::new(AlwaysRemote), Arc::clone(&clock))
            }
        };
        let server = StateServer::new(Arc::clone(&state) as _, Arc::clone(&clock));
        nats.attach(&node(id), Subject::State, Arc::new(server)).unwrap();
        let phased = Arc::new(phased);
        let fabric = Fabric::builder()
            .node(Node::new(node(id), Tier::Edge))
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(natives()))
            .state(node(id), Arc::clone(&phased) as Arc<dyn StateStore>)
            .queue(Arc::clone(&queue) as _)
            .clock(clock)
            .join(nats)
            .build()
            .unwrap();
        Self { fabric, state, queue, phased }
    }

    pub(crate) async fn deploy(&self, entry: &str) {
        let mut function = Function::native(name(entry), Name::new(entry).unwrap());
        function.needs.nodes = vec![self.fabric.nodes()[0].id.clone()];
        self.fabric.deploy(function.stateful()).await.unwrap();
    }

    pub(crate) async fn enqueue(&self, entry: &str, key: &str, destination: &str) -> InvocationId {
        let id = self.fabric.new_id();
        let call = QueuedCall::new(id, name(entry), "").key(key).destination(node(destination));
        self.fabric.enqueue(call).await.unwrap();
        id
    }

    pub(crate) async fn settled(&self, id: InvocationId) -> CallState {
        self.fabric.settled(id).await.unwrap().expect("it was accepted").state
    }

    async fn until_cut_off_from(&self, id: &str) {
        let is_cut_off = || {
            let peers = self.fabric.peers();
            peers.iter().any(|peer| peer.status.node.id == node(id) && peer.presence == Presence::CutOff)
        };
        while !is_cut_off() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn until_met(&self, id: &str) {
        while self.fabric.path(&self.fabric.nodes()[0].id, &node(id)).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How often `count` ran for a key, by what this process has on its disk.
    pub(crate) async fn counted(&self, key: &str) -> usize {
        let scope = Scope { function: name("count"), key: key.into() };
        self.state.get(&scope, "n").await.unwrap().map_or(0, |entry| entry.value.len())
    }
}

/// One function that counts its calls in its state and says how many they are, and one that refuses them.
fn natives() -> NativeFactory {
    NativeFactory::new()
        .with("count", |call, _| {
            Box::pin(async move {
                let state = call.state()?;
                let before = state.get("n").await?.map_or(0, |bytes| bytes.len());
                state.put("n", vec![b'|'; before + 1].into());
                Ok(Payload::new((before + 1).to_string()))
            })
        })
        .unwrap()
        .with_sync("refuse", |_| Err(NativeError::refused("not for me")))
        .unwrap()
}

pub(crate) fn name(text: &str) -> FunctionName {
    FunctionName::new(text).unwrap()
}

pub(crate) fn completed(result: &str) -> CallState {
    CallState::Completed(Some(Payload::new(result.to_owned())))
}

#[tokio::test]
async fn calls_for_a_process_that_is_not_there_wait_and_what_came_of_them_is_known_where_they_were_accepted() {
    let Some(server) = NatsServer::start("") else { return };
    let edge = Site::start(&server, "edge").await;
    let mut counted = Vec::new();
    for _ in 0..5 {
        counted.push(edge.enqueue("count", "k", "hub").await);
    }
    let refused = edge.enqueue("refuse", "k", "hub").await;
    let status = edge.fabric.outcome(counted[0]).await.unwrap().unwrap();
    assert_eq!((status.state, edge.queue.load().pending), (CallState::Waiting, 6));
    let first = edge.settled(counted[0]);
    let hub = async {
        let hub = Site::start(&server, "hub").await;
        hub.deploy("count").await;
        hub.deploy("refuse").await;
        hub
    };
    let (first, hub) = tokio::join!(first, hub);
    assert_eq!(first, completed("1"));
    for (id, result) in counted.iter().zip(["1", "2", "3", "4", "5"]) {
        assert_eq!(edge.settled(*id).await, completed(result), "calls of a key run in their order");
    }
    assert!(matches!(edge.settled(refused).await, CallState::Dead(Cause::Refused { .. })));
    let here = edge.queue.status(refused).await.unwrap().unwrap().state;
    assert_eq!((here, edge.queue.load().pending), (CallState::Forwarded { to: node("hub") }, 0));
    assert_eq!(hub.queue.dead_letters(None, 8).await.unwrap().len(), 1);
    assert_eq!(hub.counted("k").await, 5);
}

#[tokio::test]
async fn a_call_whose_destination_is_the_process_itself_stays_there() {
    let Some(server) = NatsServer::start("") else { return };
    let edge = Site::start(&server, "edge").await;
    edge.deploy("count").await;
    let id = edge.enqueue("count", "k", "edge").await;
    assert_eq!(edge.settled(id).await, completed("1"));
}

#[tokio::test]
async fn a_call_of_a_function_that_another_process_has_goes_there_and_one_that_nobody_has_is_refused() {
    let Some(server) = NatsServer::start("") else { return };
    let (edge, hub) = (Site::start(&server, "edge").await, Site::start(&server, "hub").await);
    hub.deploy("count").await;
    let call = |entry: &str| QueuedCall::new(edge.fabric.new_id(), name(entry), "").key("k");
    let counted = call("count");
    while let Err(refused) = edge.fabric.enqueue(counted.clone()).await {
        assert_eq!(refused, EnqueueError::NotFound { function: name("count") }, "until it is told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(edge.settled(counted.id).await, completed("1"));
    let nobodys = edge.fabric.enqueue(call("refuse")).await;
    assert_eq!(nobodys, Err(EnqueueError::NotFound { function: name("refuse") }));
}

#[tokio::test]
async fn a_call_of_a_function_that_only_an_absent_process_can_run_waits_and_runs_when_that_is_back() {
    let Some(mut server) = NatsServer::start("") else { return };
    let (edge, _hub) = (Site::start(&server, "edge").await, Site::start(&server, "hub").await);
    edge.until_met("hub").await;
    let mut function = Function::native(name("refuse"), Name::new("refuse").unwrap());
    function.needs.nodes = vec![node("hub")];
    edge.fabric.deploy(function).await.unwrap();
    server.kill();
    edge.until_cut_off_from("hub").await;
    let id = edge.fabric.new_id();
    edge.fabric.enqueue(QueuedCall::new(id, name("refuse"), "")).await.unwrap();
    let (settled, ()) = tokio::join!(edge.fabric.settled(id), async { server.restart() });
    let settled = settled.unwrap().unwrap();
    assert!(matches!(settled.state, CallState::Dead(Cause::Refused { .. })), "{settled:?}");
    assert_eq!(settled.attempts, 1, "it was not tried in vain");
}

#[tokio::test]
async fn a_process_without_the_broker_goes_on_with_its_functions_and_state_and_reconciles_when_it_is_back() {
    let Some(mut server) = NatsServer::start("") else { return };
    let hub = Site::start(&server, "hub").await;
    let edge = Site::on(Arc::new(process(&server, "edge").await), "edge", Some("hub")).await;
    edge.until_met("hub").await;
    edge.deploy("count").await;
    hub.deploy("refuse").await;
    let call = async |site: &Site| {
        let invocation = scf_core::Invocation::new(site.fabric.new_id(), name("count"), "").key("k");
        site.fabric.invoke(invocation).await.map(|outcome| outcome.payload)
    };
    // Its state comes here with one of the calls.
    let mut calls = 0;
    while edge.phased.local_scopes() == 0 {
        calls += 1;
        assert_eq!(call(&edge).await, Ok(Payload::new(calls.to_string())));
    }
    server.kill();
    edge.until_cut_off_from("hub").await;
    for _ in 0..3 {
        calls += 1;
        assert_eq!(call(&edge).await, Ok(Payload::new(calls.to_string())), "its state is here");
    }
    calls += 1;
    let queued = edge.enqueue("count", "k", "edge").await;
    assert_eq!(edge.settled(queued).await, completed(&calls.to_string()), "so is its queue");
    let forwarded = edge.enqueue("refuse", "k", "hub").await;
    assert!(hub.counted("k").await < calls, "nobody else sees what is not published");
    server.restart();
    assert!(matches!(edge.settled(forwarded).await, CallState::Dead(Cause::Refused { .. })), "the hub has it");
    edge.until_met("hub").await;
    edge.fabric.shutdown().await.unwrap();
    assert_eq!((hub.counted("k").await, edge.phased.losses()), (calls, 0), "its state is at home again");
}
