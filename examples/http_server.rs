//! Serves a component that handles HTTP requests, and drains when it is told to stop:
//! `cargo run --release --example http_server -- 127.0.0.1:8080`
//!
//! Further arguments: a component, default one that greets; `warm`, to have an instance serve 128 requests.

use std::{env, error::Error, path::PathBuf, time::Duration};

use axum::serve::ListenerExt;
use scf::{
    core::{Function, FunctionName, Limits, Reuse},
    runtime::http::Ingress,
};
use tokio::{net::TcpListener, signal, time::timeout};

const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components/http-hello.wasm");
/// How long requests may take after the server was told to stop.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut address, mut component, mut reuse) = ("127.0.0.1:8080".to_owned(), PathBuf::from(HELLO), Reuse::Fresh);
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "warm" => reuse = Reuse::Warm { max_idle: 64, max_calls: 128, max_age: Duration::from_secs(60) },
            file if file.ends_with(".wasm") => component = file.into(),
            _ => address = argument,
        }
    }
    let fabric = scf::fabric()?.build()?;
    let site = FunctionName::new("site")?;
    let limits = Limits { concurrency: 64, ..Limits::default() };
    let function = Function::component(site.clone(), std::fs::read(component)?, "wasi:http/incoming-handler");
    fabric.deploy(function.limits(limits).reuse(reuse)).await?;

    let ingress = Ingress::builder(fabric).route("/", site).server_timing().build()?;
    let listener = TcpListener::bind(address).await?;
    println!("http://{}/", listener.local_addr()?);
    // Small responses are not held back for the acknowledgement of the one before.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    let stop = {
        let ingress = ingress.clone();
        async move {
            // Without a signal to wait for it serves until it is killed.
            if signal::ctrl_c().await.is_ok() && timeout(PATIENCE, ingress.drain()).await.is_err() {
                eprintln!("{} requests are given up", ingress.requests());
            }
        }
    };
    axum::serve(listener, ingress.into_router()).with_graceful_shutdown(stop).await?;
    Ok(())
}
