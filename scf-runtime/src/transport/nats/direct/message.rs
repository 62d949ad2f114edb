//! A message on a connection: `u32` length of the head, `u64` length of the body, the head, the body and, where there
//! is a body, `u128` its XXH3 checksum.
//!
//! The checksum finds what went wrong on the way, where TCP's 16 bits are too few. It is no cryptographic one, which on
//! the way of the body would guard against nobody: who can change the one can change the other. TLS does that, and a
//! body that was announced through the broker is held against the BLAKE3 hash that was told there.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
};
use twox_hash::XxHash3_128;

use super::{RECEIVING, Stream, kib};

/// Longest head.
const MAX_HEAD: u32 = 1 << 20;
/// What is summed and written at once: while it is in the cache, in few calls of the system.
const STRETCH: usize = 512 << 10;
const LENGTHS: usize = 12;

pub(super) struct Message {
    pub(super) head: Bytes,
    pub(super) body: Bytes,
}

/// Writes a message; sums each stretch just before it is written, while the one before it is on its way.
pub(super) async fn write(stream: &mut dyn Stream, head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut first = Vec::with_capacity(LENGTHS + head.len());
    first.put_u32_le(u32::try_from(head.len()).map_err(|_| io::ErrorKind::InvalidInput)?);
    first.put_u64_le(body.len() as u64);
    first.put_slice(head);
    stream.write_all(&first).await?;
    if !body.is_empty() {
        let mut sum = XxHash3_128::new();
        for stretch in body.chunks(STRETCH) {
            sum.write(stretch);
            stream.write_all(stretch).await?;
        }
        stream.write_u128_le(sum.finish_128()).await?;
    }
    stream.flush().await
}

/// Reads a message of at most `largest` bytes of body, once `receiving` has room for it; `None` at the end. Hashes the
/// body into `digest`, where that is asked for.
pub(super) async fn read(
    stream: &mut dyn Stream,
    largest: u64,
    receiving: &Semaphore,
    mut digest: Option<&mut blake3::Hasher>,
) -> io::Result<Option<Message>> {
    let mut lengths = [0; LENGTHS];
    if stream.read(&mut lengths[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut lengths[1..]).await?;
    let [head, body] = [&lengths[..4], &lengths[4..]];
    let head = u32::from_le_bytes(head.try_into().expect("it has four bytes"));
    let size = u64::from_le_bytes(body.try_into().expect("it has eight bytes"));
    if head > MAX_HEAD || size > largest {
        let what = format!("a head of {head} and a body of {size} bytes, more than is taken");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut buffer = vec![0; head as usize];
    stream.read_exact(&mut buffer).await?;
    let head = Bytes::from(buffer);
    if size == 0 {
        return Ok(Some(Message { head, body: Bytes::new() }));
    }
    // As long as it is being received: who handles it has a place of its own.
    let room = receiving.acquire_many(kib(size).min(kib(RECEIVING.bytes()))).await;
    let _room = room.map_err(|_| io::ErrorKind::BrokenPipe)?;
    let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let (mut body, mut sum, mut summed) = (BytesMut::with_capacity(size), XxHash3_128::new(), 0);
    while body.len() < size {
        let left = size - body.len();
        if stream.read_buf(&mut (&mut body).limit(left)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if body.len() - summed >= STRETCH || body.len() == size {
            sum.write(&body[summed..]);
            if let Some(digest) = &mut digest {
                digest.update(&body[summed..]);
            }
            summed = body.len();
        }
    }
    if stream.read_u128_le().await? != sum.finish_128() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the body is not the one that was sent"));
    }
    Ok(Some(Message { head, body: body.freeze() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Semaphore {
        Semaphore::new(kib(RECEIVING.bytes()) as usize)
    }

    async fn sent(head: &[u8], body: &[u8]) -> Vec<u8> {
        let (mut near, mut far) = tokio::io::duplex(4 * STRETCH);
        write(&mut near, head, body).await.unwrap();
        drop(near);
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    async fn received(mut bytes: &[u8], largest: u64) -> io::Result<Option<Message>> {
        let mut stream = tokio::io::join(&mut bytes, tokio::io::sink());
        read(&mut stream, largest, &room(), None).await
    }

    #[tokio::test]
    async fn a_message_arrives_as_it_was_sent_and_is_hashed_where_that_is_asked_for() {
        let whole: Vec<u8> = (0..3 * STRETCH + 7).map(|at| at as u8).collect();
        for body in [&whole[..], &whole[..STRETCH], b"b", &[]] {
            let bytes = sent(b"head", body).await;
            let (mut rest, mut digest) = (&bytes[..], blake3::Hasher::new());
            let mut stream = tokio::io::join(&mut rest, tokio::io::sink());
            let read = read(&mut stream, whole.len() as u64, &room(), Some(&mut digest)).await;
            let message = read.unwrap().unwrap();
            assert_eq!(message.head, &b"head"[..]);
            assert!(message.body == body && digest.finalize() == blake3::hash(body));
        }
        assert!(received(&[], 0).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn every_bit_of_a_body_is_held_against_its_checksum() {
        let whole = sent(b"h", b"0123456789").await;
        for bit in (LENGTHS + 1) * 8..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = received(&flipped, 10).await.map(|message| message.is_some()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "bit {bit}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_or_cut_short_is_refused() {
        let whole = sent(b"h", b"0123456789").await;
        let kind = async |bytes: &[u8], largest| received(bytes, largest).await.map(|_| ()).unwrap_err().kind();
        assert_eq!(kind(&whole, 9).await, io::ErrorKind::InvalidData);
        for end in 1..whole.len() {
            assert_eq!(kind(&whole[..end], 10).await, io::ErrorKind::UnexpectedEof, "cut at {end}");
        }
    }
}
