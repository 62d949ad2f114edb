//! A jailed process as the host holds it.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{RecvFlags, recv},
    process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid},
};
use tokio::{io::unix::AsyncFd, net::UnixStream, runtime::Handle};

use super::{
    group::{Group, Groups},
    output::Output,
    raw,
    slot::Slot,
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

/// A process that has not been reaped, watched by the runtime. Dropping it ends it and all that is in it, and waits for
/// nothing.
#[derive(Debug)]
pub(super) struct Process(Option<AsyncFd<Body>>);

/// A process that runs, and what is given back when it is gone. Dropping it ends it and waits until it is, so nothing is
/// left of a start that was given up, wherever it had come to.
#[derive(Debug)]
pub(super) struct Body {
    pid: i32,
    pidfd: OwnedFd,
    /// Whether its end has been seen.
    is_reaped: bool,
    group: Option<(Group, Arc<Groups>)>,
    slot: Option<Arc<Slot>>,
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
    pub(super) fn new(body: Body) -> io::Result<Self> {
        raw::watched(body).map(|body| Self(Some(body)))
    }

    fn body(&self) -> &Body {
        self.watched().get_ref()
    }

    fn watched(&self) -> &AsyncFd<Body> {
        self.0.as_ref().expect("taken only when dropped")
    }

    pub(super) fn pid(&self) -> i32 {
        self.body().pid
    }

    /// CPU time that it has used since its birth.
    pub(super) fn cpu(&self) -> Duration {
        // Its clock is there until it is reaped, and nobody asks after that.
        raw::cpu_time(self.pid()).unwrap_or_default()
    }

    /// What it has in memory; nothing when it has ended.
    pub(super) fn memory(&self) -> Memory {
        fs::read_to_string(format!("/proc/{}/status", self.pid())).map(|text| parse(&text)).unwrap_or_default()
    }

    pub(super) fn ran_out_of_memory(&self) -> bool {
        self.body().group.as_ref().is_some_and(|(group, _)| group.ran_out_of_memory())
    }

    pub(super) fn kill(&self) {
        self.body().kill();
    }

    /// Lets it run no further, or on.
    pub(super) fn pause(&self, is_paused: bool) {
        let signal = if is_paused { Signal::STOP } else { Signal::CONT };
        // Fails only when it has ended; its next call tells.
        let _ = pidfd_send_signal(self.body(), signal);
    }

    /// Waits until it has ended, without reaping it: its CPU clock is still there.
    pub(super) async fn ended(&self) -> io::Result<WaitIdStatus> {
        loop {
            let mut ready = self.watched().readable().await?;
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if let Some(status) = waitid(WaitId::PidFd(self.body().as_fd()), options)? {
                return Ok(status);
            }
            ready.clear_ready();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut watched) = self.0.take() else { return };
        if watched.get_mut().end() {
            return;
        }
        // Its memory is still being freed. Who drops a body waits for that, so it is dropped elsewhere.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                while !watched.get_mut().reap(WaitIdOptions::NOHANG) {
                    // Cleared before the look, so that an end after it is seen.
                    match watched.readable().await {
                        Ok(mut ready) => ready.clear_ready(),
                        Err(_) => return,
                    }
                }
            });
        }
    }
}

impl Body {
    pub(super) fn new(pid: i32, pidfd: OwnedFd, group: Option<(Group, Arc<Groups>)>, slot: Option<Arc<Slot>>) -> Self {
        Self { pid, pidfd, is_reaped: false, group, slot }
    }

    /// Has its group take it in.
    pub(super) fn adopt(&self) -> io::Result<()> {
        self.group.as_ref().map_or(Ok(()), |(group, _)| group.adopt(self.pid))
    }

    fn kill(&self) {
        // Fails only when it has ended already.
        let _ = pidfd_send_signal(self, Signal::KILL);
    }

    /// Ends it; whether it is gone already.
    fn end(&mut self) -> bool {
        self.kill();
        if let Some(slot) = &self.slot {
            slot.leave();
        }
        self.reap(WaitIdOptions::NOHANG)
    }

    fn reap(&mut self, how: WaitIdOptions) -> bool {
        let options = WaitIdOptions::EXITED | how;
        self.is_reaped = self.is_reaped
            || match retry_on_intr(|| waitid(WaitId::PidFd(self.as_fd()), options)) {
                Ok(status) => status.is_some(),
                // Somebody else in the host reaps all children.
                Err(_) => true,
            };
        self.is_reaped
    }
}

impl AsFd for Body {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Body {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !self.is_reaped && !self.end() {
            self.reap(WaitIdOptions::empty());
        }
        if let Some((group, groups)) = self.group.take() {
            groups.give_back(group);
        }
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
