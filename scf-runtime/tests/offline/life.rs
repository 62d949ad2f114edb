//! A process of a fleet that runs until it is killed, told what to do by lines and saying what it did by lines.

use std::{error::Error, io::BufRead as _, path::Path, sync::Arc, time::Duration};

use async_nats::ConnectOptions;
use scf_core::{Clock, FunctionName, InvocationId, NodeId, QueuedCall};
use scf_runtime::{
    Fabric, NativeFactory, SystemClock,
    transport::{Nats, NatsError},
};
use scf_sched::Pipeline;
use scf_state::{AlwaysRemote, MemoryState, PhasedState, QueueConfig, RedbQueue, RedbState};
use tokio::sync::mpsc;

use crate::{edge, hub};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Keys that the calls are spread over, and tasks that accept them: each has keys of its own, so that calls of a key are
/// accepted in the order of their numbers.
pub(crate) const KEYS: u64 = 64;
pub(crate) const CLIENTS: u64 = 16;
/// How long a process waits at most before it tries to reach the broker again.
const RECONNECT: Duration = Duration::from_millis(500);

/// Which of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Accepts calls that belong to the hub.
    Edge,
    /// Runs them.
    Hub,
}

/// What one process is to do.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) role: Role,
    pub(crate) folder: String,
    pub(crate) broker: String,
    pub(crate) calls: u64,
    /// The first call that is not known to be accepted.
    pub(crate) from: u64,
}

impl Life {
    pub(crate) fn to_args(&self) -> Vec<String> {
        let role = match self.role {
            Role::Edge => "--edge",
            Role::Hub => "--hub",
        };
        let (calls, from) = (self.calls.to_string(), self.from.to_string());
        vec![role.to_owned(), self.folder.clone(), self.broker.clone(), calls, from]
    }

    /// The life that this process was started for, if it was.
    pub(crate) fn of_this_process() -> Option<Self> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let [role, folder, broker, calls, from] = &args[..] else { return None };
        let role = match role.as_str() {
            "--edge" => Role::Edge,
            "--hub" => Role::Hub,
            _ => return None,
        };
        let (calls, from) = (calls.parse().ok()?, from.parse().ok()?);
        Some(Self { role, folder: folder.clone(), broker: broker.clone(), calls, from })
    }

    /// Lives it.
    pub(crate) fn live(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            match self.role {
                Role::Edge => edge::live(self).await,
                Role::Hub => hub::live(self).await,
            }
        })
    }

    /// The process's part of the fleet, on what it left in its folder.
    pub(crate) async fn join(&self, natives: NativeFactory) -> Result<Joined> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let state = Arc::new(RedbState::open(Path::new(&self.folder).join("state"))?);
        let queue = Arc::new(RedbQueue::open(Arc::clone(&state), Arc::clone(&clock), QueueConfig::default()).await?);
        let here = match self.role {
            Role::Edge => NodeId::new("edge")?,
            Role::Hub => hub(),
        };
        let home = Arc::clone(&state);
        let local = Arc::new(MemoryState::new());
        let phased = PhasedState::new(here.clone(), home, local, Arc::new(AlwaysRemote), Arc::clone(&clock));
        let options = || {
            let delay = |attempts| Duration::from_millis(20 * attempts as u64).min(RECONNECT);
            ConnectOptions::new().reconnect_delay_callback(delay)
        };
        // The broker may be killed while this process starts.
        let client = loop {
            match options().connect(&self.broker).await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let nats = loop {
            match Nats::builder(client.clone()).node(here.clone()).join().await {
                Err(NatsError::Unconfirmed { .. }) => {}
                joined => break Arc::new(joined?),
            }
        };
        let fabric = Fabric::builder()
            .node(scf_core::Node::new(here.clone(), scf_core::Tier::Edge))
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(natives))
            .state(here, Arc::new(phased))
            .clock(clock)
            .queue(Arc::clone(&queue) as _)
            .join(nats)
            .build()?;
        Ok(Joined { fabric, state, queue })
    }
}

/// A process's part of the fleet.
pub(crate) struct Joined {
    pub(crate) fabric: Fabric,
    pub(crate) state: Arc<RedbState>,
    pub(crate) queue: Arc<RedbQueue>,
}

/// The lines that the supervisor says.
pub(crate) fn told() -> mpsc::UnboundedReceiver<String> {
    let (sender, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(std::result::Result::ok);
        // It ends when nobody listens any more.
        lines.map(|line| sender.send(line)).find(std::result::Result::is_err)
    });
    told
}

pub(crate) fn hub() -> NodeId {
    NodeId::new("hub").expect("the literal is a name")
}

pub(crate) fn function() -> FunctionName {
    FunctionName::new("effect").expect("the literal is a name")
}

pub(crate) fn id(number: u64) -> InvocationId {
    InvocationId::new(u128::from(number) + 1)
}

pub(crate) fn key(number: u64) -> String {
    (number % KEYS).to_string()
}

pub(crate) fn call(number: u64) -> QueuedCall {
    QueuedCall::new(id(number), function(), number.to_string()).key(key(number)).destination(hub())
}
