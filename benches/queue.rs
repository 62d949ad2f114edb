//! Accepting a call beside what it rests on: `cargo bench --bench queue`, with `-- --quick` for less.
//!
//! The arms run interleaved in this process, each first in turn; a figure is the ratio of the medians.

use std::{error::Error, sync::Arc, time::Instant};

use scf::core::{
    Acceptance, Batch, Clock, FunctionName, InvocationId, InvocationQueue as _, QueuedCall, Scope, StateBackend as _,
};
use scf::runtime::SystemClock;
use scf::state::{QueueConfig, RedbQueue, RedbState};

const PAYLOAD: usize = 100;

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

async fn accept(queue: &RedbQueue, round: u128) -> Result<f64, Box<dyn Error>> {
    let call = QueuedCall::new(InvocationId::new(round), FunctionName::new("bench")?, vec![7; PAYLOAD]);
    let start = Instant::now();
    let accepted = queue.accept(call).await?;
    let took = start.elapsed().as_secs_f64();
    assert!(matches!(accepted, Acceptance::New(_)), "every call is a new one: {accepted:?}");
    Ok(took)
}

async fn commit(state: &RedbState, scope: &Scope) -> Result<f64, Box<dyn Error>> {
    let batch = Batch::new(scope.clone()).put("k", vec![7; PAYLOAD]);
    let start = Instant::now();
    state.commit(batch).await?;
    Ok(start.elapsed().as_secs_f64())
}

async fn accept_over_commit(rounds: usize) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let state = Arc::new(RedbState::open(folder.path().join("state"))?);
    let queue = RedbQueue::open(Arc::clone(&state), clock, QueueConfig::default()).await?;
    let scope = Scope { function: FunctionName::new("bench")?, key: "k".to_owned() };
    let (mut accepts, mut commits) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for is_accept in if round % 2 == 0 { [false, true] } else { [true, false] } {
            if is_accept {
                accepts.push(accept(&queue, round as u128).await?);
            } else {
                commits.push(commit(&state, &scope).await?);
            }
        }
    }
    let ratio = median(accepts) / median(commits);
    println!(r#"{{"bar":"queue.accept.vs_commit","value":{ratio:.4},"unit":"ratio","n":{rounds}}}"#);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    runtime.block_on(accept_over_commit(if quick { 400 } else { 4000 }))
}
