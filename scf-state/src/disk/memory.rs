//! A disk for tests, which loses what a real one may lose.

use std::{
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use scf_core::Disk;

/// What survives a power cut, survives it in pieces of this size.
const SECTOR: usize = 512;

/// A [`Disk`] in memory that can lose power and fail on demand.
///
/// Holds all its bytes twice, as written and as synced.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    state: Mutex<State>,
    /// Told when syncs are no longer held.
    goes_on: Condvar,
}

#[derive(Debug, Default)]
struct State {
    written: Vec<u8>,
    synced: Vec<u8>,
    /// Written since the last sync, in order.
    unsynced: Vec<(usize, Vec<u8>)>,
    syncs: u64,
    writes: u64,
    /// Writes and growths that still succeed; `None`: all.
    writes_left: Option<u64>,
    syncs_left: Option<u64>,
    /// How long it may get; `None`: any length.
    limit: Option<u64>,
    off: bool,
    holds_syncs: bool,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power: this disk fails from now on, and the one that is returned is [its image](Self::image).
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        let image = self.image(seed);
        self.state().off = true;
        self.goes_on.notify_all();
        image
    }

    /// What a power cut would leave now: what was synced and, of what was written since, sectors of 512 bytes picked
    /// by `seed`, so that later writes may be there without earlier ones. This disk goes on.
    #[must_use]
    pub fn image(&self, seed: u64) -> Self {
        let state = self.state();
        let mut coin = Coin(seed);
        let mut image = state.synced.clone();
        if state.written.len() != image.len() && coin.flip() {
            image.resize(state.written.len(), 0);
        }
        for (offset, data) in &state.unsynced {
            let mut done = 0;
            while done < data.len() {
                let start = offset + done;
                let len = (SECTOR - start % SECTOR).min(data.len() - done);
                let end = (start + len).min(image.len());
                if coin.flip() && start < end {
                    image[start..end].copy_from_slice(&data[done..done + end - start]);
                }
                done += len;
            }
        }
        Self::holding(image)
    }

    /// A disk that holds what this one does, all of it synced.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::holding(self.state().written.clone())
    }

    fn holding(bytes: Vec<u8>) -> Self {
        let state = State { written: bytes.clone(), synced: bytes, ..State::default() };
        Self { state: Mutex::new(state), goes_on: Condvar::new() }
    }

    /// Flips one bit of what is stored, counted from the beginning; nothing behind the end.
    pub fn flip(&self, bit: u64) {
        let mut state = self.state();
        let State { written, synced, .. } = &mut *state;
        for bytes in [written, synced] {
            if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Fails everything that would make the disk longer than `bytes`, with `StorageFull`. What is there may still be
    /// overwritten.
    pub fn limit(&self, bytes: u64) {
        self.state().limit = Some(bytes);
    }

    /// Lets `writes` more writes and changes of length succeed and fails all after them with `StorageFull`.
    pub fn fill_up_after(&self, writes: u64) {
        self.state().writes_left = Some(writes);
    }

    /// Lets `syncs` more syncs succeed and fails all after them.
    pub fn fail_syncs_after(&self, syncs: u64) {
        self.state().syncs_left = Some(syncs);
    }

    /// Keeps syncs waiting from now on, or lets them go on.
    pub fn hold_syncs(&self, hold: bool) {
        self.state().holds_syncs = hold;
        self.goes_on.notify_all();
    }

    /// How many syncs succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// How many writes succeeded.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn powered(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.off { Err(io::Error::other("the disk has no power")) } else { Ok(state) }
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.powered()?;
        match &mut state.writes_left {
            Some(0) => return Err(io::ErrorKind::StorageFull.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        state.writes += 1;
        Ok(state)
    }
}

impl Disk for MemoryDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.powered()?.written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.powered()?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.saturating_add(out.len());
        out.copy_from_slice(state.written.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.writable()?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = start.saturating_add(data.len());
        state.written.get_mut(start..end).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(data);
        state.unsynced.push((start, data.to_vec()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        if len > state.written.len() as u64 && state.limit.is_some_and(|limit| len > limit) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.written.resize(usize::try_from(len).map_err(|_| io::ErrorKind::StorageFull)?, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let held = self.goes_on.wait_while(self.state(), |state| state.holds_syncs && !state.off);
        drop(held.unwrap_or_else(PoisonError::into_inner));
        let mut state = self.powered()?;
        match &mut state.syncs_left {
            Some(0) => return Err(io::Error::other("the disk failed to sync")),
            Some(left) => *left -= 1,
            None => {}
        }
        let State { written, synced, unsynced, .. } = &mut *state;
        synced.resize(written.len(), 0);
        for (start, data) in unsynced.drain(..) {
            let end = (start + data.len()).min(written.len());
            if start < end {
                synced[start..end].copy_from_slice(&written[start..end]);
            }
        }
        state.syncs += 1;
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, figure 16), one bit at a time.
struct Coin(u64);

impl Coin {
    fn flip(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_sectors_of_the_rest() {
        let disk = MemoryDisk::new();
        disk.set_len(4096).unwrap();
        disk.write(0, &[1; 1024]).unwrap();
        disk.sync().unwrap();
        disk.write(1024, &[2; 3072]).unwrap();
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..16 {
            let after = disk.power_cut(seed);
            let mut image = [0; 4096];
            after.read(0, &mut image).unwrap();
            assert_eq!(image[..1024], [1; 1024], "seed {seed}");
            for sector in image[1024..].chunks(SECTOR) {
                assert!(sector == [2; SECTOR] || sector == [0; SECTOR], "seed {seed}");
                if sector[0] == 2 { kept += 1 } else { lost += 1 }
            }
        }
        assert!(lost > 0 && kept > 0);
        assert!(disk.write(0, &[1]).is_err(), "the disk is off");
    }

    #[test]
    fn fails_when_it_is_told_to() {
        let disk = MemoryDisk::new();
        disk.fill_up_after(2);
        disk.set_len(8).unwrap();
        disk.write(0, &[1]).unwrap();
        assert_eq!(disk.write(0, &[2]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.fail_syncs_after(0);
        assert!(disk.sync().is_err());
        assert_eq!((disk.syncs(), disk.writes()), (0, 2));
    }
}
