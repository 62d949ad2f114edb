//! The frozen settings that components are compiled for.

use wasmtime::{Config, Enabled, PoolingAllocationConfig, WasmFeatures};

/// Stack of a guest, and stack that its host functions have in addition, in bytes.
const GUEST_STACK: usize = 256 << 10;
const HOST_STACK: usize = 256 << 10;
/// Part of a stack that is cleared by writing zeros after a call; the rest is given back. In bytes.
const KEEP_STACK: usize = 8 << 10;
/// The same of a table.
const KEEP_TABLE: usize = 4 << 10;
/// Addresses between memories that are never accessible, though no machine code relies on it. In bytes.
const GAP: u64 = 1 << 20;
/// Elements that a table can have.
pub(super) const TABLE: usize = 10_000;

/// What kind of machine components are compiled for and run on.
///
/// All settings that machine code depends on are frozen per profile: what was compiled under a profile on one
/// machine is accepted under the same profile on another of the same instruction set. They differ in how an
/// access outside of a guest's memory is caught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// Many short calls on a device with few cores: memories of up to 64 MiB that machine code checks itself.
    /// Starting and ending a guest changes no page tables, so that calls on several cores do not wait for each
    /// other, and no signal handler is installed. Stacks, which no guest can read but by a fault of the compiler,
    /// are not cleared between calls. The checks are not hardened against speculation (Spectre): a guest
    /// whose clocks are granted precisely may learn of its neighbours' memory.
    #[default]
    Gateway,
    /// Calls that compute long: memories of up to 4 GiB, surrounded by addresses that nothing can be read at.
    /// Memory accesses cost nothing extra, also when speculated, and numeric code is a sixth faster; starting a
    /// guest that grows its memory takes twice as long. Takes 4 GiB of addresses per instance, and wasmtime's
    /// handler for the signals SIGSEGV, SIGILL, SIGFPE and SIGBUS.
    Server,
    /// As [`Profile::Gateway`] where there is little memory: at most 16 MiB for a guest.
    Tiny,
}

impl Profile {
    /// What one memory can grow to at most, in bytes.
    pub(super) const fn memory(self) -> u64 {
        match self {
            Self::Gateway => 64 << 20,
            Self::Server => 4 << 30,
            Self::Tiny => 16 << 20,
        }
    }

    /// Addresses that are set aside for a memory, in bytes.
    pub(super) const fn reservation(self) -> u64 {
        match self {
            Self::Gateway | Self::Tiny => self.memory() + GAP,
            Self::Server => self.memory(),
        }
    }

    /// Addresses after that which machine code relies on not being accessible, in bytes.
    pub(super) const fn guard(self) -> u64 {
        match self {
            // With any, wasmtime would change the protection of the pages that a guest had grown by when the
            // next one starts: two system calls per call, and an interrupt of every other core.
            Self::Gateway | Self::Tiny => 0,
            Self::Server => 32 << 20,
        }
    }

    /// Instances that are pooled unless the builder says otherwise.
    pub(super) const fn instances(self) -> u32 {
        match self {
            Self::Gateway => 256,
            Self::Server => 1000,
            Self::Tiny => 16,
        }
    }

    /// Memory of an idle instance that is cleared by writing zeros instead of giving the pages back, in bytes:
    /// more than the pages that a call of a small guest touches.
    const fn keep_memory(self) -> usize {
        match self {
            Self::Gateway | Self::Server => 128 << 10,
            Self::Tiny => 32 << 10,
        }
    }

    /// What an idle instance keeps of the machine's memory, in bytes.
    pub(super) const fn resident(self) -> u64 {
        (self.keep_memory() + KEEP_STACK + 2 * KEEP_TABLE) as u64 + (16 << 10)
    }
}

/// Everything that machine code compiled under `profile` depends on: for the side that compiles and the side
/// that runs. Counting instructions (`fuel`) makes other machine code.
pub(super) fn config(profile: Profile, fuel: bool) -> Config {
    let mut config = Config::new();
    config
        .memory_reservation(profile.reservation())
        .memory_guard_size(profile.guard())
        .memory_may_move(false)
        .signals_based_traps(matches!(profile, Profile::Server))
        .memory_init_cow(true)
        .table_lazy_init(true)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(GUEST_STACK + HOST_STACK)
        .async_stack_zeroing(!matches!(profile, Profile::Gateway))
        .epoch_interruption(true)
        .consume_fuel(fuel)
        .concurrency_support(false)
        // Only debuggers and profilers ask for it; registering it would cost each load, and each function of a
        // component a piece of its machine code. Windows cannot do without.
        .native_unwind_info(cfg!(windows))
        // Frames carry names that the guest chose; the trap alone is what is reported.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false);
    // What no guest toolchain asks for by default. Several memories stay: what wasmtime itself makes to hand values
    // from one component to another has two. The screen refuses them in the guests' own modules.
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

/// A pool of `instances` for an engine of `profile`, each memory of which can grow to `memory` bytes.
/// No machine code depends on it.
pub(super) fn pool(profile: Profile, instances: u32, memory: u64) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(4))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(2))
        .total_stacks(instances)
        .max_memory_size(usize::try_from(memory).unwrap_or(usize::MAX))
        .table_elements(TABLE)
        .max_core_instances_per_component(16)
        .max_memories_per_component(4)
        .max_tables_per_component(8)
        .linear_memory_keep_resident(profile.keep_memory())
        .table_keep_resident(KEEP_TABLE)
        .async_stack_keep_resident(KEEP_STACK)
        .pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
#[cfg(all(target_arch = "x86_64", feature = "wasm"))]
mod tests {
    use std::hash::{Hash, Hasher};

    use wasmtime::Engine;

    use super::*;

    /// Hashes the same on every machine, unlike the standard library's.
    struct Fixed(blake3::Hasher);

    impl Hasher for Fixed {
        fn finish(&self) -> u64 {
            0 // Only what is written counts.
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }

    /// Hash of what machine code for a plain x86-64 processor depends on, and the settings among that.
    fn golden(profile: Profile, fuel: bool) -> (String, String) {
        let mut config = config(profile, fuel);
        config.target("x86_64-unknown-linux-gnu").unwrap();
        let engine = Engine::new(&config).unwrap();
        let text = format!(
            "reservation={:#x} guard={:#x} signals={} fuel={} may_move={} cow={} lazy={} before={} epoch={} \
             concurrency={} stack={:#x} features={:?}",
            engine.get_memory_reservation(),
            engine.get_memory_guard_size(),
            engine.get_signals_based_traps(),
            engine.get_consume_fuel(),
            engine.get_memory_may_move(),
            engine.get_memory_init_cow(),
            engine.get_table_lazy_init(),
            engine.get_guard_before_linear_memory(),
            engine.get_epoch_interruption(),
            engine.get_concurrency_support(),
            engine.get_max_wasm_stack(),
            engine.get_wasm_features(),
        );
        let mut hasher = Fixed(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        (hasher.0.finalize().to_hex()[..16].to_owned(), text)
    }

    #[test]
    fn what_machine_code_depends_on_is_frozen_per_profile() {
        let same = "may_move=false cow=true lazy=true before=true epoch=true concurrency=false stack=0x40000 \
                    features=WasmFeatures(MUTABLE_GLOBAL | SATURATING_FLOAT_TO_INT | SIGN_EXTENSION | \
                    REFERENCE_TYPES | MULTI_VALUE | BULK_MEMORY | SIMD | FLOATS | MULTI_MEMORY | EXTENDED_CONST | \
                    COMPONENT_MODEL)";
        let gateway = "reservation=0x4100000 guard=0x0 signals=false";
        let frozen = [
            (Profile::Gateway, false, "b0efe872536396d6", gateway),
            (Profile::Server, false, "1540ac8fe901559a", "reservation=0x100000000 guard=0x2000000 signals=true"),
            (Profile::Tiny, false, "d1e8a223084f8e44", "reservation=0x1100000 guard=0x0 signals=false"),
            (Profile::Gateway, true, "a461d8f623c6b3f1", gateway),
        ];
        for (profile, fuel, hash, text) in frozen {
            let text = format!("{text} fuel={fuel} {same}");
            assert_eq!(golden(profile, fuel), (hash.to_owned(), text), "{profile:?}");
        }
    }
}
