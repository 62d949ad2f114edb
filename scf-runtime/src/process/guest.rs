//! The guest's side: what runs inside the jail.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
};

use scf_core::InvocationId;

use super::{
    ENTRY,
    frame::{self, HEAD, ID},
};

/// A function of the embedding program that runs in a jailed process: gives the output, or says why it cannot
/// work with the input.
pub type GuestFunction = fn(Vec<u8>) -> Result<Vec<u8>, String>;

/// What a process is told of the call that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestCall {
    /// The logical call: equal when it is tried again, so that what was done for it before is known by it.
    pub id: InvocationId,
    /// Which attempt at it this is, counted from 1; 16,777,215 stands for all later ones.
    pub attempt: u32,
}

/// The call that this process serves; a process serves one at a time.
static SERVED: Mutex<Option<GuestCall>> = Mutex::new(None);

/// The call that this process, a jailed child, serves now; `None` between calls and in any other process.
#[must_use]
pub fn current() -> Option<GuestCall> {
    *SERVED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serves(call: Option<GuestCall>) {
    *SERVED.lock().unwrap_or_else(PoisonError::into_inner) = call;
}

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
    while let Some((call, input)) = receive(&mut host)? {
        serves(Some(call));
        let result = function(input);
        serves(None);
        match result {
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

/// The next call and its input; none when the host has hung up.
fn receive(host: &mut File) -> io::Result<Option<(GuestCall, Vec<u8>)>> {
    let mut head = [0; HEAD];
    match host.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the host sent what is no call");
    let (length, attempt) = frame::parse_call(head).ok_or_else(wrong)?;
    let length = length.checked_sub(ID as u64).ok_or_else(wrong)?;
    let mut id = [0; ID];
    host.read_exact(&mut id)?;
    let mut input = Vec::new();
    host.take(length).read_to_end(&mut input)?;
    if input.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((GuestCall { id: InvocationId::new(u128::from_be_bytes(id)), attempt }, input)))
}

fn send(host: &mut File, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| io::Error::other("the output is over 4 GiB"))?;
    host.write_all(&frame::head(kind, length))?;
    host.write_all(body)
}
