//! The system calls that need `unsafe`: making a child, what the child does before it is the program, and
//! the CPU clock of another process.
//!
//! The child is made by `clone` itself: it is the first process of its process namespace, so its end is the end
//! of all that is in it, and nobody stands between it and the host that would have to reap it. A launcher
//! program in between would cost a second start and would have to be there beside the embedding program.
//! Between `clone` and `execve` the child has a copy of one thread of a host with many; whatever lock
//! another thread held stays locked. So it makes system calls only: no allocation, no lock, no panic. All that
//! it needs was made before, in a [`Plan`].
#![expect(unsafe_code, reason = "no safe interface makes a child in namespaces of its own")]

use std::{
    convert::Infallible,
    ffi::{CStr, CString, c_char, c_int, c_long},
    fs, io,
    io::{Read, Write},
    mem::MaybeUninit,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    sync::Arc,
    time::Duration,
};

use rustix::{io::fcntl_dupfd_cloexec, process};
use tokio::io::unix::AsyncFd;

use super::{
    child::Body,
    group::{Group, Groups},
    plan::{Access, Mount, Plan, Root},
    slot::Slot,
};
use crate::process::ProcessError;

/// Steps of a child, to name the one that failed by its position.
const STEPS: [&str; 19] = [
    "wait for the host",
    "leave the session",
    "make its mounts private",
    "take a mount of the host",
    "restrict a mount",
    "change the user",
    "mount a root",
    "fill the root",
    "place a mount",
    "restrict the root",
    "enter the root",
    "set a limit",
    "drop its capabilities",
    "die with the host",
    "give up privileges",
    "enter Landlock",
    "arrange its descriptors",
    "enter seccomp",
    "run the program",
];

const WAIT: u8 = 0;
const SESSION: u8 = 1;
const PRIVATE: u8 = 2;
const TAKE: u8 = 3;
const RESTRICT: u8 = 4;
const USER: u8 = 5;
const MOUNT_ROOT: u8 = 6;
const FILL: u8 = 7;
const PLACE: u8 = 8;
const RESTRICT_ROOT: u8 = 9;
const ENTER: u8 = 10;
const LIMIT: u8 = 11;
const CAPABILITIES: u8 = 12;
const DIE: u8 = 13;
const PRIVILEGES: u8 = 14;
const LANDLOCK: u8 = 15;
const DESCRIPTORS: u8 = 16;
const SECCOMP: u8 = 17;
const RUN: u8 = 18;

/// What a trial of a plan reports when it comes to where the program would run.
const TRIAL_DONE: u8 = 255;

const NAMESPACES: c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;
const SIGNALS: c_int = 64;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// Where the new root is mounted before it is the root; the host has it, or could not write the maps of users.
const PLACE_OF_ROOT: &CStr = c"/proc";

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// What the child's descriptors 0 (the host), 1 and 2 (its log) are.
pub(super) struct Ends {
    pub(super) host: OwnedFd,
    pub(super) log: OwnedFd,
}

/// Blocks all signals of the calling thread, so that no handler of the host runs in a child of it.
pub(super) fn block_signals() {
    // SAFETY: both sets are valid for the calls; a thread may change its own mask.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
    }
}

/// Lets the runtime watch the descriptor of a process, which becomes readable when the process ends. Ends the process
/// where it cannot.
pub(super) fn watched(body: Body) -> io::Result<AsyncFd<Body>> {
    // SAFETY: a body owns its descriptor, which is open for as long as it lives, and gives the same every time.
    unsafe { AsyncFd::register(body) }.map_err(|error| error.into_parts().1)
}

/// CPU time of all threads of a process, also after its end until it is reaped.
pub(super) fn cpu_time(pid: i32) -> io::Result<Duration> {
    // The kernel's number of a process's clock: the complement of its id, shifted, and "scheduler's count".
    let clock = (!pid << 3) | 2;
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` is valid for writes; an unknown clock is an error.
    let done = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and so wrote it.
    let time = unsafe { time.assume_init() };
    Ok(Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// Makes a child, has its group take it in, and returns when it runs the program, or at the end of a trial.
///
/// Called on a thread with [blocked signals](block_signals) that lives as long as the child should: the child
/// dies with it.
pub(super) fn start(
    plan: &Plan,
    ends: Ends,
    group: Option<(Group, Arc<Groups>)>,
    slot: Option<Arc<Slot>>,
) -> Result<Body, ProcessError> {
    let host = |step| move |source| ProcessError::Start { step, source };
    let (go, mut said) = (pipe().map_err(host("get a pipe"))?, pipe().map_err(host("get a pipe"))?);
    // Descriptors above those that the child replaces.
    let high = |fd: &OwnedFd| fcntl_dupfd_cloexec(fd, 10).map_err(|error| host("get a descriptor")(error.into()));
    let (connection, log) = (high(&ends.host)?, high(&ends.log)?);
    let pointers =
        |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect::<Vec<*const c_char>>();
    let exec = plan.exec.as_ref();
    let (args, environment) = exec.map(|exec| (pointers(&exec.args), pointers(&exec.environment))).unwrap_or_default();
    let mut child = Child {
        plan,
        go: go.0.as_raw_fd(),
        report: said.1.as_raw_fd(),
        ends: [connection.as_raw_fd(), log.as_raw_fd()],
        args: args.as_ptr(),
        environment: environment.as_ptr(),
        mounts: vec![-1; plan.root.as_ref().map_or(0, |root| root.mounts.len())],
    };
    let namespaces = if plan.root.is_some() { NAMESPACES } else { 0 };
    let mut pidfd: RawFd = -1;
    let flags = c_long::from(namespaces | libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the child has its own copy of the memory and runs on its copy of this stack;
    // it calls `Child::run`, which does not return. `pidfd` is valid for the write. The order of the
    // arguments is that of x86-64 and AArch64, which differ only in those that are zero.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0 as c_long, &raw mut pidfd, 0 as c_long, 0 as c_long) };
    if pid == 0 {
        child.run();
    }
    if pid < 0 {
        return Err(host("be made")(io::Error::last_os_error()));
    }
    let pid = i32::try_from(pid).expect("process ids are of 31 bits");
    // SAFETY: the kernel made it for this call and nobody else owns it.
    let body = Body::new(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }, group, slot);
    drop((go.0, said.1, connection, log, ends));
    let mut go = go.1;
    let placed = if plan.root.is_some() { map_user(pid, plan.user) } else { Ok(()) };
    placed.and_then(|()| body.adopt()).and_then(|()| go.write_all(&[1])).map_err(host("be taken in"))?;
    let mut report = [0; 5];
    let mut reported = 0;
    // End of file: the program runs, and its copy of the pipe is closed.
    loop {
        match said.0.read(&mut report[reported..]) {
            Ok(0) => break,
            Ok(more) => reported += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(host("report")(source)),
        }
    }
    match report {
        _ if reported == 0 && exec.is_some() => Ok(body),
        [TRIAL_DONE, ..] if reported > 0 => Ok(body),
        [step, errno @ ..] => {
            let source = io::Error::from_raw_os_error(i32::from_le_bytes(errno));
            let step = STEPS.get(usize::from(step)).filter(|_| reported > 0).copied().unwrap_or("say why it ended");
            Err(ProcessError::Start { step, source })
        }
    }
}

fn pipe() -> io::Result<(fs::File, fs::File)> {
    let (reader, writer) = io::pipe()?;
    let high = |fd: OwnedFd| -> io::Result<fs::File> { Ok(fs::File::from(fcntl_dupfd_cloexec(fd, 10)?)) };
    Ok((high(reader.into())?, high(writer.into())?))
}

/// Says who the child is outside its user namespace: whom it becomes, or the host's user.
fn map_user(pid: i32, user: Option<u32>) -> io::Result<()> {
    let (uid, gid) = match user {
        Some(user) => (user, user),
        None => {
            fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
            (process::geteuid().as_raw(), process::getegid().as_raw())
        }
    };
    fs::write(format!("/proc/{pid}/gid_map"), format!("{gid} {gid} 1"))?;
    fs::write(format!("/proc/{pid}/uid_map"), format!("{uid} {uid} 1"))
}

/// What the child works with. Never dropped in the child.
struct Child<'a> {
    plan: &'a Plan,
    go: RawFd,
    report: RawFd,
    ends: [RawFd; 2],
    args: *const *const c_char,
    environment: *const *const c_char,
    mounts: Vec<RawFd>,
}

/// A step and what the system said.
type Failed = (u8, i32);

/// Fails as `step` where a call gave a negative result.
fn check(step: u8, result: c_long) -> Result<c_long, Failed> {
    if result < 0 { Err((step, io::Error::last_os_error().raw_os_error().unwrap_or(0))) } else { Ok(result) }
}

/// Makes a system call; its result is negative when it failed.
macro_rules! call {
    ($step:expr, $number:expr $(, $argument:expr)* $(,)?) => {
        // SAFETY: every pointer among the arguments is to memory that lives until the child is the program.
        check($step, unsafe { libc::syscall($number $(, $argument)*) })
    };
}

impl Child<'_> {
    /// Runs in the child.
    fn run(&mut self) -> ! {
        let (step, errno) = match self.become_program() {
            Ok(never) => match never {},
            Err(failed) => failed,
        };
        let [a, b, c, d] = errno.to_le_bytes();
        let report = [step, a, b, c, d];
        // SAFETY: `report` is valid for reads of its length; `_exit` ends the process without running anything.
        unsafe {
            libc::write(self.report, report.as_ptr().cast(), report.len());
            libc::_exit(127)
        }
    }

    fn become_program(&mut self) -> Result<Infallible, Failed> {
        let plan = self.plan;
        self.reset_signals();
        self.wait()?;
        call!(SESSION, libc::SYS_setsid)?;
        match &plan.root {
            Some(root) => {
                self.take(root)?;
                self.change_user()?;
                self.make(root)?;
            }
            None => self.change_user()?,
        }
        for (resource, limit) in &plan.rlimits {
            let limit = process::Rlimit { current: Some(*limit), maximum: Some(*limit) };
            process::setrlimit(*resource, limit).map_err(|error| (LIMIT, error.raw_os_error()))?;
        }
        self.drop_capabilities()?;
        call!(DIE, libc::SYS_prctl, libc::PR_SET_PDEATHSIG, c_long::from(libc::SIGKILL))?;
        self.check_host_lives()?;
        call!(
            PRIVILEGES,
            libc::SYS_prctl,
            libc::PR_SET_NO_NEW_PRIVS,
            1 as c_long,
            0 as c_long,
            0 as c_long,
            0 as c_long
        )?;
        if let Some(rules) = &plan.landlock {
            call!(LANDLOCK, libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0 as c_long)?;
        }
        let [host, log] = self.ends;
        for (from, to) in [(host, 0), (log, 1), (log, 2)] {
            call!(DESCRIPTORS, libc::SYS_dup3, from, to, 0 as c_long)?;
        }
        call!(DESCRIPTORS, libc::SYS_close_range, 3 as c_long, c_long::from(u32::MAX), libc::CLOSE_RANGE_CLOEXEC)?;
        for filter in &plan.filters {
            let program = libc::sock_fprog {
                len: u16::try_from(filter.len()).unwrap_or(0),
                filter: filter.as_ptr().cast_mut().cast(),
            };
            call!(
                SECCOMP,
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER as c_long,
                0 as c_long,
                &raw const program
            )?;
        }
        let Some(exec) = &plan.exec else { return Err((TRIAL_DONE, 0)) };
        call!(RUN, libc::SYS_execve, exec.path.as_ptr(), self.args, self.environment)?;
        Err((RUN, 0))
    }

    /// The host's handlers are not the program's; its blocked and ignored signals neither.
    fn reset_signals(&self) {
        // SAFETY: default actions need nothing of this process; the set is valid for the call. Signals that
        // cannot be changed stay.
        unsafe {
            for signal in 1..=SIGNALS {
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        }
    }

    /// Until the host has said who this is and has taken it into its group.
    fn wait(&self) -> Result<(), Failed> {
        let mut word = 0_u8;
        match call!(WAIT, libc::SYS_read, self.go, &raw mut word, 1 as c_long)? {
            1 => Ok(()),
            _ => Err((WAIT, libc::ECHILD)),
        }
    }

    /// The host may have ended before its end became this one's; then the other end of its pipe is closed.
    fn check_host_lives(&self) -> Result<(), Failed> {
        let mut host = libc::pollfd { fd: self.go, events: libc::POLLIN, revents: 0 };
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        call!(DIE, libc::SYS_ppoll, &raw mut host, 1 as c_long, &raw const now, 0 as c_long, 0 as c_long)?;
        if host.revents & libc::POLLHUP == 0 { Ok(()) } else { Err((DIE, libc::ECHILD)) }
    }

    /// Takes the mounts while the host's root is there and this is still the host's user.
    fn take(&mut self, root: &Root) -> Result<(), Failed> {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        call!(PRIVATE, libc::SYS_mount, c"none".as_ptr(), c"/".as_ptr(), 0 as c_long, private, 0 as c_long)?;
        for (Mount { source, access, .. }, taken) in root.mounts.iter().zip(&mut self.mounts) {
            let flags = OPEN_TREE_CLONE | libc::AT_RECURSIVE as libc::c_uint | libc::O_CLOEXEC as libc::c_uint;
            let tree = call!(TAKE, libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags)?;
            let set = MOUNT_ATTR_NOSUID
                | match access {
                    Access::Run => MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV,
                    Access::Read => MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
                    Access::Write => MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
                    Access::Device => MOUNT_ATTR_NOEXEC,
                };
            restrict(RESTRICT, tree, c"", libc::AT_EMPTY_PATH | libc::AT_RECURSIVE, set)?;
            *taken = tree as RawFd;
        }
        Ok(())
    }

    /// Becomes the user of the plan. Its root is then made by that user; the capabilities that it has in its own
    /// namespace stay with it, because nobody is root there.
    fn change_user(&self) -> Result<(), Failed> {
        let Some(user) = self.plan.user else { return Ok(()) };
        call!(USER, libc::SYS_setgroups, 0 as c_long, 0 as c_long)?;
        call!(USER, libc::SYS_setresgid, user, user, user)?;
        call!(USER, libc::SYS_setresuid, user, user, user)?;
        Ok(())
    }

    /// Makes the root, fills it and leaves the host's.
    fn make(&self, root: &Root) -> Result<(), Failed> {
        let here = libc::AT_FDCWD;
        call!(FILL, libc::SYS_umask, 0o022 as c_long)?;
        let (tmpfs, options) = (c"tmpfs".as_ptr(), c"mode=0755,size=1m,nr_inodes=1k".as_ptr());
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        call!(MOUNT_ROOT, libc::SYS_mount, tmpfs, PLACE_OF_ROOT.as_ptr(), tmpfs, flags, options)?;
        call!(MOUNT_ROOT, libc::SYS_chdir, PLACE_OF_ROOT.as_ptr())?;
        for folder in &root.folders {
            call!(FILL, libc::SYS_mkdirat, here, folder.as_ptr(), 0o755 as c_long)?;
        }
        for file in &root.files {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC;
            let made = call!(FILL, libc::SYS_openat, here, file.as_ptr(), flags, 0o644 as c_long)?;
            call!(FILL, libc::SYS_close, made)?;
        }
        for (target, place) in &root.links {
            call!(FILL, libc::SYS_symlinkat, target.as_ptr(), here, place.as_ptr())?;
        }
        for (Mount { place, .. }, &tree) in root.mounts.iter().zip(&self.mounts) {
            let flags = MOVE_MOUNT_F_EMPTY_PATH;
            call!(PLACE, libc::SYS_move_mount, tree, c"".as_ptr(), here, place.as_ptr(), flags)?;
        }
        let set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
        restrict(RESTRICT_ROOT, c_long::from(here), c".", 0, set)?;
        // The new root is put over the old one, which is then taken off from under it.
        call!(ENTER, libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr())?;
        call!(ENTER, libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH)?;
        call!(ENTER, libc::SYS_chdir, c"/".as_ptr())?;
        call!(ENTER, libc::SYS_sethostname, c"function".as_ptr(), 8 as c_long)?;
        Ok(())
    }

    fn drop_capabilities(&self) -> Result<(), Failed> {
        // The bounding set first, which takes a capability to change; where there is none it is no matter.
        for capability in 0..64 as c_long {
            // SAFETY: no pointers; an unknown or missing capability is an error that changes nothing.
            unsafe {
                libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0 as c_long, 0 as c_long, 0 as c_long)
            };
        }
        let header = [CAPABILITY_VERSION_3, 0];
        let none = [0_u32; 6];
        call!(CAPABILITIES, libc::SYS_capset, header.as_ptr(), none.as_ptr())?;
        Ok(())
    }
}

fn restrict(step: u8, at: c_long, path: &CStr, flags: c_int, set: u64) -> Result<(), Failed> {
    let attributes = MountAttr { set, clear: 0, propagation: 0, user_namespace: 0 };
    let size = size_of::<MountAttr>();
    call!(step, libc::SYS_mount_setattr, at, path.as_ptr(), flags, &raw const attributes, size)?;
    Ok(())
}
