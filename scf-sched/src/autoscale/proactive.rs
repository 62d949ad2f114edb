//! Slots for calls that are expected.

use std::time::Duration;

use scf_core::{Autoscaler, Load};

use super::{erlang::OfferedLoad, forecast::Forecast};

/// Asks another autoscaler and adds what a [`Forecast`] of the rate of calls asks for; never takes anything away.
#[derive(Debug)]
pub struct Proactive {
    reactive: Box<dyn Autoscaler>,
    forecast: Forecast,
    step: Duration,
    ahead: usize,
    wait: Duration,
    share: f64,
    /// The step that is counted now, the calls that arrived in it and how many were in flight when it was asked
    /// before.
    counting: Option<u64>,
    arrived: f64,
    in_flight: u32,
}

impl Proactive {
    /// Forecasts the calls per `step`, with a season of `season` steps, `ahead` steps ahead: as long as a cold start
    /// takes. Waits of 95 % of the calls are held within `wait`.
    #[must_use]
    pub fn new(reactive: Box<dyn Autoscaler>, step: Duration, season: usize, ahead: usize, wait: Duration) -> Self {
        let step = step.max(Duration::from_millis(1));
        let forecast = Forecast::new(season);
        let (counting, arrived, in_flight) = (None, 0.0, 0);
        Self { reactive, forecast, step, ahead: ahead.max(1), wait, share: 0.95, counting, arrived, in_flight }
    }

    /// The forecast, to be looked at.
    #[must_use]
    pub const fn forecast(&self) -> &Forecast {
        &self.forecast
    }
}

impl Autoscaler for Proactive {
    fn desired(&mut self, load: &Load) -> u32 {
        let reactive = self.reactive.desired(load);
        let step = load.now.nanos() / u64::try_from(self.step.as_nanos()).unwrap_or(u64::MAX);
        let counting = *self.counting.get_or_insert(step);
        // Of a long silence as many steps as a season are told, which is all that there is to know of it.
        for _ in 0..(step - counting.min(step)).min(1024) {
            self.forecast.observe(std::mem::take(&mut self.arrived));
        }
        self.counting = Some(step);
        self.arrived += f64::from(load.ended.saturating_add(load.in_flight()).saturating_sub(self.in_flight));
        self.in_flight = load.in_flight();
        if load.service.is_zero() {
            return reactive;
        }
        let demand = OfferedLoad {
            arrivals: self.forecast.bound(self.ahead, self.share) / self.step.as_secs_f64(),
            service: 1.0 / load.service.as_secs_f64(),
            wait: self.wait,
            share: self.share,
            variation: 2.0,
        };
        reactive.max(demand.servers())
    }

    fn wakes_at(&self) -> Option<scf_core::Timestamp> {
        self.reactive.wakes_at()
    }
}

#[cfg(test)]
mod tests {
    use scf_core::Timestamp;

    use super::*;
    use crate::FixedConcurrency;

    #[test]
    fn slots_are_there_before_the_calls_of_a_season_and_never_fewer_than_asked_for() {
        let (second, service) = (Duration::from_secs(1), Duration::from_millis(100));
        let reactive = Box::new(FixedConcurrency::new(2));
        let mut scaler = Proactive::new(reactive, 10 * second, 6, 1, Duration::from_millis(50));
        let mut wanted = Vec::new();
        for at in 0..600 {
            // Of every minute the fourth ten seconds are busy.
            let ended = if at % 60 / 10 == 3 { 50 } else { 0 };
            let now = Timestamp::from_nanos(at * 1_000_000_000);
            let desired = scaler.desired(&Load { now, ended, service, current: 2, ..Load::default() });
            wanted.push(desired);
        }
        let last = &wanted[540..];
        assert!(last[31] >= 7, "just as they come: {last:?}");
        assert!(wanted.iter().all(|wanted| *wanted >= 2));
        assert!(last[5] <= 4, "quiet: {last:?}");
    }
}
