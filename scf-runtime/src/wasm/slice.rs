//! How long the turns are that a thread asks of the system.
#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "system calls that no safe interface has"))]

use std::time::Duration;

/// Turns of a thread that does little and is to do it in time: the shortest that Linux gives.
pub(super) const SHORT: Duration = Duration::from_micros(100);
/// Turns of a thread that has much to do and may be interrupted at any time: the longest.
pub(super) const LONG: Duration = Duration::from_millis(100);

/// Asks for turns of `slice` for this thread. Who is woken takes the core at once from a thread with longer turns,
/// where it would else wait for the end of that one's, which the system looks for every few milliseconds. How much of
/// the core either of them gets is by their priorities as before.
///
/// The request length of EEVDF (Stoica, Abdel-Wahab: Earliest eligible virtual deadline first, 1995), which Linux lets
/// threads set from 6.12 on; an earlier one, and other systems, take no notice. Threads that somebody gave another
/// policy keep it, and those that this one starts, as an executor's do, have turns like others.
pub(super) fn ask(slice: Duration) {
    #[cfg(target_os = "linux")]
    if let Err(error) = set(slice) {
        tracing::debug!(%error, ?slice, "a thread has turns like others");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = slice;
}

#[cfg(target_os = "linux")]
fn set(slice: Duration) -> std::io::Result<()> {
    let mut now = attributes()?;
    if now.sched_policy == libc::SCHED_OTHER as u32 {
        now.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
        now.sched_flags |= libc::SCHED_FLAG_RESET_ON_FORK as u64;
        // SAFETY: 0 is this thread, and the kernel reads as much as the attributes say they have.
        checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const now, 0) })?;
    }
    Ok(())
}

/// Those of this thread.
#[cfg(target_os = "linux")]
fn attributes() -> std::io::Result<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as u32;
    let mut now = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: 0 is this thread, and the kernel writes no more than `size`.
    checked(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, size, 0) })?;
    Ok(now)
}

#[cfg(target_os = "linux")]
fn checked(result: libc::c_long) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn only_the_thread_that_asks_has_other_turns_and_it_keeps_its_priority() {
        let Ok(others) = attributes() else { return eprintln!("skipped: the system does not tell of turns") };
        let nice = (others.sched_nice + 1).min(19);
        let [asks, started] = thread::spawn(move || {
            rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice).unwrap();
            set(LONG).unwrap();
            [attributes().unwrap(), thread::spawn(|| attributes().unwrap()).join().unwrap()]
        })
        .join()
        .unwrap();
        assert_eq!((asks.sched_nice, asks.sched_policy), (nice, others.sched_policy));
        // A kernel before 6.12 says nothing.
        assert!([0, 100_000_000].contains(&asks.sched_runtime), "{}", asks.sched_runtime);
        for thread in [started, attributes().unwrap()] {
            assert_eq!(thread.sched_runtime, others.sched_runtime);
        }
    }
}
