//! Who used how much.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use scf_core::{ByteSize, InvokeError, Receipt, Spent, Usage};
use smallvec::SmallVec;

use crate::{
    bill::Bill,
    spread::{Each, here},
    tenant::Account,
};

/// Books of a ledger below which none are closed.
const FEW: usize = 32;

/// What the calls of a function came to, or those of a tenant.
///
/// A call is booked once where the function's own tenant pays for it: in a book that the ledgers of both have in common,
/// and add up when they are asked. Calls that another tenant pays for are booked in both ledgers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Calls that are in no other book; there as soon as there are any.
    book: OnceLock<Box<Book>>,
    shelf: Mutex<Shelf>,
}

/// What calls came to, apart for each core.
type Book = Each<Page>;

/// The books that a ledger has in common with others.
#[derive(Debug, Default)]
struct Shelf {
    /// By the number of the tenant.
    open: SmallVec<[(u32, Arc<Book>); 1]>,
    /// What was in those that nobody writes to any more.
    closed: Option<Box<Sums>>,
    /// Books at which they are looked for.
    sweep: usize,
}

/// Where the calls of a function's revision are booked.
#[derive(Clone, Debug)]
pub(crate) struct Books {
    /// What the tenant with this number pays for.
    own: Arc<Book>,
    owner: u32,
    /// What others pay for.
    function: Arc<Ledger>,
}

/// The pages that something is to be booked on.
#[derive(Clone, Copy)]
pub(crate) struct Pages<'a>(&'a Page, Option<&'a Page>);

/// What calls on some of the cores came to.
#[derive(Debug, Default)]
pub(crate) struct Page {
    sums: Mutex<Sums>,
    /// CPU time of the host in nanoseconds, as far as it is known when a call's receipt is written.
    host: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Sums {
    bill: Bill,
    /// In KiB held for one microsecond.
    memory: u64,
}

impl Ledger {
    pub(crate) fn bill(&self) -> Bill {
        let mut sums = Sums::default();
        self.book.get().into_iter().for_each(|book| sums.add_book(book));
        let shelf = self.shelf();
        shelf.closed.iter().for_each(|closed| sums.add(closed));
        shelf.open.iter().for_each(|(_, book)| sums.add_book(book));
        // 1 KiB for 1 µs is 1024 bytes for a millionth of a second.
        let memory_seconds =
            ByteSize::from_bytes(u64::try_from(u128::from(sums.memory) * 1024 / 1_000_000).unwrap_or(u64::MAX));
        Bill { memory_seconds, ..sums.bill }
    }

    /// How many books it has in common with others.
    #[cfg(test)]
    pub(crate) fn books(&self) -> usize {
        self.shelf().open.len()
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn find(&self, tenant: u32) -> Option<&Arc<Book>> {
        self.open.iter().find(|(other, _)| *other == tenant).map(|(_, book)| book)
    }

    /// Keeps one more book. Those that only this ledger has are read one last time.
    fn put(&mut self, tenant: u32, book: Arc<Book>) {
        if self.open.len() >= self.sweep {
            let closed = self.closed.get_or_insert_default();
            self.open.retain(|(_, book)| match Arc::get_mut(book) {
                Some(last) => {
                    closed.add_book(last);
                    false
                }
                None => true,
            });
            self.sweep = FEW.max(2 * self.open.len());
        }
        self.open.push((tenant, book));
    }
}

impl Books {
    /// Those of a function that is `owner`'s and whose calls are on the bill of `function`.
    pub(crate) fn new(function: &Arc<Ledger>, owner: &Account) -> Self {
        let own = {
            let mut shelf = function.shelf();
            shelf.find(owner.number).cloned().unwrap_or_else(|| {
                let book = Arc::<Book>::default();
                shelf.put(owner.number, Arc::clone(&book));
                owner.ledger.shelf().put(owner.number, Arc::clone(&book));
                book
            })
        };
        Self { own, owner: owner.number, function: Arc::clone(function) }
    }

    /// Where a call is booked that was made on `part` of the cores and that `payer` pays for.
    pub(crate) fn pages<'a>(&'a self, part: usize, payer: &'a Account) -> Pages<'a> {
        if payer.number == self.owner {
            return Pages(self.own.at(part, Page::default), None);
        }
        let page = |ledger: &'a Ledger| ledger.book.get_or_init(Box::default).at(part, Page::default);
        Pages(page(&self.function), Some(page(&payer.ledger)))
    }

    /// Books messages, on the node that sent the request.
    pub(crate) fn book_wire(&self, payer: &Account, size: ByteSize) {
        self.pages(here(), payer).change(|sums| sums.bill.on_wire += size);
    }

    /// Books a call that is sent to a second node as well.
    pub(crate) fn book_hedged(&self, payer: &Account) {
        self.pages(here(), payer).change(|sums| sums.bill.hedged += 1);
    }

    /// Books a call that came to no node.
    pub(crate) fn book_unplaced(&self, payer: &Account) {
        self.pages(here(), payer).change(|sums| {
            sums.bill.failures += 1;
            sums.bill.failed.host += 1;
        });
    }
}

impl Pages<'_> {
    pub(crate) fn change(self, change: impl Fn(&mut Sums)) {
        let Self(page, other) = self;
        page.change(&change);
        if let Some(other) = other {
            other.change(&change);
        }
    }

    /// Books CPU time of the host, which of every call is known last.
    pub(crate) fn book_host(self, cpu: Duration) {
        let Self(page, other) = self;
        page.book_host(cpu);
        if let Some(other) = other {
            other.book_host(cpu);
        }
    }
}

impl Page {
    fn book_host(&self, cpu: Duration) {
        if !cpu.is_zero() {
            self.host.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Sums)) {
        change(&mut self.sums.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Sums {
    fn add_book(&mut self, book: &Book) {
        for page in book.iter() {
            self.add(&page.sums.lock().unwrap_or_else(PoisonError::into_inner));
            self.bill.host += Duration::from_nanos(page.host.load(Relaxed));
        }
    }

    fn add(&mut self, other: &Self) {
        let (bill, more) = (&mut self.bill, &other.bill);
        bill.calls += more.calls;
        bill.failures += more.failures;
        bill.failed.add(&more.failed);
        bill.cpu += more.cpu;
        bill.host += more.host;
        bill.wall += more.wall;
        bill.accelerator += more.accelerator;
        bill.bytes_in += more.bytes_in;
        bill.bytes_out += more.bytes_out;
        bill.on_wire += more.on_wire;
        bill.spent += more.spent;
        bill.hedged += more.hedged;
        self.memory = self.memory.saturating_add(other.memory);
    }

    /// Takes down a call that gave an outcome.
    pub(crate) fn succeeded(&mut self, receipt: &Receipt) {
        self.bill.calls += 1;
        self.bill.wall += receipt.wall;
        self.bill.bytes_in += receipt.bytes_in;
        self.bill.bytes_out += receipt.bytes_out;
        self.bill.host += receipt.host;
        self.used(&receipt.usage, receipt.spent, receipt.wall.saturating_sub(receipt.queued));
    }

    /// Takes down what a call has used that `ran` so long.
    pub(crate) fn used(&mut self, usage: &Usage, spent: Spent, ran: Duration) {
        self.bill.cpu += usage.cpu;
        self.bill.spent += spent;
        self.bill.accelerator += usage.accelerator;
        let begun = u64::from(!ran.subsec_nanos().is_multiple_of(1000));
        let micros = u64::try_from(ran.as_micros()).unwrap_or(u64::MAX).saturating_add(begun);
        self.memory = self.memory.saturating_add(usage.memory.bytes().div_ceil(1024).saturating_mul(micros));
    }

    /// Takes down that a call failed, or was given up.
    pub(crate) fn failed(&mut self, error: Option<&InvokeError>) {
        self.bill.failures += 1;
        let failed = &mut self.bill.failed;
        let kind = match error {
            None => &mut failed.given_up,
            Some(InvokeError::Refused { .. } | InvokeError::Media { .. } | InvokeError::NoKey { .. }) => {
                &mut failed.refused
            }
            Some(InvokeError::Trapped { .. }) => &mut failed.trapped,
            Some(InvokeError::Limit { .. }) => &mut failed.limit,
            Some(InvokeError::Overloaded { .. }) => &mut failed.overloaded,
            Some(_) => &mut failed.host,
        };
        *kind += 1;
    }
}
