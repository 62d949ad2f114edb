//! How long a function rests between calls, in less than 256 bytes.

use std::time::Duration;

/// Bins of the histogram.
const BINS: usize = 224;
/// The upper end of the first bin and the lower end of the last, in seconds.
const SHORTEST: f64 = 4.0;
const LONGEST: f64 = 4.0 * 86_400.0;
/// Idle times that are in it at most.
const MEMORY: u32 = 1024;
/// Times before which nothing is said of a function.
const REPRESENTATIVE: u32 = 2;
/// Shares of the times that begin after a window and that end before its end, and the room added at its ends: the
/// parameters of the hybrid histogram policy.
const HEAD: (f64, f64) = (0.05, 0.9);
const TAIL: (f64, f64) = (0.99, 1.1);
/// Smoothing of level and trend, and how fast a trend ends.
const LEVEL: f32 = 0.3;
const TREND: f32 = 0.1;
const DAMPING: f32 = 0.9;

/// The idle times of a function: a histogram in logarithmic bins from seconds to four days, and their damped trend.
///
/// The hybrid histogram policy (Shahrad et al., Serverless in the Wild, USENIX ATC 2020, section 4.2) for nodes that
/// count their memory: bins a twentieth apart instead of a minute, and Holt's damped trend (Gardner and McKenzie 1985)
/// instead of ARIMA for what is longer than the bins reach.
#[derive(Clone, Debug)]
pub struct IdleTimes {
    bins: [u8; BINS],
    counted: u32,
    /// Times longer than the bins reach.
    beyond: u16,
    /// Level and trend of the natural logarithm of the times in seconds.
    level: f32,
    trend: f32,
}

const _: () = assert!(size_of::<IdleTimes>() <= 256, "a function costs at most 256 bytes");

/// When a function should be warm after a call ended, counted from then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmWindow {
    /// When it should be warm again; zero: it is not let go.
    pub from: Duration,
    /// When nothing is expected any more.
    pub until: Duration,
}

impl Default for IdleTimes {
    fn default() -> Self {
        Self { bins: [0; BINS], counted: 0, beyond: 0, level: 0.0, trend: 0.0 }
    }
}

/// The lower end of a bin in seconds; bin 0 begins at zero.
fn begins(bin: usize) -> f64 {
    if bin == 0 { 0.0 } else { SHORTEST * (LONGEST / SHORTEST).powf((bin - 1) as f64 / (BINS - 2) as f64) }
}

fn bin_of(seconds: f64) -> usize {
    if seconds < SHORTEST {
        return 0;
    }
    let position = (seconds / SHORTEST).ln() / (LONGEST / SHORTEST).ln() * (BINS - 2) as f64;
    (position.floor() as usize + 1).min(BINS - 1)
}

impl IdleTimes {
    /// Takes down that it rested for `idle` between the end of a call and the next one. When 1024 are in it or one bin
    /// is full, all are halved: what is old weighs less.
    pub fn observe(&mut self, idle: Duration) {
        let seconds = idle.as_secs_f64();
        let log = (seconds.max(1e-3)).ln() as f32;
        if self.counted == 0 {
            self.level = log;
        } else {
            let before = self.level;
            self.level = LEVEL * log + (1.0 - LEVEL) * (before + DAMPING * self.trend);
            self.trend = TREND * (self.level - before) + (1.0 - TREND) * DAMPING * self.trend;
        }
        self.counted = self.counted.saturating_add(1);
        if seconds >= LONGEST {
            self.beyond = self.beyond.saturating_add(1);
            return;
        }
        let bin = bin_of(seconds);
        if self.counted() >= MEMORY || self.bins[bin] == u8::MAX {
            self.bins.iter_mut().for_each(|count| *count /= 2);
            self.beyond /= 2;
        }
        self.bins[bin] += 1;
    }

    /// Idle times that are in it.
    #[must_use]
    pub fn counted(&self) -> u32 {
        self.bins.iter().map(|&count| u32::from(count)).sum::<u32>() + u32::from(self.beyond)
    }

    /// When it should be warm after a call; none before enough is known.
    ///
    /// From 0.9 times the 5th percentile of the idle times to 1.1 times the 99th. Where more than half of them are
    /// longer than four days, around the damped trend's forecast, as wide as the policy has it for its own forecasts.
    #[must_use]
    pub fn window(&self) -> Option<WarmWindow> {
        let counted = self.counted();
        if counted < REPRESENTATIVE {
            return None;
        }
        if u32::from(self.beyond) * 2 > counted {
            let forecast = f64::from(self.level + DAMPING * self.trend).exp();
            let at = |factor: f64| Duration::from_secs_f64((forecast * factor).min(LONGEST * 100.0));
            return Some(WarmWindow { from: at(0.85), until: at(1.15) });
        }
        let (head, tail) = (self.quantile_bin(HEAD.0), self.quantile_bin(TAIL.0));
        let from = begins(head) * HEAD.1;
        let until = begins(tail + 1).min(LONGEST) * TAIL.1;
        // Stopping and starting a second later is no saving.
        let from = if from < 60.0 { 0.0 } else { from };
        Some(WarmWindow { from: Duration::from_secs_f64(from), until: Duration::from_secs_f64(until) })
    }

    fn quantile_bin(&self, share: f64) -> usize {
        let inside = self.counted() - u32::from(self.beyond);
        let rank = (f64::from(inside) * share).ceil().max(1.0) as u32;
        let mut seen = 0;
        let reached = |(_, count): &(usize, &u8)| {
            seen += u32::from(**count);
            seen >= rank
        };
        self.bins.iter().enumerate().find(reached).map_or(BINS - 1, |(bin, _)| bin)
    }

    /// What keeping it warm is worth now that it has rested for `idle`: the calls met per second kept, for the best
    /// time to keep it. It falls while a function that should have been called is not, and rises towards when the next
    /// call is due.
    ///
    /// This is the Gittins index of the wait for its next call (Gittins, Bandit processes and dynamic allocation
    /// indices, 1979), so that keeping what has the highest index per cost loses least.
    #[must_use]
    pub fn worth(&self, idle: Duration, others: &Population) -> f64 {
        Expected::new(self, others).worth(idle.as_secs_f64())
    }

    /// Whether it is worth keeping at `price`, in calls per second kept, after it has rested for `idle`; and how long
    /// it must have rested until that changes, if it does.
    #[must_use]
    pub fn phase(&self, idle: Duration, price: f64, others: &Population) -> (bool, Option<Duration>) {
        let expected = Expected::new(self, others);
        let is_kept = expected.worth(idle.as_secs_f64()) >= price;
        let changes = |bin: &usize| (expected.worth(expected.begins[*bin]) >= price) != is_kept;
        let next = (bin_of(idle.as_secs_f64()) + 1..BINS).find(changes);
        // A nanosecond later, so that rounding does not put it into the bin before.
        (is_kept, next.map(|bin| Duration::from_secs_f64(expected.begins[bin]) + Duration::from_nanos(1)))
    }
}

/// What is expected of a function and how it is spread: its own idle times and those of others.
struct Expected {
    begins: [f64; BINS + 1],
    mass: [f64; BINS],
    /// From each bin on, with what is beyond all.
    left: [f64; BINS + 1],
}

impl Expected {
    fn new(own: &IdleTimes, others: &Population) -> Self {
        let mut left = [f64::from(own.beyond) + others.prior(BINS); BINS + 1];
        let mass: [f64; BINS] = std::array::from_fn(|bin| f64::from(own.bins[bin]) + others.prior(bin));
        for bin in (0..BINS).rev() {
            left[bin] = left[bin + 1] + mass[bin];
        }
        Self { begins: std::array::from_fn(begins), mass, left }
    }

    fn worth(&self, now: f64) -> f64 {
        let first = bin_of(now);
        let to = self.begins[first + 1];
        // Spread evenly over the bin.
        let rest = self.mass[first] * ((to - now) / (to - self.begins[first])).clamp(0.0, 1.0);
        let mut left = self.left[first + 1];
        let (mut met, mut waited) = (rest, rest * (to - now) / 2.0);
        let mut best = met / (waited + left * (to - now)).max(f64::MIN_POSITIVE);
        for bin in first + 1..BINS {
            let (from, to, due) = (self.begins[bin] - now, self.begins[bin + 1] - now, self.mass[bin]);
            met += due;
            waited += due * (from + to) / 2.0;
            left -= due;
            best = best.max(met / (waited + left.max(0.0) * to));
        }
        best
    }
}

/// The idle times of all functions, as what is expected of one that is hardly known.
#[derive(Clone, Debug)]
pub struct Population {
    /// By bin, the last for what is beyond all.
    seen: [f32; BINS + 1],
    all: f32,
}

/// How many idle times what is known of others counts as.
const PRIOR: f32 = 1.0;
/// At most so many are remembered; then all are halved.
const REMEMBERED: f32 = 100_000.0;

impl Default for Population {
    /// Every bin alike.
    fn default() -> Self {
        Self { seen: [1.0; BINS + 1], all: (BINS + 1) as f32 }
    }
}

impl Population {
    /// Takes down an idle time of a function of which `known` were seen before: the first ones count most, so that
    /// this is what functions are like, and not what calls are.
    pub fn observe(&mut self, idle: Duration, known: u32) {
        let seconds = idle.as_secs_f64();
        let bin = if seconds >= LONGEST { BINS } else { bin_of(seconds) };
        let weight = 1.0 / (1.0 + known as f32);
        self.seen[bin] += weight;
        self.all += weight;
        if self.all > REMEMBERED {
            self.seen.iter_mut().for_each(|seen| *seen /= 2.0);
            self.all /= 2.0;
        }
    }

    fn prior(&self, bin: usize) -> f64 {
        f64::from(PRIOR * self.seen[bin] / self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: &[u64]) -> IdleTimes {
        let mut times = IdleTimes::default();
        seconds.iter().for_each(|&time| times.observe(Duration::from_secs(time)));
        times
    }

    #[test]
    fn a_bin_begins_where_the_one_before_it_ends() {
        for bin in 1..BINS {
            assert_eq!(bin_of(begins(bin) * 1.000_001), bin);
            assert_eq!(bin_of(begins(bin) * 0.999_999), bin - 1);
        }
    }

    #[test]
    fn a_function_called_every_half_hour_is_let_go_and_warm_again_before() {
        let window = after(&[1800; 20]).window().unwrap();
        assert!(window.from > Duration::from_secs(1200) && window.from < Duration::from_secs(1800), "{window:?}");
        assert!(window.until > Duration::from_secs(1800) && window.until < Duration::from_secs(2500), "{window:?}");
    }

    #[test]
    fn a_function_called_every_second_is_not_let_go() {
        assert_eq!(after(&[1; 50]).window().unwrap().from, Duration::ZERO);
        assert_eq!(after(&[900]).window(), None, "one time says nothing");
    }

    #[test]
    fn what_is_longer_than_the_bins_is_forecast() {
        let days = 5 * 86_400;
        let window = after(&[days; 6]).window().unwrap();
        assert!(window.from < Duration::from_secs(days) && window.until > Duration::from_secs(days), "{window:?}");
    }

    #[test]
    fn keeping_is_worth_most_shortly_before_the_next_call_is_due() {
        let (times, others) = (after(&[600; 40]), Population::default());
        let worth = |seconds| times.worth(Duration::from_secs(seconds), &others);
        assert!(worth(540) > 5.0 * worth(10), "{} {}", worth(540), worth(10));
        assert!(worth(3000) < worth(10), "its time is over");
        let (kept, until) = times.phase(Duration::from_secs(10), 1.0 / 300.0, &others);
        let until = until.unwrap().as_secs();
        assert!(!kept && (240..600).contains(&until), "{kept} until {until}");
    }

    #[test]
    fn of_an_unknown_function_the_others_tell() {
        let mut others = Population::default();
        (0..10_000).for_each(|_| others.observe(Duration::from_secs(30), 0));
        let unknown = IdleTimes::default();
        let worth = |seconds| unknown.worth(Duration::from_secs(seconds), &others);
        assert!(worth(1) > 1.0 / 60.0 && worth(600) < 1.0 / 600.0);
    }

    #[test]
    fn what_is_old_weighs_less() {
        let mut times = after(&[5; 1000]);
        (0..10_000).for_each(|_| times.observe(Duration::from_secs(100)));
        assert!(times.counted() <= MEMORY);
        assert_eq!(times.window().unwrap().from, Duration::from_secs_f64(begins(bin_of(100.0)) * 0.9));
    }
}
