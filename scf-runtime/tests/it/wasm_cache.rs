//! The cache of compiled components.

use std::{fs, path::PathBuf};

use scf_core::{Function, IsolateFactory};
use scf_runtime::{WasmCounters, WasmError, WasmFactory};

use crate::{
    support::run,
    wasm::{component, guest},
};

fn cached(dir: &tempfile::TempDir) -> WasmFactory {
    WasmFactory::builder().instances(4).cache(dir.path()).build().unwrap()
}

/// Compiled, loaded, refused and unsaved components.
fn counts(factory: &WasmFactory) -> [u64; 4] {
    let WasmCounters { compiled, loaded, refused, unsaved, .. } = factory.counters();
    [compiled, loaded, refused, unsaved]
}

fn entries(dir: &tempfile::TempDir) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|suffix| suffix == "cwasm")).collect()
}

async fn echoes(factory: &WasmFactory, echo: &Function) {
    assert_eq!(run(factory, echo, "x").await.unwrap().payload.bytes, "x");
}

#[tokio::test]
async fn a_component_is_compiled_once() {
    let dir = tempfile::tempdir().unwrap();
    let echo = guest("echo", "echo");
    let first = cached(&dir);
    echoes(&first, &echo).await;
    assert_eq!(counts(&first), [1, 0, 0, 0]);
    let second = cached(&dir);
    echoes(&second, &echo).await;
    assert_eq!(counts(&second), [0, 1, 0, 0]);
}

#[tokio::test]
async fn an_entry_with_a_flipped_bit_is_compiled_anew_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let echo = guest("echo", "echo");
    cached(&dir).prepare(&echo).await.unwrap();
    let [entry] = &entries(&dir)[..] else { panic!("one entry") };
    let written = fs::read(entry).unwrap();
    // In the hash, at both ends of the code and in between.
    for byte in [0, 31, 32, written.len() / 3, written.len() / 2, written.len() - 1] {
        let mut flipped = written.clone();
        flipped[byte] ^= 1;
        fs::write(entry, flipped).unwrap();
        let factory = cached(&dir);
        echoes(&factory, &echo).await;
        assert_eq!(counts(&factory), [1, 0, 1, 0], "byte {byte}");
        let after = cached(&dir);
        echoes(&after, &echo).await;
        assert_eq!(counts(&after), [0, 1, 0, 0], "byte {byte}");
    }
}

#[tokio::test]
async fn an_entry_that_was_cut_off_or_belongs_to_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (echo, count) = (guest("echo", "echo"), component("count", include_str!("wat/count.wat")));
    cached(&dir).prepare(&count).await.unwrap();
    let [other] = &entries(&dir)[..] else { panic!("one entry") };
    let other = (other.clone(), fs::read(other).unwrap());
    cached(&dir).prepare(&echo).await.unwrap();
    let entry = entries(&dir).into_iter().find(|path| *path != other.0).unwrap();
    let written = fs::read(&entry).unwrap();
    for content in [&other.1[..], &written[..written.len() - 1], &written[..10], &[]] {
        fs::write(&entry, content).unwrap();
        let factory = cached(&dir);
        echoes(&factory, &echo).await;
        assert_eq!(counts(&factory), [1, 0, 1, 0]);
    }
}

#[tokio::test]
async fn an_entry_made_with_another_key_is_refused() {
    let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let echo = guest("echo", "echo");
    cached(&theirs).prepare(&echo).await.unwrap();
    let [forged] = &entries(&theirs)[..] else { panic!("one entry") };
    let factory = cached(&mine);
    fs::copy(forged, mine.path().join(forged.file_name().unwrap())).unwrap();
    echoes(&factory, &echo).await;
    assert_eq!(counts(&factory), [1, 0, 1, 0]);
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    drop(cached(&dir));
    let key = dir.path().join("key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = WasmFactory::builder().instances(1).cache(dir.path()).build().unwrap_err();
    assert!(matches!(error, WasmError::Key { file } if file == key));
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = WasmFactory::builder().instances(1).cache(&file).build().unwrap_err();
    assert!(matches!(error, WasmError::Cache { dir, .. } if dir == file));
}

#[tokio::test]
async fn a_component_that_cannot_be_kept_runs_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let factory = cached(&dir);
    fs::remove_dir_all(dir.path()).unwrap();
    echoes(&factory, &guest("echo", "echo")).await;
    assert_eq!(counts(&factory), [1, 0, 0, 1]);
}
