//! The wasmtime engine that all components of a factory share.

use std::{sync::Arc, thread};

use scf_core::ByteSize;
use tokio::sync::Semaphore;
use wasmtime::Engine;

use super::{
    account::Accounts,
    error::WasmError,
    lane::Lane,
    profile::{self, Profile},
    room::Room,
    share::Share,
    ticker::Ticker,
    warm::Idle,
};

/// An engine and what keeps its guests in time.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) ticker: Ticker,
    /// Where guests run on that run long.
    pub(super) lane: Lane,
    /// Who of the guests that run long is next.
    pub(super) share: Arc<Share>,
    pub(super) accounts: Accounts,
    /// Instances that wait for their next call.
    pub(super) idle: Idle,
    /// Instances that can be alive at the same time.
    pub(super) instances: u32,
    /// What one memory can grow to.
    pub(super) memory: ByteSize,
    /// Instructions that one call may execute, where they are counted.
    pub(super) fuel: Option<u64>,
    /// Compilations that may run at the same time: one per core.
    pub(super) compilers: Arc<Semaphore>,
}

impl Machine {
    /// An engine with a pool for `wanted` instances, or for as many as the device has room for.
    pub(super) fn start(
        profile: Profile,
        wanted: u32,
        memory: ByteSize,
        fuel: Option<u64>,
        accounts: Accounts,
    ) -> Result<Arc<Self>, WasmError> {
        let available = ByteSize::from_bytes(profile.memory());
        if memory > available {
            return Err(WasmError::ProfileMemory { profile, memory, available });
        }
        let mut instances = Room::probe().instances(profile, wanted, memory.bytes());
        let engine = loop {
            let mut config = profile::config(profile, fuel.is_some());
            config.allocation_strategy(profile::pool(profile, instances, memory.bytes()));
            match Engine::new(&config) {
                Ok(engine) => break engine,
                Err(error) if instances > 1 => {
                    tracing::debug!(instances, %error, "no room for the pool");
                    instances /= 2;
                }
                Err(error) => return Err(WasmError::Engine { source: error.into() }),
            }
        };
        if instances < wanted {
            tracing::warn!(wanted, instances, "the device has room for fewer instances");
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let ticker = Ticker::start(engine.weak()).map_err(|error| WasmError::Engine { source: error.into() })?;
        let lane = Lane::new({
            let engine = engine.weak();
            move || {
                if let Some(engine) = engine.upgrade() {
                    engine.increment_epoch();
                }
            }
        });
        let (share, idle, compilers) = (Share::new(), Idle::default(), Arc::new(Semaphore::new(cores)));
        Ok(Arc::new(Self { engine, ticker, lane, share, accounts, idle, instances, memory, fuel, compilers }))
    }
}
