//! Control groups, one for each process, used again by later ones.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use scf_core::Limits;

use crate::process::Jail;

/// Memory beside the function's own: tables of the kernel, pages of files in use.
const KERNEL: u64 = 16 << 20;
/// Period of the CPU quota in microseconds.
const PERIOD: u64 = 100_000;

/// Makes groups below one of the host's and keeps those that are free.
#[derive(Debug)]
pub(super) struct Groups {
    version: Version,
    free: Mutex<Vec<Group>>,
    next: AtomicU64,
}

#[derive(Clone, Debug)]
enum Version {
    /// The folder of the host's own group of each controller.
    One { memory: PathBuf, others: Vec<PathBuf> },
    /// One folder with all controllers.
    Two(PathBuf),
}

/// A group and its folders, that with the memory controller first.
#[derive(Debug)]
pub(super) struct Group {
    folders: Vec<PathBuf>,
    /// Processes that the kernel killed for want of memory before the current one.
    killed: u64,
}

impl Groups {
    /// Finds where groups can be made, and makes one to see that they can.
    pub(super) fn find(jail: &Jail) -> io::Result<Self> {
        let version = match &jail.group {
            Some(folder) => Version::Two(folder.clone()),
            None => find(&fs::read_to_string("/proc/self/cgroup")?, &fs::read_to_string("/proc/self/mountinfo")?)?,
        };
        let groups = Self { version, free: Mutex::default(), next: AtomicU64::new(0) };
        let group = groups.make()?;
        group.limit(&Limits::default(), jail)?;
        groups.give_back(group);
        Ok(groups)
    }

    /// How groups are made, for messages.
    pub(super) fn describe(&self) -> String {
        match &self.version {
            Version::One { others, .. } => {
                let names = others.iter().filter_map(|folder| controller(folder));
                ["memory"].into_iter().chain(names).fold("version 1:".to_owned(), |text, name| text + " " + name)
            }
            Version::Two(_) => "version 2".into(),
        }
    }

    /// A group with the limits, for one process.
    pub(super) fn take(&self, limits: &Limits, jail: &Jail) -> io::Result<Group> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut group = match free {
            Some(group) => group,
            None => self.make()?,
        };
        group.limit(limits, jail)?;
        group.killed = group.killed_so_far();
        Ok(group)
    }

    /// Keeps a group whose process has been reaped.
    pub(super) fn give_back(&self, group: Group) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(group);
    }

    fn make(&self) -> io::Result<Group> {
        let name = format!("scf-{}-{}", std::process::id(), self.next.fetch_add(1, Relaxed));
        let folders: Vec<PathBuf> = match &self.version {
            Version::One { memory, others } => [memory].into_iter().chain(others).map(|at| at.join(&name)).collect(),
            Version::Two(parent) => vec![parent.join(&name)],
        };
        // What was made before a failure is removed when the group is dropped.
        let mut group = Group { folders: Vec::new(), killed: 0 };
        for folder in folders {
            fs::create_dir(&folder)?;
            group.folders.push(folder);
        }
        Ok(group)
    }
}

impl Group {
    fn limit(&self, limits: &Limits, jail: &Jail) -> io::Result<()> {
        let memory = limits.memory.bytes().saturating_add(KERNEL).to_string();
        let quota = jail.cores.map(|cores| u64::from(cores) * PERIOD);
        let threads = jail.threads.to_string();
        for folder in &self.folders {
            match controller(folder) {
                Some("memory") => fs::write(folder.join("memory.limit_in_bytes"), &memory)?,
                Some("pids") => fs::write(folder.join("pids.max"), &threads)?,
                Some("cpu") => {
                    if let Some(quota) = quota {
                        fs::write(folder.join("cpu.cfs_period_us"), PERIOD.to_string())?;
                        fs::write(folder.join("cpu.cfs_quota_us"), quota.to_string())?;
                    }
                }
                _ => {
                    fs::write(folder.join("memory.max"), &memory)?;
                    if folder.join("memory.swap.max").exists() {
                        fs::write(folder.join("memory.swap.max"), "0")?;
                    }
                    fs::write(folder.join("pids.max"), &threads)?;
                    if let Some(quota) = quota {
                        fs::write(folder.join("cpu.max"), format!("{quota} {PERIOD}"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a process in.
    pub(super) fn adopt(&self, pid: i32) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }

    /// Whether the kernel killed its process because there was no memory left for it.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        self.killed_so_far() > self.killed
    }

    fn killed_so_far(&self) -> u64 {
        let Some(folder) = self.folders.first() else { return 0 };
        let events = ["memory.oom_control", "memory.events"].into_iter();
        let text = events.filter_map(|file| fs::read_to_string(folder.join(file)).ok()).next().unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            // A group that still has a process stays behind, empty once that has ended.
            if let Err(error) = fs::remove_dir(folder) {
                tracing::warn!(folder = %folder.display(), %error, "a control group is left behind");
            }
        }
    }
}

/// The controller of version 1 that a folder belongs to, by the name of its hierarchy.
fn controller(folder: &Path) -> Option<&'static str> {
    let parts: HashSet<_> = folder.components().filter_map(|part| part.as_os_str().to_str()).collect();
    let has = |name: &str| parts.iter().any(|part| part.split(',').any(|part| part == name));
    ["memory", "pids", "cpu"].into_iter().find(|name| has(name))
}

/// The host's own groups, from what the kernel says of its groups and mounts.
fn find(groups: &str, mounts: &str) -> io::Result<Version> {
    let missing = |what: &str| io::Error::new(io::ErrorKind::NotFound, what.to_owned());
    // hierarchy-id:controllers:path
    let of = |controller: &str| {
        groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then(|| path.trim_start_matches('/'))
        })
    };
    // … root place options … - type source options
    let mounted = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut after = after.split(' ');
            let is_kind = after.next() == Some(kind);
            let has_option = option.is_empty() || after.next_back()?.split(',').any(|name| name == option);
            let mut before = before.split(' ').skip(3);
            let (root, place) = (before.next()?, before.next()?);
            (is_kind && has_option).then(|| (root.trim_start_matches('/').to_owned(), PathBuf::from(place)))
        })
    };
    let folder = |kind, controller: &str| {
        let path = of(controller).ok_or_else(|| missing("the host is in no such group"))?;
        let (root, place) = mounted(kind, controller).ok_or_else(|| missing("no such control groups are mounted"))?;
        Ok::<_, io::Error>(place.join(path.strip_prefix(root.as_str()).unwrap_or(path).trim_start_matches('/')))
    };
    if let Ok(memory) = folder("cgroup", "memory") {
        let others = ["pids", "cpu"].into_iter().filter_map(|name| folder("cgroup", name).ok()).collect();
        return Ok(Version::One { memory, others });
    }
    let own = folder("cgroup2", "")?;
    let control = fs::read_to_string(own.join("cgroup.subtree_control"))?;
    let has = |name| control.split_whitespace().any(|at| at == name);
    if !(has("memory") && has("pids")) {
        return Err(missing("the host's control group does not delegate memory and pids"));
    }
    Ok(Version::Two(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hosts_groups_of_version_1_by_their_controllers() {
        let groups = "8:pids:/\n4:memory:/vm/a\n1:cpu,cpuacct:/\n0::/\n";
        let mounts = "30 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      31 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 29 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let Version::One { memory, others } = find(groups, mounts).unwrap() else { panic!("version 1") };
        assert_eq!(memory, Path::new("/sys/fs/cgroup/memory/vm/a"));
        assert_eq!(others, [Path::new("/sys/fs/cgroup/pids"), Path::new("/sys/fs/cgroup/cpu,cpuacct")]);
        assert_eq!(controller(&others[1]), Some("cpu"));
    }

    #[test]
    fn writes_the_limits_of_version_2_where_it_was_told_to() {
        let parent = tempfile::tempdir().unwrap();
        let groups = Groups::find(&Jail::default().group(parent.path()).cores(2)).unwrap();
        assert_eq!(groups.describe(), "version 2");
        let limits = Limits { memory: scf_core::ByteSize::from_mib(32), ..Limits::default() };
        let group = groups.take(&limits, &Jail::default().cores(2).threads(5)).unwrap();
        let read = |file: &str| fs::read_to_string(group.folders[0].join(file)).unwrap();
        assert_eq!(read("memory.max"), ((32_u64 << 20) + KERNEL).to_string());
        assert_eq!((read("cpu.max").as_str(), read("pids.max").as_str()), ("200000 100000", "5"));
        group.adopt(77).unwrap();
        assert_eq!(read("cgroup.procs"), "77");
        assert!(!group.ran_out_of_memory());
        fs::write(group.folders[0].join("memory.events"), "oom 2\noom_kill 1\n").unwrap();
        assert!(group.ran_out_of_memory());
        // The kernel's files go with a group; those of this test do not.
        for file in fs::read_dir(&group.folders[0]).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
}
