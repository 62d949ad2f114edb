//! One run: so many clients, one policy, on a fabric of its own.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use scf::{
    core::{
        Clock, Durability, Function, FunctionName, Invocation, Limits, Name, Node, NodeId, PhasePolicy, Reuse,
        StateStore, Tier,
    },
    runtime::{Fabric, SystemClock},
    sched::Pipeline,
    state::{MemoryState, PhaseConfig, PhasedState},
};

use crate::{
    random::Random,
    session::{LOCAL, SESSION, SlowHome, client_key, natives},
};

/// A second of the paper is so many here.
pub(crate) const SCALE: f64 = 0.01;
/// Calls of a client per second: 0.075 in the paper.
pub(crate) const RATE: f64 = 7.5;
/// Containers of the paper: calls that run at the same time.
pub(crate) const SLOTS: u32 = 40;

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// Before anything is measured.
    pub(crate) warm_up: Duration,
    /// While it is.
    pub(crate) measured: Duration,
}

/// What came of a run, in seconds of the paper.
#[derive(Clone, Debug)]
pub(crate) struct Arm {
    /// Local scopes, as a mean over the time that was measured.
    pub(crate) local: f64,
    /// Response times in ascending order.
    pub(crate) responses: Vec<f64>,
    pub(crate) failed: usize,
    /// Of the machine's cores, what the process used.
    pub(crate) cores: f64,
}

impl Arm {
    pub(crate) fn mean(&self) -> f64 {
        self.responses.iter().sum::<f64>() / self.responses.len().max(1) as f64
    }

    /// The response time that a share `of` of the calls does not exceed.
    pub(crate) fn quantile(&self, of: f64) -> f64 {
        let at = (of * self.responses.len() as f64) as usize;
        self.responses.get(at.min(self.responses.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// A time of which no part tells how long the rest is.
pub(crate) fn exponential(random: &mut Random, mean: f64) -> f64 {
    -mean * (1.0 - random.unit()).ln()
}

/// Runs `clients` clients on `slots` slots under `policy`; `tick` is told how much of it has passed, from 0 to 1.
pub(crate) async fn run(
    clients: usize,
    slots: u32,
    policy: Arc<dyn PhasePolicy>,
    length: Length,
    seed: u64,
    tick: impl Fn(f64),
) -> Result<Arm, Box<dyn Error>> {
    let clock = Arc::new(SystemClock::new());
    let home = Arc::new(SlowHome::with_sessions(clients, Arc::clone(&clock)).await?);
    // Calls of one client may overlap while its state is remote, as those of the paper do.
    let config = PhaseConfig {
        durability: Durability::Memory,
        beside: 1000,
        window: Duration::from_secs(10),
        ..PhaseConfig::default()
    };
    let (node, local, time) =
        (NodeId::new("edge")?, Arc::new(MemoryState::new()), Arc::clone(&clock) as Arc<dyn Clock>);
    let state = Arc::new(PhasedState::with(node.clone(), home, local, policy, Arc::clone(&time), config)?);
    let fabric = Fabric::builder()
        .node(Node::new(node.clone(), Tier::Edge))
        .clock(time)
        .scheduler(Arc::new(Pipeline::default()))
        .state(node, Arc::clone(&state) as Arc<dyn StateStore>)
        .isolates(Arc::new(natives(Arc::clone(&clock))?))
        .build()?;
    let limits = Limits { concurrency: slots, queue: 100_000, wall: Duration::from_secs(120), ..Limits::default() };
    let function = Function::native(FunctionName::new(SESSION)?, Name::new(SESSION)?).stateful();
    fabric.deploy(function.reuse(Reuse::Pinned).limits(limits)).await?;

    let begin = clock.now() + length.warm_up;
    let end = begin + length.measured;
    let log: Arc<Mutex<(Vec<f64>, usize)>> = Arc::default();
    let mut sources = Vec::new();
    for client in 0..clients {
        let (fabric, clock, log) = (fabric.clone(), Arc::clone(&clock), Arc::clone(&log));
        let mut random = Random::new(seed * 1000 + client as u64 + 1);
        sources.push(tokio::spawn(async move {
            let mut next = clock.now();
            loop {
                next = next + Duration::from_secs_f64(exponential(&mut random, 1.0 / RATE));
                if next >= end {
                    return;
                }
                clock.sleep(next.since(clock.now())).await;
                let work = exponential(&mut random, LOCAL.as_secs_f64() * 1e6) as u64;
                let call = Invocation::new(fabric.new_id(), function_name(), work.to_le_bytes().to_vec());
                let (fabric, clock, log) = (fabric.clone(), Arc::clone(&clock), Arc::clone(&log));
                let call = call.key(client_key(client));
                tokio::spawn(async move {
                    let start = clock.now();
                    let outcome = fabric.invoke(call).await;
                    let took = clock.now().since(start);
                    if start >= begin {
                        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                        match outcome {
                            Ok(_) => log.0.push(took.as_secs_f64() / SCALE),
                            Err(_) => log.1 += 1,
                        }
                    }
                });
            }
        }));
    }
    let (mut seen, mut looks) = (0.0, 0.0);
    let whole = (length.warm_up + length.measured).as_secs_f64();
    let mut used = 0.0;
    loop {
        let now = clock.now();
        tick((1.0 - end.since(now).as_secs_f64() / whole).clamp(0.0, 1.0));
        if now >= end {
            break;
        }
        if now >= begin {
            if looks == 0.0 {
                used = cpu();
            }
            seen += f64::from(state.local_scopes());
            looks += 1.0;
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
    let cores = (cpu() - used) / length.measured.as_secs_f64();
    for source in sources {
        source.await?;
    }
    // The calls that are still running when the time is over count too.
    clock.sleep(Duration::from_millis(600)).await;
    let (mut responses, failed) = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
    responses.sort_by(f64::total_cmp);
    fabric.shutdown().await?;
    Ok(Arm { local: seen / f64::max(looks, 1.0), responses, failed, cores })
}

fn function_name() -> FunctionName {
    FunctionName::new(SESSION).expect("a valid name")
}

/// CPU time of the process in seconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
