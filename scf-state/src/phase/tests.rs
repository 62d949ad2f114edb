//! Scopes between a home and nodes that come, go and are cut off.

use std::{sync::Arc, time::Duration};

use scf_core::{
    Batch, Bytes, Clock as _, Commit, Disk, Fence, FunctionName, InvocationId, ManualClock, NodeId, Opened, Phase,
    PhasePolicy, Scope, StateBackend, StateError, StateSession, StateStore, Subject, Transport as _, Version,
};

use super::*;
use crate::{
    disk::MemoryDisk,
    loopback::{Cut, Loopback},
    redb::RedbState,
    remote::{RemoteState, StateServer},
};

const REQUEST: Duration = Duration::from_millis(10);

struct World {
    clock: ManualClock,
    net: Arc<Loopback>,
    home: Arc<RedbState>,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new();
        let net = Arc::new(Loopback::default());
        net.pace(clock.clone(), REQUEST);
        let home = Arc::new(RedbState::on(Arc::new(MemoryDisk::new())).unwrap());
        let server = StateServer::new(Arc::clone(&home) as _, Arc::new(clock.clone()));
        net.attach(&node("home"), Subject::State, Arc::new(server)).unwrap();
        Self { clock, net, home }
    }

    fn store(&self, name: &str, disk: &Arc<MemoryDisk>, policy: impl PhasePolicy) -> PhasedState {
        let remote = RemoteState::new(Arc::clone(&self.net) as _, node(name), node("home"));
        let local = RedbState::on(Arc::clone(disk) as Arc<dyn Disk>).unwrap();
        let clock = Arc::new(self.clock.clone());
        PhasedState::new(node(name), Arc::new(remote), Arc::new(local), Arc::new(policy), clock)
    }

    async fn home_value(&self) -> Option<Bytes> {
        self.home.get(&scope(), "count").await.unwrap().map(|entry| entry.value)
    }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn scope() -> Scope {
    Scope { function: FunctionName::new("counter").unwrap(), key: "door-7".into() }
}

fn disk() -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::new())
}

fn session(opened: Opened) -> Box<dyn StateSession> {
    match opened {
        Opened::Session(session) => session,
        other => panic!("{other:?}"),
    }
}

/// One call of a function that counts its calls.
async fn call(store: &PhasedState, id: u128) -> Result<u64, StateError> {
    let number = |bytes: &Bytes| std::str::from_utf8(bytes).unwrap().parse::<u64>().unwrap();
    let session = match store.open(&scope(), InvocationId::new(id)).await? {
        Opened::Done(result) => return Ok(number(&result)),
        opened => session(opened),
    };
    let count = session.get("count").await?.map_or(0, |bytes| number(&bytes)) + 1;
    session.put("count", count.to_string().into());
    match session.commit(count.to_string().into()).await? {
        Commit::Applied { .. } => Ok(count),
        Commit::Duplicate { result } => Ok(number(&result)),
        other => panic!("{other:?}"),
    }
}

fn is_local(store: &PhasedState) -> bool {
    matches!(store.phase(&scope()), Phase::Local(_))
}

#[tokio::test]
async fn goes_local_when_calls_are_frequent_and_returns_when_they_stop() {
    let world = World::new();
    let store = world.store("edge", &disk(), SkiRental::default());
    let mut changes = store.changes();
    let mut local_from = None;
    for i in 1..=30u64 {
        assert_eq!(call(&store, i.into()).await, Ok(i));
        if is_local(&store) {
            local_from.get_or_insert(i);
        }
        world.clock.advance(Duration::from_millis(100));
    }
    // Four requests of 10 ms a call and 40 ms to move: it breaks even on the second call of the burst.
    assert_eq!(local_from, Some(3));
    let before = world.net.requests();
    assert_eq!(call(&store, 31).await, Ok(31));
    store.maintain().await;
    assert_eq!(world.net.requests(), before, "a local call needs no network");
    assert_eq!(world.home_value().await, Some("2".into()));

    world.clock.advance(Duration::from_secs(5) + Duration::from_millis(1));
    store.maintain().await;
    assert_eq!(store.phase(&scope()), Phase::Remote);
    assert_eq!(world.home_value().await, Some("31".into()));
    assert_eq!(world.home.head(&scope(), world.clock.now()).await.unwrap().owner, None);
    let mut phases = Vec::new();
    while let Ok(change) = changes.try_recv() {
        phases.push(change.phase.as_str());
    }
    assert_eq!(phases, ["acquiring", "local", "draining", "remote"]);
    assert_eq!(call(&store, 32).await, Ok(32));
}

#[tokio::test]
async fn the_same_invocation_counts_once_in_whatever_phases_it_is_repeated() {
    let world = World::new();
    let store = world.store("edge", &disk(), AlwaysLocal);
    assert_eq!(call(&store, 1).await, Ok(1));
    assert_eq!(call(&store, 2).await, Ok(2));
    assert!(is_local(&store));
    assert_eq!(call(&store, 1).await, Ok(1), "ran remote, repeated local");
    assert_eq!(call(&store, 2).await, Ok(2), "ran local, repeated local");
    store.drain().await.unwrap();
    assert_eq!(store.phase(&scope()), Phase::Remote);
    assert_eq!(call(&store, 2).await, Ok(2), "ran local, repeated remote");
    let other = world.store("other", &disk(), AlwaysRemote);
    assert_eq!(call(&other, 2).await, Ok(2), "ran local, repeated on another node");
    assert_eq!(call(&other, 3).await, Ok(3));
}

#[tokio::test]
async fn a_local_scope_goes_on_while_home_is_cut_off_and_is_published_when_it_heals() {
    let world = World::new();
    let store = world.store("edge", &disk(), SkiRental::default());
    for i in 1..=3 {
        assert_eq!(call(&store, i).await, Ok(i as u64));
    }
    assert!(is_local(&store));
    world.net.cut(Cut::Before);
    for i in 4..=50 {
        assert_eq!(call(&store, i).await, Ok(i as u64));
    }
    world.clock.advance(Duration::from_secs(3600));
    store.maintain().await;
    assert!(is_local(&store), "it stays local until it is published");
    assert_eq!(call(&store, 51).await, Ok(51), "beyond the lease too");

    world.net.heal();
    world.clock.advance(Duration::from_secs(3600));
    store.maintain().await;
    assert_eq!(store.phase(&scope()), Phase::Remote);
    assert_eq!(world.home_value().await, Some("51".into()));
    assert_eq!(store.losses(), 0);
}

#[tokio::test]
async fn an_answer_that_is_lost_while_publishing_neither_loses_nor_doubles_anything() {
    let world = World::new();
    let store = world.store("edge", &disk(), SkiRental::default());
    for i in 1..=10 {
        call(&store, i).await.unwrap();
    }
    world.net.cut(Cut::After);
    world.clock.advance(Duration::from_secs(6));
    store.maintain().await;
    assert!(is_local(&store), "nobody knows whether home has it");
    assert_eq!(call(&store, 11).await, Ok(11));
    world.net.heal();
    world.clock.advance(Duration::from_secs(6));
    store.maintain().await;
    assert_eq!(store.phase(&scope()), Phase::Remote);
    assert_eq!(world.home_value().await, Some("11".into()));
    assert_eq!((call(&store, 11).await, call(&store, 12).await), (Ok(11), Ok(12)));
    assert_eq!(store.losses(), 0);
}

#[tokio::test]
async fn a_second_node_is_refused_while_the_first_holds_the_scope() {
    let world = World::new();
    let first = world.store("first", &disk(), AlwaysLocal);
    let second = world.store("second", &disk(), AlwaysLocal);
    call(&first, 1).await.unwrap();
    let during = session(second.open(&scope(), InvocationId::new(90)).await.unwrap());
    during.put("count", "stale".into());
    call(&first, 2).await.unwrap();
    let late = during.commit("stale".into()).await;
    assert!(matches!(late, Err(StateError::Held { .. })), "it was taken during the call: {late:?}");
    let held = call(&second, 3).await;
    assert!(matches!(&held, Err(StateError::Held { owner, .. }) if *owner == node("first")), "{held:?}");
    first.drain().await.unwrap();
    assert_eq!(call(&second, 3).await, Ok(3));
    world.clock.advance(PhaseConfig::default().retry);
    assert_eq!(call(&second, 4).await, Ok(4));
    assert!(is_local(&second));
}

#[tokio::test]
async fn a_stale_owner_is_fenced_and_its_commits_are_set_aside() {
    let world = World::new();
    let first = world.store("first", &disk(), AlwaysLocal);
    let second = world.store("second", &disk(), AlwaysRemote);
    for i in 1..=5 {
        call(&first, i).await.unwrap();
    }
    let Phase::Local(fence) = first.phase(&scope()) else { panic!("local") };
    world.clock.advance(PhaseConfig::default().lease);
    // The first is paused; the second takes what home has, which is the state before the local phase.
    assert_eq!(call(&second, 10).await, Ok(2));
    let late = world.home.commit(Batch::new(scope()).fence(fence).put("count", "stale")).await;
    assert!(matches!(late, Err(StateError::Fenced { .. })), "{late:?}");

    first.maintain().await;
    assert_eq!((first.phase(&scope()), first.losses()), (Phase::Remote, 1));
    assert_eq!(world.home_value().await, Some("2".into()), "the new owner's state stands");
    let copy = first.set_aside(&scope(), fence.epoch).await.unwrap();
    assert_eq!((copy.version, copy.results.len()), (Version::new(5), 5));
    assert_eq!(copy.entries[0].1.value, "5");
    assert_eq!(call(&first, 11).await, Ok(3));
}

#[tokio::test]
async fn a_restart_in_the_local_phase_goes_on_local_with_home_and_without() {
    for cut in [None, Some(Cut::Before)] {
        let world = World::new();
        let edge = disk();
        let first = world.store("edge", &edge, AlwaysLocal);
        for i in 1..=5 {
            call(&first, i).await.unwrap();
        }
        let power_cut = Arc::new(edge.power_cut(7));
        drop(first);
        if let Some(cut) = cut {
            world.net.cut(cut);
        }
        let again = world.store("edge", &power_cut, AlwaysLocal);
        assert_eq!(call(&again, 5).await, Ok(5), "{cut:?}");
        assert_eq!(call(&again, 6).await, Ok(6), "{cut:?}");
        assert!(is_local(&again));
        world.net.heal();
        again.drain().await.unwrap();
        assert_eq!(world.home_value().await, Some("6".into()), "{cut:?}");
    }
}

#[tokio::test]
async fn a_scope_that_a_former_process_left_local_is_published_though_nobody_calls() {
    let world = World::new();
    let edge = disk();
    let first = world.store("edge", &edge, AlwaysLocal);
    for i in 1..=5 {
        call(&first, i).await.unwrap();
    }
    drop(first);
    let again = world.store("edge", &edge, SkiRental::default());
    again.maintain().await;
    assert!(is_local(&again), "it waits for calls first");
    world.clock.advance(Duration::from_secs(60));
    again.maintain().await;
    assert_eq!(again.phase(&scope()), Phase::Remote);
    assert_eq!(world.home_value().await, Some("5".into()));
    assert_eq!(again.local_scopes(), 0);
}

#[tokio::test]
async fn a_restart_between_publishing_and_clearing_loses_nothing_and_warns_of_nothing() {
    let world = World::new();
    let edge = disk();
    let store = world.store("edge", &edge, AlwaysLocal);
    for i in 1..=5 {
        call(&store, i).await.unwrap();
    }
    // Home gets everything; the local store fails before it is cleared.
    edge.fill_up_after(0);
    store.drain().await.unwrap();
    assert_eq!(world.home_value().await, Some("5".into()));
    let image = Arc::new(edge.power_cut(1));
    drop(store);
    let again = world.store("edge", &image, AlwaysRemote);
    assert_eq!(call(&again, 5).await, Ok(5));
    assert_eq!(call(&again, 6).await, Ok(6));
    assert_eq!((again.phase(&scope()), again.losses()), (Phase::Remote, 0));
    assert_eq!(world.home_value().await, Some("6".into()));
}

#[tokio::test]
async fn a_scope_leaves_a_local_store_that_fails() {
    let world = World::new();
    let edge = disk();
    let store = world.store("edge", &edge, AlwaysLocal);
    for i in 1..=5 {
        call(&store, i).await.unwrap();
    }
    edge.fill_up_after(0);
    assert!(call(&store, 6).await.is_err());
    store.maintain().await;
    assert_eq!(store.phase(&scope()), Phase::Remote);
    assert_eq!(call(&store, 6).await, Ok(6));
    assert_eq!(world.home_value().await, Some("6".into()));
}

#[tokio::test]
async fn a_session_sees_its_own_changes_and_dropping_it_undoes_them() {
    let world = World::new();
    let store = world.store("edge", &disk(), AlwaysLocal);
    for (round, phase) in ["remote", "local"].into_iter().enumerate() {
        let id = InvocationId::new(round as u128);
        let first = session(store.open(&scope(), id).await.unwrap());
        assert_eq!(first.phase().as_str(), phase);
        first.put("a", "1".into());
        first.put("\0odd", "2".into());
        first.delete("b");
        assert_eq!(first.get("a").await, Ok(Some("1".into())));
        assert_eq!(first.get("b").await, Ok(None));
        drop(first);
        let second = session(store.open(&scope(), id).await.unwrap());
        let before = (round > 0).then(|| Bytes::from("kept"));
        assert_eq!(second.get("a").await, Ok(before.clone()), "{phase}");
        assert_eq!(second.get("\0odd").await, Ok(before), "{phase}");
        second.put("a", "kept".into());
        second.put("\0odd", "kept".into());
        assert!(matches!(second.commit(Bytes::new()).await, Ok(Commit::Applied { .. })));
    }
    store.drain().await.unwrap();
    let entries = world.home.export(&scope()).await.unwrap().entries;
    let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["\0odd", "a"], "no record of ours is published");
}

#[tokio::test]
async fn a_scope_that_is_too_large_for_memory_is_read_from_the_local_store() {
    let world = World::new();
    let local = Arc::new(RedbState::on(disk()).unwrap());
    let config = PhaseConfig { resident: scf_core::ByteSize::from_bytes(64), ..PhaseConfig::default() };
    let clock = Arc::new(world.clock.clone());
    let store =
        PhasedState::with(node("edge"), Arc::clone(&world.home) as _, local, Arc::new(AlwaysLocal), clock, config)
            .unwrap();
    for i in 0..4u8 {
        let session = session(store.open(&scope(), InvocationId::new(i.into())).await.unwrap());
        if i > 0 {
            assert_eq!(session.get("v").await, Ok(Some(vec![i - 1; 40].into())));
            assert_eq!(session.get("\0v").await, Ok(Some(vec![i - 1; 40].into())));
        }
        session.put("v", vec![i; 40].into());
        session.put("\0v", vec![i; 40].into());
        session.commit(Bytes::new()).await.unwrap();
    }
    assert!(is_local(&store));
}

#[tokio::test]
async fn calls_of_one_scope_run_one_after_the_other() {
    let world = World::new();
    let store = Arc::new(world.store("edge", &disk(), AlwaysLocal));
    let tasks: Vec<_> = (1..=40u128)
        .map(|id| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { call(&store, id).await.unwrap() })
        })
        .collect();
    let mut counts = Vec::new();
    for task in tasks {
        counts.push(task.await.unwrap());
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=40).collect::<Vec<u64>>());
}

#[tokio::test]
async fn idle_remote_scopes_are_forgotten_at_the_bound_and_busy_ones_are_not() {
    let world = World::new();
    let local = Arc::new(RedbState::on(disk()).unwrap());
    let config = PhaseConfig { scopes: 2, ..PhaseConfig::default() };
    let clock = Arc::new(world.clock.clone());
    let home = Arc::clone(&world.home) as _;
    let store = PhasedState::with(node("edge"), home, local, Arc::new(AlwaysRemote), clock, config).unwrap();
    let of = |key: &str| Scope { key: key.into(), ..scope() };
    let id = InvocationId::new(1);
    let one = store.open(&of("1"), id).await.unwrap();
    let two = store.open(&of("2"), id).await.unwrap();
    let full = store.open(&of("3"), id).await;
    assert!(matches!(full, Err(StateError::Unavailable { .. })), "{full:?}");
    drop(two);
    let three = store.open(&of("3"), id).await.unwrap();
    drop((one, three));
}

#[test]
fn a_backend_that_gives_less_than_is_asked_is_refused_at_once() {
    let memory = || Arc::new(crate::MemoryState::new());
    let clock = Arc::new(ManualClock::new());
    let asked = PhaseConfig::default();
    let refused = PhasedState::with(node("edge"), memory(), memory(), Arc::new(AlwaysLocal), clock, asked);
    assert!(matches!(refused, Err(StateError::Durability { .. })), "{refused:?}");
}

/// The record keeps a fence across versions of this program.
#[test]
fn the_home_record_decodes_what_was_stored() {
    let record = naming::HomeRecord { fence: Fence { epoch: 2, nonce: 3 }, base: Version::new(4) };
    assert_eq!(naming::HomeRecord::decode(&scope(), &[2, 3, 4]), Ok(record));
}

/// Opens the scope for call `id`, adds one to the count and answers the commit, which has not begun.
async fn counted(store: &PhasedState, id: u128) -> (u64, Box<dyn StateSession>) {
    let session = session(store.open(&scope(), InvocationId::new(id)).await.unwrap());
    let before = session.get("count").await.unwrap();
    let count = before.map_or(0, |bytes| std::str::from_utf8(&bytes).unwrap().parse::<u64>().unwrap()) + 1;
    session.put("count", count.to_string().into());
    (count, session)
}

#[tokio::test]
async fn a_call_begins_while_the_commits_before_it_are_under_way_and_its_output_waits_for_them() {
    let world = World::new();
    let edge = disk();
    let store = world.store("edge", &edge, AlwaysLocal);
    for i in 1..=2 {
        call(&store, i).await.unwrap();
    }
    let (third, session) = counted(&store, 3).await;
    edge.hold_syncs(true);
    let mut commit = session.commit("3".into());
    assert!(futures::poll!(commit.as_mut()).is_pending(), "it is not on the disk yet");
    let (fourth, session) = counted(&store, 4).await;
    assert_eq!((third, fourth, session.turn()), (3, 4, 2));
    let gate = session.output().expect("a commit is under way");
    let mut opened = Box::pin(gate.open());
    assert!(futures::poll!(opened.as_mut()).is_pending(), "nothing is sent before what it may have read is safe");
    edge.hold_syncs(false);
    assert!(matches!(commit.await, Ok(Commit::Applied { .. })));
    assert_eq!(opened.await, Ok(()));
    assert!(matches!(session.commit("4".into()).await, Ok(Commit::Applied { .. })));
    assert_eq!((call(&store, 3).await, call(&store, 5).await), (Ok(3), Ok(5)));
}

#[tokio::test]
async fn calls_that_saw_a_commit_that_failed_fail_too_and_succeed_when_they_are_run_again() {
    let world = World::new();
    let edge = disk();
    let store = world.store("edge", &edge, AlwaysLocal);
    for i in 1..=2 {
        call(&store, i).await.unwrap();
    }
    let (_, third) = counted(&store, 3).await;
    // The second was committed before: nothing of this try counts.
    let again = session(store.open(&Scope { key: "other".into(), ..scope() }, InvocationId::new(2)).await.unwrap());
    drop((third, again));
    let (count, session) = counted(&store, 9).await;
    edge.hold_syncs(true);
    let mut commit = session.commit(count.to_string().into());
    assert!(futures::poll!(commit.as_mut()).is_pending());
    let (after, next) = counted(&store, 10).await;
    assert_eq!((count, after), (3, 4));
    // Given up while it is under way: nobody knows what came of it.
    drop(commit);
    edge.hold_syncs(false);
    let turn = next.turn();
    let next = next.commit("4".into()).await;
    let seen = session_turn(&store, 11).await;
    assert!(seen != turn + 1, "an isolate that saw it does not go on: {next:?}");
    assert_eq!(call(&store, 9).await, Ok(3), "it was applied, or it is now");
    let last = call(&store, 10).await.unwrap();
    assert!(last == 4 || last == 5, "{last}");
    assert_eq!(call(&store, 12).await, Ok(last + 1));
}

async fn session_turn(store: &PhasedState, id: u128) -> u64 {
    session(store.open(&scope(), InvocationId::new(id)).await.unwrap()).turn()
}

#[tokio::test]
async fn remote_calls_run_beside_each_other_where_they_may_and_conflict_only_on_what_they_read() {
    let world = World::new();
    let local = Arc::new(RedbState::on(disk()).unwrap());
    let config = PhaseConfig { beside: 8, ..PhaseConfig::default() };
    let clock = Arc::new(world.clock.clone());
    let home = Arc::clone(&world.home) as _;
    let store = PhasedState::with(node("edge"), home, local, Arc::new(AlwaysRemote), clock, config).unwrap();
    let open = async |id| session(store.open(&scope(), InvocationId::new(id)).await.unwrap());
    let (first, second, third) = (open(1).await, open(2).await, open(3).await);
    for session in [&first, &second] {
        assert_eq!(session.get("count").await, Ok(None));
        session.put("count", "1".into());
    }
    third.put("seen", "yes".into());
    assert!(matches!(first.commit("1".into()).await, Ok(Commit::Applied { .. })));
    assert!(matches!(third.commit("".into()).await, Ok(Commit::Applied { .. })), "it read nothing");
    let late = second.commit("1".into()).await;
    assert!(matches!(late, Err(StateError::Conflict { .. })), "{late:?}");
    assert_eq!(call(&store, 2).await, Ok(2));
}

#[tokio::test]
async fn a_scope_moves_to_another_node_with_what_was_changed_while_it_was_copied() {
    let world = World::new();
    let (first, second) = (world.store("first", &disk(), AlwaysLocal), world.store("second", &disk(), AlwaysLocal));
    for i in 1..=5 {
        call(&first, i).await.unwrap();
    }
    let moving = scope();
    let (moved, during) = tokio::join!(first.hand_over(&moving, &second), call(&first, 6));
    assert!(moved.is_ok(), "{moved:?}");
    assert!(is_local(&second) && first.phase(&scope()) == Phase::Remote);
    if during.is_err() {
        assert!(matches!(during, Err(StateError::Held { .. })), "{during:?}");
    }
    assert_eq!((call(&second, 6).await, call(&second, 3).await, call(&second, 7).await), (Ok(6), Ok(3), Ok(7)));
    let held = call(&first, 8).await;
    assert!(matches!(&held, Err(StateError::Held { owner, .. }) if *owner == node("second")), "{held:?}");
    second.hand_over(&scope(), &first).await.unwrap();
    assert_eq!((call(&first, 8).await, first.losses(), second.losses()), (Ok(8), 0, 0));
}

#[tokio::test]
async fn no_more_scopes_are_local_than_there_may_be_and_those_called_most_stay() {
    let world = World::new();
    let store = world.store("edge", &disk(), SkiRental { scopes: 2, ..SkiRental::default() });
    let of = |key: u32| Scope { key: key.to_string(), ..scope() };
    let mut id = 0;
    let mut call = async |key: u32| {
        id += 1;
        let session = session(store.open(&of(key), InvocationId::new(id)).await.unwrap());
        session.put("called", id.to_string().into());
        session.commit(Bytes::new()).await.unwrap();
        world.clock.advance(Duration::from_millis(20));
    };
    store.maintain().await;
    for round in 0..200 {
        for key in 0..5 {
            call(key).await;
        }
        store.maintain().await;
        assert!(store.local_scopes() <= 2, "round {round}");
    }
    assert_eq!(store.local_scopes(), 2);
    // One that is called far more often takes a place.
    let cold = (0..5).find(|&key| store.phase(&of(key)) == Phase::Remote).unwrap();
    for round in 0..400 {
        for _ in 0..20 {
            call(cold).await;
        }
        if round % 20 == 0 {
            for key in 0..5 {
                call(key).await;
            }
        }
        store.maintain().await;
        if matches!(store.phase(&of(cold)), Phase::Local(_)) {
            return;
        }
    }
    panic!("{cold} is still remote");
}
