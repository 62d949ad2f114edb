//! State at a real broker.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::future::join_all;
use scf_core::{
    Batch, ByteSize, Commit, Durability, FunctionName, InvocationId, ManualClock, NodeId, Opened, Phase, Scope,
    Snapshot, StateBackend, StateError, StateStore as _, Timestamp, Version, conformance,
};

use super::*;
use crate::{AlwaysLocal, MemoryDisk, PhasedState, RedbState};

mod blob;
mod join;
#[path = "../../../../tests/support/nats_server.rs"]
mod nats_server;

use nats_server::NatsServer;

fn options(server: &NatsServer) -> NatsOptions {
    // A disk that others write to may stall for longer than the default.
    NatsOptions::new([server.url()]).monitor(server.monitor()).patience(Duration::from_secs(60))
}

async fn open(server: &NatsServer) -> NatsState {
    NatsState::at(options(server).connect().await.unwrap()).shards(2).open().await.unwrap()
}

fn scope(key: &str) -> Scope {
    Scope { function: FunctionName::new("f").unwrap(), key: key.into() }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn counted(i: u64) -> Batch {
    Batch::new(scope("s"))
        .put("count", i.to_string())
        .put(format!("k{}", i % 7), vec![i as u8; 700])
        .invocation(InvocationId::new(u128::from(i)), i.to_string())
}

#[tokio::test]
async fn passes_the_suite() {
    let Some(server) = NatsServer::durable() else { return };
    let fabrics = std::cell::Cell::new(0);
    let make = |clock: ManualClock| {
        fabrics.set(fabrics.get() + 1);
        let options = options(&server).fabric(format!("suite-{}", fabrics.get()));
        async move {
            let state = NatsState::at(options.connect().await.unwrap()).shards(1).results_per_scope(48);
            Arc::new(state.clock(Arc::new(clock)).open().await.unwrap()) as Arc<dyn StateBackend>
        }
    };
    conformance::state::state_backend(make).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_broker_was_killed() {
    let Some(mut server) = NatsServer::durable() else { return };
    let state = open(&server).await;
    assert_eq!(state.caps().durability, Durability::Durable);
    let fence = state.acquire(&scope("s"), &node("n1"), Duration::from_secs(9), Timestamp::default()).await.unwrap();
    for i in 1..=40 {
        state.commit(counted(i).fence(fence)).await.unwrap();
    }
    let before = state.export(&scope("s")).await.unwrap();
    assert_eq!((before.version, before.results.len()), (Version::new(40), 40));
    server.restart();
    let again = open(&server).await;
    assert_eq!(again.export(&scope("s")).await.unwrap(), before);
    let retried = again.commit(counted(3).fence(fence)).await.unwrap();
    assert_eq!(retried, Commit::Duplicate { result: Bytes::from("3") });
    again.commit(counted(41).fence(fence)).await.unwrap();
}

#[tokio::test]
async fn several_nodes_write_one_scope_and_nothing_is_lost() {
    const NODES: u64 = 3;
    const CALLS: u64 = 30;
    let Some(server) = NatsServer::durable() else { return };
    let writers = (0..NODES).map(|writer| {
        let server = &server;
        async move {
            let state = open(server).await;
            for call in 0..CALLS {
                let id = writer * CALLS + call;
                loop {
                    let head = state.head(&scope("s"), Timestamp::default()).await.unwrap();
                    let count = state.get(&scope("s"), "count").await.unwrap();
                    let count: u64 =
                        count.map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap());
                    let batch = Batch::new(scope("s")).expect(head.version).put("count", (count + 1).to_string());
                    match state.commit(batch.invocation(InvocationId::new(id.into()), "")).await {
                        Ok(_) => break,
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                }
            }
        }
    });
    join_all(writers).await;
    let state = open(&server).await;
    let count = state.get(&scope("s"), "count").await.unwrap().unwrap();
    assert_eq!((count.value, count.version), (Bytes::from("90"), Version::new(90)));
}

/// One call of a function that counts its calls.
async fn call(store: &PhasedState, id: u128) -> u64 {
    let number = |bytes: &Bytes| std::str::from_utf8(bytes).unwrap().parse::<u64>().unwrap();
    let session = match store.open(&scope("s"), InvocationId::new(id)).await.unwrap() {
        Opened::Done(result) => return number(&result),
        Opened::Session(session) => session,
        other => panic!("{other:?}"),
    };
    let count = session.get("count").await.unwrap().map_or(0, |bytes| number(&bytes)) + 1;
    session.put("count", count.to_string().into());
    match session.commit(count.to_string().into()).await.unwrap() {
        Commit::Duplicate { result } => number(&result),
        _ => count,
    }
}

#[tokio::test]
async fn a_scope_is_local_on_a_node_and_goes_on_on_another() {
    let Some(server) = NatsServer::durable() else { return };
    let store = async |name: &str| {
        let local = RedbState::on(Arc::new(MemoryDisk::new())).unwrap();
        let (home, clock) = (Arc::new(open(&server).await), Arc::new(ManualClock::new()));
        PhasedState::new(node(name), home, Arc::new(local), Arc::new(AlwaysLocal), clock)
    };
    let (first, second) = (store("n1").await, store("n2").await);
    for i in 1..=30u64 {
        assert_eq!(call(&first, i.into()).await, i);
    }
    assert!(matches!(first.phase(&scope("s")), Phase::Local(_)));
    let home = open(&server).await;
    assert_eq!(home.get(&scope("s"), "count").await.unwrap().unwrap().value, "1", "the others were local");

    first.drain().await.unwrap();
    assert_eq!(home.head(&scope("s"), Timestamp::default()).await.unwrap().version, Version::new(30));
    assert_eq!(call(&second, 17).await, 17, "a call that was made is not made again elsewhere");
    for i in 31..=35u64 {
        assert_eq!(call(&second, i.into()).await, i);
    }
    assert!(matches!(second.phase(&scope("s")), Phase::Local(_)));
}

#[tokio::test]
async fn a_former_owner_on_another_node_commits_nothing() {
    let Some(server) = NatsServer::durable() else { return };
    let (old, new) = (open(&server).await, open(&server).await);
    let (lease, start) = (Duration::from_secs(10), Timestamp::from_nanos(77));
    let stale = old.acquire(&scope("s"), &node("n1"), lease, start).await.unwrap();
    old.commit(Batch::new(scope("s")).fence(stale).put("k", "1")).await.unwrap();

    // The other node's clock shows something else; it waits a lease from when it first saw the owner.
    let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
    let refused = new.acquire(&scope("s"), &node("n2"), lease, at(5000)).await;
    assert_eq!(refused, Err(StateError::Held { scope: scope("s"), owner: node("n1"), remaining: lease }));
    old.renew(&scope("s"), stale, lease, start).await.unwrap();
    let refused = new.acquire(&scope("s"), &node("n2"), lease, at(5010)).await;
    assert!(matches!(refused, Err(StateError::Held { remaining, .. }) if remaining == lease), "renewed: {refused:?}");
    let fence = new.acquire(&scope("s"), &node("n2"), lease, at(5020)).await.unwrap();

    let late = old.commit(Batch::new(scope("s")).fence(stale).put("k", "stale")).await;
    assert_eq!(late, Err(StateError::Fenced { scope: scope("s"), epoch: fence.epoch }));
    let imported = old.import(&scope("s"), stale, Snapshot::default()).await;
    assert!(matches!(imported, Err(StateError::Fenced { .. })), "{imported:?}");
    assert_eq!(old.get(&scope("s"), "k").await.unwrap().unwrap().value, "1");
}

#[tokio::test]
async fn a_scope_that_no_message_can_hold_moves_as_a_whole() {
    let Some(server) = NatsServer::durable() else { return };
    let state = open(&server).await;
    let fence = state.acquire(&scope("s"), &node("n1"), Duration::from_secs(9), Timestamp::default()).await.unwrap();
    let entry = |i: u64| {
        let value = Bytes::from(vec![i as u8; 40_000]);
        (format!("k{i:03}"), Entry::new(value, Version::new(i + 1)))
    };
    let result = |i: u64| (InvocationId::new(i.into()), Bytes::from(i.to_string()));
    let snapshot = Snapshot {
        version: Version::new(500),
        entries: (0..300).map(entry).collect(),
        results: (0..20).map(result).collect(),
    };
    for round in 0..2 {
        state.import(&scope("s"), fence, snapshot.clone()).await.unwrap();
        assert_eq!(state.export(&scope("s")).await.unwrap(), snapshot, "round {round}");
    }
    let stream = &state.shared.link.streams[state.place(&scope("s")).shard as usize];
    let count = stream.get_info().await.unwrap().state.messages;
    assert_eq!(count, 1 + 300 + 20, "what was replaced is removed");
    let again = Batch::new(scope("s")).fence(fence).invocation(InvocationId::new(7), "twice");
    assert_eq!(state.commit(again).await, Ok(Commit::Duplicate { result: Bytes::from("7") }));
}

/// One shard, so that all scopes have one writer.
async fn open_one(server: &NatsServer) -> NatsState {
    NatsState::at(options(server).connect().await.unwrap()).shards(1).open().await.unwrap()
}

fn scopes(count: usize) -> Vec<Scope> {
    (0..count).map(|i| scope(&i.to_string())).collect()
}

/// Writes `value` under `key` of all at the same time.
async fn write(state: &NatsState, scopes: &[Scope], key: &str, value: &[u8]) {
    let commits = scopes.iter().map(|scope| state.commit(Batch::new(scope.clone()).put(key, value.to_vec())));
    for commit in join_all(commits).await {
        assert!(matches!(commit, Ok(Commit::Applied { .. })), "{commit:?}");
    }
}

/// Messages that were sent, and answers to them.
fn traffic(state: &NatsState) -> [u64; 2] {
    let statistics = state.shared.link.broker.client().statistics();
    [statistics.out_messages.load(Relaxed), statistics.in_messages.load(Relaxed)]
}

#[tokio::test]
async fn a_few_scopes_are_stored_each_by_itself_and_many_as_a_batch() {
    let Some(server) = NatsServer::durable() else { return };
    let state = open_one(&server).await;
    let scopes = scopes(40);
    write(&state, &scopes, "k", b"1").await;
    let [sent, answered] = traffic(&state);
    write(&state, &scopes, "k", b"2").await;
    assert_eq!(traffic(&state), [sent + 40, answered + 1], "no reads: the heads are remembered");
    write(&state, &scopes[..10], "k", b"2").await;
    assert_eq!(traffic(&state), [sent + 50, answered + 11]);
    for scope in &scopes {
        assert_eq!(state.get(scope, "k").await.unwrap().unwrap().value, "2");
    }
}

#[tokio::test]
async fn scopes_that_another_node_wrote_do_not_keep_the_others_of_a_batch_from_being_stored() {
    let Some(server) = NatsServer::durable() else { return };
    let (state, other) = (open_one(&server).await, open_one(&server).await);
    let scopes = scopes(40);
    write(&state, &scopes, "k", b"1").await;
    write(&other, &scopes[3..5], "other", b"1").await;
    write(&state, &scopes, "k", b"2").await;
    for (at, scope) in scopes.iter().enumerate() {
        assert_eq!(state.get(scope, "k").await.unwrap().unwrap().value, "2");
        assert_eq!(state.get(scope, "other").await.unwrap().is_some(), (3..5).contains(&at));
    }
}

#[tokio::test]
async fn what_has_gathered_in_the_heads_of_several_scopes_is_moved_at_once() {
    const GATHERED: usize = 3;
    let Some(server) = NatsServer::durable() else { return };
    let state = open_one(&server).await;
    let scopes = scopes(30);
    let value = [7; record::GATHERED / GATHERED];
    for key in ["k0", "k1"] {
        write(&state, &scopes, key, &value).await;
    }
    let [sent, answered] = traffic(&state);
    for key in ["k2", "k3"] {
        write(&state, &scopes, key, &value).await;
    }
    // Between the two all entries, with the heads that have them no longer.
    let moved = 30 * (GATHERED as u64 + 1);
    assert_eq!(traffic(&state), [sent + 30 + moved + 30, answered + 3]);
    for scope in &scopes {
        let copy = state.export(scope).await.unwrap();
        assert_eq!(copy.version, Version::new(4));
        assert!(copy.entries.len() == 4 && copy.entries.iter().all(|(_, entry)| entry.value == value[..]));
    }
}

#[tokio::test]
async fn a_full_broker_refuses_and_keeps_what_it_has() {
    let config = "max_payload: 8MB\njetstream { sync_interval: always, max_file_store: 4MB }";
    let Some(server) = NatsServer::start(config) else { return };
    let state = open(&server).await;
    let mut kept = 0;
    let refused = loop {
        let batch = Batch::new(scope(&kept.to_string())).put("k", vec![1; ByteSize::from_kib(512).bytes() as usize]);
        match state.commit(batch).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 20, "4 MB do not hold that");
    };
    assert!(matches!(refused, StateError::Full { .. }), "{refused:?}");
    assert!(kept > 0 && refused.is_retryable());
    for i in 0..kept {
        assert!(state.get(&scope(&i.to_string()), "k").await.unwrap().is_some());
    }
    assert_eq!(state.get(&scope(&kept.to_string()), "k").await.unwrap(), None);
}

#[tokio::test]
async fn a_broker_that_is_gone_is_an_error_at_once_and_changes_nothing() {
    let Some(mut server) = NatsServer::durable() else { return };
    let state = open(&server).await;
    state.commit(counted(1)).await.unwrap();
    let client = state.shared.link.broker.client();
    server.kill();
    // A request finds the connection closed.
    while state.shared.link.broker.is_connected() {
        drop(client.flush().await);
        tokio::task::yield_now().await;
    }
    let refused = state.commit(counted(2)).await;
    assert!(matches!(refused, Err(StateError::Unavailable { .. })), "{refused:?}");
    server.restart();
    let again = open(&server).await;
    assert_eq!(again.head(&scope("s"), Timestamp::default()).await.unwrap().version, Version::new(1));
}
