//! The process that compiles.
#![cfg_attr(unix, expect(unsafe_code, reason = "closing files that nobody here owns"))]

use std::{
    env, fs,
    io::{self, Read, Write},
    process,
};

use super::{
    cache::Entry,
    compile::{CODE, HELLO, INVALID, MARKER, PROFILES, compiler},
    precompiled::mac,
    sign::Cpu,
};

/// Makes a compiler of this process if it was started to be one by [`CompilerCommand`](super::CompilerCommand), and
/// does nothing otherwise. Call it first thing in `main`, before threads are started and files are opened.
///
/// A compiler compiles one component and ends the process; this function does not return then.
///
/// ```no_run
/// // The first line of `main`.
/// scf_runtime::compiler_main();
/// ```
pub fn compiler_main() {
    let Ok(limits) = env::var(MARKER) else { return };
    let status = match greet().and_then(|()| confine(&limits)).and_then(|()| serve()) {
        Ok(()) => 0,
        // The parent sees that there is no answer.
        Err(_) => 1,
    };
    process::exit(status);
}

/// Takes from this process what a compiler does not need.
#[cfg(unix)]
fn confine(limits: &str) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let (memory, cpu) = limits.split_once(',').ok_or_else(invalid)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| invalid());
    let (memory, cpu) = (number(memory)?, number(cpu)?);
    close_files()?;
    for (resource, limit) in [
        (Resource::As, memory),
        (Resource::Cpu, cpu),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        // Those that are open stay so; there are no others.
        (Resource::Nofile, 3),
    ] {
        setrlimit(
            resource,
            Rlimit { current: Some(limit), maximum: Some(limit + u64::from(resource == Resource::Cpu)) },
        )?;
    }
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        rustix::thread::set_no_new_privs(true)?;
    }
    Ok(())
}

/// Closes what a library of the parent left open for its children.
#[cfg(unix)]
fn close_files() -> io::Result<()> {
    let Ok(files) = fs::read_dir("/proc/self/fd") else { return Ok(()) };
    let numbers: Vec<i32> =
        files.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok()).filter(|number| *number > 2).collect();
    for number in numbers {
        // SAFETY: the process has just started and does nothing but compile: nothing owns a file. The one by
        // which the folder was read is closed already, which is found out first.
        unsafe {
            if rustix::io::fcntl_getfd(std::os::fd::BorrowedFd::borrow_raw(number)).is_ok() {
                rustix::io::close(number);
            }
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn confine(_: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Says that this is a compiler, so that what fails from here on is not taken for a program that is none.
fn greet() -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(HELLO)?;
    output.flush()
}

fn serve() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let (mut key, mut settings, mut length) = ([0; blake3::KEY_LEN], [0; 2], [0; 8]);
    input.read_exact(&mut key)?;
    input.read_exact(&mut settings)?;
    input.read_exact(&mut length)?;
    let profile = PROFILES.get(usize::from(settings[0])).ok_or(io::ErrorKind::InvalidInput)?;
    let length = u64::from_le_bytes(length);
    let mut component = Vec::new();
    input.take(length).read_to_end(&mut component)?;
    let engine = compiler(*profile, settings[1] != 0, Cpu::Host).map_err(io::Error::other)?;
    match engine.precompile_component(&component) {
        Ok(code) => {
            let entry = Entry::of(&engine, &blake3::hash(&component));
            answer(&mut output, CODE, &[mac(&key, entry.as_bytes(), &code).as_bytes(), &code])
        }
        Err(error) => answer(&mut output, INVALID, &[format!("{error:#}").as_bytes()]),
    }
}

fn answer(output: &mut impl Write, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    output.write_all(&[kind])?;
    output.write_all(&(length as u64).to_le_bytes())?;
    parts.iter().try_for_each(|part| output.write_all(part))?;
    output.flush()
}
