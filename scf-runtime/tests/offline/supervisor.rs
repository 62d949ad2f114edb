//! Starts the processes of a fleet and its broker, kills them, and counts what is left.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    time::{Duration, Instant},
};

use crate::{
    life::{Life, Result, Role},
    nats_server::NatsServer,
};

/// Nothing takes as long as this.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is noted when a process says nothing any more.
const ENDED: &str = "ended";

/// What is killed; it is started again at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    Edge,
    Hub,
    Broker,
    /// The hub and the broker, which is started again first.
    Site,
}

/// How a run goes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) calls: u64,
    /// Whether hub and broker are down while the calls are accepted.
    pub(crate) is_offline: bool,
    /// What is killed, one after the other: while calls are handed over if that begins when all are accepted, while they
    /// run otherwise.
    pub(crate) kills: Vec<Kill>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) accepted: u64,
    pub(crate) completed: u64,
    pub(crate) dead: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Calls that ran before another of their key that was accepted before.
    pub(crate) disordered: u64,
    /// Of the calls that were asked for where they were accepted, how many are completed.
    pub(crate) heard_of: u64,
    /// From when hub and broker were there until the first calls were on the hub's disk, and known to be; once per time
    /// that they came.
    pub(crate) resync: Vec<Duration>,
    /// How long hub and broker were there until all calls had run.
    pub(crate) draining: Duration,
    /// And until all were on the hub's disk.
    pub(crate) handing: Duration,
}

/// A line of a process, when it came, and of which start of it.
struct Line {
    role: Role,
    life: usize,
    text: String,
    at: Instant,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    life: usize,
}

/// A run under way.
struct Run<'a> {
    plan: &'a Plan,
    broker: NatsServer,
    folder: &'a Path,
    edge: Option<Process>,
    hub: Option<Process>,
    lives: usize,
    said: Sender<Line>,
    accepted: BTreeSet<u64>,
    report: Report,
    /// Calls that ran, those that are run again after a crash each time.
    ran: u64,
    /// Since when the hub is there, and since when so that nothing was handed over.
    up: Option<Instant>,
    silent: Option<Instant>,
}

impl Plan {
    /// Runs it with what the processes keep in `folder`.
    pub(crate) fn run(&self, broker: NatsServer, folder: &Path) -> Result<Report> {
        let (said, lines) = mpsc::channel();
        let mut run = Run {
            plan: self,
            broker,
            folder,
            edge: None,
            hub: None,
            lives: 0,
            said,
            accepted: BTreeSet::new(),
            report: Report::default(),
            ran: 0,
            up: None,
            silent: None,
        };
        let result = run.go(&lines);
        for process in [&mut run.edge, &mut run.hub] {
            end(process);
        }
        result.map(|()| run.report)
    }
}

impl Run<'_> {
    fn go(&mut self, lines: &Receiver<Line>) -> Result<()> {
        self.start(Role::Edge)?;
        if self.plan.is_offline {
            // It has met nobody: the hub comes for the first time when everything is accepted.
            self.until(lines, Role::Edge, "up")?;
            self.broker.kill();
            tell(&mut self.edge, "go")?;
            self.until(lines, Role::Edge, "accepted")?;
            self.broker.restart();
            self.start(Role::Hub)?;
        } else {
            self.start(Role::Hub)?;
            self.until(lines, Role::Hub, "up")?;
            tell(&mut self.edge, "go")?;
        }
        let (step, mut kills) = (self.plan.calls / (self.plan.kills.len() as u64 + 1), self.plan.kills.iter());
        let (mut next, mut handed, mut is_drained) = (step, 0, false);
        while !is_drained || kills.len() > 0 {
            let line = self.hear(lines)?;
            match (line.role, line.text.split_once(' ').unwrap_or((&line.text, ""))) {
                (Role::Edge, ("h", left)) => handed = self.plan.calls.saturating_sub(left.parse()?),
                // It was killed; the first one is told when the hub is as it is to be.
                (Role::Edge, ("up", _)) if line.life > 1 => tell(&mut self.edge, "go")?,
                (Role::Edge, ("drained", _)) => {
                    is_drained = true;
                    self.report.handing = self.report.draining
                        + self.up.map_or(Duration::ZERO, |up| line.at.saturating_duration_since(up));
                }
                _ => {}
            }
            let progress = if self.plan.is_offline { handed } else { self.ran };
            if progress >= next
                && let Some(kill) = kills.next()
            {
                next += step;
                is_drained &= *kill != Kill::Edge;
                self.kill(*kill)?;
            }
        }
        tell(&mut self.hub, "count")?;
        self.until(lines, Role::Hub, "done")?;
        self.pause(Instant::now());
        let counted = self.until(lines, Role::Hub, "end ")?;
        let words: Vec<u64> = counted.split(' ').skip(1).map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [completed, dead, lost, doubled, disordered] = words[..] else { return Err(counted.into()) };
        self.report = Report { completed, dead, lost, doubled, disordered, ..std::mem::take(&mut self.report) };
        tell(&mut self.edge, "ask")?;
        let asked = self.until(lines, Role::Edge, "end ")?;
        self.report.heard_of = asked.split(' ').nth(1).ok_or("no count")?.parse()?;
        self.report.accepted = self.accepted.len() as u64;
        Ok(())
    }

    fn start(&mut self, role: Role) -> Result<()> {
        let folder = self.folder.join(format!("{role:?}"));
        std::fs::create_dir_all(&folder)?;
        let from = (0..).find(|number| !self.accepted.contains(number)).unwrap_or_default();
        let (folder, broker) = (folder.to_string_lossy().into_owned(), self.broker.url());
        let args = Life { role, folder, broker, calls: self.plan.calls, from }.to_args();
        let mut child =
            Command::new(std::env::current_exe()?).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        self.lives += 1;
        let (life, said) = (self.lives, self.said.clone());
        let stdin = child.stdin.take().ok_or("no pipe")?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        std::thread::spawn(move || {
            for text in lines.map_while(std::result::Result::ok) {
                if said.send(Line { role, life, text, at: Instant::now() }).is_err() {
                    return;
                }
            }
            // It fails when nobody listens any more.
            let _ = said.send(Line { role, life, text: ENDED.to_owned(), at: Instant::now() });
        });
        *self.process(role) = Some(Process { child, stdin, life });
        Ok(())
    }

    fn process(&mut self, role: Role) -> &mut Option<Process> {
        match role {
            Role::Edge => &mut self.edge,
            Role::Hub => &mut self.hub,
        }
    }

    fn kill(&mut self, kill: Kill) -> Result<()> {
        match kill {
            Kill::Edge => {
                end(&mut self.edge);
                return self.start(Role::Edge);
            }
            Kill::Broker => {
                self.broker.restart();
                return Ok(());
            }
            Kill::Hub => end(&mut self.hub),
            Kill::Site => {
                self.broker.kill();
                end(&mut self.hub);
                self.broker.restart();
            }
        }
        self.pause(Instant::now());
        self.start(Role::Hub)
    }

    /// The hub is not there from now on, or has nothing more to do.
    fn pause(&mut self, now: Instant) {
        self.silent = None;
        if let Some(up) = self.up.take() {
            self.report.draining += now - up;
        }
    }

    /// The next line of a process that is there. What others said before they were killed counts all the same.
    fn hear(&mut self, lines: &Receiver<Line>) -> Result<Line> {
        loop {
            let line = lines.recv_timeout(PATIENCE).map_err(|error| format!("{error} after {:?}", self.report))?;
            match (line.role, line.text.split_once(' ').unwrap_or((&line.text, ""))) {
                (Role::Edge, ("a", number)) => drop(self.accepted.insert(number.parse()?)),
                (Role::Hub, ("c", _)) => self.ran += 1,
                _ => {}
            }
            if self.process(line.role).as_ref().is_none_or(|process| process.life != line.life) {
                continue;
            }
            if line.text == ENDED {
                return Err(format!("the {:?} ended by itself after {:?}", line.role, self.report).into());
            }
            match (line.role, line.text.split_once(' ').unwrap_or((&line.text, ""))) {
                (Role::Hub, ("up", _)) => (self.up, self.silent) = (Some(line.at), Some(line.at)),
                (Role::Edge, ("h", _)) => {
                    self.report.resync.extend(self.silent.take().map(|up| line.at.saturating_duration_since(up)));
                }
                _ => {}
            }
            return Ok(line);
        }
    }

    fn until(&mut self, lines: &Receiver<Line>, role: Role, says: &str) -> Result<String> {
        loop {
            let line = self.hear(lines)?;
            if line.role == role && line.text.starts_with(says) {
                return Ok(line.text);
            }
        }
    }
}

fn tell(process: &mut Option<Process>, what: &str) -> Result<()> {
    let process = process.as_mut().ok_or("the process is not there")?;
    Ok(writeln!(process.stdin, "{what}")?)
}

/// Ends a process as a crash does.
fn end(process: &mut Option<Process>) {
    if let Some(mut process) = process.take() {
        // It fails when the process has ended already, which is what is wanted.
        let _ = process.child.kill();
        process.child.wait().expect("a child can be waited for");
    }
}
