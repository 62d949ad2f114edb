//! Which requests run together: a pure decision.

use std::{collections::VecDeque, time::Duration};

use scf_core::Timestamp;
use thiserror::Error;

use super::BatchTimes;

/// Bounds of a [`BatchQueue`]; each counts as at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "servers write it as a literal")]
pub struct BatchLimits {
    /// Requests in a batch.
    pub batch: usize,
    /// Requests that wait; who comes when so many do is refused.
    pub queue: usize,
    /// Batches that run at the same time.
    pub lanes: usize,
}

/// Why a request was refused before it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// As many requests wait as may.
    #[error("{waiting} requests wait already; ask again when some are answered")]
    Full {
        /// Requests that wait.
        waiting: usize,
    },
    /// It would be late, or make one late that was accepted before.
    #[error("the answer cannot be there within {asked:?}; it takes {needed:?} behind those that wait")]
    Late {
        /// Time that the request allowed.
        asked: Duration,
        /// Time with which it would be accepted now.
        needed: Duration,
    },
}

/// Requests that run together.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch<T> {
    /// Which batch it is; given back to [`BatchQueue::finished`] or [`BatchQueue::failed`].
    pub id: u64,
    /// The requests, those first that have to be answered first.
    pub requests: Vec<T>,
}

/// Requests for one model on one device, put together to batches as large as their deadlines allow. Pure: the time is
/// passed in.
///
/// Requests are served by deadline. When a lane is free, the first takes as many of the next with it as may be without
/// being late itself, by the estimates of [`BatchTimes`]; it does not wait for more to come, so a request alone runs
/// alone, and batches grow as the lanes fill. A request is accepted only where a run through all that would wait finds
/// each of them in time, and refused at once with what it would have needed otherwise (Clockwork: Gujarati et al.,
/// OSDI 2020, section 4.2). One that became late since, because what ran took longer than expected, is given back
/// before it runs.
#[derive(Debug)]
pub struct BatchQueue<T> {
    limits: BatchLimits,
    times: BatchTimes,
    /// By deadline.
    waiting: VecDeque<Waiting<T>>,
    running: Vec<Running>,
    batches: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    deadline: Timestamp,
    request: T,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    id: u64,
    since: Timestamp,
    until: Timestamp,
}

impl<T> BatchQueue<T> {
    /// An empty queue within `limits` for a model of which one inference is expected to take `expected`.
    #[must_use]
    pub fn new(limits: BatchLimits, expected: Duration) -> Self {
        let BatchLimits { batch, queue, lanes } = limits;
        let limits = BatchLimits { batch: batch.max(1), queue: queue.max(1), lanes: lanes.max(1) };
        let times = BatchTimes::new(limits.batch, expected);
        Self { limits, times, waiting: VecDeque::new(), running: Vec::new(), batches: 0 }
    }

    /// What batches take.
    #[must_use]
    pub const fn times(&self) -> &BatchTimes {
        &self.times
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Accepts `request`, which has to be answered within `within` of `now`. A run through all that wait.
    ///
    /// # Errors
    /// [`Refused`]; what waits is as it was.
    pub fn push(&mut self, request: T, within: Duration, now: Timestamp) -> Result<(), Refused> {
        if self.waiting.len() >= self.limits.queue {
            return Err(Refused::Full { waiting: self.waiting.len() });
        }
        let deadline = now + within;
        let place = self.waiting.partition_point(|other| other.deadline <= deadline);
        if self.rehearse(place, deadline, now).is_none() {
            let last = Timestamp::from_nanos(u64::MAX);
            let needed = self.rehearse(self.waiting.len(), last, now).map_or(Duration::MAX, |done| done.since(now));
            return Err(Refused::Late { asked: within, needed });
        }
        self.waiting.insert(place, Waiting { deadline, request });
        Ok(())
    }

    /// Takes out what is to run now: a batch, where a lane is free and somebody waits. Call again until there is none.
    /// Those that can no longer be in time go to `late` with what they would have needed.
    pub fn next(&mut self, now: Timestamp, late: &mut Vec<(T, Refused)>) -> Option<Batch<T>> {
        let free = self.limits.lanes.checked_sub(self.running.len()).filter(|free| *free > 0)?;
        let one = self.times.estimate(1, now);
        while let Some(first) = self.waiting.front() {
            let deadline = first.deadline;
            let size = self.size(deadline, self.waiting.len().div_ceil(free), now, now);
            if size > 0 {
                let id = self.batches;
                self.batches += 1;
                self.running.push(Running { id, since: now, until: now + self.times.estimate(size, now) });
                let requests = self.waiting.drain(..size).map(|waiting| waiting.request).collect();
                return Some(Batch { id, requests });
            }
            let first = self.waiting.pop_front()?;
            late.push((first.request, Refused::Late { asked: deadline.since(now), needed: one }));
        }
        None
    }

    /// Batch `id` ended at `now` after `size` requests of it had run; the lane is free.
    pub fn finished(&mut self, id: u64, size: usize, now: Timestamp) {
        if let Some(batch) = self.failed(id) {
            self.times.observe(size, now.since(batch), now);
        }
    }

    /// Batch `id` ended without saying what one takes; the lane is free. Gives when it began, if it ran.
    pub fn failed(&mut self, id: u64) -> Option<Timestamp> {
        let at = self.running.iter().position(|running| running.id == id)?;
        Some(self.running.swap_remove(at).since)
    }

    /// The most of `waiting` requests that run together from `start` on while the first keeps `deadline`; 0 where it
    /// would be late alone.
    fn size(&self, deadline: Timestamp, waiting: usize, start: Timestamp, now: Timestamp) -> usize {
        let most = waiting.min(self.limits.batch);
        (1..=most).take_while(|size| start + self.times.estimate(*size, now) <= deadline).last().unwrap_or(0)
    }

    /// When a request at `place` with `deadline` would be done; none where it, or one behind it, would be late. Runs
    /// through all that wait as [`BatchQueue::next`] will if nobody else comes and the estimates hold.
    fn rehearse(&self, place: usize, deadline: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let mut lanes: Vec<Timestamp> = self.running.iter().map(|running| running.until.max(now)).collect();
        lanes.resize(self.limits.lanes.max(lanes.len()), now);
        let deadlines = self.waiting.iter().map(|waiting| waiting.deadline);
        let mut deadlines: Vec<Timestamp> = deadlines.collect();
        deadlines.insert(place, deadline);
        let (mut at, mut done) = (0, None);
        while at < deadlines.len() {
            let lane = (0..lanes.len()).min_by_key(|lane| lanes[*lane])?;
            let start = lanes[lane];
            let free = lanes.iter().filter(|lane| **lane <= start).count();
            let size = self.size(deadlines[at], (deadlines.len() - at).div_ceil(free), start, now);
            if size == 0 {
                if at >= place {
                    return None;
                }
                // It is late with or without the new one, and will not run.
                at += 1;
                continue;
            }
            lanes[lane] = start + self.times.estimate(size, now);
            if (at..at + size).contains(&place) {
                done = Some(lanes[lane]);
            }
            at += size;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::default() + ms(millis)
    }

    /// A queue whose batches of `n` take `10 + 2n` ms.
    fn queue(lanes: usize) -> BatchQueue<u32> {
        let mut queue = BatchQueue::new(BatchLimits { batch: 8, queue: 64, lanes }, ms(12));
        (1..=8).for_each(|size| queue.times.observe(size, ms(10 + 2 * size as u64), at(0)));
        queue
    }

    fn next(queue: &mut BatchQueue<u32>, now: Timestamp) -> Option<Batch<u32>> {
        let mut late = Vec::new();
        let batch = queue.next(now, &mut late);
        assert!(late.is_empty(), "{late:?}");
        batch
    }

    #[test]
    fn a_request_alone_runs_alone_and_those_that_wait_run_together() {
        let mut queue = queue(1);
        queue.push(0, ms(100), at(0)).unwrap();
        let alone = next(&mut queue, at(0)).unwrap();
        assert_eq!(alone.requests, [0]);
        (1..=10).for_each(|i| queue.push(i, ms(100), at(1)).unwrap());
        assert!(next(&mut queue, at(2)).is_none(), "the lane is taken");
        queue.finished(alone.id, 1, at(12));
        let many = next(&mut queue, at(12)).unwrap();
        assert_eq!(many.requests, [1, 2, 3, 4, 5, 6, 7, 8], "as many as may be");
        queue.finished(many.id, 8, at(38));
        assert_eq!(next(&mut queue, at(38)).unwrap().requests, [9, 10]);
    }

    #[test]
    fn the_first_deadline_bounds_the_batch() {
        let mut queue = queue(1);
        queue.push(0, ms(100), at(0)).unwrap();
        (1..=3).for_each(|i| queue.push(i, ms(90), at(0)).unwrap());
        queue.push(4, ms(15), at(0)).unwrap();
        assert_eq!(next(&mut queue, at(0)).unwrap().requests, [4, 1], "two take 14 ms, three 16");
    }

    #[test]
    fn lanes_share_what_waits() {
        let mut queue = queue(2);
        (0..4).for_each(|i| queue.push(i, ms(100), at(0)).unwrap());
        assert_eq!(next(&mut queue, at(0)).unwrap().requests, [0, 1]);
        assert_eq!(next(&mut queue, at(0)).unwrap().requests, [2, 3]);
    }

    #[test]
    fn who_would_be_late_or_make_another_late_is_refused_with_what_would_do() {
        let mut queue = queue(1);
        let running = (0..8).map(|i| queue.push(i, ms(100), at(0))).collect::<Result<Vec<_>, _>>();
        running.unwrap();
        let id = next(&mut queue, at(0)).unwrap().id;
        let refused = queue.push(8, ms(30), at(0)).unwrap_err();
        assert_eq!(refused, Refused::Late { asked: ms(30), needed: ms(26 + 12) });
        queue.push(8, ms(38), at(0)).unwrap();
        // Two would be done after 26 + 14 ms, which is late for the one that was accepted; alone first is, too.
        let refused = queue.push(9, ms(38), at(0)).unwrap_err();
        let Refused::Late { needed, .. } = refused else { panic!("{refused}") };
        queue.push(9, needed, at(0)).unwrap();
        queue.finished(id, 8, at(26));
        assert_eq!(next(&mut queue, at(26)).unwrap().requests, [8]);
    }

    #[test]
    fn who_became_late_is_given_back_before_running_and_a_full_queue_refuses() {
        let mut queue = BatchQueue::new(BatchLimits { batch: 1, queue: 2, lanes: 1 }, ms(10));
        queue.push(0, ms(10), at(0)).unwrap();
        let id = queue.next(at(0), &mut Vec::new()).unwrap().id;
        queue.push(1, ms(25), at(0)).unwrap();
        queue.push(2, ms(60), at(0)).unwrap();
        assert_eq!(queue.push(3, ms(900), at(0)), Err(Refused::Full { waiting: 2 }));
        queue.finished(id, 1, at(20));
        let mut late = Vec::new();
        let batch = queue.next(at(20), &mut late).unwrap();
        assert_eq!((batch.requests, late), (vec![2], vec![(1, Refused::Late { asked: ms(5), needed: ms(20) })]));
    }

    proptest! {
        #[test]
        fn no_request_is_late_while_the_estimates_hold(
            lanes in 1usize..4,
            arrivals in prop::collection::vec((0u64..12, 12u64..90), 1..80),
        ) {
            let mut queue = queue(lanes);
            let mut running: Vec<(Timestamp, Batch<u32>)> = Vec::new();
            let (mut now, mut answered, mut accepted) = (at(0), 0, 0);
            let mut deadlines = std::collections::HashMap::new();
            let mut arrivals = (0u32..).zip(arrivals).scan(0, |time, (i, (gap, within))| {
                *time += gap;
                Some((at(*time), i, ms(within)))
            }).peekable();
            loop {
                let arrives = arrivals.peek().map(|(time, ..)| *time);
                let ends = running.iter().map(|(until, ..)| *until).min();
                let Some(then) = [arrives, ends].into_iter().flatten().min() else { break };
                now = now.max(then);
                while let Some(at) = running.iter().position(|(until, ..)| *until <= now) {
                    let (until, batch) = running.swap_remove(at);
                    for request in &batch.requests {
                        prop_assert!(until <= deadlines[request], "request {request} is late");
                        answered += 1;
                    }
                    queue.finished(batch.id, batch.requests.len(), until);
                }
                while let Some((_, i, within)) = arrivals.next_if(|(time, ..)| *time <= now) {
                    match queue.push(i, within, now) {
                        Ok(()) => {
                            deadlines.insert(i, now + within);
                            accepted += 1;
                        }
                        Err(Refused::Late { asked, needed }) => prop_assert!(needed > asked, "{needed:?} {asked:?}"),
                        Err(full) => prop_assert!(false, "{full}"),
                    }
                }
                let mut late = Vec::new();
                while let Some(batch) = queue.next(now, &mut late) {
                    running.push((now + ms(10 + 2 * batch.requests.len() as u64), batch));
                }
                prop_assert!(late.is_empty(), "accepted and then given back: {late:?}");
            }
            prop_assert_eq!((answered, queue.waiting()), (accepted, 0));
        }
    }
}
