//! A process that runs a fabric until it is killed: accepts calls, drains them, and says on its standard output what it
//! did.
//!
//! Lines: `up`, the fabric serves; `a N`, call N was accepted; `r`, a call ran that an earlier process accepted; `t`,
//! some milliseconds passed; `end …`, everything is settled and counted.

use std::{
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use scf_core::{
    CallState, Clock, Function, FunctionName, InvocationId, InvocationQueue as _, Name, NodeId, Payload, QueuedCall,
    Scope, StateBackend as _,
};
use scf_runtime::{Fabric, NativeError, NativeFactory, SystemClock};
use scf_sched::Pipeline;
use scf_state::{AlwaysRemote, MemoryState, PhasedState, QueueConfig, RedbQueue, RedbState};

/// Keys that the calls are spread over.
const KEYS: u64 = 61;
/// Tasks that accept.
const CLIENTS: usize = 16;
/// The payload of a call that ends its process.
pub(crate) const FATAL: &str = "fatal";

/// What one process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) folder: String,
    /// The first call that is not known to be accepted.
    pub(crate) from: u64,
    pub(crate) calls: u64,
    /// One call among them that ends its process.
    pub(crate) fatal: Option<u64>,
    /// Whether it ends by itself, once everything is settled.
    pub(crate) is_last: bool,
}

impl Life {
    pub(crate) fn to_args(&self) -> Vec<String> {
        let fatal = self.fatal.map_or_else(|| "-".to_owned(), |call| call.to_string());
        let numbers = [self.from.to_string(), self.calls.to_string(), fatal, self.is_last.to_string()];
        ["--life".to_owned(), self.folder.clone()].into_iter().chain(numbers).collect()
    }

    /// The life that this process was started for, if it was.
    pub(crate) fn of_this_process() -> Option<Self> {
        let args: Vec<String> = std::env::args().skip_while(|arg| arg != "--life").skip(1).collect();
        let [folder, from, calls, fatal, is_last, ..] = &args[..] else { return None };
        Some(Self {
            folder: folder.clone(),
            from: from.parse().ok()?,
            calls: calls.parse().ok()?,
            fatal: fatal.parse().ok(),
            is_last: is_last.parse().ok()?,
        })
    }

    /// Lives it.
    pub(crate) fn live(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
        runtime.block_on(self.run())
    }

    async fn run(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let state = Arc::new(RedbState::open(Path::new(&self.folder).join("state"))?);
        let queue = Arc::new(RedbQueue::open(Arc::clone(&state), Arc::clone(&clock), QueueConfig::default()).await?);
        let node = NodeId::new("local")?;
        let (home, local) = (Arc::clone(&state), Arc::new(MemoryState::new()));
        let phased = PhasedState::new(node.clone(), home, local, Arc::new(AlwaysRemote), Arc::clone(&clock));
        let fabric = Fabric::builder()
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(self.natives()?))
            .state(node, Arc::new(phased))
            .clock(clock)
            .queue(Arc::clone(&queue) as _)
            .build()?;
        fabric.deploy(Function::native(function(), Name::new("effect")?).stateful()).await?;
        println!("up");
        let next = Arc::new(AtomicU64::new(self.from));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(accept(fabric.clone(), Arc::clone(&next), self.clone()));
        }
        let ticks = tokio::spawn(async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                println!("t");
            }
        });
        while let Some(client) = clients.join_next().await {
            client??;
        }
        if !self.is_last {
            std::future::pending::<()>().await;
        }
        for call in 0..self.calls {
            fabric.settled(id(call)).await?;
        }
        ticks.abort();
        fabric.shutdown().await?;
        self.count(&state, &queue).await
    }

    /// A function that counts itself in the state of its key, and takes a little.
    fn natives(&self) -> Result<NativeFactory, Box<dyn Error + Send + Sync>> {
        let (from, is_first) = (self.from, Arc::new(AtomicBool::new(true)));
        let natives = NativeFactory::new().with("effect", move |call, input| {
            let is_first = Arc::clone(&is_first);
            Box::pin(async move {
                let text = String::from_utf8_lossy(&input.bytes).into_owned();
                if text == FATAL {
                    std::process::abort();
                }
                let number: u64 = text.parse().map_err(|_| NativeError::refused("not a number"))?;
                if number < from && is_first.swap(false, SeqCst) {
                    println!("r");
                }
                let state = call.state()?;
                for key in ["n".to_owned(), number.to_string()] {
                    let before = count(state.get(&key).await?.as_deref());
                    state.put(&key, (before + 1).to_le_bytes().to_vec().into());
                }
                tokio::time::sleep(Duration::from_millis(number % 4)).await;
                Ok(Payload::new(text))
            })
        })?;
        Ok(natives)
    }

    /// Says what became of every call.
    async fn count(&self, state: &RedbState, queue: &RedbQueue) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (mut completed, mut dead, mut lost, mut doubled) = (0, 0, 0, 0);
        for call in 0..self.calls {
            let scope = Scope { function: function(), key: key(call) };
            let effects = count(state.get(&scope, &call.to_string()).await?.map(|entry| entry.value).as_deref());
            doubled += effects.saturating_sub(1);
            match queue.status(id(call)).await?.map(|status| status.state) {
                Some(CallState::Completed(_)) if effects > 0 => completed += 1,
                Some(CallState::Dead(_)) => dead += 1,
                _ => lost += 1,
            }
        }
        let load = queue.load();
        assert_eq!((load.pending, load.dead), (0, dead), "the queue has nothing but the dead letters");
        for key in 0..KEYS.min(self.calls) {
            let scope = Scope { function: function(), key: key.to_string() };
            let all = state.export(&scope).await?.entries;
            let of = |name: &str| all.iter().find(|(key, _)| key == name).map(|(_, entry)| count(Some(&entry.value)));
            let each: u64 = all.iter().filter(|(key, _)| key != "n").map(|(_, entry)| count(Some(&entry.value))).sum();
            assert_eq!(of("n").unwrap_or_default(), each, "no effect on key {key} was lost");
        }
        println!("end {completed} {dead} {lost} {doubled}");
        Ok(())
    }
}

async fn accept(fabric: Fabric, next: Arc<AtomicU64>, life: Life) -> Result<(), scf_runtime::EnqueueError> {
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number >= life.calls {
            return Ok(());
        }
        let payload = if life.fatal == Some(number) { FATAL.to_owned() } else { number.to_string() };
        fabric.enqueue(QueuedCall::new(id(number), function(), payload).key(key(number))).await?;
        println!("a {number}");
    }
}

fn function() -> FunctionName {
    FunctionName::new("effect").expect("the literal is a name")
}

fn id(number: u64) -> InvocationId {
    InvocationId::new(u128::from(number) + 1)
}

fn key(number: u64) -> String {
    (number % KEYS).to_string()
}

fn count(stored: Option<&[u8]>) -> u64 {
    stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}
