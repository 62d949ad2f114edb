//! What the device has room for.

use std::fs;

use super::profile::Profile;

/// Memory and addresses that this process can still have, in bytes; none where there is no limit or it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Addresses up to the process's limit (`ulimit -v`), or of the processor.
    addresses: Option<u64>,
    /// Memory of the machine or of the container.
    memory: Option<u64>,
    /// Memory that the system still promises, where it promises no more than it has.
    commit: Option<u64>,
}

/// Share of each that a pool takes: the rest of the process needs some, and so does compiling.
const ADDRESSES: u64 = 2;
const MEMORY: u64 = 8;
const COMMIT: u64 = 2;
/// What an instance takes beside its memories: stack and tables, in bytes of addresses.
const BESIDE: u64 = 1 << 20;

impl Room {
    /// Asks the system.
    pub(super) fn probe() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let meminfo = read("/proc/meminfo");
        let size = field(&read("/proc/self/status"), "VmSize").unwrap_or(0);
        let rlimit = address_limit(&read("/proc/self/limits")).map(|limit| limit.saturating_sub(size));
        let processor = address_bits(&read("/proc/cpuinfo")).map(|bits| 1 << (bits.min(63) - 1));
        let container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let container = container.iter().find_map(|file| read(file).trim().parse::<u64>().ok());
        let strict = read("/proc/sys/vm/overcommit_memory").trim() == "2";
        let promised = || Some(field(&meminfo, "CommitLimit")?.saturating_sub(field(&meminfo, "Committed_AS")?));
        Self {
            addresses: [rlimit, processor].into_iter().flatten().min(),
            memory: [field(&meminfo, "MemAvailable"), container].into_iter().flatten().min(),
            commit: if strict { promised() } else { None },
        }
    }

    /// How many of the `wanted` instances of `profile` with memories of up to `memory` bytes there is room for;
    /// at least one.
    pub(super) fn instances(&self, profile: Profile, wanted: u32, memory: u64) -> u32 {
        let fit = |room: Option<u64>, share: u64, each: u64| room.map(|room| room / share / each.max(1));
        let bounds = [
            fit(self.addresses, ADDRESSES, profile.reservation() + profile.guard() + BESIDE),
            fit(self.memory, MEMORY, profile.resident()),
            fit(self.commit, COMMIT, memory),
        ];
        let fewest = bounds.into_iter().flatten().min().map_or(u32::MAX, |room| room.try_into().unwrap_or(u32::MAX));
        wanted.min(fewest).max(1)
    }
}

/// The soft limit of the address space in `/proc/self/limits`, none when it is unlimited.
fn address_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The width of virtual addresses in `/proc/cpuinfo`; only x86 says so.
fn address_bits(cpuinfo: &str) -> Option<u32> {
    let line = cpuinfo.lines().find(|line| line.starts_with("address sizes"))?;
    line.split(',').next_back()?.trim().strip_suffix(" bits virtual")?.parse().ok().filter(|bits| *bits > 0)
}

/// A field of `/proc/meminfo` or `/proc/self/status`, in bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn gateway(room: Room) -> u32 {
        room.instances(Profile::Gateway, 256, 64 * MIB)
    }

    #[test]
    fn a_device_without_limits_gets_all_instances() {
        assert_eq!(gateway(Room::default()), 256);
    }

    #[test]
    fn a_gibibyte_of_addresses_is_room_for_some_and_for_more_tiny_ones() {
        let room = Room { addresses: Some(900 * MIB), ..Room::default() };
        assert_eq!(gateway(room), 6);
        assert_eq!(room.instances(Profile::Tiny, 256, 16 * MIB), 25);
    }

    #[test]
    fn a_board_of_39_bits_gets_fewer_large_reservations() {
        let room = Room { addresses: Some(1 << 38), ..Room::default() };
        assert_eq!(room.instances(Profile::Server, 1000, 64 * MIB), 31);
        assert_eq!(gateway(room), 256);
    }

    #[test]
    fn a_container_gets_as_many_as_fit_into_an_eighth_of_its_memory() {
        assert_eq!(gateway(Room { memory: Some(512 * MIB), ..Room::default() }), 256);
        assert_eq!(gateway(Room { memory: Some(64 * MIB), ..Room::default() }), 51);
    }

    #[test]
    fn a_system_that_promises_only_what_it_has_gets_what_it_can_promise() {
        assert_eq!(gateway(Room { commit: Some(1024 * MIB), ..Room::default() }), 8);
    }

    #[test]
    fn there_is_always_room_for_one() {
        assert_eq!(gateway(Room { addresses: Some(0), ..Room::default() }), 1);
    }

    #[test]
    fn what_the_system_writes_is_understood() {
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax address space         1073741824           unlimited            bytes\n";
        assert_eq!(address_limit(limits), Some(1 << 30));
        assert_eq!(address_limit(&limits.replace("1073741824", "unlimited")), None);
        assert_eq!(address_bits("model name : x\naddress sizes\t: 39 bits physical, 48 bits virtual\n"), Some(48));
        assert_eq!(address_bits("model name : x\n"), None);
        assert_eq!(field("MemTotal: 5 kB\nMemAvailable:    2048 kB\n", "MemAvailable"), Some(2 * MIB));
    }
}
