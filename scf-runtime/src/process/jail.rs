//! What keeps a process in, layer by layer.

use std::{fmt, path::PathBuf};

use scf_core::ByteSize;

/// One of the means that keep a process in. Each holds on its own; together they hold when one has a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// User, mount, process, network, IPC and host-name namespaces of its own, with a root that has the
    /// program, its libraries and the granted folders.
    Namespaces,
    /// Landlock: the kernel opens nothing but that, whatever the root shows.
    Landlock,
    /// Seccomp: system calls that computing needs; no sockets, tracing, mounting, loading, new processes.
    Seccomp,
    /// Limits of the process: data, address space, CPU time, open files, threads, file size, no core dumps.
    Rlimits,
    /// A control group: memory, CPU and number of threads of all that the process does.
    Cgroup,
}

impl Layer {
    /// All layers.
    pub const ALL: [Self; 5] = [Self::Namespaces, Self::Landlock, Self::Seccomp, Self::Rlimits, Self::Cgroup];
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "namespaces",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Rlimits => "rlimits",
            Self::Cgroup => "cgroup",
        })
    }
}

/// How much a layer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Required,
    WhereAvailable,
    Off,
}

/// What a [`ProcessFactory`](super::ProcessFactory) keeps its processes in.
///
/// By default all layers are required that Linux gives a process without privileges: all but the control
/// group, which is used where one can be made.
#[derive(Clone, Debug)]
pub struct Jail {
    wants: [Want; 5],
    pub(super) threads: u32,
    pub(super) files: u32,
    pub(super) file_size: ByteSize,
    pub(super) cores: Option<u32>,
    pub(super) user: Option<u32>,
    pub(super) group: Option<PathBuf>,
}

impl Default for Jail {
    fn default() -> Self {
        let required = Want::Required;
        Self {
            wants: [required, required, required, required, Want::WhereAvailable],
            threads: 64,
            files: 256,
            file_size: ByteSize::from_mib(64),
            cores: None,
            user: None,
            group: None,
        }
    }
}

impl Jail {
    /// The layer must be there: without it the factory is not built.
    #[must_use]
    pub const fn require(self, layer: Layer) -> Self {
        self.with(layer, Want::Required)
    }

    /// The layer is used where the system has it; [`ProcessFactory::isolation`](super::ProcessFactory::isolation)
    /// says whether.
    #[must_use]
    pub const fn prefer(self, layer: Layer) -> Self {
        self.with(layer, Want::WhereAvailable)
    }

    /// The layer is not used.
    #[must_use]
    pub const fn without(self, layer: Layer) -> Self {
        self.with(layer, Want::Off)
    }

    const fn with(mut self, layer: Layer, want: Want) -> Self {
        self.wants[layer as usize] = want;
        self
    }

    pub(super) const fn wants(&self, layer: Layer) -> Want {
        self.wants[layer as usize]
    }

    /// Threads of a process; default 64. Other processes it makes none.
    #[must_use]
    pub const fn threads(mut self, threads: u32) -> Self {
        self.threads = threads;
        self
    }

    /// Files that a process has open at the same time; default 256.
    #[must_use]
    pub const fn files(mut self, files: u32) -> Self {
        self.files = files;
        self
    }

    /// Size of a file that a process writes where it was granted to; default 64 MiB.
    #[must_use]
    pub const fn file_size(mut self, size: ByteSize) -> Self {
        self.file_size = size;
        self
    }

    /// Cores that a process uses at the same time, by its control group; default all.
    #[must_use]
    pub const fn cores(mut self, cores: u32) -> Self {
        self.cores = Some(cores);
        self
    }

    /// The user and group id that processes have where the host is root; default 65534, `nobody`.
    #[must_use]
    pub const fn user(mut self, id: u32) -> Self {
        self.user = Some(id);
        self
    }

    /// The folder of the control group (version 2) below which groups are made, delegated to the host; default
    /// the host's own group.
    #[must_use]
    pub fn group(mut self, folder: impl Into<PathBuf>) -> Self {
        self.group = Some(folder.into());
        self
    }
}

/// What is in force of a [`Jail`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    pub(super) layers: Vec<(Layer, Result<String, String>)>,
}

impl Isolation {
    /// Whether the layer is in force.
    #[must_use]
    pub fn has(&self, layer: Layer) -> bool {
        self.layers.iter().any(|(at, state)| *at == layer && state.is_ok())
    }

    /// Every layer with how it is in force, or why it is not.
    pub fn layers(&self) -> impl Iterator<Item = (Layer, Result<&str, &str>)> {
        self.layers.iter().map(|(layer, state)| (*layer, state.as_deref().map_err(String::as_str)))
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (layer, state)) in self.layers.iter().enumerate() {
            let gap = if at == 0 { "" } else { "; " };
            match state {
                Ok(how) => write!(f, "{gap}{layer}: {how}")?,
                Err(why) => write!(f, "{gap}no {layer}: {why}")?,
            }
        }
        Ok(())
    }
}
