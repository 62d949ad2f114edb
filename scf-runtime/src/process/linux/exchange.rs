//! Frames to and from a process.

use std::{io, time::Instant};

use bytes::Bytes;
use scf_core::InvocationId;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::process::frame::{self, HEAD, ID};

/// What is reserved of a body before it arrives, at most.
const AHEAD: u64 = 64 << 10;

/// What a guest answers.
#[derive(Debug)]
pub(super) enum Answer {
    Output { bytes: Bytes, is_clean: bool },
    Refused { text: String, is_clean: bool },
}

impl Answer {
    /// Whether the guest took the whole input before it answered, so that its connection is where the next call
    /// can begin.
    pub(super) const fn is_clean(&self) -> bool {
        let (Self::Output { is_clean, .. } | Self::Refused { is_clean, .. }) = self;
        *is_clean
    }
}

/// Why a guest's answer is none.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection ended.
    HungUp,
    /// The output is over the limit.
    TooLarge,
    /// What it sent is no frame that may come here.
    Protocol(&'static str),
}

impl From<io::Error> for Fault {
    fn from(_: io::Error) -> Self {
        Self::HungUp
    }
}

/// Waits until a guest says that it has started.
pub(super) async fn ready(connection: &mut UnixStream) -> Result<(), Fault> {
    expect_ready(&mut connection.split().0).await
}

/// Gives a call to a guest and takes its answer; the output may have `limit` bytes. A guest that has not said yet that
/// it is ready says so first, at `ready_at`.
pub(super) async fn call(
    connection: &mut UnixStream,
    ready_at: Option<&mut Option<Instant>>,
    (id, attempt): (InvocationId, u32),
    input: &[u8],
    limit: u64,
) -> Result<Answer, Fault> {
    let too_large = Fault::Protocol("the input is over what a frame can have");
    let length = u32::try_from(input.len() + ID).map_err(|_| too_large)?;
    let mut start = [0; HEAD + ID];
    start[..HEAD].copy_from_slice(&frame::call_head(length, attempt));
    start[HEAD..].copy_from_slice(&id.bits().to_be_bytes());
    let (mut reader, mut writer) = connection.split();
    let write = async {
        writer.write_all(&start).await?;
        writer.write_all(input).await
    };
    let read = async {
        if let Some(ready_at) = ready_at {
            expect_ready(&mut reader).await?;
            *ready_at = Some(Instant::now());
        }
        answer(&mut reader, limit).await
    };
    tokio::pin!(write, read);
    let (body, is_clean) = tokio::select! {
        biased;
        body = &mut read => (body?, false),
        written = &mut write => (read.await?, written.is_ok()),
    };
    Ok(match body {
        (frame::OUTPUT, bytes) => Answer::Output { bytes: bytes.into(), is_clean },
        (_, bytes) => Answer::Refused { text: String::from_utf8_lossy(&bytes).into_owned(), is_clean },
    })
}

async fn expect_ready(reader: &mut (impl AsyncRead + Unpin)) -> Result<(), Fault> {
    match head(reader).await? {
        (frame::READY, 0) => Ok(()),
        _ => Err(Fault::Protocol("sent something else before it said that it is ready")),
    }
}

async fn answer(reader: &mut (impl AsyncRead + Unpin), limit: u64) -> Result<(u8, Vec<u8>), Fault> {
    let (kind, length) = head(reader).await?;
    match kind {
        frame::OUTPUT if length > limit => return Err(Fault::TooLarge),
        frame::REFUSED if length > frame::TEXT => return Err(Fault::Protocol("sent a refusal that is too long")),
        frame::OUTPUT | frame::REFUSED => {}
        _ => return Err(Fault::Protocol("sent a frame of a kind that is no answer")),
    }
    let mut body = Vec::with_capacity(length.min(AHEAD) as usize);
    reader.take(length).read_to_end(&mut body).await?;
    if body.len() as u64 == length { Ok((kind, body)) } else { Err(Fault::HungUp) }
}

async fn head(reader: &mut (impl AsyncRead + Unpin)) -> Result<(u8, u64), Fault> {
    let mut head = [0; HEAD];
    reader.read_exact(&mut head).await?;
    frame::parse(head).ok_or(Fault::Protocol("sent what is no frame"))
}
