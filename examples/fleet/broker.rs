//! The NATS server of the run.

use std::{
    io::{self, BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{
    Result,
    process::{Process, abandoned},
};

/// The first argument of the process that keeps the server.
pub(crate) const WORD: &str = "broker";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/nats-server");
const NONE: &str = "there is no NATS server: put nats-server 2.14 or newer on PATH, or install Python with pip, so that \
    examples/assets/nats-server can fetch one";

/// Starts a server on a free port of the loopback and waits until it is ready. Gives the process that keeps it, and the
/// port.
pub(crate) async fn start() -> Result<(Process, u16)> {
    let server = find()?;
    let (says, mut said) = mpsc::unbounded_channel();
    // It fails once nobody is interested any more.
    let keeper = Process::start(&[WORD.to_owned(), server.clone()], move |line| drop(says.send(line)))?;
    while let Some(Some(line)) = said.recv().await {
        if let Some(port) = line.strip_prefix("ready ") {
            return Ok((keeper, port.parse()?));
        }
    }
    Err(format!("{server} did not start; run it by hand to see why").into())
}

/// The server's path, as the script finds it: on PATH, or fetched once.
fn find() -> Result<String> {
    let output = Command::new(SCRIPT).stderr(Stdio::inherit()).output().map_err(|error| format!("{NONE} ({error})"))?;
    let path = String::from_utf8(output.stdout)?.trim().to_owned();
    if output.status.success() && Path::new(&path).exists() { Ok(path) } else { Err(NONE.into()) }
}

/// In a process of its own: runs the server until whoever asked for it has ended. The server is no program of ours, so
/// it would not notice by itself.
pub(crate) async fn keep(words: &[String]) -> Result<()> {
    let path = words.first().ok_or("the server's path is missing")?;
    let store = TempDir::new()?;
    let mut server = Command::new(path)
        .args(["-a", "127.0.0.1", "-p", "-1", "-js", "-sd"])
        .arg(store.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = server.stderr.take().ok_or("its output was asked for")?;
    let (runs, mut ended) = mpsc::channel::<()>(1);
    thread::spawn(move || {
        let mut port = String::new();
        for line in BufReader::new(said).lines().map_while(io::Result::ok) {
            if line.contains("Listening for client connections") {
                port = line.rsplit(':').next().unwrap_or_default().to_owned();
            } else if line.ends_with("Server is ready") {
                println!("ready {port}");
            }
        }
        drop(runs);
    });
    let mut abandoned = abandoned();
    tokio::select! {
        _ = ended.recv() => Err(format!("the NATS server ended: {}", server.wait()?).into()),
        _ = abandoned.recv() => {
            server.kill()?;
            server.wait()?;
            Ok(())
        }
    }
}
