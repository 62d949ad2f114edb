//! Compilation in a process of its own.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use scf_core::ByteSize;
use thiserror::Error;
use wasmtime::Engine;

use super::{
    profile::{self, Profile},
    sign::Cpu,
};

/// What a compiler says first, so that a program that is none is noticed before it is given anything.
pub(super) const HELLO: &[u8; 8] = b"SCFCOMP1";
/// The environment variable that makes a compiler of a program that calls `compiler_main`: bytes of address space
/// and seconds of CPU.
pub(super) const MARKER: &str = "SCF_COMPILER_CHILD";
/// The first byte of an answer: machine code after its keyed hash, or what is wrong with the component.
pub(super) const CODE: u8 = 0;
pub(super) const INVALID: u8 = 1;
/// Longest answer, in bytes: a component of the default size limit comes to a quarter of it.
const ANSWER: u64 = 256 << 20;

/// The profiles in the order in which requests number them.
pub(super) const PROFILES: [Profile; 3] = [Profile::Gateway, Profile::Server, Profile::Tiny];

/// An engine that compiles for those with these settings and runs nothing.
pub(super) fn compiler(profile: Profile, fuel: bool, cpu: Cpu) -> wasmtime::Result<Engine> {
    let mut config = profile::config(profile, fuel);
    if cpu == Cpu::Baseline {
        // Naming the target keeps wasmtime from looking at this CPU.
        let system = match std::env::consts::OS {
            "linux" if cfg!(target_env = "musl") => "unknown-linux-musl",
            "linux" => "unknown-linux-gnu",
            "macos" => "apple-darwin",
            "windows" => "pc-windows-msvc",
            other => wasmtime::bail!("no target is known for every CPU of {other}; sign for this host's"),
        };
        config.target(&format!("{}-{system}", std::env::consts::ARCH))?;
    }
    Engine::new(&config)
}

/// Where a [`WasmFactory`](super::WasmFactory) compiles components.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Compiler {
    /// On the blocking threads of the runtime that the factory is called on.
    ///
    /// The default, since only the program's author can say that the program may be started again. Components
    /// are held to [`CodeLimits`](super::CodeLimits) first, which bounds what a hostile one costs to seconds
    /// and some hundred megabytes; a bug in the compiler that one finds is in this process.
    #[default]
    InProcess,
    /// In a process of its own for each, with limits on memory and time. What an integrator wants who compiles
    /// components of others.
    Child(CompilerCommand),
}

/// How the process that compiles is started and what it may use.
///
/// It has an empty environment, no open files but its input and output, writes no core dumps and cannot gain
/// privileges. A component that exploits the compiler could still make it give back other machine code than the
/// component's, which then runs here: who has to exclude that compiles elsewhere and deploys signed artefacts.
#[derive(Clone, Debug)]
#[must_use]
pub struct CompilerCommand {
    program: PathBuf,
    arguments: Vec<OsString>,
    memory: ByteSize,
    cpu: Duration,
    wall: Duration,
}

impl CompilerCommand {
    /// This program, started again. Its `main` must call [`compiler_main`](crate::compiler_main) before it does
    /// anything else. Limits: 2 GiB of address space, 20 s of CPU, 30 s in all.
    pub fn this_program() -> Self {
        // The link leads to the running program, also after its file was replaced by an update.
        let linked = PathBuf::from("/proc/self/exe");
        Self::new(if linked.exists() { linked } else { std::env::current_exe().unwrap_or(linked) })
    }

    /// Another program that calls [`compiler_main`](crate::compiler_main), of the same version of this crate, with
    /// the same limits.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            memory: ByteSize::from_mib(2048),
            cpu: Duration::from_secs(20),
            wall: Duration::from_secs(30),
        }
    }

    /// Adds an argument; default none.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Address space of the process; default 2 GiB. The program itself and the stacks of one thread for each core
    /// are part of it.
    pub const fn memory(mut self, memory: ByteSize) -> Self {
        self.memory = memory;
        self
    }

    /// CPU time of the process, in whole seconds, rounded up; default 20 s.
    pub const fn cpu(mut self, cpu: Duration) -> Self {
        self.cpu = cpu;
        self
    }

    /// Time in all, after which it is killed; default 30 s.
    pub const fn wall(mut self, wall: Duration) -> Self {
        self.wall = wall;
        self
    }

    /// Compiles on the calling thread's time. Gives the entry's file: machine code after its hash by `key`.
    pub(super) fn compile(
        &self,
        key: &[u8; blake3::KEY_LEN],
        profile: Profile,
        fuel: bool,
        component: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        let seconds = self.cpu.as_secs() + u64::from(self.cpu.subsec_nanos() > 0);
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env(MARKER, format!("{},{}", self.memory.bytes(), seconds.max(1)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.map_err(|source| CompileError::Start { program: self.program.clone(), source })?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(mut input), Some(mut output)) = (input, output) else { return Err(CompileError::NoCompiler) };
        let number = PROFILES.iter().position(|other| *other == profile).unwrap_or(PROFILES.len());
        let request = [&key[..], &[u8::try_from(number).unwrap_or(u8::MAX), u8::from(fuel)]].concat();
        let child = Mutex::new(child);
        let (done, watched) = mpsc::channel::<()>();
        let (answer, late) = thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let watched = watched;
                let late = watched.recv_timeout(self.wall) == Err(mpsc::RecvTimeoutError::Timeout);
                if late {
                    kill(&child);
                }
                late
            });
            let answer = converse(&mut input, &mut output, &request, component);
            drop((input, done));
            // After an answer, and after none, there is nothing that it could still do.
            kill(&child);
            (answer, watch.join().unwrap_or(false))
        });
        let mut child = child.into_inner().unwrap_or_else(PoisonError::into_inner);
        let status = child.wait().map_err(|source| CompileError::Start { program: self.program.clone(), source })?;
        match answer {
            Answer::Code(file) => Ok(file),
            Answer::Invalid(problem) => Err(CompileError::Invalid { problem }),
            _ if late => Err(CompileError::Wall { limit: self.wall }),
            Answer::NotACompiler => Err(CompileError::NoCompiler),
            Answer::Nothing => Err(self.ended(status)),
        }
    }

    fn ended(&self, status: ExitStatus) -> CompileError {
        #[cfg(unix)]
        if std::os::unix::process::ExitStatusExt::signal(&status) == Some(rustix::process::Signal::XCPU.as_raw()) {
            return CompileError::Cpu { limit: self.cpu };
        }
        CompileError::Ended { status, memory: self.memory }
    }
}

/// What came of a child.
enum Answer {
    Code(Vec<u8>),
    Invalid(String),
    NotACompiler,
    /// It ended.
    Nothing,
}

fn kill(child: &Mutex<Child>) {
    // It may have ended by itself; it is not waited for before, so the id is still its own.
    drop(child.lock().unwrap_or_else(PoisonError::into_inner).kill());
}

fn converse(input: &mut impl Write, output: &mut impl Read, request: &[u8], component: &[u8]) -> Answer {
    let mut hello = [0; HELLO.len()];
    match output.read_exact(&mut hello) {
        Ok(()) if hello == *HELLO => {}
        // It said something else, or ended without a word; a compiler says hello whatever happens next.
        _ => return Answer::NotACompiler,
    }
    let asked = write_request(input, request, component);
    if asked.is_err() {
        return Answer::Nothing;
    }
    let mut answer = Vec::new();
    let Ok((kind, length)) = read_head(output) else { return Answer::Nothing };
    let read = output.take(length.min(ANSWER)).read_to_end(&mut answer);
    if !read.is_ok_and(|read| read as u64 == length) {
        return Answer::Nothing;
    }
    match kind {
        CODE => Answer::Code(answer),
        INVALID => Answer::Invalid(String::from_utf8_lossy(&answer).into_owned()),
        _ => Answer::NotACompiler,
    }
}

fn write_request(input: &mut impl Write, request: &[u8], component: &[u8]) -> io::Result<()> {
    input.write_all(request)?;
    input.write_all(&(component.len() as u64).to_le_bytes())?;
    input.write_all(component)?;
    input.flush()
}

fn read_head(output: &mut impl Read) -> io::Result<(u8, u64)> {
    let (mut kind, mut length) = ([0; 1], [0; 8]);
    output.read_exact(&mut kind)?;
    output.read_exact(&mut length)?;
    Ok((kind[0], u64::from_le_bytes(length)))
}

/// Why a component was not compiled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The component is not valid.
    #[error("{problem}")]
    Invalid {
        /// What the compiler says; may quote names that the component's author chose.
        problem: String,
    },
    /// It took longer than the limit.
    #[error("compiling took longer than {limit:?}")]
    Wall {
        /// [`CompilerCommand::wall`].
        limit: Duration,
    },
    /// It took more CPU time than the limit.
    #[error("compiling took more than {limit:?} of CPU")]
    Cpu {
        /// [`CompilerCommand::cpu`].
        limit: Duration,
    },
    /// The compiler ended without an answer, mostly because it ran out of memory.
    #[error("the compiler ended without an answer, {status}; it had {memory} of address space")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// [`CompilerCommand::memory`].
        memory: ByteSize,
    },
    /// The program was started and is not a compiler.
    #[error("the program that was started is not a compiler: its main must call scf_runtime::compiler_main first")]
    NoCompiler,
    /// What it gave was made with another key or for another component or engine.
    #[error("the compiler's answer is not the machine code that was asked for; is it of another version?")]
    Forged,
    /// The program could not be started.
    #[error("the compiler {} does not start", .program.display())]
    Start {
        /// Its path.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
