//! A jailed process as the host holds it.

use std::{
    fs, io, mem,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
    process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid},
};
use tokio::{io::unix::AsyncFd, net::UnixStream, runtime::Handle, sync::OwnedSemaphorePermit};

use super::{
    group::{Group, Groups},
    output::Output,
    raw::{self, Started},
};

/// A process that was started, and the ways to it.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) connection: UnixStream,
    pub(super) output: Output,
    pub(super) process: Process,
    pub(super) started: Instant,
    /// When it said that it is ready, in the call that started it.
    pub(super) ready_at: Option<Instant>,
    /// Calls that it was given.
    pub(super) calls: u32,
}

impl Child {
    /// Whether it has sent what nobody asked for, or has hung up.
    pub(super) fn has_something_to_say(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        !matches!(recv(&self.connection, &mut [0; 1], flags), Err(Errno::WOULDBLOCK))
    }
}

/// A process that has not been reaped. Dropping it ends it and all that is in it.
#[derive(Debug)]
pub(super) struct Process(Option<Body>);

/// What there is to clean up.
#[derive(Debug)]
struct Body {
    pid: i32,
    pidfd: AsyncFd<OwnedFd>,
    /// Whether its end has been seen.
    is_reaped: bool,
    group: Option<(Group, Arc<Groups>)>,
    /// Room for one process, given back when this one is gone.
    slot: Option<OwnedSemaphorePermit>,
    /// Processes that have been ended and are not gone yet.
    dying: Arc<AtomicUsize>,
}

/// What a process has in memory, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Bytes that are its own, now.
    pub(super) own: u64,
    /// The most that it had, with what it had of files.
    pub(super) peak: u64,
    /// Bytes of files, now.
    pub(super) files: u64,
}

impl Process {
    pub(super) fn new(
        started: Started,
        group: Option<(Group, Arc<Groups>)>,
        slot: OwnedSemaphorePermit,
        dying: Arc<AtomicUsize>,
    ) -> io::Result<Self> {
        let Started { pid, pidfd } = started;
        match raw::watched(pidfd) {
            Ok(pidfd) => Ok(Self(Some(Body { pid, pidfd, is_reaped: false, group, slot: Some(slot), dying }))),
            Err((pidfd, source)) => {
                Started { pid, pidfd }.abandon();
                Err(source)
            }
        }
    }

    fn body(&self) -> &Body {
        self.0.as_ref().expect("taken only when dropped")
    }

    pub(super) fn pid(&self) -> i32 {
        self.body().pid
    }

    /// CPU time that it has used since its birth.
    pub(super) fn cpu(&self) -> Duration {
        // Its clock is there until it is reaped, and nobody asks after that.
        raw::cpu_time(self.body().pid).unwrap_or_default()
    }

    /// What it has in memory; nothing when it has ended.
    pub(super) fn memory(&self) -> Memory {
        fs::read_to_string(format!("/proc/{}/status", self.body().pid)).map(|text| parse(&text)).unwrap_or_default()
    }

    pub(super) fn ran_out_of_memory(&self) -> bool {
        self.body().group.as_ref().is_some_and(|(group, _)| group.ran_out_of_memory())
    }

    pub(super) fn kill(&self) {
        // Fails only when it has ended already.
        let _ = pidfd_send_signal(self.body().pidfd.get_ref(), Signal::KILL);
    }

    /// Lets it run no further, or on.
    pub(super) fn pause(&self, is_paused: bool) {
        let signal = if is_paused { Signal::STOP } else { Signal::CONT };
        // Fails only when it has ended; its next call tells.
        let _ = pidfd_send_signal(self.body().pidfd.get_ref(), signal);
    }

    /// Waits until it has ended, without reaping it: its CPU clock is still there.
    pub(super) async fn ended(&self) -> io::Result<WaitIdStatus> {
        let body = self.body();
        loop {
            let mut ready = body.pidfd.readable().await?;
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if let Some(status) = waitid(WaitId::PidFd(body.pidfd.get_ref().as_fd()), options)? {
                return Ok(status);
            }
            ready.clear_ready();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let Some(mut body) = self.0.take() else { return };
        body.dying.fetch_add(1, Relaxed);
        if body.try_reap() {
            return;
        }
        // Its memory is still being freed. Who drops a body waits for that, so it is dropped elsewhere.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                while !body.try_reap() {
                    // Cleared before the look, so that an end after it is seen.
                    match body.pidfd.readable().await {
                        Ok(mut ready) => ready.clear_ready(),
                        Err(_) => return,
                    }
                }
            });
        }
    }
}

impl Body {
    fn try_reap(&mut self) -> bool {
        self.is_reaped || self.reap(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    fn reap(&mut self, options: WaitIdOptions) -> bool {
        self.is_reaped = match waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), options) {
            Ok(status) => status.is_some(),
            // Somebody else in the host reaps all children.
            Err(_) => true,
        };
        self.is_reaped
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.reap(WaitIdOptions::EXITED);
        }
        if let Some((group, groups)) = mem::take(&mut self.group) {
            groups.give_back(group);
        }
        // In this order: whoever finds no slot and nothing dying gives up.
        self.slot.take();
        self.dying.fetch_sub(1, Relaxed);
    }
}

/// Reads what `/proc/PID/status` says about memory.
fn parse(status: &str) -> Memory {
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    let bytes = |name| value(name).unwrap_or(0) << 10;
    Memory { own: bytes("RssAnon") + bytes("RssShmem"), peak: bytes("VmHWM"), files: bytes("RssFile") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_memory_of_a_status_as_the_kernel_writes_it() {
        let status =
            "Name:\tx\nVmHWM:\t    5000 kB\nRssAnon:\t    1000 kB\nRssFile:\t    3000 kB\nRssShmem:\t  24 kB\n";
        assert_eq!(parse(status), Memory { own: 1024 << 10, peak: 5000 << 10, files: 3000 << 10 });
        assert_eq!(parse("Name:\tx\nState:\tZ (zombie)\n"), Memory::default());
    }
}
