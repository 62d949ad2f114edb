//! Whether what several callers saw could have happened one after the other.
//!
//! The search of Wing and Gong (JPDC 17, 1993) with the memory of Lowe ("Testing for linearizability", 2017): an
//! operation that began before every open one ended may come next; a set of operations that led to the same state
//! before is not tried again. One that may come next and changes nothing comes next: wherever else it could, the others
//! do not notice.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering},
};

/// One operation of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation<I, O> {
    /// When it was called, on the [`Recorder`]'s count.
    pub called: u64,
    /// When it returned; `None`: it never did, so it may have happened at any time since, or not at all.
    pub returned: Option<u64>,
    /// What was asked.
    pub input: I,
    /// What was answered; `None`: nothing.
    pub output: Option<O>,
}

/// Counts the moments at which operations begin and end.
#[derive(Debug, Default)]
pub struct Recorder(AtomicU64);

impl Recorder {
    /// Nothing has begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Awaits `call` and records what was asked and answered. `answer` makes of an outcome what the model says;
    /// `None` when the outcome is unknown.
    pub async fn record<I, T, O>(
        &self,
        input: I,
        call: impl Future<Output = T>,
        answer: impl FnOnce(T) -> Option<O>,
    ) -> Operation<I, O> {
        let called = self.tick();
        let output = answer(call.await);
        let returned = output.is_some().then(|| self.tick());
        Operation { called, returned, input, output }
    }

    fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Whether `history` is what one caller after the other would have seen, beginning from `initial`. `step` answers the
/// state after an operation that gives that output in that state, and `None` where it cannot give it.
#[must_use]
pub fn is_linearizable<S, I, O>(
    initial: S,
    mut history: Vec<Operation<I, O>>,
    step: impl Fn(&S, &I, Option<&O>) -> Option<S>,
) -> bool
where
    S: Clone + Eq + Hash,
{
    history.sort_by_key(|operation| operation.called);
    let mut tried: HashSet<(Done, S)> = HashSet::new();
    let root = Done::default();
    if root.covers(&history) {
        return true;
    }
    let frame = |done: Done, state: S| {
        let mut next = done.candidates(&history);
        let idle = next.iter().copied().find(|&at| {
            let Operation { input, output, .. } = &history[at];
            step(&state, input, output.as_ref()).is_some_and(|after| after == state)
        });
        if let Some(idle) = idle {
            next = vec![idle];
        }
        Frame { done, state, next }
    };
    let mut path = vec![frame(root, initial)];
    while let Some(last) = path.last_mut() {
        let Some(at) = last.next.pop() else {
            path.pop();
            continue;
        };
        let operation = &history[at];
        let Some(state) = step(&last.state, &operation.input, operation.output.as_ref()) else { continue };
        let done = last.done.with(at);
        if done.covers(&history) {
            return true;
        }
        if last.next.is_empty() {
            // No choice was made here, so nothing leads here again.
            path.pop();
            path.push(frame(done, state));
        } else if tried.insert((done.clone(), state.clone())) {
            path.push(frame(done, state));
        }
    }
    false
}

struct Frame<S> {
    done: Done,
    state: S,
    /// What may come next.
    next: Vec<usize>,
}

/// Which operations, by the order of their calls, have happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Done {
    /// All before this one have.
    first: usize,
    /// Of the others these have, ascending.
    others: Vec<usize>,
}

impl Done {
    fn has(&self, at: usize) -> bool {
        at < self.first || self.others.binary_search(&at).is_ok()
    }

    fn with(&self, at: usize) -> Self {
        let mut done = self.clone();
        let place = done.others.partition_point(|&other| other < at);
        done.others.insert(place, at);
        let joined = done.others.iter().enumerate().take_while(|(i, other)| done.first + i == **other).count();
        done.others.drain(..joined);
        done.first += joined;
        done
    }

    /// Whether nothing is left but what may not have happened.
    fn covers<I, O>(&self, history: &[Operation<I, O>]) -> bool {
        (self.first..history.len()).all(|at| history[at].returned.is_none() || self.has(at))
    }

    /// Those that began before any that is left ended, the latest first, so that the earliest is tried first.
    fn candidates<I, O>(&self, history: &[Operation<I, O>]) -> Vec<usize> {
        let mut candidates = Vec::new();
        let mut end = u64::MAX;
        for (at, operation) in history.iter().enumerate().skip(self.first) {
            if operation.called > end {
                break;
            }
            if !self.has(at) {
                end = end.min(operation.returned.unwrap_or(u64::MAX));
                candidates.push(at);
            }
        }
        candidates.reverse();
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug)]
    enum Input {
        Write(u8),
        /// Writes the second if the first is there.
        Swap(u8, u8),
        Read,
    }

    type Register = Operation<Input, u8>;

    /// Answers of writes are 0, of swaps whether they wrote, of reads the value.
    fn step(state: &u8, input: &Input, output: Option<&u8>) -> Option<u8> {
        let fits = |answer: u8| output.is_none_or(|output| *output == answer);
        match *input {
            Input::Write(value) => fits(0).then_some(value),
            Input::Swap(from, to) if *state == from => fits(1).then_some(to),
            Input::Swap(..) => fits(0).then_some(*state),
            Input::Read => fits(*state).then_some(*state),
        }
    }

    fn operation(called: u64, returned: u64, input: Input, output: u8) -> Register {
        Operation { called, returned: Some(returned), input, output: Some(output) }
    }

    fn holds(history: &[Register]) -> bool {
        is_linearizable(0, history.to_vec(), step)
    }

    #[test]
    fn accepts_what_could_have_happened_one_after_the_other() {
        use Input::{Read, Swap, Write};
        assert!(holds(&[]));
        assert!(holds(&[operation(0, 1, Write(1), 0), operation(2, 3, Read, 1)]));
        let overlapping = [operation(0, 9, Write(1), 0), operation(1, 2, Read, 0), operation(3, 4, Read, 1)];
        assert!(holds(&overlapping), "a write happens once between call and return");
        let crossed = [
            operation(0, 5, Write(1), 0),
            operation(1, 6, Write(2), 0),
            operation(2, 7, Read, 2),
            operation(3, 8, Read, 1),
        ];
        assert!(holds(&crossed));
        assert!(holds(&[operation(0, 5, Swap(0, 1), 1), operation(1, 6, Swap(0, 2), 0), operation(7, 8, Read, 1)]));
    }

    #[test]
    fn rejects_stale_reads_lost_updates_and_two_winners() {
        use Input::{Read, Swap, Write};
        assert!(!holds(&[operation(0, 1, Write(1), 0), operation(2, 3, Read, 0)]), "a stale read");
        let back = [operation(0, 9, Write(1), 0), operation(1, 2, Read, 1), operation(3, 4, Read, 0)];
        assert!(!holds(&back), "time runs backwards");
        assert!(!holds(&[operation(0, 5, Swap(0, 1), 1), operation(1, 6, Swap(0, 2), 1)]), "two winners");
        assert!(!holds(&[operation(0, 1, Read, 7)]), "a value from nowhere");
        let lost = [operation(0, 1, Write(1), 0), operation(2, 3, Write(2), 0), operation(4, 5, Read, 1)];
        assert!(!holds(&lost), "a lost update");
    }

    #[test]
    fn an_operation_without_an_answer_happened_at_any_time_or_never() {
        let unknown = Operation { called: 0, returned: None, input: Input::Write(1), output: None };
        let read = |called, value| operation(called, called + 1, Input::Read, value);
        assert!(holds(&[unknown.clone(), read(1, 0), read(3, 0)]), "never");
        assert!(holds(&[unknown.clone(), read(1, 0), read(3, 1)]), "later");
        assert!(!holds(&[unknown.clone(), read(1, 1), read(3, 0)]), "and not both");
        assert!(!holds(&[read(1, 1), Operation { called: 5, ..unknown }]), "not before it was called");
    }

    /// The search must not depend on the length: versions leave one order, and windows are short.
    #[test]
    fn a_long_history_of_many_callers_is_checked() {
        let mut history: Vec<Register> = Vec::new();
        for i in 0..5000u64 {
            history.push(operation(10 * i, 10 * i + 95, Input::Write((i % 251) as u8), 0));
        }
        assert!(holds(&history));
        history.push(operation(60_000, 60_001, Input::Read, (4999 % 251) as u8));
        assert!(holds(&history));
    }
}
