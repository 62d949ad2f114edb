//! The wasmtime engine that all components of a factory share.

use std::{sync::Arc, thread};

use scf_core::ByteSize;
use tokio::sync::Semaphore;
use wasmtime::{Config, Enabled, Engine, PoolingAllocationConfig, WasmFeatures};

use super::{error::WasmError, lane::Lane, ticker::Ticker};

/// Fewest instances that a pool is worth having for.
const FEWEST: u32 = 8;
/// Memory of a slot that is cleared by writing zeros instead of giving the pages back, in bytes: more than
/// the pages that a call of a small guest touches.
const KEEP_MEMORY: usize = 128 << 10;
/// The same of a table.
const KEEP_TABLE: usize = 4 << 10;
/// Stack of a guest, and stack that its host functions have in addition, in bytes.
const GUEST_STACK: usize = 256 << 10;
const HOST_STACK: usize = 256 << 10;
/// Guard after each memory in bytes. Small, as is the reservation: a pool of 64 MiB slots starts instances
/// as fast as one of 4 GiB slots and fits into 39 bits of addresses.
const GUARD: u64 = 64 << 10;
/// Elements that a table can have.
const TABLE: usize = 10_000;

/// An engine and what keeps its guests in time.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) ticker: Ticker,
    /// Where guests run on that run long.
    pub(super) lane: Lane,
    /// Instances that can be alive at the same time.
    pub(super) instances: u32,
    /// What one memory can grow to.
    pub(super) memory: ByteSize,
    /// Compilations that may run at the same time: one per core.
    pub(super) compilers: Semaphore,
}

impl Machine {
    /// An engine with a pool for `instances`, or for as many as the system gives address space for.
    pub(super) fn start(instances: u32, memory: ByteSize) -> Result<Arc<Self>, WasmError> {
        let mut instances = instances.max(1);
        let engine = loop {
            match Engine::new(&config(instances, memory)) {
                Ok(engine) => break engine,
                Err(error) if instances > FEWEST => {
                    let fewer = (instances / 2).max(FEWEST);
                    tracing::warn!(instances, fewer, %error, "no room for the pool, trying a smaller one");
                    instances = fewer;
                }
                Err(error) => return Err(WasmError::Engine { source: error.into() }),
            }
        };
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
        Ok(Arc::new(Self { engine, ticker, lane, instances, memory, compilers: Semaphore::new(cores) }))
    }
}

fn config(instances: u32, memory: ByteSize) -> Config {
    let bytes = memory.bytes();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(4))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(2))
        .total_stacks(instances)
        .max_memory_size(usize::try_from(bytes).unwrap_or(usize::MAX))
        .table_elements(TABLE)
        .max_core_instances_per_component(16)
        .max_memories_per_component(4)
        .max_tables_per_component(8)
        .linear_memory_keep_resident(KEEP_MEMORY)
        .table_keep_resident(KEEP_TABLE)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(pool)
        .memory_reservation(bytes)
        .memory_guard_size(GUARD)
        .memory_may_move(false)
        .memory_init_cow(true)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(GUEST_STACK + HOST_STACK)
        .epoch_interruption(true)
        .concurrency_support(false)
        // Frames carry names that the guest chose; the trap alone is what is reported.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false);
    // What no guest toolchain asks for by default.
    for feature in [
        WasmFeatures::MEMORY64,
        WasmFeatures::THREADS,
        WasmFeatures::TAIL_CALL,
        WasmFeatures::RELAXED_SIMD,
        WasmFeatures::GC,
        WasmFeatures::EXCEPTIONS,
        WasmFeatures::FUNCTION_REFERENCES,
        WasmFeatures::STACK_SWITCHING,
        WasmFeatures::WIDE_ARITHMETIC,
        WasmFeatures::CUSTOM_PAGE_SIZES,
        WasmFeatures::CM_ASYNC,
    ] {
        config.wasm_features(feature, false);
    }
    config
}
