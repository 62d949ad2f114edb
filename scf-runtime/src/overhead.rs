//! What the host itself uses for a call.

use std::sync::{Arc, OnceLock};

use crate::{cpu::CpuMeter, ledger::Ledger, tenant::Account};

/// Meters the host's part of a call on one node, from the first poll to the last, without what isolates and the
/// calls that they make meter themselves. Booked when it is dropped, so also for a call that is refused or given up.
#[derive(Debug, Default)]
pub(crate) struct Overhead {
    pub(crate) meter: CpuMeter,
    payer: OnceLock<(Arc<Ledger>, Arc<Account>)>,
}

impl Overhead {
    /// From now on it is known who is billed: the function and the tenant.
    pub(crate) fn is_paid_by(&self, function: &Arc<Ledger>, tenant: &Arc<Account>) {
        self.payer.get_or_init(|| (Arc::clone(function), Arc::clone(tenant)));
    }
}

impl Drop for Overhead {
    fn drop(&mut self) {
        if let Some((function, tenant)) = self.payer.get() {
            let cpu = self.meter.used();
            function.book_host(cpu);
            tenant.ledger.book_host(cpu);
        }
    }
}
