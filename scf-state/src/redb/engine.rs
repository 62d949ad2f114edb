//! redb on a [`Disk`], and what is left to read when the disk has failed.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{Database, DatabaseError, StorageBackend, TransactionError, WriteTransaction};
use scf_core::{ByteSize, Disk};

use crate::disk::read_or_zeros;

/// Opens the database on `disk` from byte `start`, or makes one where there is nothing behind it. Once `closed`, it
/// writes nothing any more, whatever redb would still write when it is dropped.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    start: u64,
    cache: ByteSize,
    closed: Arc<AtomicBool>,
) -> Result<Database, DatabaseError> {
    create(Direct { disk, start, closed }, cache)
}

/// Opens what is on `disk` for reading without writing to it: what redb repairs stays in memory.
///
/// After a failed sync redb refuses to read as well; what was acknowledged before is still on the disk.
pub(super) fn salvage(disk: Arc<dyn Disk>, start: u64, cache: ByteSize) -> Result<Database, DatabaseError> {
    let disk = Direct { disk, start, closed: Arc::default() };
    let len = disk.len()?;
    create(Shadow { disk, over: Mutex::new(Over { len, pages: BTreeMap::new() }) }, cache)
}

/// Begins a transaction whose durable commit syncs its pages before the head that points to them: what redb reads when
/// it is opened after a power cut was then written, and a sector that is not is damage.
pub(super) fn begin(db: &Database) -> Result<WriteTransaction, TransactionError> {
    let mut txn = db.begin_write()?;
    txn.set_two_phase_commit(true);
    Ok(txn)
}

fn create(backend: impl StorageBackend, cache: ByteSize) -> Result<Database, DatabaseError> {
    let cache = usize::try_from(cache.bytes()).unwrap_or(usize::MAX);
    Database::builder().set_cache_size(cache).create_with_backend(backend)
}

/// A disk behind what precedes the database.
#[derive(Debug)]
struct Direct {
    disk: Arc<dyn Disk>,
    start: u64,
    closed: Arc<AtomicBool>,
}

impl Direct {
    fn writable(&self) -> io::Result<&dyn Disk> {
        if self.closed.load(Ordering::Acquire) {
            return Err(io::Error::other("the store writes no more"));
        }
        Ok(&*self.disk)
    }
}

impl StorageBackend for Direct {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.len()?.saturating_sub(self.start))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(self.start + offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?.set_len(self.start + len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.writable()?.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writable()?.write(self.start + offset, data)
    }
}

const PAGE: u64 = 4096;

/// A disk with the pages that were written since in memory: as many as redb repairs.
#[derive(Debug)]
struct Shadow {
    disk: Direct,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Shadow {
    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as it is on the disk, zeros behind its end.
    fn page(&self, page: u64) -> io::Result<Box<[u8]>> {
        let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
        let start = page * PAGE;
        let there = self.disk.len()?.saturating_sub(start).min(PAGE) as usize;
        if there > 0 {
            read_or_zeros(&*self.disk.disk, self.disk.start + start, &mut bytes[..there])?;
        }
        Ok(bytes)
    }
}

/// Calls `each` with every page that `offset..offset + len` touches, where in it and where in the range.
fn pages(
    offset: u64,
    len: usize,
    mut each: impl FnMut(u64, std::ops::Range<usize>, usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let inside = (at % PAGE) as usize;
        let take = (PAGE as usize - inside).min(len - done);
        each(at / PAGE, inside..inside + take, done)?;
        done += take;
    }
    Ok(())
}

impl StorageBackend for Shadow {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over();
        if offset + out.len() as u64 > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        pages(offset, out.len(), |page, inside, at| {
            let to = &mut out[at..at + inside.len()];
            match over.pages.get(&page) {
                Some(bytes) => to.copy_from_slice(&bytes[inside]),
                None => to.copy_from_slice(&self.page(page)?[inside]),
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.over().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over();
        pages(offset, data.len(), |page, inside, at| {
            let bytes = match over.pages.entry(page) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(place) => place.insert(self.page(page)?),
            };
            let len = inside.len();
            bytes[inside].copy_from_slice(&data[at..at + len]);
            Ok(())
        })
    }
}
