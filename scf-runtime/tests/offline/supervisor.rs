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

/// What is killed when so many calls ran; it is started again at once.
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
    /// What is killed while the calls run, one after the other.
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
    /// From when hub and broker were there until the first call was; once per time that they came.
    pub(crate) resync: Vec<Duration>,
    /// How long calls were being drained, downtimes left out.
    pub(crate) draining: Duration,
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
    /// Since when the hub is there, and since when calls are drained.
    up: Option<Instant>,
    draining: Option<Instant>,
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
            up: None,
            draining: None,
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
        let (mut ran, mut ran_before, mut kills) = (0, 0, self.plan.kills.iter());
        let step = self.plan.calls / (self.plan.kills.len() as u64 + 1);
        let mut next = step;
        let (mut is_accepted, mut is_drained) = (self.plan.is_offline, false);
        loop {
            let line = self.hear(lines)?;
            if let (Role::Hub, Some(count)) = (line.role, line.text.strip_prefix("c ")) {
                let count: u64 = count.parse()?;
                ran_before += if count < ran { ran } else { 0 };
                ran = count;
            }
            match (line.role, line.text.as_str()) {
                (Role::Edge, "up") => tell(&mut self.edge, "go")?,
                (Role::Edge, "accepted") => is_accepted = true,
                (Role::Edge, "drained") => is_drained = is_accepted,
                _ => {}
            }
            if ran_before + ran >= next
                && let Some(kill) = kills.next()
            {
                next += step;
                is_drained &= !matches!(kill, Kill::Edge);
                self.kill(*kill)?;
            }
            if is_drained && kills.len() == 0 {
                break;
            }
        }
        tell(&mut self.hub, "count")?;
        let counted = self.until(lines, Role::Hub, "end ")?;
        self.pause(Instant::now());
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
        self.up = None;
        self.start(Role::Hub)
    }

    /// Nothing is drained from now on.
    fn pause(&mut self, now: Instant) {
        if let Some(since) = self.draining.take() {
            self.report.draining += now.duration_since(since);
        }
    }

    /// The next line, noted. What a process said that is gone is still noted.
    fn hear(&mut self, lines: &Receiver<Line>) -> Result<Line> {
        let line = lines.recv_timeout(PATIENCE).map_err(|error| format!("{error} after {:?}", self.report))?;
        let is_there = self.process(line.role).as_ref().is_some_and(|process| process.life == line.life);
        let mut words = line.text.split(' ');
        match (line.role, words.next()) {
            (Role::Edge, Some("a")) => {
                self.accepted.insert(words.next().ok_or("no number")?.parse()?);
            }
            (Role::Hub, Some("up")) if is_there => (self.up, self.draining) = (Some(line.at), Some(line.at)),
            (Role::Hub, Some("t")) if is_there => {
                self.report.resync.extend(self.up.map(|up| line.at.duration_since(up)));
            }
            _ => {}
        }
        Ok(line)
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
