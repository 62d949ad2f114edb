//! What sealed disks promise, whatever seals them.

use std::{io, sync::Arc};

use scf_core::Disk;

use super::*;

fn bytes(disk: &dyn Disk, offset: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    read_or_zeros(disk, offset, &mut out).unwrap();
    out
}

/// Does to `disk` and to a plain one what chance says, and holds them against each other.
fn behaves_as_a_disk(below: &Arc<MemoryDisk>, open: impl Fn(Arc<dyn Disk>) -> Arc<dyn Disk>) {
    let mut disk = open(Arc::clone(below) as _);
    let mut model = vec![0u8; disk.len().unwrap() as usize];
    let mut dice = 9u64;
    let mut roll = move |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    };
    for turn in 0..600u32 {
        match roll(10) {
            0 => {
                let len = 8 * disk.sector() + roll(20_000);
                disk.set_len(len as u64).unwrap();
                model.resize(len, 0);
            }
            1 => disk = open(Arc::clone(below) as _),
            _ => {
                let at = roll(model.len());
                let len = roll(model.len() - at).min(3000) + 1;
                let data = vec![turn as u8; len.min(model.len() - at)];
                disk.write(at as u64, &data).unwrap();
                model[at..at + data.len()].copy_from_slice(&data);
            }
        }
        assert_eq!(disk.len().unwrap(), model.len() as u64, "turn {turn}");
        assert_eq!(bytes(&*disk, 0, model.len()), model, "turn {turn}");
        let behind = disk.read(model.len() as u64, &mut [0]).unwrap_err();
        assert_eq!(behind.kind(), io::ErrorKind::UnexpectedEof, "turn {turn}");
    }
}

#[test]
fn a_checked_disk_is_a_disk() {
    behaves_as_a_disk(&Arc::default(), |disk| Arc::new(CheckedDisk::open(disk).unwrap()));
}

#[test]
fn a_sector_that_was_never_written_is_told_from_one_of_zeros() {
    let disk = CheckedDisk::open(Arc::new(MemoryDisk::new())).unwrap();
    disk.set_len(5000).unwrap();
    disk.write(0, &[0; 504]).unwrap();
    disk.read(0, &mut [0; 504]).unwrap();
    let error = disk.read(504, &mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(bytes(&disk, 400, 600), [0; 600]);
}

#[test]
fn another_version_and_another_disk_are_refused_by_name() {
    let below = Arc::new(MemoryDisk::new());
    drop(CheckedDisk::open(Arc::clone(&below) as _).unwrap());
    let mut head = [0; 48];
    below.read(0, &mut head).unwrap();
    head[8] += 1;
    below.write(0, &head).unwrap();
    below.write(48, &blake3::hash(&head).as_bytes()[..16]).unwrap();
    let newer = CheckedDisk::open(Arc::clone(&below) as _);
    assert!(matches!(newer, Err(SealError::Format { found: 2, known: 1 })), "{newer:?}");
    below.write(0, b"something else").unwrap();
    let foreign = CheckedDisk::open(below);
    assert!(matches!(foreign, Err(SealError::Foreign)), "{foreign:?}");
}

#[cfg(feature = "encryption")]
mod encryption {
    use scf_core::{Batch, FunctionName, ManualClock, Scope, StateBackend, conformance};

    use super::*;
    use crate::{OpenError, RedbState};

    fn key(byte: u8) -> DiskKey {
        DiskKey::new([byte; 32])
    }

    fn open(below: &Arc<MemoryDisk>, byte: u8) -> Result<EncryptedDisk, SealError> {
        EncryptedDisk::open(Arc::clone(below) as _, &key(byte))
    }

    fn stored(disk: &MemoryDisk) -> Vec<u8> {
        bytes(disk, 0, disk.len().unwrap() as usize)
    }

    #[test]
    fn an_encrypted_disk_is_a_disk() {
        behaves_as_a_disk(&Arc::default(), |disk| Arc::new(EncryptedDisk::open(disk, &key(1)).unwrap()));
    }

    #[test]
    fn another_key_and_none_are_refused_by_name() {
        let below: Arc<MemoryDisk> = Arc::default();
        open(&below, 1).unwrap();
        assert!(matches!(open(&below, 2), Err(SealError::WrongKey)));
        let plain = RedbState::on(Arc::clone(&below) as _);
        assert!(matches!(plain, Err(OpenError::Seal(SealError::Encrypted))), "{plain:?}");
        let checked: Arc<MemoryDisk> = Arc::default();
        CheckedDisk::open(Arc::clone(&checked) as _).unwrap();
        assert!(matches!(open(&checked, 1), Err(SealError::NotEncrypted)));
        assert_eq!(format!("{:?}", key(7)), "DiskKey");
    }

    #[test]
    fn writing_the_same_twice_stores_other_bytes_and_no_bit_can_be_changed() {
        let below: Arc<MemoryDisk> = Arc::default();
        let disk = open(&below, 1).unwrap();
        disk.write(0, &[7; 472]).unwrap();
        let first = stored(&below);
        disk.write(0, &[7; 472]).unwrap();
        let second = stored(&below);
        let same = (4096..4608).filter(|&at| first[at] == second[at]).count();
        // The nonce's first sixteen bytes and some of its count are those of the session.
        assert!(same < 60, "{same} of 512 bytes are the same");
        for bit in 0..512 * 8 {
            below.flip(4096 * 8 + bit);
            assert!(disk.read(0, &mut [0; 472]).is_err(), "bit {bit}");
            below.flip(4096 * 8 + bit);
        }
        disk.read(0, &mut [0; 472]).unwrap();
    }

    #[tokio::test]
    async fn a_store_on_it_keeps_every_promise_and_no_plain_text() {
        let make = |clock: ManualClock| async move {
            let disk = Arc::new(EncryptedDisk::open(Arc::new(MemoryDisk::new()), &key(3)).unwrap());
            let journal = scf_core::ByteSize::from_bytes(0);
            let config = crate::RedbConfig { results_per_scope: 64, journal, ..Default::default() };
            let builder = RedbState::builder().config(config).clock(Arc::new(clock));
            Arc::new(builder.on(disk).unwrap()) as Arc<dyn StateBackend>
        };
        conformance::state::state_backend(make).await;

        let below: Arc<MemoryDisk> = Arc::default();
        let scope = Scope { function: FunctionName::new("function").unwrap(), key: "customer".into() };
        for _ in 0..2 {
            let state = RedbState::on(Arc::new(open(&below, 3).unwrap())).unwrap();
            state.commit(Batch::new(scope.clone()).put("field", "a secret")).await.unwrap();
            let found = |text: &str| stored(&below).windows(text.len()).any(|part| part == text.as_bytes());
            for text in ["function", "customer", "field", "a secret", "SCFSTATE"] {
                assert!(!found(text), "{text:?} is on the disk");
            }
        }
        let state = RedbState::on(Arc::new(open(&below, 3).unwrap())).unwrap();
        assert_eq!(state.get(&scope, "field").await.unwrap().unwrap().value, "a secret");
    }
}
