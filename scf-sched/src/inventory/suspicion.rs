//! Whether silence means anything.

use std::time::Duration;

use scf_core::Timestamp;

/// How much older intervals weigh less, as of about the last sixteen.
const WEIGHT: f64 = 1.0 / 16.0;
/// Intervals that are needed before their distribution says anything.
const KNOWN: u32 = 8;
/// The least standard deviation, as a share of the mean: clocks and networks are never better.
const LEAST: f64 = 0.1;
/// φ from which on a unit is suspected: one wrong suspicion in a hundred million heartbeats.
const SUSPECTED: f64 = 8.0;
/// Heartbeats missed in a row after which a unit is lost.
const MISSED: u32 = 3;

/// Whether a unit is there, by its heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Standing {
    /// It was heard of when it should.
    Alive,
    /// It should have been heard of by now.
    Suspected,
    /// Three heartbeats are missing.
    Lost,
}

/// The φ accrual failure detector (Hayashibara et al., SRDS 2004), with the logistic approximation of the normal
/// distribution; three missed heartbeats where too few intervals are known, and before anything counts as lost.
#[derive(Clone, Copy, Debug)]
pub struct Suspicion {
    interval: Duration,
    last: Timestamp,
    mean: f64,
    variance: f64,
    heard: u32,
}

impl Suspicion {
    /// Of a unit that is heard of at `now` and says that it will be every `interval`.
    #[must_use]
    pub fn new(now: Timestamp, interval: Duration) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        Self { interval, last: now, mean: interval.as_secs_f64(), variance: 0.0, heard: 0 }
    }

    /// It was heard of.
    pub fn heard(&mut self, now: Timestamp) {
        let interval = now.since(self.last).as_secs_f64();
        // After a silence nothing is learned of how regular it is.
        if interval < f64::from(MISSED) * self.mean {
            let apart = interval - self.mean;
            self.mean += WEIGHT * apart;
            self.variance = (1.0 - WEIGHT) * (self.variance + WEIGHT * apart * apart);
            self.heard = self.heard.saturating_add(1);
        }
        self.last = self.last.max(now);
    }

    /// The decimal logarithm of how unlikely so long a silence is.
    #[must_use]
    pub fn phi(&self, now: Timestamp) -> f64 {
        let silence = now.since(self.last).as_secs_f64();
        let deviation = self.variance.sqrt().max(LEAST * self.mean);
        let y = (silence - self.mean) / deviation;
        let e = (-y * (1.5976 + 0.070_566 * y * y)).exp();
        if y > 0.0 { -(e / (1.0 + e)).log10() } else { -(1.0 - 1.0 / (1.0 + e)).log10() }
    }

    /// Whether it is there.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let silence = now.since(self.last);
        let expected = if self.heard < KNOWN { self.interval } else { Duration::from_secs_f64(self.mean) };
        if silence > expected * MISSED {
            Standing::Lost
        } else if self.heard >= KNOWN && self.phi(now) >= SUSPECTED {
            Standing::Suspected
        } else {
            Standing::Alive
        }
    }

    /// When it has to be looked at again, if it is not heard of.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        self.last + Duration::from_secs_f64(self.mean * (1.0 + LEAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn heard(intervals: &[u64]) -> (Suspicion, u64) {
        let mut suspicion = Suspicion::new(at(0), Duration::from_millis(100));
        let mut now = 0;
        for interval in intervals {
            now += interval;
            suspicion.heard(at(now));
        }
        (suspicion, now)
    }

    #[test]
    fn a_regular_unit_is_suspected_soon_and_an_irregular_one_later() {
        let (regular, now) = heard(&[100; 40]);
        assert_eq!(regular.standing(at(now + 110)), Standing::Alive);
        assert_eq!(regular.standing(at(now + 170)), Standing::Suspected);
        let (irregular, now) = heard(&[40, 160, 70, 130, 100, 50, 150, 90].repeat(5));
        assert_eq!(irregular.standing(at(now + 170)), Standing::Alive);
        assert_eq!(irregular.standing(at(now + 400)), Standing::Lost);
    }

    #[test]
    fn before_it_is_known_three_missed_heartbeats_count() {
        let (new, now) = heard(&[100, 100]);
        assert_eq!(new.standing(at(now + 290)), Standing::Alive);
        assert_eq!(new.standing(at(now + 310)), Standing::Lost);
    }

    #[test]
    fn who_is_heard_of_again_is_alive_and_no_less_regular() {
        let (mut unit, now) = heard(&[100; 40]);
        let phi = unit.phi(at(now + 150));
        assert_eq!(unit.standing(at(now + 5000)), Standing::Lost);
        unit.heard(at(now + 5000));
        assert_eq!(unit.standing(at(now + 5050)), Standing::Alive);
        assert!((unit.phi(at(now + 5150)) - phi).abs() < 1e-9);
    }
}
