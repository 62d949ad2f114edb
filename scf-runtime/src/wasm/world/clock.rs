//! Time, as precisely as it is granted.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use scf_core::{Call, ClockGrant, Host, Timestamp};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// The step of a coarse clock.
const STEP: Duration = Duration::from_millis(1);

/// The clocks of one call. Both go with the node's clock.
#[derive(Clone, Debug)]
pub(super) struct GrantedClock {
    grant: ClockGrant,
    /// None before the first call; the clocks stand until then.
    host: Option<Arc<dyn Host>>,
    began: Timestamp,
    /// Since 1970, when the call began.
    wall: Duration,
}

impl GrantedClock {
    pub(super) fn new(grant: ClockGrant, call: Option<&Call>) -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall = if grant == ClockGrant::Precise { wall } else { whole_steps(wall) };
        let host = call.map(|call| Arc::clone(&call.host));
        let began = host.as_ref().map_or_else(Timestamp::default, |host| host.now());
        Self { grant, host, began, wall }
    }

    /// Time since the call began.
    fn elapsed(&self) -> Duration {
        let Some(host) = &self.host else { return Duration::ZERO };
        self.shown(|| host.now().since(self.began))
    }

    fn step(&self) -> Duration {
        match self.grant {
            ClockGrant::Precise => Duration::from_nanos(1),
            _ => STEP,
        }
    }

    /// As much of a time that was measured since the call began as the clock shows. Not measured where it stands.
    pub(super) fn shown(&self, measured: impl FnOnce() -> Duration) -> Duration {
        match self.grant {
            ClockGrant::Coarse => whole_steps(measured()),
            ClockGrant::Precise => measured(),
            _ => Duration::ZERO,
        }
    }

    /// Time from now until `deadline`.
    #[cfg(feature = "services")]
    pub(super) fn until(&self, deadline: Timestamp) -> Duration {
        deadline.since(self.began + self.elapsed())
    }
}

fn whole_steps(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl HostWallClock for GrantedClock {
    fn resolution(&self) -> Duration {
        self.step()
    }

    fn now(&self) -> Duration {
        self.wall + self.elapsed()
    }
}

impl HostMonotonicClock for GrantedClock {
    fn resolution(&self) -> u64 {
        u64::try_from(self.step().as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        // Counted from the start of the node's clock, so that it goes on where an isolate serves several calls.
        let now = Duration::from_nanos((self.began + self.elapsed()).nanos());
        let now = if self.grant == ClockGrant::Precise { now } else { whole_steps(now) };
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }
}
