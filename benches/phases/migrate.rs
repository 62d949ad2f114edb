//! A scope of 1 MiB that moves between two nodes while it is called.

use std::{collections::HashSet, error::Error, sync::Arc, time::Duration};

use futures::FutureExt as _;
use scf::{
    core::{
        Bandwidth, Batch, Bytes, Clock, Function, FunctionName, Invocation, Link, Name, Node, NodeId, Payload, Reuse,
        Scope, StateBackend as _, StateStore, Subject, Tier, Transport as _,
    },
    runtime::{Fabric, NativeError, NativeFactory, SystemClock, transport::InProcess},
    sched::Pipeline,
    state::{AlwaysLocal, Migration, PhaseConfig, PhasedState, RedbState, RemoteState, StateServer},
};

const ENTRIES: usize = 1024;
const ENTRY: usize = 1024;
const RATE: f64 = 200.0;
/// Tries of a call that found the scope between two nodes.
const TRIES: usize = 50;

/// What came of some moves.
pub(crate) struct Moves {
    /// How long the gate was closed, in milliseconds, ascending.
    closed: Vec<f64>,
    pub(crate) calls: usize,
    /// Calls that were lost or counted twice.
    pub(crate) wrong: usize,
}

impl Moves {
    pub(crate) fn closed(&self, share: f64) -> f64 {
        let at = (share * self.closed.len() as f64) as usize;
        self.closed[at.min(self.closed.len() - 1)]
    }
}

/// Counts its calls, and overwrites one of the entries with each.
fn natives() -> Result<NativeFactory, Box<dyn Error>> {
    Ok(NativeFactory::new().with("count", |call, _| {
        async move {
            let state = call.state()?;
            let text = state.get("count").await?.unwrap_or_default();
            let count = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(0u64) + 1;
            let entry =
                state.get(&key(count as usize)).await?.ok_or_else(|| NativeError::refused("an entry is gone"))?;
            if entry.len() != ENTRY {
                return Err(NativeError::refused("an entry is cut short"));
            }
            state.put(&key(count as usize), Bytes::from(vec![count as u8; ENTRY]));
            state.put("count", count.to_string().into());
            Ok(Payload::new(count.to_string()))
        }
        .boxed()
    })?)
}

fn key(number: usize) -> String {
    format!("entry-{:04}", number % ENTRIES)
}

/// Moves the scope `moves` times, by `migration`.
pub(crate) async fn run(migration: Migration, moves: usize) -> Result<Moves, Box<dyn Error>> {
    let disk = tempfile::tempdir()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let [a, b, cloud] = [NodeId::new("a")?, NodeId::new("b")?, NodeId::new("cloud")?];
    let link = Link { latency: Duration::from_micros(100), bandwidth: Bandwidth::from_mbit_per_s(10_000) };
    let network = InProcess::builder()
        .link(a.clone(), b.clone(), link)
        .link(a.clone(), cloud.clone(), link)
        .link(b.clone(), cloud.clone(), link)
        .build(Arc::clone(&clock))?;
    let network = Arc::new(network);
    let home = Arc::new(RedbState::open(disk.path().join("cloud.redb"))?);
    let scope = Scope { function: FunctionName::new("count")?, key: "one".to_owned() };
    let entries = (0..ENTRIES).fold(Batch::new(scope.clone()), |batch, entry| batch.put(key(entry), vec![0; ENTRY]));
    home.commit(entries).await?;
    network.attach(&cloud, Subject::State, Arc::new(StateServer::new(home, Arc::clone(&clock))))?;
    let mut builder = Fabric::builder()
        .transport(network.clone())
        .clock(Arc::clone(&clock))
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(Arc::new(natives()?));
    for node in [&a, &b] {
        let remote = RemoteState::new(network.clone(), node.clone(), cloud.clone());
        let local = RedbState::open(disk.path().join(format!("{node}.redb")))?;
        let config = PhaseConfig {
            migration,
            resident: scf::core::ByteSize::from_mib(2),
            retry: Duration::from_millis(10),
            ..PhaseConfig::default()
        };
        let (remote, local, policy) = (Arc::new(remote), Arc::new(local), Arc::new(AlwaysLocal));
        let state = PhasedState::with(node.clone(), remote, local, policy, Arc::clone(&clock), config)?;
        builder = builder.node(Node::new(node.clone(), Tier::Edge));
        builder = builder.state(node.clone(), Arc::new(state) as Arc<dyn StateStore>);
    }
    let fabric = builder.node(Node::new(cloud, Tier::Cloud)).build()?;
    let function = Function::native(FunctionName::new("count")?, Name::new("count")?).stateful();
    fabric.deploy(function.reuse(Reuse::Pinned).on([a.clone(), b.clone()])).await?;
    fabric.ready().await;
    fabric.move_state(&scope, &a).await?;

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let callers = tokio::spawn(callers(fabric.clone(), Arc::clone(&clock), [a.clone(), b.clone()], stopped));
    let mut closed = Vec::new();
    for number in 0..moves {
        clock.sleep(Duration::from_millis(50)).await;
        let to = if number % 2 == 0 { &b } else { &a };
        let moved = fabric.move_state(&scope, to).await?;
        closed.push(moved.closed.as_secs_f64() * 1e3);
    }
    stop.send(true)?;
    let counts = callers.await?;
    closed.sort_by(f64::total_cmp);
    // Each call has a number of its own, and the last one is as many as there were calls.
    let distinct: HashSet<u64> = counts.iter().copied().flatten().collect();
    let lost = counts.len() - distinct.len();
    let beyond = distinct.iter().filter(|count| **count > counts.len() as u64).count();
    fabric.shutdown().await?;
    Ok(Moves { closed, calls: counts.len(), wrong: lost + beyond })
}

/// Calls from both nodes in turn, one every 5 ms whether others have ended or not; what each of them counted.
async fn callers(
    fabric: Fabric,
    clock: Arc<dyn Clock>,
    nodes: [NodeId; 2],
    stopped: tokio::sync::watch::Receiver<bool>,
) -> Vec<Option<u64>> {
    let mut calls = Vec::new();
    let mut next = clock.now();
    while !*stopped.borrow() {
        next = next + Duration::from_secs_f64(1.0 / RATE);
        clock.sleep(next.since(clock.now())).await;
        let (fabric, clock, node) = (fabric.clone(), Arc::clone(&clock), nodes[calls.len() % 2].clone());
        let call = Invocation::new(fabric.new_id(), FunctionName::new("count").expect("a valid name"), Vec::new());
        let call = call.key("one");
        calls.push(tokio::spawn(async move {
            for _ in 0..TRIES {
                // The same id each time: however often it is tried, it counts once.
                match fabric.invoke_from(&node, call.clone()).await {
                    Ok(outcome) => return std::str::from_utf8(&outcome.payload.bytes).ok()?.parse().ok(),
                    Err(error) if error.is_retryable() => clock.sleep(Duration::from_millis(10)).await,
                    Err(error) => {
                        eprintln!("{error:?}");
                        return None;
                    }
                }
            }
            None
        }));
    }
    let mut counts = Vec::new();
    for call in calls {
        counts.push(call.await.unwrap_or_default());
    }
    counts
}
