//! What may be added to a folder.

use std::{
    fs::File,
    io,
    ops::{Add, Sub},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use scf_core::FolderQuota;
use tokio::sync::RwLock;
use wasmtime_wasi::runtime::spawn_blocking;

use super::count::{count, length_if_unlinked};
use crate::{cpu::of_thread, wasm::run::Run};

/// Files in `Ledger::open` from which on those that were closed are forgotten.
const OPEN: usize = 64;

/// Length of files and how many entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

impl Amount {
    pub(super) const ENTRY: Self = Self { bytes: 0, entries: 1 };

    pub(super) const fn bytes(bytes: u64) -> Self {
        Self { bytes, entries: 0 }
    }

    pub(super) const fn is_within(self, most: Self) -> bool {
        self.bytes <= most.bytes && self.entries <= most.entries
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_add(other.bytes);
        Self { bytes, entries: self.entries.saturating_add(other.entries) }
    }
}

/// Nothing where more is taken away than there is.
impl Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_sub(other.bytes);
        Self { bytes, entries: self.entries.saturating_sub(other.entries) }
    }
}

/// A folder that a function may write to, shared by its isolates.
///
/// What is in the folder is the truth, and it is counted anew whenever the rest of what was counted last does not
/// suffice: so what is removed, by whomever, makes room, and in between the ledger errs on the side of too much.
#[derive(Debug)]
pub(super) struct Folder {
    quota: Amount,
    /// The folder, once a guest has it.
    root: OnceLock<Arc<File>>,
    ledger: Mutex<Ledger>,
    /// Held for writing while it is counted, so that nothing is moved past the count.
    still: RwLock<()>,
}

#[derive(Debug, Default)]
struct Ledger {
    /// What can be added before it is counted again.
    left: Amount,
    /// Taken, and perhaps not in the folder yet.
    pending: Amount,
    /// All that was ever taken.
    taken: Amount,
    /// Files that were opened for writing: one that is unlinked takes its space until it is closed.
    open: Vec<Weak<File>>,
}

/// Room in a folder for what is being added to it.
#[derive(Debug)]
pub(super) struct Taken {
    folder: Arc<Folder>,
    amount: Amount,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut ledger = self.folder.ledger();
        ledger.pending = ledger.pending - self.amount;
    }
}

impl Folder {
    pub(super) fn new(quota: FolderQuota) -> Arc<Self> {
        let quota = Amount { bytes: quota.size.bytes(), entries: quota.entries.into() };
        let (root, ledger, still) = (OnceLock::new(), Mutex::default(), RwLock::new(()));
        Arc::new(Self { quota, root, ledger, still })
    }

    /// Says which folder it is; the same whenever it is said.
    pub(super) fn is_at(&self, root: &Arc<File>) {
        self.root.get_or_init(|| Arc::clone(root));
    }

    /// Room for `amount`, if there is some by the last count.
    pub(super) fn try_take(self: &Arc<Self>, amount: Amount) -> Option<Taken> {
        let mut ledger = self.ledger();
        if !amount.is_within(ledger.left) {
            return None;
        }
        ledger.left = ledger.left - amount;
        ledger.pending = ledger.pending + amount;
        ledger.taken = ledger.taken + amount;
        Some(Taken { folder: Arc::clone(self), amount })
    }

    /// Room for `amount`, on behalf of `run`, which is charged for the counting.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] where there is none.
    pub(super) async fn take(self: &Arc<Self>, amount: Amount, run: &Run) -> io::Result<Taken> {
        if let Some(taken) = self.try_take(amount) {
            return Ok(taken);
        }
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        if !amount.is_within(self.quota) {
            return Err(full());
        }
        let _still = self.still.write().await;
        // Another may have counted meanwhile.
        if let Some(taken) = self.try_take(amount) {
            return Ok(taken);
        }
        let folder = Arc::clone(self);
        let (counted, cpu) = spawn_blocking(move || {
            let before = of_thread();
            (folder.count(), Duration::from_nanos(of_thread() - before))
        })
        .await;
        run.charge(cpu);
        counted?;
        self.try_take(amount).ok_or_else(full)
    }

    /// Does `work`, which moves or removes entries, while the folder is not being counted.
    pub(super) async fn unless_counted<R>(&self, work: impl Future<Output = R>) -> R {
        let _still = self.still.read().await;
        work.await
    }

    /// A guest has opened a file of it for writing.
    pub(super) fn opened(&self, file: &Arc<File>) {
        let mut ledger = self.ledger();
        if ledger.open.len() >= OPEN && ledger.open.len() == ledger.open.capacity() {
            ledger.open.retain(|file| file.strong_count() > 0);
        }
        ledger.open.push(Arc::downgrade(file));
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what is in the folder. Blocks.
    fn count(&self) -> io::Result<()> {
        let Some(root) = self.root.get() else { return Ok(()) };
        // What is pending now is either counted too or not: it is taken for not.
        let (pending, before) = {
            let ledger = self.ledger();
            (ledger.pending, ledger.taken)
        };
        let found = count(root, self.quota)?;
        // After the count: what is unlinked meanwhile is counted twice, not missed.
        let open: Vec<Arc<File>> = self.ledger().open.iter().filter_map(Weak::upgrade).collect();
        let orphans: u64 = open.iter().filter_map(|file| length_if_unlinked(file)).sum();
        let mut ledger = self.ledger();
        let meanwhile = ledger.taken - before;
        ledger.left = self.quota - (found + Amount::bytes(orphans) + pending + meanwhile);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use scf_core::ByteSize;

    use super::*;

    fn folder() -> (tempfile::TempDir, Arc<Folder>) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(FolderQuota { size: ByteSize::from_bytes(100), entries: 10 });
        folder.is_at(&Arc::new(File::open(place.path()).unwrap()));
        (place, folder)
    }

    #[tokio::test]
    async fn room_that_was_taken_and_not_used_is_there_again() {
        let (_place, folder) = folder();
        let first = folder.take(Amount::bytes(60), &Run::default()).await.unwrap();
        let full = folder.take(Amount::bytes(60), &Run::default()).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(folder.try_take(Amount::bytes(40)).is_some());
        drop(first);
        assert!(folder.take(Amount::bytes(100), &Run::default()).await.is_ok());
    }

    #[tokio::test]
    async fn room_that_was_used_is_there_again_when_the_file_is_gone_and_closed() {
        let (place, folder) = folder();
        let path = place.path().join("f");
        drop(folder.take(Amount::bytes(80), &Run::default()).await.unwrap());
        fs::write(&path, [0; 80]).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        folder.opened(&file);
        assert!(folder.take(Amount::bytes(30), &Run::default()).await.is_err());
        fs::remove_file(&path).unwrap();
        assert!(folder.take(Amount::bytes(30), &Run::default()).await.is_err(), "it is open");
        drop(file);
        assert!(folder.take(Amount::bytes(100), &Run::default()).await.is_ok());
    }

    #[tokio::test]
    async fn files_that_were_closed_are_forgotten() {
        let (place, folder) = folder();
        for _ in 0..1000 {
            folder.opened(&Arc::new(File::open(place.path()).unwrap()));
        }
        assert!(folder.ledger().open.len() <= 2 * OPEN);
    }
}
