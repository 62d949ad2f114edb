//! A process of the fleet: one node, which accepts calls that run on another one, and answers what it is asked.
//!
//! A question is a line on its standard input, an answer one on its standard output: `accept N`, `alone`,
//! `until NODE PRESENCE …`, `converge`, `settle`.

use std::{collections::HashMap, io::Write as _, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use scf::{
    core::{
        CallState, Clock, Durability, Function, FunctionName, Health, Invocation, InvocationId, Limits, Name, Node,
        NodeId, Payload, QueuedCall, RetryPolicy, Scope, StateBackend as _, Tier,
    },
    runtime::{
        Fabric, NativeError, NativeFactory, SystemClock,
        transport::{DataPlane, Nats},
    },
    sched::Pipeline,
    state::{AlwaysRemote, MemoryState, NatsOptions, NatsState, PhasedState, QueueConfig, RedbQueue, RedbState},
};
use tokio::sync::mpsc;

use super::{
    Result,
    network::{Network, PLACES},
};

/// The first argument of such a process.
pub(crate) const WORD: &str = "--node";
/// Where the broker takes connections, and where it tells about itself.
pub(crate) const BROKER: u16 = 4222;
pub(crate) const MONITOR: u16 = 8222;
const PLANE: u16 = 7000;
/// Keys that the calls are spread over.
const KEYS: u64 = 4;
const PAUSE: Duration = Duration::from_millis(20);
/// How long an effect may take, and how often it is tried when it took longer: a commit that is under way when the link
/// fails is waited for so long.
const WALL: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 20;
const LONGEST: Duration = Duration::from_secs(2);
/// How long one call may take that is made to see whether a node answers.
const LOOK: Duration = Duration::from_secs(1);

/// A node and what it has done.
pub(crate) struct Life {
    place: String,
    fabric: Fabric,
    home: Arc<NatsState>,
    accepted: u64,
}

impl Life {
    /// Lives as the arguments say, if this process was started for that; until who started it has ended.
    pub(crate) fn of_this_process() -> Option<Result<()>> {
        let words: Vec<String> = std::env::args().skip_while(|word| word != WORD).skip(1).collect();
        let [place, folder, ..] = &words[..] else { return None };
        Some(live(place, Path::new(folder)))
    }

    async fn begin(place: &str, folder: &Path) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let hub = Network::address("hub");
        let broker = NatsOptions::new([format!("nats://{hub}:{BROKER}")]).allow_plaintext();
        let broker = broker.monitor(format!("http://{hub}:{MONITOR}")).connect().await?;
        let id = NodeId::new(place)?;
        let listen: SocketAddr = format!("{}:{PLANE}", Network::address(place)).parse()?;
        let plane = DataPlane::new(listen).allow_plaintext();
        let nats = Nats::builder(broker.client()).allow_plaintext().node(id.clone()).data_plane(plane).join().await?;
        let home = Arc::new(NatsState::at(broker).shards(1).durability(Durability::Durable).open().await?);
        let state = Arc::new(RedbState::open(folder.join(place))?);
        let retry = RetryPolicy { attempts: ATTEMPTS, longest: LONGEST, ..RetryPolicy::default() };
        let queue = RedbQueue::open(state, Arc::clone(&clock), QueueConfig { retry, ..QueueConfig::default() }).await?;
        let local = Arc::new(MemoryState::new());
        let phased = PhasedState::new(id.clone(), home.clone(), local, Arc::new(AlwaysRemote), Arc::clone(&clock));
        let fabric = Fabric::builder()
            .node(Node::new(id.clone(), Tier::Edge))
            .clock(clock)
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(natives()?))
            .state(id, Arc::new(phased))
            .queue(Arc::new(queue))
            .join(Arc::new(nats))
            .build()?;
        let life = Self { place: place.to_owned(), fabric, home, accepted: 0 };
        life.meet().await?;
        // Its calls cross the link of `a`, whoever makes them.
        let target = if place == "a" { "b" } else { "a" };
        let limits = Limits { wall: WALL, ..Limits::default() };
        let effect = Function::native(effect_of(place)?, Name::new("effect")?).stateful().limits(limits);
        let effect = effect.on([NodeId::new(target)?]);
        let alone = Function::native(FunctionName::new("alone")?, Name::new("echo")?).on([NodeId::new(place)?]);
        let anywhere = Function::native(FunctionName::new(&format!("from-{place}"))?, Name::new("echo")?);
        for function in [effect, alone, anywhere] {
            life.fabric.deploy(function).await?;
        }
        Ok(life)
    }

    /// Waits until calls may go to all others.
    async fn meet(&self) -> Result<()> {
        for other in self.others()? {
            loop {
                let peers = self.fabric.peers();
                let is_ready = peers.iter().any(|peer| {
                    let is_alive = peer.presence == scf::runtime::transport::Presence::Alive;
                    peer.status.node.id == other && is_alive && peer.status.health == Health::Ready
                });
                if is_ready && self.fabric.path(&NodeId::new(&self.place)?, &other).is_some() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn answer(&mut self, question: &str) -> Result<String> {
        let words: Vec<&str> = question.split(' ').collect();
        match words[..] {
            ["accept", calls] => self.accept(calls.parse()?).await,
            ["alone"] => {
                let outcome = self.fabric.call(&FunctionName::new("alone")?, "x").await?;
                Ok(outcome.receipt.node.to_string())
            }
            ["until", node, ref presences @ ..] => loop {
                let peers = self.fabric.peers();
                let seen = peers.iter().find(|peer| peer.status.node.id.as_str() == node);
                let seen = seen.map(|peer| format!("{:?}", peer.presence)).unwrap_or_default();
                if presences.contains(&seen.as_str()) {
                    return Ok(seen);
                }
                tokio::time::sleep(PAUSE).await;
            },
            ["converge"] => {
                for other in self.others()? {
                    while !self.is_answered_by(&other).await? {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                self.meet().await?;
                Ok("converged".to_owned())
            }
            ["settle"] => self.settle().await,
            _ => Err(format!("not understood: {question}").into()),
        }
    }

    async fn accept(&mut self, calls: u64) -> Result<String> {
        for number in self.accepted..self.accepted + calls {
            let call = QueuedCall::new(self.id(number), effect_of(&self.place)?, number.to_string());
            self.fabric.enqueue(call.key(key(number))).await?;
        }
        self.accepted += calls;
        Ok(self.accepted.to_string())
    }

    async fn is_answered_by(&self, other: &NodeId) -> Result<bool> {
        let function = FunctionName::new(&format!("from-{}", self.place))?;
        let call = Invocation::new(self.fabric.new_id(), function, "x").on(other.clone()).patience(LOOK);
        Ok(self.fabric.invoke(call).await.is_ok_and(|outcome| outcome.receipt.node == *other))
    }

    /// Waits until every call that was accepted is done or given up, and counts: accepted, completed, given up, lost,
    /// done more than once.
    async fn settle(&self) -> Result<String> {
        let (mut completed, mut dead, mut lost, mut doubled) = (0, 0, 0, 0);
        let mut effects: HashMap<String, u64> = HashMap::new();
        for key in 0..KEYS {
            let scope = Scope { function: effect_of(&self.place)?, key: key.to_string() };
            for number in (key..self.accepted).step_by(KEYS as usize) {
                self.fabric.settled(self.id(number)).await?;
            }
            let entries = self.home.export(&scope).await?.entries;
            effects.extend(entries.into_iter().map(|(key, entry)| (key, count(Some(&entry.value)))));
        }
        for number in 0..self.accepted {
            let times = effects.get(&number.to_string()).copied().unwrap_or_default();
            doubled += times.saturating_sub(1);
            match self.fabric.outcome(self.id(number)).await?.map(|status| status.state) {
                Some(CallState::Completed(_)) if times > 0 => completed += 1,
                Some(CallState::Dead(_)) => dead += 1,
                _ => lost += 1,
            }
        }
        Ok(format!("{} {completed} {dead} {lost} {doubled}", self.accepted))
    }

    fn others(&self) -> Result<Vec<NodeId>> {
        let others = PLACES.iter().filter(|place| **place != self.place);
        Ok(others.map(|place| NodeId::new(place)).collect::<std::result::Result<_, _>>()?)
    }

    /// Calls of all nodes have ids of their own.
    fn id(&self, number: u64) -> InvocationId {
        let node = PLACES.iter().position(|place| *place == self.place).unwrap_or_default() as u128;
        InvocationId::new((node + 1) << 64 | u128::from(number))
    }
}

fn live(place: &str, folder: &Path) -> Result<()> {
    let (asks, mut questions) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::io::Result::ok) {
            // It fails when this process is about to end.
            let _ = asks.send(line);
        }
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut life = Life::begin(place, folder).await?;
        writeln!(std::io::stdout(), "up")?;
        while let Some(question) = questions.recv().await {
            let answer = life.answer(&question).await.unwrap_or_else(|error| format!("error: {error}"));
            writeln!(std::io::stdout(), "{answer}")?;
        }
        Ok(())
    })
}

/// A function that counts each of its calls in the state of its key, and one that gives what it is given.
fn natives() -> Result<NativeFactory> {
    let effect = NativeFactory::new().with("effect", |call, input| {
        Box::pin(async move {
            let number = String::from_utf8_lossy(&input.bytes).into_owned();
            let state = call.state()?;
            let before = count(state.get(&number).await?.as_deref());
            state.put(&number, (before + 1).to_le_bytes().to_vec().into());
            Ok::<_, NativeError>(Payload::new(number))
        })
    })?;
    Ok(effect.with_sync("echo", Ok)?)
}

fn effect_of(place: &str) -> Result<FunctionName> {
    Ok(FunctionName::new(&format!("effect-of-{place}"))?)
}

fn key(number: u64) -> String {
    (number % KEYS).to_string()
}

fn count(stored: Option<&[u8]>) -> u64 {
    stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}
