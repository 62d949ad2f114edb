//! Serves a component that handles HTTP requests, and drains when it is told to stop:
//! `cargo run --release --example http_server -- 127.0.0.1:8080`
//!
//! Further arguments: a component, default one that greets; `warm`, to have an instance serve 128 requests; `large`, for
//! components with the engine of a language in them, as those of JavaScript and Python; `timing`, to send what each
//! request took.

use std::{env, error::Error, path::PathBuf, sync::Arc, time::Duration};

use scf::{
    core::{ByteSize, Function, FunctionName, Limits, Reuse},
    runtime::{Profile, WasmFactory, http::Ingress},
};
use tokio::{net::TcpListener, time::sleep};

const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components/http-hello.wasm");
/// Memory of an instance that has an engine in it.
const LARGE: ByteSize = ByteSize::from_mib(128);
/// How long requests may take after the server was told to stop.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut address, mut component, mut reuse) = ("127.0.0.1:8080".to_owned(), PathBuf::from(HELLO), Reuse::Fresh);
    let mut is_timed = false;
    let (mut fabric, mut limits) = (scf::fabric()?, Limits { concurrency: 64, ..Limits::default() });
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "warm" => reuse = Reuse::Warm { max_idle: 64, max_calls: 128, max_age: Duration::from_secs(60) },
            "large" => {
                limits.memory = LARGE;
                let wasm = WasmFactory::builder().profile(Profile::Server).instances(64).memory(LARGE);
                fabric = fabric.isolates(Arc::new(wasm.code_size(ByteSize::from_mib(40)).build()?));
            }
            "timing" => is_timed = true,
            file if file.ends_with(".wasm") => component = file.into(),
            _ => address = argument,
        }
    }
    let fabric = fabric.build()?;
    let site = FunctionName::new("site")?;
    let code = std::fs::read(&component).map_err(|error| format!("{}: {error}", component.display()))?;
    let function = Function::component(site.clone(), code, "wasi:http/incoming-handler");
    fabric.deploy(function.limits(limits).reuse(reuse)).await?;

    let ingress = Ingress::builder(fabric).route("/", site);
    let ingress = if is_timed { ingress.server_timing() } else { ingress }.build()?;
    let listener = TcpListener::bind(&address).await.map_err(|error| format!("{address}: {error}"))?;
    println!("http://{}/", listener.local_addr()?);
    let late = async {
        told_to_stop().await;
        sleep(PATIENCE).await;
    };
    tokio::select! {
        _ = ingress.clone().serve(listener, told_to_stop()) => {}
        () = late => eprintln!("{} requests are given up", ingress.requests()),
    }
    Ok(())
}

/// By Ctrl-C or, as containers and services are, by SIGTERM.
#[cfg(unix)]
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without a signal to wait for it serves until it is killed.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn told_to_stop() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
