//! Messages between processes beside what they rest on: `cargo bench --features nats --bench fleet`, with `-- --quick`
//! for less.
//!
//! Two fabrics over a real NATS server, each with connections of its own, in this process. The arms run interleaved, in
//! each order in turn; a figure is the ratio of the medians. Skipped, visibly, where no server can be had.

#[path = "../tests/support/nats_server.rs"]
mod nats_server;

use std::{
    error::Error,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use scf::core::{Envelope, Function, FunctionName, Handler, Name, Needs, Node, NodeId, Subject, Tier, Transport as _};
use scf::runtime::{
    Fabric, NativeFactory,
    transport::{DataPlane, Nats},
};
use scf::sched::Pipeline;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use nats_server::NatsServer;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TENSOR: usize = 5_000_000;
const ECHO: usize = 256;
const PATIENCE: Duration = Duration::from_secs(60);
/// Of three arms, so that each follows each other one equally often: what one leaves to be done falls to the next.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2]];
/// Rounds before any is measured: connections, placement, caches.
const WARM_UP: usize = 5;

/// Answers a tensor with 256 bytes.
#[derive(Debug)]
struct Sink;

#[async_trait]
impl Handler for Sink {
    async fn handle(&self, _: &NodeId, request: Envelope) -> Envelope {
        Envelope { head: request.head, body: request.body.slice(..ECHO) }
    }
}

fn node(id: &str) -> NodeId {
    NodeId::new(id).expect("the literal is a name")
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn print(bar: &str, value: f64, rounds: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"ratio","n":{rounds}}}"#);
}

/// A node of a process of its own, as far as the broker and the data plane know.
async fn join(server: &NatsServer, id: &str) -> Result<Nats> {
    let client = async_nats::connect(server.url()).await?;
    let plane = DataPlane::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    Ok(Nats::builder(client).node(node(id)).data_plane(plane).join().await?)
}

/// Takes tensors from one connection and answers each, with the least that can be done: one buffer for all of them.
async fn raw_sink(listener: TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; TENSOR];
    loop {
        stream.read_exact(&mut buffer).await?;
        stream.write_all(&buffer[..ECHO]).await?;
    }
}

async fn raw(stream: &mut TcpStream, tensor: &[u8]) -> Result<f64> {
    let mut answer = [0; ECHO];
    let start = Instant::now();
    stream.write_all(tensor).await?;
    stream.read_exact(&mut answer).await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Answers each message of a subject with its first 256 bytes.
async fn answer(client: async_nats::Client, subject: &'static str) -> Result<()> {
    let mut messages = client.subscribe(subject).await?;
    client.flush().await?;
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let Some(reply) = message.reply else { continue };
            if client.publish(reply, message.payload.slice(..ECHO)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

async fn broker(client: &async_nats::Client, subject: &'static str, body: &Bytes) -> Result<f64> {
    let start = Instant::now();
    client.request(subject, body.clone()).await?;
    Ok(start.elapsed().as_secs_f64())
}

async fn tensors(server: &NatsServer, rounds: usize) -> Result<()> {
    let (near, far) = (join(server, "near").await?, join(server, "far").await?);
    far.attach(&node("far"), Subject::Invoke, Arc::new(Sink))?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut stream = TcpStream::connect(listener.local_addr()?).await?;
    stream.set_nodelay(true)?;
    let sink = tokio::spawn(raw_sink(listener));
    let (asks, answers) = (async_nats::connect(server.url()).await?, async_nats::connect(server.url()).await?);
    answer(answers, "tensors").await?;
    let tensor: Bytes = (0..TENSOR).map(|at| (at % 251) as u8).collect();
    let (mut ours, mut tcp, mut nats) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds + WARM_UP {
        for arm in ORDERS[round % ORDERS.len()] {
            let (arm, took) = match arm {
                0 => {
                    let request = Envelope { head: Bytes::new(), body: tensor.clone() };
                    let start = Instant::now();
                    let answer = near.request(&node("near"), &node("far"), Subject::Invoke, request, PATIENCE).await?;
                    assert_eq!(answer.body.len(), ECHO);
                    (&mut ours, start.elapsed().as_secs_f64())
                }
                1 => (&mut tcp, raw(&mut stream, &tensor).await?),
                _ => (&mut nats, broker(&asks, "tensors", &tensor).await?),
            };
            if round >= WARM_UP {
                arm.push(took);
            }
        }
    }
    sink.abort();
    let (ours, tcp, nats) = (median(ours), median(tcp), median(nats));
    eprintln!("5 MB: {:.2} ms, over TCP {:.2} ms, over NATS {:.2} ms", ours * 1e3, tcp * 1e3, nats * 1e3);
    print("fleet.tensor5mb.vs_tcp", ours / tcp, rounds);
    print("fleet.tensor5mb.vs_nats", ours / nats, rounds);
    Ok(())
}

async fn fabric(server: &NatsServer, id: &str) -> Result<Fabric> {
    let native = NativeFactory::new().with_sync("echo", Ok)?;
    let builder = Fabric::builder().node(Node::new(node(id), Tier::Edge));
    let builder = builder.scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(native));
    Ok(builder.join(Arc::new(join(server, id).await?)).build()?)
}

async fn invocations(server: &NatsServer, rounds: usize) -> Result<()> {
    let (here, _there) = (fabric(server, "here").await?, fabric(server, "there").await?);
    while here.path(&node("here"), &node("there")).is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let echo = FunctionName::new("echo")?;
    let mut function = Function::native(echo.clone(), Name::new("echo")?);
    function.needs = Needs { nodes: vec![node("there")], ..Needs::default() };
    here.deploy(function).await?;
    let (asks, answers) = (async_nats::connect(server.url()).await?, async_nats::connect(server.url()).await?);
    answer(answers, "echo").await?;
    let body = Bytes::from(vec![7; ECHO]);
    let (mut ours, mut nats) = (Vec::new(), Vec::new());
    for round in 0..rounds + WARM_UP {
        for arm in 0..2 {
            let (arm, took) = match (arm + round) % 2 {
                0 => {
                    let start = Instant::now();
                    let outcome = here.call(&echo, body.clone()).await?;
                    let took = start.elapsed().as_secs_f64();
                    assert_eq!(outcome.receipt.node, node("there"));
                    (&mut ours, took)
                }
                _ => (&mut nats, broker(&asks, "echo", &body).await?),
            };
            if round >= WARM_UP {
                arm.push(took);
            }
        }
    }
    let (ours, nats) = (median(ours), median(nats));
    eprintln!("256 B: {:.1} us, a bare request {:.1} us", ours * 1e6, nats * 1e6);
    print("fleet.invoke.vs_nats_request", ours / nats, rounds);
    Ok(())
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let Some(server) = NatsServer::start("max_payload: 8MB") else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        tensors(&server, if quick { 60 } else { 400 }).await?;
        invocations(&server, if quick { 1000 } else { 10_000 }).await
    })
}
