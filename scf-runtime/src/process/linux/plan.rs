//! All that a child needs to jail itself and to become the program, made before the child is.

use std::{
    collections::BTreeSet,
    ffi::{CString, OsStr},
    fs, io,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path, PathBuf},
};

use rustix::process::Resource;
use scf_core::{FileGrant, Limits};
use seccompiler::BpfProgram;

use crate::process::{ENTRY, Jail, ProcessError, Program};

/// Devices that every program may use.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];
/// Address space beside the function's memory, for what files are mapped to and what allocators only reserve.
const RESERVED: u64 = 1 << 30;
/// Whom a process is where the host is root.
const NOBODY: u32 = 65534;

/// What a child does between its birth and the program's first instruction.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) root: Option<Root>,
    /// The user and group to become, where the host is root.
    pub(super) user: Option<u32>,
    pub(super) rlimits: Vec<(Resource, u64)>,
    pub(super) landlock: Option<OwnedFd>,
    pub(super) filters: Vec<BpfProgram>,
    /// None: a trial of the jail that ends before the program.
    pub(super) exec: Option<Exec>,
}

/// The program.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) path: CString,
    pub(super) args: Vec<CString>,
    pub(super) environment: Vec<CString>,
}

/// A root of its own: what is made in it, in this order, and what is then mounted on it.
#[derive(Debug, Default)]
pub(super) struct Root {
    pub(super) folders: Vec<CString>,
    pub(super) files: Vec<CString>,
    /// Target and place.
    pub(super) links: Vec<(CString, CString)>,
    pub(super) mounts: Vec<Mount>,
}

/// A file or folder of the host, to be seen at a place in the root.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) source: CString,
    /// Relative to the root.
    pub(super) place: CString,
    pub(super) access: Access,
}

/// What may be done with what is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Run,
    Read,
    Write,
    Device,
}

/// A path of the host and where the program sees it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) host: PathBuf,
    pub(super) guest: PathBuf,
    pub(super) access: Access,
}

/// What the program sees of the host, the libraries first.
pub(super) fn views(program: &Program, path: &Path, grants: &[FileGrant]) -> Result<Vec<View>, ProcessError> {
    let same = |path: &Path, access| View { host: path.to_owned(), guest: path.to_owned(), access };
    let mut views: Vec<View> = program.libraries.iter().map(|path| same(path, Access::Run)).collect();
    views.extend(DEVICES.iter().map(Path::new).filter(|path| path.exists()).map(|path| same(path, Access::Device)));
    views.push(same(path, Access::Run));
    views.extend(program.reads.iter().map(|path| same(path, Access::Run)));
    for FileGrant { host, guest, write, .. } in grants {
        let access = if *write { Access::Write } else { Access::Read };
        views.push(View { host: host.clone(), guest: guest.into(), access });
    }
    for view in &views {
        fs::metadata(&view.host).map_err(|source| ProcessError::Path { path: view.host.clone(), source })?;
    }
    Ok(views)
}

impl Root {
    /// A root with the views in it. A link stays a link and what it leads to is there too.
    pub(super) fn new(views: &[View]) -> Result<Self, ProcessError> {
        let (mut root, mut made) = (Self::default(), BTreeSet::new());
        for View { host, guest, access } in views {
            let failed = |source| ProcessError::Path { path: host.clone(), source };
            let real = host.canonicalize().map_err(failed)?;
            let place = relative(guest).map_err(failed)?;
            // Below a folder that is shown already, with the same access, there is nothing to do.
            let shown = |place: &Path| {
                views.iter().any(|other| {
                    other.access == *access
                        && other.host == other.guest
                        && relative(&other.guest).is_ok_and(|other| place.starts_with(&other) && place != other)
                })
            };
            if shown(&place) && host == guest {
                continue;
            }
            if host == guest && real != *host && fs::symlink_metadata(host).is_ok_and(|meta| meta.is_symlink()) {
                let target = fs::read_link(host).map_err(failed)?;
                root.parents(&place, &mut made)?;
                if made.insert(place.clone()) {
                    root.links.push((text(target.as_os_str())?, text(place.as_os_str())?));
                }
                let real_place = relative(&real).map_err(failed)?;
                if !shown(&real_place) {
                    root.show(&real, real_place, *access, &mut made)?;
                }
                continue;
            }
            root.show(&real, place, *access, &mut made)?;
        }
        Ok(root)
    }

    fn show(
        &mut self,
        real: &Path,
        place: PathBuf,
        access: Access,
        made: &mut BTreeSet<PathBuf>,
    ) -> Result<(), ProcessError> {
        self.parents(&place, made)?;
        let name = text(place.as_os_str())?;
        if made.insert(place) {
            if real.is_dir() {
                self.folders.push(name.clone());
            } else {
                self.files.push(name.clone());
            }
        } else if self.mounts.iter().any(|mount| mount.place == name) {
            return Ok(());
        }
        self.mounts.push(Mount { source: text(real.as_os_str())?, place: name, access });
        Ok(())
    }

    fn parents(&mut self, place: &Path, made: &mut BTreeSet<PathBuf>) -> Result<(), ProcessError> {
        let mut above = PathBuf::new();
        for part in place.parent().into_iter().flat_map(Path::components) {
            above.push(part);
            // What is mounted above already has its own folders.
            let is_mounted = self.mounts.iter().any(|mount| mount.place.as_bytes() == above.as_os_str().as_bytes());
            if is_mounted {
                return Ok(());
            }
            if made.insert(above.clone()) {
                self.folders.push(text(above.as_os_str())?);
            }
        }
        Ok(())
    }
}

/// An absolute path without `..`, as seen from the root.
pub(super) fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut parts = path.components();
    let is_plain = matches!(parts.next(), Some(Component::RootDir))
        && parts.clone().all(|part| matches!(part, Component::Normal(_)))
        && parts.clone().next().is_some();
    if is_plain { Ok(parts.collect()) } else { Err(io::Error::other("not an absolute path without `..`")) }
}

/// The limits that the kernel holds a process to.
pub(super) fn rlimits(limits: &Limits, jail: &Jail, program: u64) -> Vec<(Resource, u64)> {
    let memory = limits.memory.bytes();
    let address_space = memory.saturating_add(program).saturating_add(RESERVED);
    // In whole seconds, a backstop behind the host's own watch.
    let cpu = limits.cpu.as_secs().saturating_add(2);
    vec![
        (Resource::Data, memory),
        (Resource::As, address_space),
        (Resource::Cpu, cpu),
        (Resource::Nofile, u64::from(jail.files)),
        (Resource::Nproc, u64::from(jail.threads)),
        (Resource::Fsize, jail.file_size.bytes()),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Rtprio, 0),
    ]
}

/// Whom a process is: nobody where the host is root, the host's own user otherwise.
pub(super) fn user(jail: &Jail) -> Option<u32> {
    rustix::process::geteuid().is_root().then(|| jail.user.unwrap_or(NOBODY))
}

impl Exec {
    pub(super) fn new(
        program: &Program,
        path: &Path,
        entry: &str,
        environment: &[(String, String)],
    ) -> Result<Self, ProcessError> {
        let mut args = vec![text(path.as_os_str())?];
        for arg in &program.args {
            args.push(text(arg)?);
        }
        let granted = environment.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
        let own = program.environment.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let marks = [(OsStr::new(ENTRY), OsStr::new(entry))];
        let mut variables = Vec::new();
        for (name, value) in granted.chain(own).chain(marks) {
            variables.push(text(&[name, value].join(OsStr::new("=")))?);
        }
        Ok(Self { path: text(path.as_os_str())?, args, environment: variables })
    }
}

fn text(text: &OsStr) -> Result<CString, ProcessError> {
    CString::new(text.to_owned().into_vec()).map_err(|error| {
        let path = PathBuf::from(text);
        ProcessError::Path { path, source: io::Error::new(io::ErrorKind::InvalidInput, error) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[CString]) -> Vec<&str> {
        texts.iter().map(|text| text.to_str().unwrap()).collect()
    }

    #[test]
    fn a_root_has_what_is_seen_and_the_folders_above_it_once() {
        let host = tempfile::tempdir().unwrap();
        let host = host.path().canonicalize().unwrap();
        fs::create_dir(host.join("models")).unwrap();
        fs::write(host.join("program"), "").unwrap();
        std::os::unix::fs::symlink("program", host.join("link")).unwrap();
        let view = |host: PathBuf, guest: &Path, access| View { host, guest: guest.to_owned(), access };
        let views = [
            view(host.join("link"), &host.join("link"), Access::Run),
            view(host.join("models"), Path::new("/data/models"), Access::Read),
            view(host.join("models"), Path::new("/data/more"), Access::Write),
        ];
        let root = Root::new(&views).unwrap();
        let [link, program] = ["link", "program"].map(|name| host.join(name).strip_prefix("/").unwrap().to_owned());
        let text = |text: &CString| text.to_str().unwrap().to_owned();
        let links: Vec<_> = root.links.iter().map(|(target, place)| (text(target), text(place))).collect();
        assert_eq!(links, [("program".to_owned(), link.to_str().unwrap().to_owned())]);
        assert_eq!(names(&root.files), [program.to_str().unwrap()]);
        assert!(names(&root.folders).ends_with(&["data", "data/models", "data/more"]), "{:?}", root.folders);
        let mounts: Vec<_> = root.mounts.iter().map(|mount| (mount.place.to_str().unwrap(), mount.access)).collect();
        let program = (program.to_str().unwrap(), Access::Run);
        assert_eq!(mounts, [program, ("data/models", Access::Read), ("data/more", Access::Write)]);
    }

    #[test]
    fn a_place_that_climbs_or_is_the_root_is_refused() {
        for guest in ["/data/../etc", "data", "/", ""] {
            assert!(relative(Path::new(guest)).is_err(), "{guest}");
        }
    }
}
