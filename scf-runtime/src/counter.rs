//! The system's monotonic clock, told by the processor's counter between two readings.
//!
//! Reading the clock takes 20 ns and more, and every call needs the time at four of its boundaries. The counter is read
//! in a third of that. Where the kernel itself keeps its clock by this counter, which it does only if the counter runs at
//! one speed and agrees between the cores, it says how much time has passed since the clock was last read.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the processor's counter is read by an intrinsic"))]

use std::{cell::Cell, fs, sync::OnceLock};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// How long a reading of the clock is gone by, in nanoseconds.
const SPAN: u64 = 1_000_000;
/// Steps of the counter around a reading of the clock above which something came between, and the two do not belong
/// together.
const CLOSE: u64 = 500;
/// What the counter is taken to be slower than it was measured, a part of. It is more than a measurement over [`SPAN`] is
/// wrong by and the clock is disciplined by, so that the time never steps back where the clock is read again; until then
/// it falls behind by this part of what has passed.
const SLOWER: u64 = 1_000;
/// Bits of a nanosecond's fractions in a rate.
const FRACTION: u32 = 32;

/// A reading of the clock, and how it goes on.
#[derive(Clone, Copy)]
struct Reading {
    counter: u64,
    nanos: u64,
    /// Nanoseconds per step of the counter, with fractions.
    rate: u64,
    /// Steps of the counter for which it is gone by; none before the rate is known.
    span: u64,
}

thread_local! {
    static LAST: Cell<Reading> = const { Cell::new(Reading::NONE) };
}

/// The system's monotonic clock, in nanoseconds; late by up to some 2 µs, never ahead.
pub(crate) fn monotonic() -> u64 {
    let last = LAST.get();
    let steps = counter().wrapping_sub(last.counter);
    if steps < last.span { last.nanos + last.nanos_of(steps) } else { read(last) }
}

/// Reads the clock, and notes what that says of the counter.
#[cold]
fn read(last: Reading) -> u64 {
    let before = counter();
    let nanos = clock();
    if is_steady() {
        LAST.set(last.followed_by(before, nanos, counter()));
    }
    nanos
}

impl Reading {
    const NONE: Self = Self { counter: 0, nanos: 0, rate: 0, span: 0 };

    fn nanos_of(&self, steps: u64) -> u64 {
        // At most `SPAN`.
        ((u128::from(steps) * u128::from(self.rate)) >> FRACTION) as u64
    }

    /// The reading of `nanos` between two of the counter.
    fn followed_by(self, before: u64, nanos: u64, after: u64) -> Self {
        if after.wrapping_sub(before) >= CLOSE {
            return Self::NONE;
        }
        // Of the second of the two, so that the time is never ahead.
        let next = Self { counter: after, nanos, ..Self::NONE };
        let (steps, passed) = (after.wrapping_sub(self.counter), nanos.saturating_sub(self.nanos));
        let has_stepped_back = steps == 0 || steps > u64::MAX / 2;
        if self.nanos == 0 || has_stepped_back {
            return next;
        }
        if passed < SPAN {
            // Too short to measure over.
            return Self { span: 0, ..self };
        }
        let rate = (u128::from(passed) << FRACTION) / u128::from(steps);
        let rate = rate - rate / u128::from(SLOWER);
        let span = (u128::from(SPAN) << FRACTION).checked_div(rate);
        match (u64::try_from(rate), span.map(u64::try_from)) {
            (Ok(rate), Some(Ok(span))) => Self { rate, span, ..next },
            _ => next,
        }
    }
}

fn clock() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
    u64::try_from(tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(tv_nsec).unwrap_or(0)
}

/// Whether the kernel keeps its clock by the counter.
fn is_steady() -> bool {
    static IS_STEADY: OnceLock<bool> = OnceLock::new();
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    *IS_STEADY.get_or_init(|| {
        cfg!(all(target_arch = "x86_64", target_os = "linux"))
            && fs::read_to_string(source).is_ok_and(|source| source.trim() == "tsc")
    })
}

#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    // SAFETY: an instruction that every processor of this architecture has, and that touches no memory. A system that
    // forbids it to programs would have told the kernel's own clock, which reads it in the program, the same.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// No reading is ever gone by.
#[cfg(not(target_arch = "x86_64"))]
const fn counter() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter of 3 GHz.
    const STEPS: u64 = 3;
    const START: u64 = 1_000_000_000;

    /// What it is at a time.
    fn at(nanos: u64) -> u64 {
        7_000 + (nanos - START) * STEPS
    }

    /// A reading at `nanos` that took `long`.
    fn read_at(last: Reading, nanos: u64, long: u64) -> Reading {
        last.followed_by(at(nanos), nanos, at(nanos + long))
    }

    fn known() -> Reading {
        read_at(read_at(Reading::NONE, START, 0), START + 2 * SPAN, 0)
    }

    #[test]
    fn the_time_goes_on_at_the_measured_rate_and_never_steps_back_at_the_next_reading() {
        let known = known();
        for passed in [0, 1_000, 40_000, SPAN - 1] {
            let told = known.nanos_of(passed * STEPS);
            assert!(told <= passed && passed - told <= passed / SLOWER + 2, "{told} ns after {passed} ns");
        }
        assert!(known.span <= (SPAN + SPAN / 500) * STEPS, "a reading is gone by for no longer than it may be");
    }

    #[test]
    fn nothing_is_gone_by_after_a_reading_that_was_interrupted_or_did_not_fit_the_counter() {
        let known = known();
        let later = known.nanos + 2 * SPAN;
        assert!(known.span > 0 && read_at(known, later, 20).span > 0);
        assert_eq!(read_at(known, later, 40_000).span, 0);
        assert_eq!(known.followed_by(at(START), later, at(START)).span, 0, "the counter went back");
        assert_eq!(known.followed_by(at(later), known.nanos + 5, at(later)).span, 0, "the clock did not go on");
    }

    #[test]
    fn a_reading_that_was_interrupted_is_not_measured_from() {
        let interrupted = read_at(Reading::NONE, START, 40_000);
        let next = read_at(interrupted, START + 2 * SPAN, 0);
        assert_eq!(next.span, 0);
        assert!(read_at(next, START + 4 * SPAN, 0).nanos_of(STEPS * SPAN) <= SPAN);
    }

    #[test]
    fn a_thread_sees_the_systems_clock_and_no_step_back() {
        let mut last = monotonic();
        for _ in 0..200_000 {
            let before = clock();
            let now = monotonic();
            let after = clock();
            assert!(now + 2 * SPAN / SLOWER + CLOSE >= before && now <= after, "{before} {now} {after}");
            assert!(now >= last, "{last} {now}");
            last = now;
        }
    }
}
