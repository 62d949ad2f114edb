//! The run: three processes, of which one is killed and started again.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    Options, Result, broker,
    link::{ACCESS, Relay, UPLINK},
    node::Role,
    process::Process,
    report::{Call, HEAD, Part, Run},
};

/// How long nothing may happen: models are loaded and guests are compiled in that time.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most photos until the gateway takes part again, in so many times the length of a part.
const RETURN: usize = 4;

/// What a process printed.
struct Said {
    process: &'static str,
    at: Instant,
    /// None: its last words were said.
    line: Option<Value>,
}

/// Everything that was started, in the order in which it is ended.
pub(crate) struct Site {
    _camera: Process,
    gateway: Process,
    _cloud: Process,
    as_gateway: Role,
    said: mpsc::UnboundedReceiver<Said>,
    /// Says that a process was started.
    says: mpsc::UnboundedSender<Said>,
    _broker: Process,
    _links: Vec<Relay>,
}

impl Site {
    /// Starts everything and waits until the processes have joined.
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let (broker, port) = broker::start().await?;
        let port = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut links = Vec::new();
        let mut roles = Vec::new();
        // The broker is where the gateway is.
        for (name, slowdown, link) in
            [("camera", options.camera, Some(ACCESS)), ("gateway", options.gateway, None), ("cloud", 1.0, Some(UPLINK))]
        {
            let listen = free()?;
            let mut role = Role { name, slowdown, broker: port, listen, told: listen };
            // What the gateway is sent comes over the link to the camera.
            let plane = Relay::start(listen, link.unwrap_or(ACCESS)).await?;
            role.told = plane.address;
            links.push(plane);
            if let Some(link) = link {
                let to_broker = Relay::start(port, link).await?;
                role.broker = to_broker.address;
                links.push(to_broker);
            }
            roles.push(role);
        }
        let (says, said) = mpsc::unbounded_channel();
        let [camera, gateway, cloud] = &roles[..] else { return Err("there are three roles".into()) };
        let as_gateway = gateway.clone();
        let (camera, gateway, cloud) = (launch(camera, &says)?, launch(gateway, &says)?, launch(cloud, &says)?);
        Ok(Self { _camera: camera, gateway, _cloud: cloud, as_gateway, said, says, _broker: broker, _links: links })
    }

    /// Runs the three parts and prints what happens, and what it came to.
    pub(crate) async fn run(mut self, options: &Options) -> Result<()> {
        let mut run = Run::default();
        println!("{HEAD}");
        self.part(&mut run, Part::Together, |run| run.answered(Part::Together) >= options.photos).await?;

        println!("{:>6}  SIGKILL to gateway, process {}", "", self.gateway.id());
        run.killed = Some(Instant::now());
        self.gateway.kill()?;
        self.part(&mut run, Part::Without, |run| run.answered(Part::Without) >= options.photos).await?;

        self.gateway = launch(&self.as_gateway, &self.says)?;
        run.started = Some(Instant::now());
        println!("{:>6}  gateway is started again, process {}", "", self.gateway.id());
        let is_back = |run: &Run| {
            run.with_gateway(Part::Again) >= options.photos || run.answered(Part::Again) >= RETURN * options.photos
        };
        self.part(&mut run, Part::Again, is_back).await?;

        println!("\n{run}");
        if run.lost() == 0 { Ok(()) } else { Err(format!("{} calls were not answered", run.lost()).into()) }
    }

    /// Prints what is said until `is_over`.
    async fn part(&mut self, run: &mut Run, part: Part, is_over: impl Fn(&Run) -> bool) -> Result<()> {
        while !is_over(run) {
            let heard = timeout(PATIENCE, self.said.recv()).await;
            let heard = heard.map_err(|_| format!("nothing happened for {PATIENCE:?}"))?;
            let Said { process, at, line } = heard.ok_or("the processes ended")?;
            match line {
                None if process == "gateway" && part == Part::Without => {}
                None => return Err(format!("{process} ended; what it said is above").into()),
                Some(line) => self.note(run, part, at, &line),
            }
        }
        Ok(())
    }

    fn note(&self, run: &mut Run, part: Part, at: Instant, line: &Value) {
        if let Some(call) = Call::read(part, at, line) {
            println!("{call}");
            run.calls.push(call);
        } else if line["asked"].is_number() {
            run.asked += 1;
        } else if let Some(peer) = line["peer"].as_str() {
            let presence = line["presence"].as_str().unwrap_or_default();
            let has_it = if line["has_it"] == true && presence == "Alive" { ", has classify" } else { "" };
            println!("{:>6}  {peer}: {presence}{has_it}", "");
        } else if let Some(node) = line["joined"].as_str() {
            println!("{:>6}  {node} has joined", "");
        } else if let Some(node) = line["pulled"].as_str() {
            println!("{:>6}  {node} has pulled the model by its hash", "");
        } else if line["deployed"].is_array() {
            println!("{:>6}  deployed by camera, once", "");
        }
    }
}

/// A port that is free now.
fn free() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Starts the process of a node and listens to it.
fn launch(role: &Role, says: &mpsc::UnboundedSender<Said>) -> Result<Process> {
    let (says, process) = (says.clone(), role.name);
    Process::start(&role.words(), move |line| {
        let line = line.map(|line| serde_json::from_str(&line).unwrap_or(Value::String(line)));
        // It fails once the run is over.
        drop(says.send(Said { process, at: Instant::now(), line }));
    })
}
