//! How fast an error budget is used up.

use std::time::Duration;

use scf_core::{Reaction, Share, Timestamp};

/// The period that the windows below belong to.
const PERIOD: Duration = Duration::from_secs(30 * 24 * 3600);
/// Width and number of the buckets of each ring, at a period of 30 days: five minutes, an hour, six hours, three days.
const RINGS: [(u64, usize); 4] = [(10, 30), (60, 60), (600, 36), (3600, 72)];
/// Burn rates at which something is done: 2 %, 5 % and 10 % of the budget in an hour, six hours and three days.
const FAST: f64 = 14.4;
const SLOW: f64 = 6.0;
const CAREFUL: f64 = 1.0;
/// Calls in a window below which the share of bad ones is only believed as far as it is certain.
const FEW: u32 = 60;
/// 95 % of the standard normal distribution, one-sided.
const CERTAIN: f64 = 1.645;

/// The rates at which calls miss an objective, in multiples of what the objective allows: at 1, the error budget of the
/// period is used up at its end.
///
/// With the windows of the Google SRE workbook (chapter 5, table 5-8): a long window says that it matters and a short
/// one that it still goes on.
#[derive(Clone, Debug)]
pub struct BurnRate {
    allowed: f64,
    rings: [Ring; 4],
}

#[derive(Clone, Debug)]
struct Ring {
    width: u64,
    /// Bad calls and all calls.
    buckets: Box<[(u32, u32)]>,
    last: Option<u64>,
}

impl Ring {
    fn open(&mut self, now: Timestamp) -> &mut (u32, u32) {
        let (bucket, len) = (now.nanos() / self.width, self.buckets.len() as u64);
        match self.last {
            Some(last) if bucket < last + len => {
                (last + 1..=bucket).for_each(|skipped| self.buckets[(skipped % len) as usize] = (0, 0));
            }
            _ => self.buckets.fill((0, 0)),
        }
        self.last = Some(self.last.map_or(bucket, |last| last.max(bucket)));
        &mut self.buckets[(bucket % len) as usize]
    }

    /// Bad calls and all calls of the last `window` buckets.
    fn sum(&self, now: Timestamp, window: usize) -> (u32, u32) {
        let Some(last) = self.last else { return (0, 0) };
        let (bucket, len) = ((now.nanos() / self.width).max(last), self.buckets.len() as u64);
        let from = (bucket + 1).saturating_sub((window as u64).min(len));
        (from.max((last + 1).saturating_sub(len))..=last).fold((0, 0), |(bad, all), at| {
            let (b, a) = self.buckets[(at % len) as usize];
            (bad.saturating_add(b), all.saturating_add(a))
        })
    }
}

/// A window over which a burn rate is asked for; the names are those of a period of 30 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BurnWindow {
    /// 1/8640 of the period.
    FiveMinutes,
    /// 1/1440 of the period.
    HalfHour,
    /// 1/720 of the period.
    Hour,
    /// 1/120 of the period.
    SixHours,
    /// A tenth of the period.
    ThreeDays,
}

impl BurnRate {
    /// Of an objective that `share` of the calls keep, over 30 days.
    #[must_use]
    pub fn new(share: Share) -> Self {
        Self::over(share, PERIOD)
    }

    /// The same over `period`; all windows shrink with it.
    #[must_use]
    pub fn over(share: Share, period: Duration) -> Self {
        let scale = period.as_secs_f64() / PERIOD.as_secs_f64();
        let ring = |(seconds, buckets): (u64, usize)| Ring {
            width: ((seconds as f64 * scale * 1e9) as u64).max(1),
            buckets: vec![(0, 0); buckets].into(),
            last: None,
        };
        Self { allowed: share.rest().fraction().max(1e-6), rings: RINGS.map(ring) }
    }

    /// Takes down a call.
    pub fn record(&mut self, now: Timestamp, is_good: bool) {
        for ring in &mut self.rings {
            let (bad, all) = ring.open(now);
            *bad = bad.saturating_add(u32::from(!is_good));
            *all = all.saturating_add(1);
        }
    }

    /// The burn rate over `window`. Where there were few calls, what it is at least with a certainty of 95 %.
    #[must_use]
    pub fn rate(&self, now: Timestamp, window: BurnWindow) -> f64 {
        let (ring, buckets) = match window {
            BurnWindow::FiveMinutes => (0, 30),
            BurnWindow::HalfHour => (1, 30),
            BurnWindow::Hour => (1, 60),
            BurnWindow::SixHours => (2, 36),
            BurnWindow::ThreeDays => (3, 72),
        };
        let (bad, all) = self.rings[ring].sum(now, buckets);
        let share = if all < FEW { at_least(bad, all, CERTAIN) } else { f64::from(bad) / f64::from(all) };
        share / self.allowed
    }

    /// What is to be done: above 14.4 in the last hour and five minutes calls are shed; above 6 in the last six hours
    /// and half hour the function moves; above 1 in the last hour nothing is tried.
    #[must_use]
    pub fn reaction(&self, now: Timestamp) -> Reaction {
        let above = |long, short, rate| self.rate(now, long) > rate && self.rate(now, short) > rate;
        if above(BurnWindow::Hour, BurnWindow::FiveMinutes, FAST) {
            Reaction::Shed
        } else if above(BurnWindow::SixHours, BurnWindow::HalfHour, SLOW) {
            Reaction::Move
        } else if above(BurnWindow::Hour, BurnWindow::FiveMinutes, CAREFUL)
            || above(BurnWindow::ThreeDays, BurnWindow::SixHours, CAREFUL)
        {
            Reaction::Careful
        } else {
            Reaction::None
        }
    }
}

/// The share of bad calls at least, where `bad` of `all` were: the lower end of Wilson's interval (JASA 1927) at
/// `deviations` standard deviations.
pub(super) fn at_least(bad: u32, all: u32, deviations: f64) -> f64 {
    if all == 0 {
        return 0.0;
    }
    let (n, z2) = (f64::from(all), deviations * deviations);
    let share = f64::from(bad) / n;
    let spread = deviations * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    ((share + z2 / (2.0 * n) - spread) / (1.0 + z2 / n)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u64) -> Timestamp {
        Timestamp::from_nanos(minute * 60_000_000_000)
    }

    /// A hundred calls a minute over `minutes`, of which `bad` per thousand are bad.
    fn run(burn: &mut BurnRate, minutes: std::ops::Range<u64>, bad: u64) {
        let mut count = 0;
        for minute in minutes {
            for _ in 0..100 {
                burn.record(at(minute), (count * bad) % 1000 >= bad);
                count += 1;
            }
        }
    }

    #[test]
    fn three_nines_page_above_a_share_of_0_0144() {
        let paged = |bad| {
            let mut burn = BurnRate::new(Share::from_percent(99.9));
            run(&mut burn, 0..60, bad);
            burn.reaction(at(59))
        };
        assert_eq!((paged(16), paged(14)), (Reaction::Shed, Reaction::Move));
        assert_eq!((paged(0), paged(2)), (Reaction::None, Reaction::Careful));
    }

    #[test]
    fn what_is_over_is_not_reacted_to() {
        let mut burn = BurnRate::new(Share::from_percent(99.9));
        run(&mut burn, 0..30, 100);
        assert_eq!(burn.reaction(at(30)), Reaction::Shed);
        run(&mut burn, 30..40, 0);
        assert!(burn.rate(at(40), BurnWindow::Hour) > 14.4, "an hour remembers");
        assert!(burn.reaction(at(40)) < Reaction::Shed, "five minutes do not");
    }

    #[test]
    fn a_single_bad_call_of_few_is_no_alarm() {
        let mut burn = BurnRate::new(Share::from_percent(95.0));
        burn.record(at(0), false);
        (1..9).for_each(|minute| burn.record(at(minute), true));
        assert_eq!(burn.reaction(at(9)), Reaction::None);
    }

    #[test]
    fn a_shorter_period_has_shorter_windows() {
        let mut burn = BurnRate::over(Share::from_percent(99.9), Duration::from_secs(3600));
        let ms = |ms: u64| Timestamp::from_nanos(ms * 1_000_000);
        (0..1000).for_each(|i| burn.record(ms(i), i % 10 != 0));
        assert_eq!(burn.reaction(ms(1000)), Reaction::Shed);
        (1000..2000).for_each(|i| burn.record(ms(i), true));
        assert!(burn.reaction(ms(2000)) < Reaction::Shed);
    }
}
