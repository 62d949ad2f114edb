//! Workers with a queue.

use std::collections::VecDeque;

/// So many slots, and those who wait for one in the order in which they came: the worker of queueing models. What waits may
/// be a task or a reservation for one (late binding), which is looked at when a slot is free for it.
#[derive(Clone, Debug)]
pub struct Station<T> {
    slots: u32,
    busy: u32,
    waiting: VecDeque<T>,
}

impl<T> Station<T> {
    /// A station with this many slots, all free.
    #[must_use]
    pub const fn new(slots: u32) -> Self {
        Self { slots, busy: 0, waiting: VecDeque::new() }
    }

    /// Comes: gets a slot and is given back to be started, or waits and `None` is given. The queue is as long as the model
    /// lets it grow.
    pub fn come(&mut self, who: T) -> Option<T> {
        if self.busy < self.slots {
            self.busy += 1;
            return Some(who);
        }
        self.waiting.push_back(who);
        None
    }

    /// A slot is free again: it is given to the next who waits, who is to be started; to nobody when nobody waits.
    pub fn leave(&mut self) -> Option<T> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.busy = self.busy.saturating_sub(1);
        }
        next
    }

    /// Takes out of the queue who is not wanted there any more, as when a reservation is cancelled; says how many were.
    pub fn cancel(&mut self, mut unwanted: impl FnMut(&T) -> bool) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|who| !unwanted(who));
        before - self.waiting.len()
    }

    /// Slots in use.
    #[must_use]
    pub const fn busy(&self) -> u32 {
        self.busy
    }

    /// Free slots.
    #[must_use]
    pub const fn free(&self) -> u32 {
        self.slots - self.busy
    }

    /// Who waits.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use scf_core::Timestamp;

    use super::*;
    use crate::sim::{Engine, Event, Rng, Summary};

    #[derive(Clone, Copy)]
    enum Happening {
        Come,
        Leave,
    }

    impl Event for Happening {
        fn digest(&self) -> u64 {
            *self as u64
        }
    }

    /// Mean wait in an M/M/c queue with mean service 1.
    fn mean_wait(slots: u32, load: f64, customers: u32) -> f64 {
        let mut engine = Engine::new();
        let mut station: Station<Timestamp> = Station::new(slots);
        let (mut arrivals, mut services) = (Rng::of(4, 0, 0), Rng::of(4, 1, 0));
        let mut waits = Summary::default();
        engine.after_s(0.0, Happening::Come);
        let mut come = 0;
        while let Some(happening) = engine.next() {
            let now = engine.now();
            let started = match happening {
                Happening::Come => {
                    come += 1;
                    if come < customers {
                        engine.after_s(arrivals.exponential(1.0 / (load * f64::from(slots))), Happening::Come);
                    }
                    station.come(now)
                }
                Happening::Leave => station.leave(),
            };
            if let Some(came) = started {
                waits.add(now.since(came).as_secs_f64());
                engine.after_s(services.exponential(1.0), Happening::Leave);
            }
        }
        waits.mean()
    }

    #[test]
    fn a_queue_waits_as_long_as_erlang_says() {
        for (slots, load) in [(1, 0.5), (4, 0.8), (16, 0.9)] {
            let offered = load * f64::from(slots);
            let exact = crate::erlang_c(offered, slots) / (f64::from(slots) - offered);
            let simulated = mean_wait(slots, load, 400_000);
            assert!((simulated / exact - 1.0).abs() < 0.03, "{slots} slots at {load}: {simulated} instead of {exact}");
        }
    }

    #[test]
    fn who_is_cancelled_is_not_started() {
        let mut station = Station::new(1);
        assert_eq!(station.come(1), Some(1));
        assert_eq!((station.come(2), station.come(3)), (None, None));
        assert_eq!(station.cancel(|who| *who == 2), 1);
        assert_eq!(station.leave(), Some(3));
        assert_eq!((station.leave(), station.free()), (None, 1));
    }
}
