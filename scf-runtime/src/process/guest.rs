//! The guest's side: what runs inside the jail.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
};

use super::{
    ENTRY,
    frame::{self, HEAD, ID},
};

/// A function of the embedding program that runs in a jailed process: gives the output, or says why it cannot
/// work with the input.
pub type GuestFunction = fn(Vec<u8>) -> Result<Vec<u8>, String>;

/// Serves calls if this process is a jailed child, and then ends it; returns at once otherwise.
///
/// Call it first in `main`, before threads start: nothing of the host belongs into a child. `functions` are
/// those that [`Program::this`](super::Program::this) is registered for, by their entry. A panic ends the process
/// and so the call.
pub fn guest_main(functions: &[(&str, GuestFunction)]) {
    let Some(entry) = entry() else { return };
    let found = functions.iter().find(|(name, _)| *name == entry);
    let ended = match found {
        Some((_, function)) => serve(function),
        None => Err(io::Error::other(format!("guest_main has no function for entry {entry:?}"))),
    };
    std::process::exit(match ended {
        Ok(()) => 0,
        Err(error) => {
            // The host logs it and puts it into the error of the call.
            let _ = writeln!(io::stderr(), "{error}");
            1
        }
    })
}

/// The entry that this process is a jailed child for.
pub(super) fn entry() -> Option<String> {
    std::env::var_os(ENTRY).map(|entry| entry.to_string_lossy().into_owned())
}

/// Serves calls with `function` until the host hangs up; for a program that is nothing but a guest.
///
/// # Errors
/// Where this is no jailed child, or the connection to the host breaks.
pub fn serve(mut function: impl FnMut(Vec<u8>) -> Result<Vec<u8>, String>) -> io::Result<()> {
    if entry().is_none() {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "this process is not the child of a ProcessFactory"));
    }
    let mut host = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    send(&mut host, frame::READY, &[])?;
    while let Some(input) = receive(&mut host)? {
        match function(input) {
            Ok(output) => send(&mut host, frame::OUTPUT, &output)?,
            Err(why) => {
                let mut end = why.len().min(frame::TEXT as usize);
                while !why.is_char_boundary(end) {
                    end -= 1;
                }
                send(&mut host, frame::REFUSED, &why.as_bytes()[..end])?;
            }
        }
    }
    Ok(())
}

/// The input of the next call; none when the host has hung up.
fn receive(host: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEAD];
    match host.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the host sent what is no call");
    let (frame::CALL, length) = frame::parse(head).ok_or_else(wrong)? else { return Err(wrong()) };
    let length = length.checked_sub(ID as u64).ok_or_else(wrong)?;
    host.read_exact(&mut [0; ID])?;
    let mut input = Vec::new();
    host.take(length).read_to_end(&mut input)?;
    if input.len() as u64 == length { Ok(Some(input)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn send(host: &mut File, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| io::Error::other("the output is over 4 GiB"))?;
    host.write_all(&frame::head(kind, length))?;
    host.write_all(body)
}
