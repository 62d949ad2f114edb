//! Callers that work at the same time.

use std::cell::Cell;

use super::*;
use crate::conformance::history::{Operation, Recorder, is_linearizable};

const CALLERS: u64 = 6;
const CALLS: u64 = 40;

#[derive(Clone, Debug)]
enum Input {
    Put(u64),
    /// Writes if the entry is of that version.
    Swap(Option<u64>, u64),
    Read,
}

/// The entry, as value and version.
type Found = Option<(u64, u64)>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Output {
    /// The version that was made.
    Applied(u64),
    /// The version that the entry has.
    Refused(Option<u64>),
    Read(Found),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Register {
    version: u64,
    entry: Found,
}

fn step(register: &Register, input: &Input, output: Option<&Output>) -> Option<Register> {
    let write = |value| {
        let version = register.version + 1;
        (Output::Applied(version), Register { version, entry: Some((value, version)) })
    };
    let actual = register.entry.map(|(_, version)| version);
    let (answer, after) = match *input {
        Input::Put(value) => write(value),
        Input::Swap(expected, value) if expected == actual => write(value),
        Input::Swap(..) => (Output::Refused(actual), register.clone()),
        Input::Read => (Output::Read(register.entry), register.clone()),
    };
    output.is_none_or(|output| *output == answer).then_some(after)
}

pub(super) async fn is_linearizable_under_callers_at_the_same_time(backend: &dyn StateBackend, _: &ManualClock) {
    if !backend.caps().linearizable_reads {
        return;
    }
    let scope = scope("a");
    let (recorder, dice) = (Recorder::new(), Cell::new(1u64));
    let roll = || {
        // Knuth's MMIX generator; the high bits are random enough to choose a call.
        dice.set(dice.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        dice.get() >> 33
    };
    let callers = (0..CALLERS).map(|caller| {
        let (scope, recorder, roll) = (&scope, &recorder, &roll);
        async move {
            let (mut seen, mut history) = (None, Vec::new());
            for call in 0..CALLS {
                let value = caller * CALLS + call;
                let input = match roll() % 4 {
                    0 => Input::Put(value),
                    1 | 2 => Input::Swap(seen, value),
                    _ => Input::Read,
                };
                let operation = recorder.record(input.clone(), run(backend, scope, input), |output| output).await;
                seen = match operation.output {
                    Some(Output::Applied(version)) => Some(version),
                    Some(Output::Refused(actual)) => actual,
                    Some(Output::Read(found)) => found.map(|(_, version)| version),
                    None => seen,
                };
                history.push(operation);
            }
            history
        }
    });
    let history: Vec<Operation<Input, Output>> = join(callers).await.into_iter().flatten().collect();
    let told = history.clone();
    assert!(is_linearizable(Register::default(), history, step), "no order explains what callers saw: {told:?}");
}

/// What came of a call; none when that is not known.
async fn run(backend: &dyn StateBackend, scope: &Scope, input: Input) -> Option<Output> {
    let put = |value: u64| batch(backend, scope).put("k", value.to_le_bytes().to_vec());
    let answer = match input {
        Input::Put(value) => backend.commit(put(value)).await,
        Input::Swap(expected, value) => backend.commit(put(value).guard("k", expected.map(Version::new))).await,
        Input::Read => {
            let entry = backend.get(scope, "k").await.expect("readable");
            let value = |bytes: &Bytes| u64::from_le_bytes(bytes[..].try_into().expect("eight bytes were written"));
            return Some(Output::Read(entry.map(|entry| (value(&entry.value), entry.version.get()))));
        }
    };
    match answer {
        Ok(Commit::Applied { version, .. }) => Some(Output::Applied(version.get())),
        Err(StateError::Guard { actual, .. }) => Some(Output::Refused(actual.map(Version::get))),
        Err(StateError::Unknown { .. }) => None,
        other => panic!("nothing stands against this call, yet the answer is {other:?}"),
    }
}
