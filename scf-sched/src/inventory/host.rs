//! What the machine that this runs on has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use scf_core::{Accelerator, AcceleratorUnits, Battery, ByteSize, MilliCpu, Name, Node, NodeId, Resources, Tier};

/// What was found out about a machine. What cannot be found out is left out.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HostFacts {
    /// Processor that this process may use: the cores, or what its control group is held to.
    pub cpu: Option<MilliCpu>,
    /// Memory that this process may use, likewise.
    pub memory: Option<ByteSize>,
    /// What else computes.
    pub accelerators: Vec<AcceleratorUnits>,
    /// The battery that it runs on; none on mains.
    pub battery: Option<Battery>,
    /// What the processor can do, as the system names it: `avx2`, `asimd`.
    pub features: Vec<Name>,
}

/// Processor features that are told: those that numeric code is chosen by.
const FEATURES: [&str; 12] = [
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_tile",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
];

impl HostFacts {
    /// Looks at this machine: on Linux by `/proc` and `/sys`, elsewhere only the number of cores is known. Opens some
    /// twenty files; nothing is run.
    #[must_use]
    pub fn discover() -> Self {
        let mut facts = Self::discover_under(Path::new("/"));
        if facts.cpu.is_none() {
            let cores = std::thread::available_parallelism().ok();
            facts.cpu = cores.map(|cores| MilliCpu::from_cores(u32::try_from(cores.get()).unwrap_or(u32::MAX)));
        }
        facts
    }

    /// The same, of a machine whose `/proc` and `/sys` lie under `root`: a container's host, or an image.
    #[must_use]
    pub fn discover_under(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        Self {
            cpu: cpu(&read),
            memory: memory(&read),
            accelerators: accelerators(root),
            battery: battery(&root.join("sys/class/power_supply")),
            features: features(&read),
        }
    }

    /// The machine as a node: its features are labels. What is not known is as [`Node::new`] has it.
    #[must_use]
    pub fn node(&self, id: NodeId, tier: Tier) -> Node {
        let node = Node::new(id, tier);
        let (cpu, memory) = (node.resources.cpu, node.resources.memory);
        let resources = Resources { cpu: self.cpu.unwrap_or(cpu), memory: self.memory.unwrap_or(memory) };
        let mut node = node.resources(resources);
        for AcceleratorUnits { kind, units } in &self.accelerators {
            node = node.accelerators(*kind, *units);
        }
        if let Some(battery) = self.battery {
            node = node.battery(battery);
        }
        self.features.iter().cloned().fold(node, Node::label)
    }
}

fn cpu(read: &dyn Fn(&str) -> Option<String>) -> Option<MilliCpu> {
    let online = read("sys/devices/system/cpu/online").and_then(|list| count(list.trim()));
    let limit = read("sys/fs/cgroup/cpu.max").and_then(|text| {
        let (quota, period) = text.trim().split_once(' ')?;
        let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
        u32::try_from(quota.saturating_mul(1000).checked_div(period)?).ok()
    });
    let cores = online.map(|cores| cores.saturating_mul(1000));
    cores.into_iter().chain(limit).min().map(MilliCpu::new)
}

/// How many there are in a list like `0-3,6`.
fn count(list: &str) -> Option<u32> {
    list.split(',').try_fold(0_u32, |sum, range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to): (u32, u32) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        sum.checked_add(to.checked_sub(from)?.checked_add(1)?)
    })
}

fn memory(read: &dyn Fn(&str) -> Option<String>) -> Option<ByteSize> {
    let total = read("proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.saturating_mul(1024))
    });
    // `max`, where there is no limit, is no number.
    let limit = read("sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    total.into_iter().chain(limit).min().map(ByteSize::from_bytes)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn accelerators(root: &Path) -> Vec<AcceleratorUnits> {
    let found = [
        (Accelerator::Cuda, entries(&root.join("proc/driver/nvidia/gpus")).len()),
        (Accelerator::Npu, entries(&root.join("sys/class/accel")).len()),
    ];
    let units = |(kind, count): (Accelerator, usize)| AcceleratorUnits {
        kind,
        units: u16::try_from(count).unwrap_or(u16::MAX),
    };
    found.into_iter().filter(|(_, count)| *count > 0).map(units).collect()
}

fn battery(supplies: &Path) -> Option<Battery> {
    let read =
        |supply: &Path, name: &str| fs::read_to_string(supply.join(name)).ok().map(|text| text.trim().to_owned());
    let number = |supply: &Path, name: &str| read(supply, name)?.parse::<f64>().ok();
    let supplies = entries(supplies);
    let is_mains = |supply: &PathBuf| {
        let kind = read(supply, "type");
        matches!(kind.as_deref(), Some("Mains" | "USB")) && read(supply, "online").as_deref() == Some("1")
    };
    if supplies.iter().any(is_mains) {
        return None;
    }
    // A wireless mouse has a battery too; those say that they are of a device.
    let is_own = |supply: &&PathBuf| {
        read(supply, "type").as_deref() == Some("Battery") && read(supply, "scope").as_deref() != Some("Device")
    };
    let supply = supplies.iter().find(is_own)?;
    let percent = number(supply, "capacity")?;
    // Microwatt-hours, or microampere-hours by microvolts.
    let full = number(supply, "energy_full")
        .or_else(|| Some(number(supply, "charge_full")? * number(supply, "voltage_now")? / 1e6));
    let watt_hours = (full.unwrap_or(0.0) / 1e6).round() as u32;
    Some(Battery { watt_hours, percent: percent.clamp(0.0, 100.0) as u8 })
}

fn features(read: &dyn Fn(&str) -> Option<String>) -> Vec<Name> {
    let Some(text) = read("proc/cpuinfo") else { return Vec::new() };
    let line = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let words: Vec<&str> = line
        .and_then(|line| line.split_once(':'))
        .map_or(Vec::new(), |(_, words)| words.split_ascii_whitespace().collect());
    FEATURES.iter().filter(|feature| words.contains(feature)).filter_map(|feature| Name::new(feature).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_gateway_on_battery_with_a_gpu_is_found_as_it_is() {
        let root = machine(&[
            ("sys/devices/system/cpu/online", "0-3,6\n"),
            ("proc/meminfo", "MemTotal:        4028440 kB\nMemFree: 1 kB\n"),
            ("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd evtstrm asimddp\n"),
            ("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: Orin\n"),
            ("sys/class/power_supply/AC/type", "Mains\n"),
            ("sys/class/power_supply/AC/online", "0\n"),
            ("sys/class/power_supply/BAT0/type", "Battery\n"),
            ("sys/class/power_supply/BAT0/capacity", "37\n"),
            ("sys/class/power_supply/BAT0/energy_full", "52000000\n"),
        ]);
        let facts = HostFacts::discover_under(root.path());
        assert_eq!(facts.cpu, Some(MilliCpu::from_cores(5)));
        assert_eq!(facts.memory, Some(ByteSize::from_kib(4_028_440)));
        assert_eq!(facts.accelerators, [AcceleratorUnits { kind: Accelerator::Cuda, units: 1 }]);
        assert_eq!(facts.battery, Some(Battery { watt_hours: 52, percent: 37 }));
        let node = facts.node(NodeId::new("gateway").unwrap(), Tier::Edge);
        assert_eq!(node.labels, ["asimd", "asimddp"].map(|name| Name::new(name).unwrap()));
        assert_eq!(node.units_of(Accelerator::Cuda), 1);
    }

    #[test]
    fn a_container_has_what_its_group_may_use_and_mains_are_no_battery() {
        let root = machine(&[
            ("sys/devices/system/cpu/online", "0-15\n"),
            ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
            ("proc/meminfo", "MemTotal:        64000000 kB\n"),
            ("sys/fs/cgroup/memory.max", "1073741824\n"),
            ("sys/class/power_supply/AC/type", "Mains\n"),
            ("sys/class/power_supply/AC/online", "1\n"),
            ("sys/class/power_supply/BAT0/type", "Battery\n"),
            ("sys/class/power_supply/BAT0/capacity", "99\n"),
        ]);
        let facts = HostFacts::discover_under(root.path());
        assert_eq!((facts.cpu, facts.memory), (Some(MilliCpu::new(1500)), Some(ByteSize::from_mib(1024))));
        assert_eq!(facts.battery, None);
    }

    #[test]
    fn where_nothing_can_be_read_nothing_is_claimed() {
        let root = machine(&[("sys/devices/system/cpu/online", "no number\n")]);
        assert_eq!(HostFacts::discover_under(root.path()), HostFacts::default());
        assert!(HostFacts::discover().cpu.is_some());
    }
}
