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
            black_box(stream.get_last_raw_message_by_subject("bare.0.0").await?);
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

/// Commits of several tasks at the same time.
struct Load {
    bar: &'static str,
    tasks: usize,
    /// Of each commit, beside its result.
    values: usize,
}

const LOADS: [Load; 3] = [
    Load { bar: "fleet.commit.vs_publish", tasks: 128, values: 1 },
    Load { bar: "fleet.commit16.vs_publish", tasks: 16, values: 1 },
    Load { bar: "fleet.commit16x4.vs_publish", tasks: 16, values: 4 },
];

/// How long each of the tasks takes to publish its values, one after the other, and how often they do.
async fn publishes(context: &jetstream::Context, load: &Load, each: usize) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    try_join_all((0..load.tasks).map(async |task| {
        for _ in 0..each {
            for value in 0..load.values {
                context.publish(format!("bare.{task}.{value}"), vec![7; VALUE].into()).await?.await?;
            }
        }
        Ok::<_, Box<dyn Error>>(())
    }))
    .await?;
    Ok(start.elapsed().as_secs_f64())
}

/// How long the same takes as commits, each with a result of its own.
async fn commits(state: &NatsState, load: &Load, each: usize, round: usize) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    try_join_all((0..load.tasks).map(async |task| {
        let scope = scope(&format!("{}-{task}", load.bar))?;
        for call in 0..each {
            let id = InvocationId::new((round * each + call) as u128);
            let batch = (0..load.values)
                .fold(Batch::new(scope.clone()), |batch, value| batch.put(format!("k{value}"), vec![7; VALUE]));
            state.commit(batch.invocation(id, vec![7; 8])).await?;
        }
        Ok::<_, Box<dyn Error>>(())
    }))
    .await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Durable commits over one publish for each of their values, awaited by as many tasks.
async fn writes(state: &NatsState, context: &jetstream::Context, rounds: usize) -> Result<(), Box<dyn Error>> {
    /// What gathers in a head is moved about once in so many commits.
    const EACH: usize = 65;
    for load in &LOADS {
        // The heads are there from then on, as the messages that are taken the place of.
        publishes(context, load, 1).await?;
        commits(state, load, 1, rounds * EACH).await?;
        let mut ratios = Vec::new();
        for round in 0..rounds {
            let (bare, ours) = if round % 2 == 0 {
                let bare = publishes(context, load, EACH).await?;
                (bare, commits(state, load, EACH, round).await?)
            } else {
                let ours = commits(state, load, EACH, round).await?;
                (publishes(context, load, EACH).await?, ours)
            };
            let count = (load.tasks * EACH) as f64;
            eprintln!("{}: {:.0}/s, publishes {:.0}/s", load.bar, count / ours, count * load.values as f64 / bare);
            ratios.push(bare / ours);
        }
        figure(load.bar, median(ratios), "ratio", rounds * load.tasks * EACH);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let Some(server) = NatsServer::durable() else { return Ok(()) };
    let broker = NatsOptions::new([server.url()]).monitor(server.monitor()).connect().await?;
    let context = jetstream::new(broker.client());
    // As the stream that state is in.
    let config = stream::Config {
        name: "bare".to_owned(),
        subjects: vec!["bare.>".to_owned()],
        max_messages_per_subject: 1,
        discard: stream::DiscardPolicy::New,
        allow_atomic_publish: true,
        allow_message_ttl: true,
        ..stream::Config::default()
    };
    context.create_stream(config).await?;
    let stream = context.get_stream_no_info("bare").await?;
    let state = Arc::new(NatsState::at(broker).shards(1).open().await?);
    writes(&state, &context, if quick { 3 } else { 9 }).await?;
    reads(&server, &state, &stream, if quick { 5 } else { 21 }).await
}
