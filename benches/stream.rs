//! Calls that answer in streams, beside what they rest on: `cargo bench --features nats --bench stream`, with `-- --quick`
//! for less.
//!
//! Two fabrics over a real NATS server, each with connections of its own, in this process; the function on the one, its
//! caller on the other. The arms run interleaved; a figure is the ratio of the medians, of times. Skipped, visibly, where
//! no server can be had.

#[path = "../tests/support/nats_server.rs"]
mod nats_server;

use std::{
    error::Error,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use scf::core::{ByteSize, Function, FunctionName, Invocation, Name, Needs, Node, NodeId, Payload, Tier};
use scf::runtime::{
    Fabric, NativeError, NativeFactory, NativeFuture, Streaming,
    transport::{DataPlane, Nats},
};
use scf::sched::Pipeline;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use nats_server::NatsServer;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A token of a language model, as text.
const TOKEN: u32 = 16;
/// A chunk of a large body.
const CHUNK: u32 = 64 << 10;
const ROOM: ByteSize = ByteSize::from_mib(1);
/// Rounds before any is measured: connections, placement, caches.
const WARM_UP: usize = 3;

/// So many items of so many bytes.
#[derive(Clone, Copy)]
struct Wanted {
    items: u32,
    bytes: u32,
}

impl Wanted {
    fn write(self) -> [u8; 8] {
        let mut written = [0; 8];
        written[..4].copy_from_slice(&self.items.to_le_bytes());
        written[4..].copy_from_slice(&self.bytes.to_le_bytes());
        written
    }

    fn read(written: &[u8]) -> Option<Self> {
        let (items, bytes) = written.split_first_chunk()?;
        Some(Self { items: u32::from_le_bytes(*items), bytes: u32::from_le_bytes(bytes.try_into().ok()?) })
    }

    fn item(self) -> Bytes {
        vec![7; self.bytes as usize].into()
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

/// A process of the fleet, whose function `source` sends what its payload asks for.
async fn fabric(server: &NatsServer, id: &str) -> Result<Fabric> {
    let native = NativeFactory::new().with("source", |call, wanted| -> NativeFuture<'_> {
        Box::pin(async move {
            let asked = Wanted::read(&wanted.bytes).zip(call.streams().and_then(|streams| streams.output()));
            let (wanted, mut output) = asked.ok_or_else(|| NativeError::refused("it is not asked for a stream"))?;
            let item = wanted.item();
            for _ in 0..wanted.items {
                output.send(item.clone()).await.map_err(|error| NativeError::refused(error.to_string()))?;
            }
            Ok(Payload::default())
        })
    })?;
    let client = async_nats::connect(server.url()).await?;
    let plane = DataPlane::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    let nats = Arc::new(Nats::builder(client).node(node(id)).data_plane(plane).join().await?);
    let builder = Fabric::builder().node(Node::new(node(id), Tier::Edge));
    Ok(builder.scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(native)).join(nats).build()?)
}

/// Until the first item was read, and until all were.
async fn ours(fabric: &Fabric, source: &FunctionName, wanted: Wanted) -> Result<[f64; 2]> {
    let invocation = Invocation::new(fabric.new_id(), source.clone(), wanted.write().to_vec());
    let start = Instant::now();
    let Streaming { mut output, .. } = fabric.stream(invocation, ROOM);
    let (mut read, mut first) = (0, 0.0);
    while output.next().await?.is_some() {
        if read == 0 {
            first = start.elapsed().as_secs_f64();
        }
        read += 1;
    }
    assert_eq!(read, wanted.items);
    Ok([first, start.elapsed().as_secs_f64()])
}

/// Sends on one connection what is asked for on it: each item by itself, behind its length.
async fn raw_source(listener: TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut asked = [0; 8];
    loop {
        stream.read_exact(&mut asked).await?;
        let Some(wanted) = Wanted::read(&asked) else { return Ok(()) };
        let mut item = wanted.bytes.to_le_bytes().to_vec();
        item.extend_from_slice(&wanted.item());
        for _ in 0..wanted.items {
            stream.write_all(&item).await?;
        }
    }
}

async fn raw(stream: &mut BufReader<TcpStream>, wanted: Wanted) -> Result<[f64; 2]> {
    let start = Instant::now();
    stream.get_mut().write_all(&wanted.write()).await?;
    let mut first = 0.0;
    for read in 0..wanted.items {
        let mut item = vec![0; stream.read_u32_le().await? as usize];
        stream.read_exact(&mut item).await?;
        if read == 0 {
            first = start.elapsed().as_secs_f64();
        }
    }
    Ok([first, start.elapsed().as_secs_f64()])
}

/// Answers each message of a subject with a token.
async fn answer(client: async_nats::Client, subject: &'static str) -> Result<()> {
    let mut messages = client.subscribe(subject).await?;
    client.flush().await?;
    tokio::spawn(async move {
        while let Some(reply) = messages.next().await.and_then(|message| message.reply) {
            if client.publish(reply, Bytes::from_static(&[7; TOKEN as usize])).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

async fn streams(server: &NatsServer, rounds: usize) -> Result<()> {
    let (here, _there) = (fabric(server, "here").await?, fabric(server, "there").await?);
    while here.path(&node("here"), &node("there")).is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let source = FunctionName::new("source")?;
    let mut function = Function::native(source.clone(), Name::new("source")?);
    function.needs = Needs { nodes: vec![node("there")], ..Needs::default() };
    here.deploy(function).await?;

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let stream = TcpStream::connect(listener.local_addr()?).await?;
    stream.set_nodelay(true)?;
    let (mut stream, raw_source) = (BufReader::new(stream), tokio::spawn(raw_source(listener)));
    let (asks, answers) = (async_nats::connect(server.url()).await?, async_nats::connect(server.url()).await?);
    answer(answers, "token").await?;

    for (what, wanted) in
        [("tokens", Wanted { items: 5000, bytes: TOKEN }), ("chunks", Wanted { items: 500, bytes: CHUNK })]
    {
        let (mut of_ours, mut of_tcp, mut of_nats) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], Vec::new());
        for round in 0..rounds + WARM_UP {
            for arm in 0..3 {
                let (arms, took) = match (arm + round) % 3 {
                    0 => (&mut of_ours, ours(&here, &source, wanted).await?),
                    1 => (&mut of_tcp, raw(&mut stream, wanted).await?),
                    _ => {
                        let start = Instant::now();
                        asks.request("token", Bytes::from_static(&[0; 8])).await?;
                        of_nats.push(start.elapsed().as_secs_f64());
                        continue;
                    }
                };
                if round >= WARM_UP {
                    arms.iter_mut().zip(took).for_each(|(arm, took)| arm.push(took));
                }
            }
        }
        let ([first, all], [tcp_first, tcp_all], request) = (of_ours.map(median), of_tcp.map(median), median(of_nats));
        let [first_us, tcp_first_us, request_us] = [first, tcp_first, request].map(|seconds| seconds * 1e6);
        eprintln!(
            "{what}: first after {first_us:.0} us, over TCP {tcp_first_us:.0}, a request over NATS {request_us:.0}"
        );
        let items = f64::from(wanted.items);
        let mib = items * f64::from(wanted.bytes) / f64::from(1 << 20);
        let [rate, tcp_rate] = [all, tcp_all].map(|seconds| (items / seconds, mib / seconds));
        eprintln!(
            "{what}: {:.0}/s, {:.1} MiB/s; over TCP {:.0}/s, {:.1} MiB/s",
            rate.0, rate.1, tcp_rate.0, tcp_rate.1
        );
        if wanted.bytes == TOKEN {
            print("fleet.stream.first_item.vs_nats_request", first / request, rounds);
            print("fleet.stream.first_item.vs_tcp", first / tcp_first, rounds);
        }
        print(&format!("fleet.stream.{what}.vs_tcp"), all / tcp_all, rounds);
    }
    raw_source.abort();
    Ok(())
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let Some(server) = NatsServer::start("") else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(streams(&server, if quick { 20 } else { 200 }))
}
