//! Writing to files of a folder that has a quota.

use std::{fs::File, io, mem, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;
use wasmtime_wasi::{
    p2::{OutputStream, Pollable, StreamError, StreamResult},
    runtime::{AbortOnDropJoinHandle, spawn, spawn_blocking},
};

use super::folder::{Amount, Folder, Taken};
use crate::wasm::run::Run;

/// Bytes that a guest may write to a stream at once.
const WRITE: usize = 64 << 10;

/// Where in a file something is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    At(u64),
    End,
}

impl Place {
    /// How much longer the file becomes by `length` bytes here.
    fn growth(self, file: &File, length: usize) -> io::Result<Amount> {
        let length = length as u64;
        let bytes = match self {
            Self::At(start) => start.saturating_add(length).saturating_sub(file.metadata()?.len()),
            Self::End => length,
        };
        Ok(Amount::bytes(if length == 0 { 0 } else { bytes }))
    }

    fn put(self, file: &File, mut bytes: &[u8]) -> io::Result<()> {
        let Self::At(start) = self else { return append(file, bytes) };
        let mut at = start;
        while !bytes.is_empty() {
            let written = file.write_at(bytes, at)?;
            (at, bytes) = (at + written as u64, &bytes[written..]);
        }
        Ok(())
    }

    fn after(self, length: usize) -> Self {
        match self {
            Self::At(start) => Self::At(start.saturating_add(length as u64)),
            Self::End => Self::End,
        }
    }
}

/// Also where others append at the same time.
#[cfg(target_os = "linux")]
fn append(file: &File, mut bytes: &[u8]) -> io::Result<()> {
    use rustix::io::{ReadWriteFlags, pwritev2};
    while !bytes.is_empty() {
        let written = pwritev2(file, &[io::IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn append(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, file.metadata()?.len())
}

/// Does `change` to a file of `folder` once there is room for what the file grows by, on behalf of `run`.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] where there is none, and whatever the system says.
pub(super) async fn grow<R: Send + 'static>(
    folder: &Arc<Folder>,
    file: &Arc<File>,
    run: &Run,
    growth: impl Fn(&File) -> io::Result<Amount> + Clone + Send + 'static,
    change: impl Fn(&File) -> io::Result<R> + Clone + Send + 'static,
) -> io::Result<R> {
    let attempt = |taken: Option<Taken>| {
        let (folder, file) = (Arc::clone(folder), Arc::clone(file));
        let (growth, change) = (growth.clone(), change.clone());
        spawn_blocking(move || {
            let amount = growth(&file)?;
            // Kept until it is done.
            let room = taken.or_else(|| folder.try_take(amount));
            match room {
                Some(_taken) => change(&file).map(Ok),
                None => Ok(Err(amount)),
            }
        })
    };
    let amount = match attempt(None).await? {
        Ok(done) => return Ok(done),
        Err(amount) => amount,
    };
    let taken = folder.take(amount, run).await?;
    attempt(Some(taken)).await?.map_err(|_| io::ErrorKind::StorageFull.into())
}

/// Writes all of `bytes`, or nothing where there is no room for them.
pub(super) async fn write(
    folder: &Arc<Folder>,
    file: &Arc<File>,
    run: &Run,
    place: Place,
    bytes: Bytes,
) -> io::Result<()> {
    let length = bytes.len();
    let growth = move |file: &File| place.growth(file, length);
    grow(folder, file, run, growth, move |file| place.put(file, &bytes)).await
}

/// Makes a file `size` bytes long.
pub(super) async fn resize(folder: &Arc<Folder>, file: &Arc<File>, run: &Run, size: u64) -> io::Result<()> {
    let growth = move |file: &File| Ok(Amount::bytes(size.saturating_sub(file.metadata()?.len())));
    grow(folder, file, run, growth, move |file| file.set_len(size)).await
}

/// A stream into a file.
pub(super) struct Writer {
    folder: Arc<Folder>,
    file: Arc<File>,
    /// The call that made it.
    run: Arc<Run>,
    place: Place,
    state: State,
}

enum State {
    Ready,
    Writing(AbortOnDropJoinHandle<io::Result<()>>),
    Failed(io::Error),
    Closed,
}

impl Writer {
    pub(super) const fn new(folder: Arc<Folder>, file: Arc<File>, run: Arc<Run>, place: Place) -> Self {
        Self { folder, file, run, place, state: State::Ready }
    }

    /// Why nothing can be written any more, said once.
    fn failure(&mut self) -> StreamResult<()> {
        match &self.state {
            State::Failed(_) => match mem::replace(&mut self.state, State::Closed) {
                State::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
            State::Closed => Err(StreamError::Closed),
            State::Ready | State::Writing(_) => Ok(()),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.failure()?;
        if !matches!(self.state, State::Ready) || bytes.len() > WRITE {
            return Err(StreamError::trap("the guest wrote more than it was permitted to"));
        }
        let (folder, file, run, place) =
            (Arc::clone(&self.folder), Arc::clone(&self.file), Arc::clone(&self.run), self.place);
        self.place = place.after(bytes.len());
        let writing = async move { write(&folder, &file, &run, place, bytes).await };
        self.state = State::Writing(spawn(writing));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.failure()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.failure()?;
        Ok(if matches!(self.state, State::Ready) { WRITE } else { 0 })
    }

    /// Waits for what is being written: who reads the file next finds it there.
    async fn cancel(&mut self) {
        if let State::Writing(writing) = mem::replace(&mut self.state, State::Closed) {
            drop(writing.await);
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if let State::Writing(writing) = &mut self.state {
            self.state = match writing.await {
                Ok(()) => State::Ready,
                Err(error) => State::Failed(error),
            };
        }
    }
}
