//! The keep-alive policy as an autoscaler.

use std::sync::{Arc, Mutex, PoisonError};

use scf_core::{Autoscaler, Function, Load, Timestamp};

use super::pool::WarmPool;

/// Asks another autoscaler while a function is called, and a [`WarmPool`] that a node's functions share whether it is
/// kept while it is not.
#[derive(Debug)]
pub struct KeepAlive {
    pool: Arc<Mutex<WarmPool>>,
    function: scf_core::FunctionName,
    while_called: Box<dyn Autoscaler>,
    is_called: bool,
}

impl KeepAlive {
    /// For `function`, which takes the memory of its limits while it is warm and `cold` to start.
    #[must_use]
    pub fn new(
        pool: Arc<Mutex<WarmPool>>,
        function: &Function,
        cold: std::time::Duration,
        while_called: Box<dyn Autoscaler>,
    ) -> Self {
        pool.lock().unwrap_or_else(PoisonError::into_inner).add(&function.name, function.limits.memory, cold);
        Self { pool, function: function.name.clone(), while_called, is_called: false }
    }
}

impl Autoscaler for KeepAlive {
    fn desired(&mut self, load: &Load) -> u32 {
        let wanted = self.while_called.desired(load);
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let is_called = load.in_flight() > 0 || load.ended > 0;
        if is_called {
            if !self.is_called {
                pool.called(&self.function, load.now);
            }
            self.is_called = true;
            return wanted.max(1);
        }
        // What others are told is asked of the pool by them, whose turn comes as this one's does.
        let mut changes = Vec::new();
        if std::mem::take(&mut self.is_called) {
            pool.rests(&self.function, load.now, &mut changes);
        }
        pool.tick(load.now, &mut changes);
        u32::from(pool.is_warm(&self.function))
    }

    fn wakes_at(&self) -> Option<Timestamp> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).due(&self.function)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scf_core::{ByteSize, FunctionName, Name};

    use super::*;
    use crate::Kpa;

    #[test]
    fn it_is_dormant_between_its_calls_and_says_when_the_next_is_due() {
        let function = Function::native(FunctionName::new("f").unwrap(), Name::new("f").unwrap());
        let pool = Arc::new(Mutex::new(WarmPool::new(ByteSize::from_mib(1000))));
        let mut scaler = KeepAlive::new(pool, &function, Duration::from_secs(1), Box::new(Kpa::default()));
        let mut ask = |second: u64, running| {
            let now = Timestamp::from_nanos(second * 1_000_000_000);
            (scaler.desired(&Load { now, running, ..Load::default() }), scaler.wakes_at())
        };
        for call in 1..20 {
            assert!(ask(call * 7200, 1).0 >= 1);
            ask(call * 7200 + 1, 0);
        }
        let (desired, wakes) = ask(19 * 7200 + 120, 0);
        let wakes = wakes.unwrap().nanos() / 1_000_000_000;
        assert_eq!(desired, 0);
        assert!((19 * 7200 + 3600..20 * 7200).contains(&wakes), "{wakes}");
        assert_eq!(ask(wakes + 1, 0).0, 1);
    }
}
