//! A real NATS server: on free ports of the loopback, with its store in a temporary folder, gone when dropped.
//!
//! Tests and benches of several crates include this file by its path.
#![allow(dead_code, reason = "each of them uses a part")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    thread,
};

use tempfile::TempDir;

/// What a node of a fleet is to be configured with: every acknowledged write is on the disk, which is encrypted.
pub(crate) const DURABLE: &str = r#"
max_payload: 8MB
jetstream { sync_interval: always, max_file_store: 1GB, cipher: chachapoly, key: "thirty-two bytes that only tests know" }
"#;

/// A running server.
#[derive(Debug)]
pub(crate) struct NatsServer {
    child: Child,
    binary: PathBuf,
    folder: TempDir,
    port: u16,
    monitor: u16,
}

impl NatsServer {
    /// A server with [`DURABLE`]; `None`, and a line that says so, where none can be had.
    pub(crate) fn durable() -> Option<Self> {
        Self::start(DURABLE)
    }

    /// A server with `config`, to which addresses and folder are added.
    pub(crate) fn start(config: &str) -> Option<Self> {
        let binary = binary()?;
        let folder = TempDir::new().expect("a temporary folder can be made");
        fs::write(folder.path().join("nats.conf"), config).expect("a temporary folder can be written");
        let (child, port, monitor) = launch(&binary, folder.path(), None);
        Some(Self { child, binary, folder, port, monitor })
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it tells about itself over HTTP.
    pub(crate) fn monitor(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor)
    }

    /// The port of [`NatsServer::url`].
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it keeps what it stores, and its configuration.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends it as a crash does, with SIGKILL.
    pub(crate) fn kill(&mut self) {
        // It fails when the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// Starts it again where it was, with what it stored. Kills it first where it still runs.
    pub(crate) fn restart(&mut self) {
        self.kill();
        (self.child, ..) = launch(&self.binary, self.folder.path(), Some((self.port, self.monitor)));
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a server and waits until it says that it is ready. Answers its ports: those given, or free ones.
fn launch(binary: &Path, folder: &Path, ports: Option<(u16, u16)>) -> (Child, u16, u16) {
    let flag = |port: Option<u16>| port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
    let mut child = Command::new(binary)
        .arg("-c")
        .arg(folder.join("nats.conf"))
        .args(["-a", "127.0.0.1", "-p", &flag(ports.map(|(port, _)| port))])
        .args(["-m", &flag(ports.map(|(_, monitor)| monitor)), "-sd"])
        .arg(folder.join("store"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server can be started");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let ports = ready(&mut lines);
    // Until it ends, so that it can always write.
    thread::spawn(move || lines.for_each(drop));
    (child, ports.0, ports.1)
}

/// Reads on to the line that says that the server is ready.
fn ready(lines: &mut Lines<BufReader<ChildStderr>>) -> (u16, u16) {
    let (mut port, mut monitor, mut said) = (None, None, Vec::new());
    for line in lines.map_while(Result::ok) {
        let told = || line.rsplit(':').next()?.parse().ok();
        if line.contains("Listening for client connections") {
            port = told();
        } else if line.contains("Starting http monitor") {
            monitor = told();
        } else if line.ends_with("Server is ready") {
            return (port.expect("it says its port"), monitor.expect("it says its port"));
        }
        said.push(line);
    }
    panic!("the server did not start:\n{}", said.join("\n"));
}

/// The server's path, as `examples/assets/nats-server` finds it.
pub(crate) fn binary() -> Option<PathBuf> {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = crate_root.ancestors().map(|folder| folder.join("examples/assets/nats-server")).find(|it| it.exists());
    let found = script.ok_or_else(|| "examples/assets/nats-server is missing".to_owned()).and_then(|script| {
        let output = Command::new(script).output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(PathBuf::from(text(&output.stdout))) } else { Err(text(&output.stderr)) }
    });
    found
        .inspect_err(|why| {
            // Past the test harness, which hides what passing tests print.
            writeln!(std::io::stderr(), "SKIPPED: no nats-server >= 2.14: {why}").expect("standard error is open");
        })
        .ok()
}
