//! A message on a connection: `u32` length of the head, `u64` length of the body, the head, the body and, where there
//! is a body, its BLAKE3 hash.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
};

use super::{RECEIVING, Stream, kib};
use crate::transport::nats::frame::Hash;

/// Longest head.
const MAX_HEAD: u32 = 1 << 20;
/// What is hashed at once: while it is in the cache, and enough for all lanes of the hash.
const STRETCH: usize = 128 << 10;
const LENGTHS: usize = 12;

/// A head, a body, and the hash that the body was found to have.
pub(super) struct Message {
    pub(super) head: Bytes,
    pub(super) body: Bytes,
    pub(super) hash: Hash,
}

/// Writes a message; hashes each stretch just before it is written, while the one before it is on its way.
pub(super) async fn write(stream: &mut dyn Stream, head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut first = Vec::with_capacity(LENGTHS + head.len());
    first.put_u32_le(u32::try_from(head.len()).map_err(|_| io::ErrorKind::InvalidInput)?);
    first.put_u64_le(body.len() as u64);
    first.put_slice(head);
    stream.write_all(&first).await?;
    if !body.is_empty() {
        let mut hash = blake3::Hasher::new();
        for stretch in body.chunks(STRETCH) {
            hash.update(stretch);
            stream.write_all(stretch).await?;
        }
        stream.write_all(hash.finalize().as_bytes()).await?;
    }
    stream.flush().await
}

/// Reads a message of at most `largest` bytes of body, once `receiving` has room for it; `None` at the end.
pub(super) async fn read(stream: &mut dyn Stream, largest: u64, receiving: &Semaphore) -> io::Result<Option<Message>> {
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
        return Ok(Some(Message { head, body: Bytes::new(), hash: *blake3::hash(&[]).as_bytes() }));
    }
    // As long as it is being received: who handles it has a place of its own.
    let room = receiving.acquire_many(kib(size).min(kib(RECEIVING.bytes()))).await;
    let _room = room.map_err(|_| io::ErrorKind::BrokenPipe)?;
    let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let (mut body, mut hash, mut hashed) = (BytesMut::with_capacity(size), blake3::Hasher::new(), 0);
    while body.len() < size {
        let left = size - body.len();
        if stream.read_buf(&mut (&mut body).limit(left)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if body.len() - hashed >= STRETCH || body.len() == size {
            hash.update(&body[hashed..]);
            hashed = body.len();
        }
    }
    let mut told = Hash::default();
    stream.read_exact(&mut told).await?;
    let hash = *hash.finalize().as_bytes();
    if hash != told {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the body is not the one that was sent"));
    }
    Ok(Some(Message { head, body: body.freeze(), hash }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Semaphore {
        Semaphore::new(kib(RECEIVING.bytes()) as usize)
    }

    async fn sent(head: &[u8], body: &[u8]) -> Vec<u8> {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        write(&mut near, head, body).await.unwrap();
        drop(near);
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    async fn received(mut bytes: &[u8], largest: u64) -> io::Result<Option<Message>> {
        let mut stream = tokio::io::join(&mut bytes, tokio::io::sink());
        read(&mut stream, largest, &room()).await
    }

    #[tokio::test]
    async fn a_message_arrives_as_it_was_sent() {
        let body: Vec<u8> = (0..300_000u32).map(|at| at as u8).collect();
        for body in [&body[..], &[]] {
            let message = received(&sent(b"head", body).await, 300_000).await.unwrap().unwrap();
            assert_eq!(message.head, &b"head"[..]);
            assert!(message.body == body && message.hash == *blake3::hash(body).as_bytes());
        }
        assert!(received(&[], 0).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn every_bit_of_a_body_is_held_against_its_hash() {
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
