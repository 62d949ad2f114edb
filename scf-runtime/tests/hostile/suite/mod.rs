//! Hostile guests and what becomes of them: one table, run by the tests and by the bench.
//!
//! A case is contained when its outcome is the expected one, when calls of a neighbour that are made meanwhile and
//! afterwards all succeed, when no error and no log record carries a raw control character, and when the memory of the
//! process has not grown by more than what guest and host may use. (Compiling is not bounded here: it is done before
//! any call.)

mod abi;
mod ambient;
mod calls;
mod cancelled;
mod compile;
mod endless;
mod flood;
mod folders;
mod guest;
mod host_memory;
mod leftovers;
mod log;
mod memory;
mod modules;
mod peak;
mod site;
mod stack;
mod text;
mod traps;
mod typed;
mod waiting;

use std::{fmt::Write as _, time::Duration};

use futures::future::BoxFuture;
use scf_core::{ByteSize, Function, InvokeError, LimitKind, Limits, Payload};
use scf_runtime::DeployError;

use self::peak::Peak;
pub(crate) use self::{cancelled::spins, leftovers::leaked, log::Log, site::Site};

/// One attack.
pub(crate) struct Case {
    /// What it attacks: a row of the threat table.
    pub(crate) threat: &'static str,
    /// What the attacker does.
    pub(crate) name: &'static str,
    attack: Attack,
}

enum Attack {
    /// The function is not deployed, because of one of the words.
    Deploy(Function, &'static [&'static str]),
    /// The function may be deployed or refused; where it is deployed, calls of it end.
    Either(Function),
    /// The function is deployed and called once.
    Call(Function, Vec<u8>, Expect),
    /// The function is deployed and called once with a payload of a type.
    Payload(Function, Payload, Expect),
    /// Something that takes more than a call.
    Story(for<'a> fn(&'a Site) -> BoxFuture<'a, Result<(), String>>),
}

/// How a call ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// With these bytes.
    Reply(&'static [u8]),
    /// With bytes of this length.
    Length(usize),
    /// Ended by a limit.
    Limit(LimitKind),
    /// Ended by one of two limits.
    Either(LimitKind, LimitKind),
    /// Ended by a limit or, where the engine does not tell it from others, by a trap with the text.
    LimitOrTrap(LimitKind, &'static str),
    /// Ended by a limit or, where the limit is higher than that, refused by the guest with a text that has this in it.
    LimitOrRefused(LimitKind, &'static str),
    /// Trapped, with one of the texts.
    Trap(&'static [&'static str]),
    /// The guest refused, and its text has this in it.
    Refused(&'static str),
    /// The guest was not called, because of the part of the input that is at this place or inside of it.
    Input(&'static str),
    /// The guest was not called, because of the payload's type.
    Media,
}

/// Whether components are screened before they are compiled.
const SCREENED: bool = true;
/// Whether the clocks of a guest that was granted none stand still.
const CLOCK_STANDS: bool = true;
/// What one case may use of memory at most: the guest 64 MiB, the host as much for what is on its way, and what the
/// code of the case and a few others take.
const MEMORY_MIB: u64 = 160;
/// Longest that a case may take; only a case that is not contained comes near.
const PATIENCE: Duration = Duration::from_secs(120);

impl Case {
    fn new(threat: &'static str, name: &'static str, attack: Attack) -> Self {
        Self { threat, name, attack }
    }

    fn call(threat: &'static str, name: &'static str, function: Function, expect: Expect) -> Self {
        Self::new(threat, name, Attack::Call(function, b"input".to_vec(), expect))
    }

    fn deploy(threat: &'static str, name: &'static str, function: Function, words: &'static [&'static str]) -> Self {
        Self::new(threat, name, Attack::Deploy(function, words))
    }

    /// A function that is refused where components are screened before they are compiled.
    fn screened(threat: &'static str, name: &'static str, function: Function, words: &'static [&'static str]) -> Self {
        let attack = if SCREENED { Attack::Deploy(function, words) } else { Attack::Either(function) };
        Self::new(threat, name, attack)
    }

    /// Runs it beside a neighbour that calls all the while.
    ///
    /// # Errors
    /// What was not contained.
    pub(crate) async fn run(&self, site: &Site) -> Result<(), String> {
        let memory = Peak::since_now();
        let attack = tokio::time::timeout(PATIENCE, self.attack(site));
        let result = tokio::select! {
            biased;
            ended = attack => ended.unwrap_or_else(|_| Err("it has not ended".into())),
            failed = site.neighbour_for_ever() => Err(format!("meanwhile {failed}")),
        };
        site.fabric.undeploy(&guest::hostile());
        for _ in 0..3 {
            site.neighbour().await?;
        }
        if let Some(grown) = memory.mib().filter(|grown| *grown > MEMORY_MIB && self.threat != compile::THREAT) {
            return Err(format!("the process has grown by {grown} MiB"));
        }
        if let Some(record) = site.log.raw() {
            return Err(format!("a log record carries a control character: {record:?}"));
        }
        result
    }

    async fn attack(&self, site: &Site) -> Result<(), String> {
        match &self.attack {
            Attack::Deploy(function, words) => match site.fabric.deploy(function.clone()).await {
                Ok(_) => Err("it was deployed".into()),
                Err(error) => refused_for(&error, words),
            },
            Attack::Either(function) => {
                if let Err(error) = site.fabric.deploy(function.clone()).await {
                    return refused_for(&error, &[""]);
                }
                site.call(b"").await.map(drop).or_else(|error| clean(&error.to_string()))
            }
            Attack::Call(function, input, expect) => {
                site.deploy(function).await?;
                expect.check(&site.call(input).await)
            }
            Attack::Payload(function, payload, expect) => {
                site.deploy(function).await?;
                let outcome = site.fabric.call(&guest::hostile(), payload.clone()).await;
                expect.check(&outcome.map(|outcome| outcome.payload.bytes.to_vec()))
            }
            Attack::Story(story) => story(site).await,
        }
    }
}

impl Expect {
    fn check(self, result: &Result<Vec<u8>, InvokeError>) -> Result<(), String> {
        if let Err(error) = result {
            clean(&error.to_string())?;
        }
        let as_expected = match (self, result) {
            (Self::Reply(expected), Ok(bytes)) => bytes == expected,
            (Self::Length(expected), Ok(bytes)) => bytes.len() == expected,
            (Self::Limit(expected), Err(InvokeError::Limit { limit, .. })) => *limit == expected,
            (Self::Either(one, other), Err(InvokeError::Limit { limit, .. })) => [one, other].contains(limit),
            (
                Self::LimitOrTrap(expected, _) | Self::LimitOrRefused(expected, _),
                Err(InvokeError::Limit { limit, .. }),
            ) => *limit == expected,
            (Self::LimitOrTrap(_, text), Err(InvokeError::Trapped { message, .. })) => message.contains(text),
            (Self::Trap(texts), Err(InvokeError::Trapped { message, .. })) => {
                texts.iter().any(|text| message.contains(text))
            }
            (Self::Refused(text) | Self::LimitOrRefused(_, text), Err(InvokeError::Refused { message, .. })) => {
                message.contains(text)
            }
            (Self::Input(place), Err(InvokeError::Input { path, .. })) => path.starts_with(place),
            (Self::Media, Err(InvokeError::Media { .. })) => true,
            _ => false,
        };
        if as_expected { Ok(()) } else { Err(format!("expected {self:?}, found {result:?}")) }
    }
}

/// Whether the error, with all that caused it, is safe to print and has one of the words in it.
fn refused_for(error: &DeployError, words: &[&str]) -> Result<(), String> {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    clean(&text)?;
    let lower = text.to_lowercase();
    if words.iter().any(|word| lower.contains(word)) {
        Ok(())
    } else {
        Err(format!("refused for something else: {text}"))
    }
}

/// Whether `text` is safe to print, and short.
fn clean(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err(format!("an error carries a control character: {text:?}"));
    }
    if text.len() > 2048 {
        return Err(format!("an error of {} bytes", text.len()));
    }
    Ok(())
}

/// Limits of CPU time and memory.
fn limits(cpu_ms: u64, mib: u64) -> Limits {
    Limits { cpu: Duration::from_millis(cpu_ms), memory: ByteSize::from_mib(mib), ..Limits::default() }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [
        endless::cases(),
        stack::cases(),
        memory::cases(),
        host_memory::cases(),
        waiting::cases(),
        abi::cases(),
        traps::cases(),
        modules::cases(),
        compile::cases(),
        text::cases(),
        ambient::cases(),
        leftovers::cases(),
        cancelled::cases(),
        flood::cases(),
        calls::cases(),
        typed::cases(),
        folders::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
