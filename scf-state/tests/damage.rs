//! Bits that flip, sectors that are lost or change places, and files that are cut off: found and named, never served.

use std::{collections::BTreeSet, sync::Arc};

use scf_core::{
    Batch, ByteSize, Bytes, Disk as _, FunctionName, InvocationId, Scope, StateBackend as _, StateError, Version,
};
use scf_state::{CheckedDisk, MemoryDisk, OpenError, RedbConfig, RedbState};

const HEAD: u64 = 4096;
const SECTOR: u64 = 512;

fn scope() -> Scope {
    Scope { function: FunctionName::new("f").unwrap(), key: "s".into() }
}

fn config() -> RedbConfig {
    RedbConfig { journal: ByteSize::from_bytes(0), cache: ByteSize::from_mib(4), ..RedbConfig::default() }
}

fn value(i: u64) -> Bytes {
    format!("value {i} ").repeat(1 + (i % 30) as usize).into()
}

fn open(disk: MemoryDisk) -> Result<RedbState, OpenError> {
    RedbState::with(Arc::new(disk), config())
}

/// A store with `keys` commits, of which the last are in the journal alone.
async fn store(keys: u64) -> MemoryDisk {
    let disk = Arc::new(MemoryDisk::new());
    let state = RedbState::with(Arc::clone(&disk) as _, config()).unwrap();
    for i in 0..keys {
        let batch =
            Batch::new(scope()).put(format!("k{i}"), value(i)).invocation(InvocationId::new(i.into()), value(i));
        state.commit(batch).await.unwrap();
    }
    disk.copy()
}

/// Whether damage was found. Panics where something else than what was written is served.
async fn is_found(disk: MemoryDisk, keys: u64, case: &str) -> bool {
    let state = match open(disk) {
        Ok(state) => state,
        Err(error) => {
            let text = format!("{error:?}");
            assert!(!text.is_empty(), "{case}");
            return true;
        }
    };
    let mut found = false;
    for i in 0..keys {
        match state.get(&scope(), &format!("k{i}")).await {
            Ok(Some(entry)) => assert_eq!((entry.value, entry.version), (value(i), Version::new(i + 1)), "{case}: {i}"),
            Ok(None) => panic!("{case}: {i} is lost, and nobody says so"),
            Err(StateError::Corrupt { what, .. }) => {
                assert!(what.contains("sector"), "{case}: {what}");
                found = true;
            }
            Err(StateError::Unavailable { .. }) if found => {}
            Err(other) => panic!("{case}: {i}: {other:?}"),
        }
    }
    match state.result_of(&scope(), InvocationId::new((keys - 1).into())).await {
        Ok(result) => assert_eq!(result, Some(value(keys - 1)), "{case}"),
        Err(StateError::Corrupt { .. } | StateError::Unavailable { .. }) => found = true,
        Err(other) => panic!("{case}: {other:?}"),
    }
    found
}

fn sector(disk: &MemoryDisk, place: u64) -> [u8; SECTOR as usize] {
    let mut bytes = [0; SECTOR as usize];
    disk.read(HEAD + place * SECTOR, &mut bytes).unwrap();
    bytes
}

/// The sectors that were written.
fn written(disk: &MemoryDisk) -> Vec<u64> {
    let sectors = (disk.len().unwrap() - HEAD) / SECTOR;
    (0..sectors).filter(|&place| sector(disk, place) != [0; SECTOR as usize]).collect()
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, figure 16).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[tokio::test]
async fn every_flipped_bit_of_a_small_store_is_found_where_it_is_read() {
    let disk = Arc::new(store(30).await);
    let checked = CheckedDisk::open(Arc::clone(&disk) as _).unwrap();
    let data = checked.sector();
    let len = checked.len().unwrap();
    let mut out = vec![0; data];
    let places = written(&disk);
    assert!(places.len() > 100, "{} sectors are a store", places.len());
    for place in places {
        let at = place * data as u64;
        let out = &mut out[..data.min((len - at) as usize)];
        checked.read(at, out).unwrap();
        for bit in 0..SECTOR * 8 {
            let bit = (HEAD + place * SECTOR) * 8 + bit;
            disk.flip(bit);
            let error = checked.read(at, out).unwrap_err();
            assert_eq!(error.to_string(), format!("sector {place} of the disk is damaged"), "bit {bit}");
            disk.flip(bit);
        }
    }
    for bit in 0..64 * 8 {
        disk.flip(bit);
        assert!(CheckedDisk::open(Arc::clone(&disk) as _).is_err(), "bit {bit} of the head");
        disk.flip(bit);
    }
}

#[tokio::test]
async fn a_store_with_a_flipped_bit_serves_what_was_written_or_says_what_is_damaged() {
    const KEYS: u64 = 30;
    let disk = store(KEYS).await;
    let (mut seed, mut found) = (7, 0);
    let places = written(&disk);
    for &place in &places {
        let damaged = disk.copy();
        let bit = random(&mut seed) % (SECTOR * 8);
        damaged.flip((HEAD + place * SECTOR) * 8 + bit);
        found += u32::from(is_found(damaged, KEYS, &format!("sector {place}, bit {bit}")).await);
    }
    assert!(found as usize > places.len() / 4, "{found} of {} were in use", places.len());
}

#[tokio::test]
async fn a_lost_or_exchanged_sector_is_not_taken_for_another() {
    const KEYS: u64 = 30;
    let disk = store(KEYS).await;
    let places = written(&disk);
    let mut seed = 3;
    let mut found = 0;
    for (i, &place) in places.iter().enumerate() {
        let other = places[random(&mut seed) as usize % places.len()];
        let damaged = disk.copy();
        if i % 2 == 0 {
            damaged.write(HEAD + place * SECTOR, &[0; SECTOR as usize]).unwrap();
        } else {
            damaged.write(HEAD + place * SECTOR, &sector(&disk, other)).unwrap();
            damaged.write(HEAD + other * SECTOR, &sector(&disk, place)).unwrap();
        }
        found += u32::from(is_found(damaged, KEYS, &format!("sectors {place} and {other}")).await);
    }
    assert!(found as usize > places.len() / 4, "{found} of {} were in use", places.len());
}

#[tokio::test]
async fn a_flipped_bit_in_a_larger_store_is_found_or_not_in_use() {
    const KEYS: u64 = 1500;
    let disk = store(KEYS).await;
    let (mut seed, mut found) = (11, 0);
    let places = written(&disk);
    for _ in 0..60 {
        let damaged = disk.copy();
        let place = places[random(&mut seed) as usize % places.len()];
        let bit = random(&mut seed) % (SECTOR * 8);
        damaged.flip((HEAD + place * SECTOR) * 8 + bit);
        found += u32::from(is_found(damaged, KEYS, &format!("sector {place}, bit {bit}")).await);
    }
    assert!(found > 10, "{found} of 60 were in use");
}

#[tokio::test]
async fn a_store_that_is_cut_off_does_not_open_or_has_lost_nothing() {
    const KEYS: u64 = 30;
    let disk = store(KEYS).await;
    let len = disk.len().unwrap();
    let mut seed = 5;
    let mut cuts: BTreeSet<u64> = (1..HEAD + SECTOR).step_by(61).collect();
    for place in written(&disk) {
        let at = HEAD + place * SECTOR;
        cuts.extend([at - 1, at, at + 1, at + random(&mut seed) % SECTOR]);
    }
    for cut in cuts.into_iter().filter(|cut| *cut < len) {
        let damaged = disk.copy();
        damaged.set_len(cut).unwrap();
        is_found(damaged, KEYS, &format!("cut at {cut} of {len}")).await;
    }
}
