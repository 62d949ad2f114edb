//! A process that owns a scope, stands still beyond its lease and goes on: what it says then changes nothing.
//!
//! The scope is in a real NATS server and the owner is a process of its own, stopped by a signal. `SCF_STOPS=N` for more
//! than three times.
#![cfg(unix)]

use std::{
    env,
    error::Error,
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use scf_core::{
    Batch, Commit, Fence, FunctionName, InvocationId, NodeId, Scope, StateBackend as _, StateError, Timestamp,
};
use scf_state::{NatsOptions, NatsState};

#[path = "../../tests/support/nats_server.rs"]
mod nats_server;

use nats_server::NatsServer;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TEST: &str = "an_owner_that_stood_still_beyond_its_lease_changes_nothing";
/// Given to the process that is the owner: where the server is, and the key of the scope.
const SERVER: &str = "SCF_STOPPED_SERVER";
const MONITOR: &str = "SCF_STOPPED_MONITOR";
const KEY: &str = "SCF_STOPPED_KEY";
/// Of what the owner says, as the harness writes lines too.
const SAYS: &str = "owner: ";
const LEASE: Duration = Duration::from_secs(1);
/// Commits before the owner is stopped, and of the next owner before and after it goes on.
const COMMITS: u64 = 25;

async fn open(url: &str, monitor: &str) -> Result<NatsState> {
    let options = NatsOptions::new([url]).monitor(monitor).patience(Duration::from_secs(60));
    Ok(NatsState::at(options.connect().await?).shards(1).open().await?)
}

fn scope(key: &str) -> Scope {
    Scope { function: FunctionName::new("f").expect("the literal is a name"), key: key.into() }
}

/// A commit of `owner`, its `number`th.
fn batch(key: &str, owner: &str, number: u64, fence: Fence) -> Batch {
    let id = (u128::from(owner == "second") << 64) | u128::from(number);
    Batch::new(scope(key)).put("last", format!("{owner} {number}")).invocation(InvocationId::new(id), "").fence(fence)
}

/// Becomes the owner as soon as nobody else is.
async fn take(state: &NatsState, key: &str, owner: &str) -> Result<Fence> {
    let (begun, owner) = (Instant::now(), NodeId::new(owner)?);
    loop {
        let now = Timestamp::default() + begun.elapsed();
        match state.acquire(&scope(key), &owner, LEASE, now).await {
            Ok(fence) => return Ok(fence),
            Err(StateError::Held { .. }) if begun.elapsed() < Duration::from_secs(60) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The process that is stopped: commits until it is told that it is no longer the owner.
async fn own(server: &str) -> Result<()> {
    let (monitor, key) = (env::var(MONITOR)?, env::var(KEY)?);
    let state = open(server, &monitor).await?;
    let fence = take(&state, &key, "first").await?;
    for number in 1.. {
        match state.commit(batch(&key, "first", number, fence)).await {
            Ok(_) => println!("{SAYS}{number}"),
            Err(StateError::Fenced { .. }) => break,
            // It was cut off while it stood still: asked again, as an owner would.
            Err(error) => println!("{SAYS}{error}"),
        }
    }
    println!("{SAYS}fenced");
    Ok(())
}

/// The owner; it does not outlive the test.
struct Owner {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Owner {
    fn start(server: &NatsServer, key: &str) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([TEST, "--exact", "--nocapture"]).stdout(Stdio::piped());
        command.env(SERVER, server.url()).env(MONITOR, server.monitor()).env(KEY, key);
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        Ok(Self { child, lines })
    }

    /// What it says next.
    fn hear(&mut self) -> Result<String> {
        for line in self.lines.by_ref() {
            if let Some((_, said)) = line?.split_once(SAYS) {
                return Ok(said.to_owned());
            }
        }
        Err("the owner ended".into())
    }

    fn signal(&self, signal: &str) -> Result<()> {
        // The shell's own: not every system has the program.
        let sent = Command::new("sh").args(["-c", &format!("kill {signal} {}", self.child.id())]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("{signal} was not sent").into()) }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_owner_that_stood_still_beyond_its_lease_changes_nothing() -> Result<()> {
    if let Ok(server) = env::var(SERVER) {
        return own(&server).await;
    }
    let Some(server) = NatsServer::durable() else { return Ok(()) };
    let state = open(&server.url(), &server.monitor()).await?;
    let stops = env::var("SCF_STOPS").ok().and_then(|stops| stops.parse().ok()).unwrap_or(3);
    for stop in 0..stops {
        let key = format!("scope-{stop}");
        let mut owner = Owner::start(&server, &key)?;
        let mut acknowledged = 0;
        while acknowledged < COMMITS {
            acknowledged = owner.hear()?.parse()?;
        }
        owner.signal("-STOP")?;
        let fence = take(&state, &key, "second").await?;
        let before = state.head(&scope(&key), Timestamp::default()).await?.version.get();
        assert!(before >= acknowledged, "{before} of {acknowledged} commits that were acknowledged");
        for number in 1..=COMMITS {
            state.commit(batch(&key, "second", number, fence)).await?;
        }
        owner.signal("-CONT")?;
        for number in COMMITS + 1..=2 * COMMITS {
            state.commit(batch(&key, "second", number, fence)).await?;
        }
        let mut heard = owner.hear()?;
        while heard != "fenced" {
            // What it had been answered before it was stopped and had not said yet.
            if let Ok(number) = heard.parse::<u64>() {
                assert!(number <= before, "commit {number} of a scope that had {before} when it was taken over");
            }
            heard = owner.hear()?;
        }
        let after = state.export(&scope(&key)).await?;
        assert_eq!(after.version.get(), before + 2 * COMMITS, "every commit is the second owner's");
        let again = state.commit(batch(&key, "second", 2 * COMMITS, fence)).await?;
        assert_eq!(again, Commit::Duplicate { result: "".into() }, "and its last one is there");
        let last = state.get(&scope(&key), "last").await?.ok_or("nothing was written")?;
        assert_eq!(last.value, format!("second {}", 2 * COMMITS).as_bytes());
    }
    Ok(())
}
