//! A disk that only a holder of the key can read.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chacha20poly1305::{AeadInPlace as _, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use scf_core::Disk;
use zeroize::Zeroizing;

use super::{
    checked::forward_disk,
    sector::{Seal, SealError, Sectors},
};

/// The key of an [`EncryptedDisk`]: 32 bytes that nobody can guess, from a key store or a secure element. It is
/// overwritten when it is dropped and never printed.
pub struct DiskKey(Zeroizing<[u8; 32]>);

impl DiskKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for DiskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskKey")
    }
}

/// A [`Disk`] on another that encrypts every sector with XChaCha20-Poly1305 (RFC 8439 with the nonce of
/// draft-irtf-cfrg-xchacha), its place included: who has no key learns the length and which sectors change, and
/// changes nothing unseen but putting back an older sector in its place. The key of the sectors is derived from the
/// given one and a salt of the disk.
#[derive(Debug)]
pub struct EncryptedDisk(Sectors<Encrypting>);

impl EncryptedDisk {
    /// Opens what is on `disk`, or makes it where the disk is empty: then it has eight sectors that are not written.
    ///
    /// # Errors
    /// [`SealError`]; [`SealError::WrongKey`] before anything is read with it.
    pub fn open(disk: Arc<dyn Disk>, key: &DiskKey) -> Result<Self, SealError> {
        Sectors::open(disk, key).map(Self)
    }
}

forward_disk!(EncryptedDisk);

pub(super) struct Encrypting {
    cipher: XChaCha20Poly1305,
    proof: [u8; 16],
    /// Drawn when the disk is opened; with the count of what was closed since, no nonce comes twice.
    session: io::Result<[u8; 16]>,
    closed: AtomicU64,
}

impl fmt::Debug for Encrypting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encrypting")
    }
}

impl Seal for Encrypting {
    const KIND: u32 = 1;
    const SIZE: usize = 24 + 16;
    type Key = DiskKey;

    fn new(key: &DiskKey, salt: [u8; 16]) -> Self {
        let derive = |context| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(&key.0[..]).update(&salt);
            Zeroizing::new(*hasher.finalize().as_bytes())
        };
        let mut proof = [0; 16];
        proof.copy_from_slice(&derive("scf-state encrypted disk 1, proof of the key")[..16]);
        let sectors = derive("scf-state encrypted disk 1, sectors");
        let mut session = [0; 16];
        let drawn = getrandom::fill(&mut session).map_err(|error| io::Error::other(error.to_string()));
        let cipher = XChaCha20Poly1305::new((&*sectors).into());
        Self { cipher, proof, session: drawn.map(|()| session), closed: AtomicU64::new(0) }
    }

    fn proof(&self) -> [u8; 16] {
        self.proof
    }

    fn close(&self, place: u64, sector: &mut [u8]) -> io::Result<()> {
        let session = self.session.as_ref().map_err(|error| io::Error::other(error.to_string()))?;
        let (seal, data) = sector.split_at_mut(Self::SIZE);
        let (nonce, tag) = seal.split_at_mut(24);
        nonce[..16].copy_from_slice(session);
        nonce[16..].copy_from_slice(&self.closed.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let made = self.cipher.encrypt_in_place_detached(XNonce::from_slice(nonce), &place.to_le_bytes(), data);
        tag.copy_from_slice(&made.map_err(|_| io::Error::other("a sector cannot be encrypted"))?);
        Ok(())
    }

    fn open(&self, place: u64, sector: &mut [u8]) -> bool {
        let (seal, data) = sector.split_at_mut(Self::SIZE);
        let (nonce, tag) = (XNonce::from_slice(&seal[..24]), Tag::from_slice(&seal[24..]));
        self.cipher.decrypt_in_place_detached(nonce, &place.to_le_bytes(), data, tag).is_ok()
    }
}
