//! The account of one call while it runs.

use std::sync::Arc;

use scf_core::{Clock, InvokeError, Meter, Node, Receipt, Timestamp};

use crate::ledger::Pages;

/// The account of one call while it runs: whatever becomes of it, what it used is booked, once, for its function
/// and its tenant.
pub(crate) struct Tab<'a> {
    pages: Pages<'a>,
    node: &'a Node,
    clock: &'a dyn Clock,
    running: Option<(Timestamp, Arc<Meter>)>,
    is_closed: bool,
}

impl<'a> Tab<'a> {
    /// `pages`: where the call is booked; `node`: where it runs.
    pub(crate) const fn open(pages: Pages<'a>, node: &'a Node, clock: &'a dyn Clock) -> Self {
        Self { pages, node, clock, running: None, is_closed: false }
    }

    /// From now on the call, which has an isolate that tells `meter` what it uses, may end without a receipt.
    pub(crate) fn runs(&mut self, since: Timestamp, meter: &Arc<Meter>) {
        self.running = Some((since, Arc::clone(meter)));
    }

    /// The call is over. Books its receipt, with what the host has used for it so far.
    pub(crate) fn close(mut self, result: Result<&Receipt, &InvokeError>) {
        self.is_closed = true;
        match result {
            Ok(receipt) => self.pages.change(|sums| sums.succeeded(receipt)),
            Err(error) => self.fail(Some(error)),
        }
    }

    /// The call was sent elsewhere: nothing is booked.
    pub(crate) fn void(mut self) {
        self.is_closed = true;
    }

    fn fail(&self, error: Option<&InvokeError>) {
        let used = self.running.as_ref().map(|(since, meter)| {
            self.pages.book_host(meter.host());
            let usage = meter.usage();
            (usage, self.node.spent(usage.cpu), self.clock.now().since(*since))
        });
        self.pages.change(|sums| {
            sums.failed(error);
            if let Some((usage, spent, ran)) = &used {
                sums.used(usage, *spent, *ran);
            }
        });
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
    use std::time::Duration;

    use scf_core::{ByteSize, Energy, FunctionName, ManualClock, NodeId, Rates, TenantName, Tier};

    use super::*;
    use crate::{
        bill::Failures,
        ledger::{Books, Ledger},
        spread::here,
        tenant::{Account, Accounts},
    };

    /// A node that is paid nothing and draws `joules` in a second.
    fn node(joules: f32) -> Node {
        Node::new(NodeId::new("here").unwrap(), Tier::Edge).rates(Rates { joules, ..Rates::default() })
    }

    fn accounts<const N: usize>() -> [Arc<Account>; N] {
        let accounts = Accounts::new(Vec::new(), 1);
        std::array::from_fn(|at| accounts.of(&TenantName::new(&format!("t{at}")).unwrap()).unwrap())
    }

    #[test]
    fn what_is_booked_on_different_cores_is_on_one_bill() {
        let ([tenant], function, clock) = (accounts(), Arc::default(), ManualClock::new());
        let (books, node) = (Books::new(&function, &tenant), node(8.0));
        for part in 0..6 {
            let pages = books.pages(part, &tenant);
            drop(Tab::open(pages, &node, &clock));
            pages.book_host(Duration::from_nanos(1));
        }
        let bill = function.bill();
        assert_eq!((bill.failures, bill.failed.given_up, bill.host), (6, 6, Duration::from_nanos(6)));
        assert_eq!(bill, tenant.ledger.bill());
    }

    #[test]
    fn a_call_is_on_the_bills_of_its_function_and_of_who_pays_whoever_owns_the_function() {
        let ([first, second, guest], function, clock) = (accounts(), Arc::default(), ManualClock::new());
        // Two revisions, of which the second is another tenant's.
        let node = node(8.0);
        for (owner, payers) in [(&first, [&first, &guest]), (&second, [&second, &first])] {
            let books = Books::new(&function, owner);
            payers.iter().for_each(|payer| drop(Tab::open(books.pages(here(), payer), &node, &clock)));
        }
        let failures = [&first, &second, &guest].map(|account| account.ledger.bill().failures);
        assert_eq!((function.bill().failures, failures), (4, [2, 1, 1]));
    }

    #[test]
    fn a_tenants_bill_keeps_what_functions_came_to_that_are_gone() {
        let ([tenant], clock, node) = (accounts(), ManualClock::new(), node(8.0));
        for _ in 0..200 {
            let function = Arc::<Ledger>::default();
            drop(Tab::open(Books::new(&function, &tenant).pages(here(), &tenant), &node, &clock));
        }
        assert_eq!(tenant.ledger.bill().failures, 200);
        assert!(tenant.ledger.books() < 100, "{} books are open", tenant.ledger.books());
    }

    #[test]
    fn what_a_call_used_is_booked_for_function_and_tenant_however_it_ends() {
        let ([tenant], function, clock) = (accounts(), Arc::<Ledger>::default(), ManualClock::new());
        let (books, node) = (Books::new(&function, &tenant), node(8.0));
        let meter = Arc::new(Meter::default());
        meter.add_cpu(Duration::from_millis(5));
        meter.saw_memory(ByteSize::from_mib(1));
        let open = || Tab::open(books.pages(here(), &tenant), &node, &clock);
        let running = || {
            let mut tab = open();
            tab.runs(clock.now(), &meter);
            clock.advance(Duration::from_millis(500));
            tab
        };
        let name = FunctionName::new("f").unwrap();
        running().close(Err(&InvokeError::Trapped { function: name.clone(), message: String::new() }));
        drop(running());
        open().close(Err(&InvokeError::NoKey { function: name.clone() }));
        let mut receipt = Receipt::new(name, TenantName::default(), NodeId::new("here").unwrap());
        receipt.usage = meter.usage();
        receipt.spent = node.spent(receipt.usage.cpu);
        (receipt.queued, receipt.wall) = (Duration::from_secs(1), Duration::from_secs(2));
        running().close(Ok(&receipt));
        let bill = function.bill();
        assert_eq!(bill, tenant.ledger.bill());
        assert_eq!((bill.calls, bill.failures), (1, 3));
        assert_eq!(bill.failed, Failures { trapped: 1, given_up: 1, refused: 1, ..Failures::default() });
        assert_eq!(bill.cpu, Duration::from_millis(15));
        assert_eq!(bill.spent.energy, Energy::from_joules(0.12), "15 ms at 8 W");
        assert_eq!(bill.memory_seconds, ByteSize::from_mib(2), "1 MiB for 0.5, 0.5 and 1 s");
    }
}
