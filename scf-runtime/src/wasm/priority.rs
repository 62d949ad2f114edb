//! Which of the runtime's threads the system prefers to others.

/// How much less than the others' the priority of threads is that are behind. A thread that wakes takes the core from them
/// at once; while others want all of every core, a tenth of it is left for them.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Makes this thread one that others are preferred to.
pub(super) fn lower() {
    #[cfg(target_os = "linux")]
    {
        use rustix::{process, thread};
        // Linux has priorities of threads; what POSIX says of processes it does for the one thread that is named.
        let this = thread::gettid();
        let now = process::getpriority_process(Some(this)).unwrap_or(0);
        if let Err(error) = process::setpriority_process(Some(this), (now + NICE).min(19)) {
            tracing::warn!(%error, "guests that run long have the priority of all others");
        }
    }
}

/// Has this thread run as soon as it is woken, if the system lets it (`CAP_SYS_NICE`, or an `RLIMIT_RTPRIO` of 1): at the
/// lowest of the realtime priorities.
///
/// Without, a thread that wakes on the core of one that never stops may have to wait until that has had its slice of
/// time, some milliseconds, however rarely it runs.
pub(super) fn raise() {
    #[cfg(target_os = "linux")]
    if let Err(error) = realtime() {
        tracing::debug!(%error, "guests may run some milliseconds beyond their budget of CPU time");
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a system call that no safe function makes")]
fn realtime() -> std::io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a value that lives as long as the call; 0 is this thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const lowest) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
