//! What the host itself uses for a call.

use crate::{cpu::CpuMeter, route::Found};

/// Meters the host's part of a call on one node, from the first poll to the last, without what isolates and the
/// calls that they make meter themselves. Booked when it is dropped, so also for a call that is refused or given up.
#[derive(Debug, Default)]
pub(crate) struct Overhead {
    pub(crate) meter: CpuMeter,
    /// Who is billed, the function and the tenant, once that is known.
    pub(crate) payer: Option<Found>,
}

impl Drop for Overhead {
    fn drop(&mut self) {
        if let Some(found) = &self.payer {
            found.pages().book_host(self.meter.used());
        }
    }
}
