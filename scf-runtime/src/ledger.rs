//! Who used how much.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use scf_core::{ByteSize, Clock, InvokeError, Meter, Node, Receipt, Spent, Timestamp, Usage};

use crate::spread::{Each, here};

/// What calls came to, on all nodes of this process: those of a function, or those of a tenant.
///
/// What a call used is on the bill whether it gave an outcome or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bill {
    /// Calls that gave an outcome.
    pub calls: u64,
    /// Calls that failed, for whatever reason.
    pub failures: u64,
    /// The failures by reason.
    pub failed: Failures,
    /// CPU time of the isolates, on this CPU.
    pub cpu: Duration,
    /// CPU time of the host for the calls: routing, admission, hand-over, commit, the bill itself.
    pub host: Duration,
    /// Time from acceptance to reply, of the calls that gave an outcome.
    pub wall: Duration,
    /// Memory of the isolates times the time for which they had it: bytes held for one second.
    pub memory_seconds: ByteSize,
    /// Time for which accelerators and other devices were held.
    pub accelerator: Duration,
    /// Size of the inputs of the calls that gave an outcome.
    pub bytes_in: ByteSize,
    /// Size of their outputs.
    pub bytes_out: ByteSize,
    /// Size of all messages between nodes that the calls caused.
    pub on_wire: ByteSize,
    /// What the CPU time of the isolates came to by the rates of the nodes that they ran on.
    pub spent: Spent,
    /// Calls that were sent to a second node as well because they took long.
    pub hedged: u64,
}

/// Why calls failed, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failures {
    /// The input was refused, by its type or by the function.
    pub refused: u64,
    /// The function crashed.
    pub trapped: u64,
    /// A limit was reached, time among them.
    pub limit: u64,
    /// There was no room.
    pub overloaded: u64,
    /// The caller gave up, or the node stopped.
    pub given_up: u64,
    /// State, placement, network or host failed.
    pub host: u64,
}

impl Failures {
    const fn add(&mut self, more: &Self) {
        self.refused += more.refused;
        self.trapped += more.trapped;
        self.limit += more.limit;
        self.overloaded += more.overloaded;
        self.given_up += more.given_up;
        self.host += more.host;
    }
}

/// Adds up what calls came to, apart for each core.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Each<Page>);

/// What calls on some of the cores came to.
#[derive(Debug, Default)]
struct Page {
    sums: Mutex<Sums>,
    /// CPU time of the host in nanoseconds, which is known last and of every call.
    host: AtomicU64,
}

#[derive(Debug, Default)]
struct Sums {
    bill: Bill,
    /// In KiB held for one microsecond.
    memory: u64,
}

impl Ledger {
    /// Books messages, on the node that sent the request.
    pub(crate) fn book_wire(&self, size: ByteSize) {
        self.page(here()).change(|sums| sums.bill.on_wire += size);
    }

    /// Books a call that is sent to a second node as well.
    pub(crate) fn book_hedged(&self) {
        self.page(here()).change(|sums| sums.bill.hedged += 1);
    }

    /// Books CPU time of the host, by the cores that the call was made on.
    pub(crate) fn book_host(&self, part: usize, cpu: Duration) {
        self.page(part).book_host(cpu);
    }

    /// Books a call that came to no node.
    pub(crate) fn book_unplaced(&self) {
        self.page(here()).change(|sums| {
            sums.bill.failures += 1;
            sums.bill.failed.host += 1;
        });
    }

    pub(crate) fn bill(&self) -> Bill {
        let (mut sums, mut host) = (Sums::default(), 0_u64);
        for page in self.0.iter() {
            sums.add(&page.sums.lock().unwrap_or_else(PoisonError::into_inner));
            host = host.saturating_add(page.host.load(Relaxed));
        }
        // 1 KiB for 1 µs is 1024 bytes for a millionth of a second.
        let memory_seconds =
            ByteSize::from_bytes(u64::try_from(u128::from(sums.memory) * 1024 / 1_000_000).unwrap_or(u64::MAX));
        Bill { memory_seconds, host: Duration::from_nanos(host), ..sums.bill }
    }

    fn page(&self, part: usize) -> &Page {
        self.0.at(part, Page::default)
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
    fn add(&mut self, other: &Self) {
        let (bill, more) = (&mut self.bill, &other.bill);
        bill.calls += more.calls;
        bill.failures += more.failures;
        bill.failed.add(&more.failed);
        bill.cpu += more.cpu;
        bill.wall += more.wall;
        bill.accelerator += more.accelerator;
        bill.bytes_in += more.bytes_in;
        bill.bytes_out += more.bytes_out;
        bill.on_wire += more.on_wire;
        bill.spent += more.spent;
        bill.hedged += more.hedged;
        self.memory = self.memory.saturating_add(other.memory);
    }

    fn used(&mut self, usage: &Usage, spent: Spent, ran: Duration) {
        self.bill.cpu += usage.cpu;
        self.bill.spent += spent;
        self.bill.accelerator += usage.accelerator;
        let begun = u64::from(!ran.subsec_nanos().is_multiple_of(1000));
        let micros = u64::try_from(ran.as_micros()).unwrap_or(u64::MAX).saturating_add(begun);
        self.memory = self.memory.saturating_add(usage.memory.bytes().div_ceil(1024).saturating_mul(micros));
    }

    fn failed(&mut self, error: Option<&InvokeError>) {
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

/// The account of one call while it runs: whatever becomes of it, what it used is booked, once, for its function
/// and its tenant.
pub(crate) struct Tab<'a> {
    pages: [&'a Page; 2],
    node: &'a Node,
    clock: &'a dyn Clock,
    running: Option<(Timestamp, Arc<Meter>)>,
    is_closed: bool,
}

impl<'a> Tab<'a> {
    /// `part`: the cores that the call was made on; `ledgers`: of the function and of the tenant; `node`: where it runs.
    pub(crate) fn open(part: usize, ledgers: [&'a Ledger; 2], node: &'a Node, clock: &'a dyn Clock) -> Self {
        Self { pages: ledgers.map(|ledger| ledger.page(part)), node, clock, running: None, is_closed: false }
    }

    /// From now on the call has an isolate, which tells `meter` what it uses.
    pub(crate) fn runs(&mut self, since: Timestamp, meter: &Arc<Meter>) {
        self.running = Some((since, Arc::clone(meter)));
    }

    /// The call is over. Books its receipt, with what the host has used for it so far.
    pub(crate) fn close(mut self, result: Result<&Receipt, &InvokeError>) {
        self.is_closed = true;
        match result {
            Ok(receipt) => {
                let ran = receipt.wall.saturating_sub(receipt.queued);
                for page in self.pages {
                    page.change(|sums| {
                        sums.bill.calls += 1;
                        sums.bill.wall += receipt.wall;
                        sums.bill.bytes_in += receipt.bytes_in;
                        sums.bill.bytes_out += receipt.bytes_out;
                        sums.used(&receipt.usage, receipt.spent, ran);
                    });
                    page.book_host(receipt.host);
                }
            }
            Err(error) => self.fail(Some(error)),
        }
    }

    /// The call was sent elsewhere: nothing is booked.
    pub(crate) fn void(mut self) {
        self.is_closed = true;
    }

    fn fail(&self, error: Option<&InvokeError>) {
        let used = self.running.as_ref().map(|(since, meter)| {
            let usage = meter.usage();
            (usage, self.node.spent(usage.cpu), self.clock.now().since(*since))
        });
        for page in self.pages {
            page.change(|sums| {
                sums.failed(error);
                if let Some((usage, spent, ran)) = &used {
                    sums.used(usage, *spent, *ran);
                }
            });
            if let Some((_, meter)) = &self.running {
                page.book_host(meter.host());
            }
        }
    }
}

impl Drop for Tab<'_> {
    fn drop(&mut self) {
        if !self.is_closed {
            self.fail(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use scf_core::{Energy, FunctionName, ManualClock, NodeId, Rates, TenantName, Tier};

    use super::*;

    /// A node that is paid nothing and draws `joules` in a second.
    fn node(joules: f32) -> Node {
        Node::new(NodeId::new("here").unwrap(), Tier::Edge).rates(Rates { joules, ..Rates::default() })
    }

    #[test]
    fn what_is_booked_on_different_cores_is_on_one_bill() {
        let (function, tenant, clock) = (Ledger::default(), Ledger::default(), ManualClock::new());
        let node = node(8.0);
        for part in 0..6 {
            drop(Tab::open(part, [&function, &tenant], &node, &clock));
            function.book_host(part, Duration::from_nanos(1));
        }
        let bill = function.bill();
        assert_eq!((bill.failures, bill.failed.given_up, bill.host), (6, 6, Duration::from_nanos(6)));
        assert_eq!(bill, Bill { host: bill.host, ..tenant.bill() });
    }

    #[test]
    fn what_a_call_used_is_booked_for_function_and_tenant_however_it_ends() {
        let (function, tenant, clock) = (Ledger::default(), Ledger::default(), ManualClock::new());
        let node = node(8.0);
        let meter = Arc::new(Meter::default());
        meter.add_cpu(Duration::from_millis(5));
        meter.saw_memory(ByteSize::from_mib(1));
        let running = || {
            let mut tab = Tab::open(here(), [&function, &tenant], &node, &clock);
            tab.runs(clock.now(), &meter);
            clock.advance(Duration::from_millis(500));
            tab
        };
        let name = FunctionName::new("f").unwrap();
        running().close(Err(&InvokeError::Trapped { function: name.clone(), message: String::new() }));
        drop(running());
        Tab::open(here(), [&function, &tenant], &node, &clock)
            .close(Err(&InvokeError::NoKey { function: name.clone() }));
        let mut receipt = Receipt::new(name, TenantName::default(), NodeId::new("here").unwrap());
        receipt.usage = meter.usage();
        receipt.spent = node.spent(receipt.usage.cpu);
        (receipt.queued, receipt.wall) = (Duration::from_secs(1), Duration::from_secs(2));
        running().close(Ok(&receipt));
        let bill = function.bill();
        assert_eq!(bill, tenant.bill());
        assert_eq!((bill.calls, bill.failures), (1, 3));
        assert_eq!(bill.failed, Failures { trapped: 1, given_up: 1, refused: 1, ..Failures::default() });
        assert_eq!(bill.cpu, Duration::from_millis(15));
        assert_eq!(bill.spent.energy, Energy::from_joules(0.12), "15 ms at 8 W");
        assert_eq!(bill.memory_seconds, ByteSize::from_mib(2), "1 MiB for 0.5, 0.5 and 1 s");
    }
}
