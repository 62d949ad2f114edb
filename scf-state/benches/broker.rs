//! State at a broker beside what it rests on: `cargo bench -p scf-state --features nats --bench broker`, with
//! `-- --quick` for less.
//!
//! The arms of a figure run interleaved in this process, against one server that syncs before it acknowledges; a figure is
//! the median of the rounds.

use std::{error::Error, hint::black_box, sync::Arc, time::Instant};

use async_nats::jetstream::{self, stream};
use futures::future::try_join_all;
use scf_core::{
    Batch, Bytes, Clock, FunctionName, InvocationId, ManualClock, NodeId, Opened, Phase, Scope, StateBackend,
    StateSession, StateStore as _,
};
use scf_state::{AlwaysLocal, FileDisk, NatsOptions, NatsState, PhasedState, RedbState};

#[path = "../../tests/support/nats_server.rs"]
mod nats_server;
use nats_server::NatsServer;

const VALUE: usize = 100;
const TASKS: usize = 16;

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn scope(key: &str) -> Result<Scope, Box<dyn Error>> {
    Ok(Scope { function: FunctionName::new("bench")?, key: key.to_owned() })
}

/// A session in the local phase of a scope whose home is `home`, with a value under `k`.
async fn local_session(store: &PhasedState) -> Result<Box<dyn StateSession>, Box<dyn Error>> {
    for call in 0..8 {
        let Opened::Session(session) = store.open(&scope("local")?, InvocationId::new(call)).await? else { break };
        match session.phase() {
            Phase::Local(_) if call > 1 => return Ok(session),
            _ => session.put("k", Bytes::from(vec![7; VALUE])),
        }
        session.commit(Bytes::new()).await?;
    }
    Err("the scope was never local".into())
}

/// What one read takes at the broker, and in the local phase.
async fn reads(
    server: &NatsServer,
    state: &Arc<NatsState>,
    stream: &stream::Stream<()>,
    rounds: usize,
) -> Result<(), Box<dyn Error>> {
    const LOCAL: usize = 20_000;
    const REMOTE: usize = 200;
    let local = RedbState::on(Arc::new(FileDisk::open(server.folder().join("local.redb"))?))?;
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let store =
        PhasedState::new(NodeId::new("edge")?, Arc::clone(state) as _, Arc::new(local), Arc::new(AlwaysLocal), clock);
    let session = local_session(&store).await?;
    let remote = scope("remote")?;
    state.commit(Batch::new(remote.clone()).put("k", vec![7; VALUE])).await?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..LOCAL {
            black_box(session.try_get(black_box("k")).ok_or("a local read does not wait")??);
        }
        let one = start.elapsed().as_secs_f64() / LOCAL as f64;
        let start = Instant::now();
        for _ in 0..REMOTE {
            black_box(stream.get_last_raw_message_by_subject("bare.0").await?);
        }
        bare.push(start.elapsed().as_secs_f64() / REMOTE as f64 / one);
        let start = Instant::now();
        for _ in 0..REMOTE {
            black_box(state.get(&remote, "k").await?);
        }
        ours.push(start.elapsed().as_secs_f64() / REMOTE as f64 / one);
    }
    // Against one bare read; ours of a broker takes longer than that.
    figure("fleet.local_get.vs_broker", median(bare), "ratio", rounds * REMOTE);
    figure("fleet.local_get.vs_nats_state", median(ours), "ratio", rounds * REMOTE);
    Ok(())
}

/// Durable commits of several tasks, each of one value with its result, over as many single publishes.
async fn commits(
    state: &Arc<NatsState>,
    context: &jetstream::Context,
    rounds: usize,
    each: usize,
) -> Result<(), Box<dyn Error>> {
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let start = Instant::now();
        try_join_all((0..TASKS).map(async |task| {
            for _ in 0..each {
                context.publish(format!("bare.{task}"), vec![7; VALUE].into()).await?.await?;
            }
            Ok::<_, Box<dyn Error>>(())
        }))
        .await?;
        let publishes = start.elapsed().as_secs_f64();
        let start = Instant::now();
        try_join_all((0..TASKS).map(async |task| {
            let scope = scope(&task.to_string())?;
            for call in 0..each {
                let id = InvocationId::new(((round * TASKS + task) * each + call) as u128);
                let batch = Batch::new(scope.clone()).put("k", vec![7; VALUE]).invocation(id, vec![7; 8]);
                state.commit(batch).await?;
            }
            Ok::<_, Box<dyn Error>>(())
        }))
        .await?;
        ratios.push(publishes / start.elapsed().as_secs_f64());
    }
    figure("fleet.commit.vs_publish", median(ratios), "ratio", rounds * TASKS * each);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let Some(server) = NatsServer::durable() else { return Ok(()) };
    let broker = NatsOptions::new([server.url()]).monitor(server.monitor()).connect().await?;
    let context = jetstream::new(broker.client());
    let config = stream::Config {
        name: "bare".to_owned(),
        subjects: vec!["bare.>".to_owned()],
        max_messages_per_subject: 1,
        ..stream::Config::default()
    };
    context.create_stream(config).await?;
    let stream = context.get_stream_no_info("bare").await?;
    let state = Arc::new(NatsState::at(broker).shards(1).open().await?);
    commits(&state, &context, if quick { 3 } else { 9 }, if quick { 10 } else { 40 }).await?;
    reads(&server, &state, &stream, if quick { 5 } else { 21 }).await
}
