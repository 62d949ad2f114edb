//! System calls that computing needs.

use std::{collections::BTreeMap, io};

use libc as c;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::process::{Layer, ProcessError};

/// Calls that are allowed whatever their arguments are. What they reach is bounded by the other layers: files by
/// Landlock and the root, memory and threads by limits.
const ALLOWED: &[i64] = &[
    // files
    c::SYS_read,
    c::SYS_write,
    c::SYS_readv,
    c::SYS_writev,
    c::SYS_pread64,
    c::SYS_pwrite64,
    c::SYS_preadv,
    c::SYS_pwritev,
    c::SYS_preadv2,
    c::SYS_pwritev2,
    c::SYS_lseek,
    c::SYS_close,
    c::SYS_close_range,
    c::SYS_dup,
    c::SYS_dup3,
    c::SYS_fcntl,
    c::SYS_flock,
    c::SYS_openat,
    c::SYS_openat2,
    c::SYS_fstat,
    c::SYS_newfstatat,
    c::SYS_statx,
    c::SYS_statfs,
    c::SYS_fstatfs,
    c::SYS_faccessat,
    c::SYS_faccessat2,
    c::SYS_readlinkat,
    c::SYS_getdents64,
    c::SYS_getcwd,
    c::SYS_chdir,
    c::SYS_fchdir,
    c::SYS_mkdirat,
    c::SYS_unlinkat,
    c::SYS_renameat,
    c::SYS_renameat2,
    c::SYS_linkat,
    c::SYS_symlinkat,
    c::SYS_ftruncate,
    c::SYS_truncate,
    c::SYS_fallocate,
    c::SYS_fsync,
    c::SYS_fdatasync,
    c::SYS_fadvise64,
    c::SYS_utimensat,
    c::SYS_umask,
    c::SYS_copy_file_range,
    c::SYS_sendfile,
    c::SYS_pipe2,
    c::SYS_ppoll,
    c::SYS_pselect6,
    c::SYS_eventfd2,
    c::SYS_timerfd_create,
    c::SYS_timerfd_settime,
    c::SYS_timerfd_gettime,
    c::SYS_epoll_create1,
    c::SYS_epoll_ctl,
    c::SYS_epoll_pwait,
    c::SYS_fchmod,
    c::SYS_fchmodat,
    // memory
    c::SYS_brk,
    c::SYS_mmap,
    c::SYS_munmap,
    c::SYS_mprotect,
    c::SYS_mremap,
    c::SYS_madvise,
    c::SYS_msync,
    c::SYS_mincore,
    c::SYS_membarrier,
    c::SYS_get_mempolicy,
    // threads
    c::SYS_futex,
    c::SYS_futex_waitv,
    c::SYS_set_tid_address,
    c::SYS_set_robust_list,
    c::SYS_get_robust_list,
    c::SYS_rseq,
    c::SYS_gettid,
    c::SYS_getpid,
    c::SYS_getppid,
    c::SYS_sched_yield,
    c::SYS_sched_getaffinity,
    c::SYS_sched_setaffinity,
    c::SYS_sched_getparam,
    c::SYS_sched_getscheduler,
    c::SYS_sched_get_priority_max,
    c::SYS_sched_get_priority_min,
    c::SYS_getcpu,
    c::SYS_exit,
    c::SYS_exit_group,
    c::SYS_execve,
    c::SYS_wait4,
    c::SYS_waitid,
    c::SYS_restart_syscall,
    // signals of its own
    c::SYS_rt_sigaction,
    c::SYS_rt_sigprocmask,
    c::SYS_rt_sigreturn,
    c::SYS_rt_sigpending,
    c::SYS_rt_sigtimedwait,
    c::SYS_rt_sigsuspend,
    c::SYS_sigaltstack,
    // time
    c::SYS_clock_gettime,
    c::SYS_clock_getres,
    c::SYS_clock_nanosleep,
    c::SYS_nanosleep,
    c::SYS_gettimeofday,
    c::SYS_times,
    c::SYS_getrusage,
    c::SYS_setitimer,
    c::SYS_getitimer,
    // who and where it is
    c::SYS_getuid,
    c::SYS_geteuid,
    c::SYS_getgid,
    c::SYS_getegid,
    c::SYS_getgroups,
    c::SYS_getresuid,
    c::SYS_getresgid,
    c::SYS_getpgid,
    c::SYS_getsid,
    c::SYS_getpriority,
    c::SYS_uname,
    c::SYS_sysinfo,
    c::SYS_getrandom,
    c::SYS_capget,
];

/// Calls of x86-64 that newer architectures have in another form only.
#[cfg(target_arch = "x86_64")]
const OF_ARCHITECTURE: &[i64] = &[
    c::SYS_arch_prctl,
    c::SYS_open,
    c::SYS_stat,
    c::SYS_lstat,
    c::SYS_access,
    c::SYS_readlink,
    c::SYS_getdents,
    c::SYS_poll,
    c::SYS_select,
    c::SYS_pipe,
    c::SYS_dup2,
    c::SYS_mkdir,
    c::SYS_rmdir,
    c::SYS_unlink,
    c::SYS_rename,
    c::SYS_link,
    c::SYS_symlink,
    c::SYS_creat,
    c::SYS_chmod,
    c::SYS_epoll_wait,
    c::SYS_epoll_create,
    c::SYS_eventfd,
    c::SYS_time,
    c::SYS_getpgrp,
    c::SYS_alarm,
    c::SYS_pause,
    c::SYS_utime,
    c::SYS_utimes,
    c::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_ARCHITECTURE: &[i64] = &[];

/// Signals to processes; harmless where it sees no other process.
const SIGNALS: &[i64] = &[c::SYS_kill, c::SYS_tkill, c::SYS_tgkill, c::SYS_rt_sigqueueinfo, c::SYS_rt_tgsigqueueinfo];

/// Clones that make namespaces.
const NEW_NAMESPACES: u64 = (c::CLONE_NEWUSER
    | c::CLONE_NEWNS
    | c::CLONE_NEWPID
    | c::CLONE_NEWNET
    | c::CLONE_NEWIPC
    | c::CLONE_NEWUTS
    | c::CLONE_NEWCGROUP) as u64;

/// What `prctl` may be asked for: names of threads and of memory, whether it may be dumped, its stack's end.
const PRCTL: [u64; 6] = [
    c::PR_SET_NAME as u64,
    c::PR_GET_NAME as u64,
    0x5356_4d41, // PR_SET_VMA
    c::PR_GET_DUMPABLE as u64,
    c::PR_CAPBSET_READ as u64,
    c::PR_GET_NO_NEW_PRIVS as u64,
];

/// What `ioctl` may be asked for: whether it is a terminal, how much there is to read, flags of descriptors.
const IOCTL: [c::Ioctl; 5] = [c::TCGETS, c::FIONREAD, c::FIOCLEX, c::FIONCLEX, c::FIONBIO];

/// The filters, to be installed in this order. What is not allowed fails with `EPERM`.
pub(super) fn filters(has_own_processes: bool) -> Result<Vec<BpfProgram>, ProcessError> {
    let failed = |error: BackendError| ProcessError::Layer { layer: Layer::Seccomp, source: io::Error::other(error) };
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let signals = if has_own_processes { SIGNALS } else { &[] };
    for call in [ALLOWED, OF_ARCHITECTURE, signals].concat() {
        rules.insert(call, Vec::new());
    }
    let one_of = |values: &[u64], argument: u8| {
        let rule = |value| SeccompRule::new(vec![equals(argument, value)?]);
        values.iter().map(|value| rule(*value)).collect::<Result<Vec<_>, _>>().map_err(failed)
    };
    rules.insert(c::SYS_prctl, one_of(&PRCTL, 0)?);
    rules.insert(c::SYS_ioctl, one_of(&IOCTL.map(u64::from), 1)?);
    // Limits can be read and not set.
    let reads = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0).map_err(failed)?;
    rules.insert(c::SYS_prlimit64, vec![SeccompRule::new(vec![reads]).map_err(failed)?]);
    rules.insert(c::SYS_clone, vec![SeccompRule::new(thread().map_err(failed)?).map_err(failed)?]);
    rules.insert(c::SYS_clone3, Vec::new());
    let refused = SeccompAction::Errno(c::EPERM as u32);
    let allowed = SeccompFilter::new(rules, refused, SeccompAction::Allow, arch).map_err(failed)?;
    // The flags of clone3 lie where no filter can see them; told that it does not exist, libraries use clone.
    let unknown = SeccompAction::Errno(c::ENOSYS as u32);
    let older = BTreeMap::from([(c::SYS_clone3, Vec::new())]);
    let older = SeccompFilter::new(older, SeccompAction::Allow, unknown, arch).map_err(failed)?;
    Ok(vec![older.try_into().map_err(failed)?, allowed.try_into().map_err(failed)?])
}

fn equals(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// A thread of the same process, in the same namespaces.
fn thread() -> Result<Vec<SeccompCondition>, BackendError> {
    let flags = |mask, value| SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value);
    let thread = c::CLONE_THREAD as u64;
    Ok(vec![flags(thread, thread)?, flags(NEW_NAMESPACES, 0)?])
}
