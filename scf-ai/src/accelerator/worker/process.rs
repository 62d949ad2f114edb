//! The process of a worker, as its host sees it.

use std::{
    collections::HashSet,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::{
    ENTRY, Settings,
    link::{Link, LinkError},
    memory::SharedMemory,
    message::{Answer, Ask, Opened, VERSION},
};
use crate::accelerator::AcceleratorError;

/// Bytes kept of what a worker says on its standard error: a message and a backtrace.
const SAID: u64 = 16 << 10;
/// Bytes of it that go into an error.
const QUOTED: usize = 500;
/// How a dynamic loader ends a program whose libraries are not there (glibc and musl).
const NOT_LOADED: i32 = 127;

/// A worker that runs; killed when this is dropped, and everything that it held is free then.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    link: Link,
    pub(super) memory: SharedMemory,
    /// What it says on its standard error, as much as there is room for.
    said: OwnedFd,
    number: u64,
    /// The models that it has.
    pub(super) loaded: HashSet<u32>,
    /// Whether it can be asked again.
    sound: bool,
}

impl Process {
    /// Starts the program of `settings` and has it open its device.
    pub(super) fn start(settings: &Settings) -> Result<(Self, Opened), AcceleratorError> {
        let device = settings.device;
        let system = |what| move |source: io::Error| AcceleratorError::System { device, what, source: source.into() };
        let memory = SharedMemory::create(settings.shared).map_err(system("sharing memory"))?;
        let (link, socket) = Link::pair().map_err(system("making a connection"))?;
        let said = errors().map_err(system("keeping its errors"))?;
        let stderr = said.try_clone().map_err(system("keeping its errors"))?;
        let spawned = Command::new(&settings.program)
            .args(&settings.arguments)
            .env(ENTRY, device.to_string())
            // What it says goes into errors, of which the last line is worth more than the way there.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::from(stderr))
            .spawn();
        let child = spawned.map_err(|error| AcceleratorError::NotStarted {
            device,
            program: settings.program.display().to_string(),
            problem: error.to_string(),
        })?;
        let mut process = Self { child, link, memory, said, number: 0, loaded: HashSet::new(), sound: true };
        let file = process.memory.file().try_clone_to_owned().map_err(system("sharing memory"))?;
        let ask = Ask::Open { version: VERSION, device };
        let answer = process.ask(settings, &ask, Some(&file));
        let opened = match answer {
            Ok(Answer::Opened(opened)) => opened,
            Ok(Answer::Failed(problem)) => return Err(AcceleratorError::absent(device, problem)),
            Ok(_) => return Err(process.garbage(settings, ask.verb(), "kind")),
            Err(AcceleratorError::Died { how, .. }) => return Err(process.unstarted(settings, how)),
            Err(error) => return Err(error),
        };
        if opened.version != VERSION {
            return Err(process.garbage(settings, ask.verb(), "version"));
        }
        if opened.device != device {
            return Err(AcceleratorError::OtherDevice { device, found: opened.device });
        }
        Ok((process, opened))
    }

    /// The worker's answer; it must not be asked again after an error.
    pub(super) fn ask(
        &mut self,
        settings: &Settings,
        ask: &Ask,
        file: Option<&OwnedFd>,
    ) -> Result<Answer, AcceleratorError> {
        let until = Instant::now() + settings.patience;
        let number = self.number;
        self.number += 1;
        let answered = self.link.send(number, ask, file.map(AsFd::as_fd)).and_then(|()| self.link.receive(Some(until)));
        let (device, asked) = (settings.device, ask.verb());
        let error = match answered {
            Ok(received) if received.number == number => return Ok(received.body),
            Ok(_) => AcceleratorError::Garbage { device, asked, field: "number" },
            Err(LinkError::Garbage(field)) => AcceleratorError::Garbage { device, asked, field },
            Err(LinkError::Closed) => AcceleratorError::Died { device, asked, how: self.how() },
            Err(LinkError::Late) => AcceleratorError::Late { device, asked, within: settings.patience },
            Err(LinkError::TooLong) => {
                let source = io::Error::other("the message is longer than messages may be");
                AcceleratorError::System { device, what: asked, source: source.into() }
            }
            Err(LinkError::System(source)) => AcceleratorError::System { device, what: asked, source: source.into() },
        };
        self.sound = false;
        Err(error)
    }

    /// Whether it can be asked again.
    pub(super) const fn is_sound(&self) -> bool {
        self.sound
    }

    /// It said what cannot be, and is not asked again.
    pub(super) fn garbage(
        &mut self,
        settings: &Settings,
        asked: &'static str,
        field: &'static str,
    ) -> AcceleratorError {
        self.sound = false;
        AcceleratorError::Garbage { device: settings.device, asked, field }
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it has hung up; ends it where it lives on.
    fn how(&mut self) -> String {
        let said = self.said();
        let how = match self.end() {
            Ok(status) => told(status),
            Err(error) => error.to_string(),
        };
        if said.is_empty() { how } else { format!("{how}: {said}") }
    }

    /// A program that ended before it had opened its device: its libraries are not there, or it is no worker.
    fn unstarted(&mut self, settings: &Settings, how: String) -> AcceleratorError {
        let device = settings.device;
        let loader = self.child.try_wait().is_ok_and(|status| status.is_some_and(|s| s.code() == Some(NOT_LOADED)));
        if loader && self.said().contains("shared librar") {
            return AcceleratorError::absent(device, how);
        }
        AcceleratorError::NotStarted { device, program: settings.program.display().to_string(), problem: how }
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        // One that hung up is ending: its signal or its exit status say why, and killing it at once would hide that.
        for _ in 0..GRACE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
        self.child.kill()?;
        self.child.wait()
    }

    /// The end of what it said, in one line.
    fn said(&self) -> String {
        let mut bytes = vec![0; SAID as usize];
        let read = rustix::io::pread(&self.said, &mut bytes, 0).unwrap_or(0);
        let said = String::from_utf8_lossy(bytes[..read].split(|&b| b == 0).next().unwrap_or_default());
        let said: String = said.trim().escape_debug().collect();
        said[said.ceil_char_boundary(said.len().saturating_sub(QUOTED))..].to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that ended already cannot be killed, and is waited for all the same.
        drop(self.child.kill());
        if let Err(error) = self.child.wait() {
            tracing::warn!(%error, "a worker was not seen to end");
        }
    }
}

/// How often a worker that hung up is looked at before it is killed.
const GRACE: u32 = 200;
/// How long between two looks.
const LOOK: Duration = Duration::from_millis(5);

fn told(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, code) => format!("exit status {}", code.unwrap_or(-1)),
    }
}

/// A file in memory that never grows beyond [`SAID`].
fn errors() -> io::Result<OwnedFd> {
    let file = memfd_create("scf-accelerator-errors", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, SAID)?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}
