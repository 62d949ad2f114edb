//! The broker and the three processes, each in a namespace of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use tempfile::TempDir;

use super::{
    Result,
    nats_server::{self, DURABLE},
    network::{Network, PLACES},
    node::{BROKER, MONITOR, WORD},
};

/// All of them; they end when it is dropped, and then the network does.
pub(crate) struct Fleet {
    nodes: Vec<Member>,
    broker: Child,
    _folder: TempDir,
    pub(crate) network: Network,
}

/// A process and how it is talked to.
struct Member {
    child: Child,
    asks: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Fleet {
    /// Starts everything and waits until the nodes have met; `None`, and a line that says so, where something that is
    /// needed can not be had.
    pub(crate) fn start() -> Result<Option<Self>> {
        let Some(server) = nats_server::binary() else { return Ok(None) };
        let Some(network) = Network::new()? else { return Ok(None) };
        let folder = TempDir::new()?;
        fs::write(folder.path().join("nats.conf"), DURABLE)?;
        let mut broker = network
            .inside("hub", &server.to_string_lossy())
            .arg("-c")
            .arg(folder.path().join("nats.conf"))
            .args(["-a", "0.0.0.0", "-p", &BROKER.to_string(), "-m", &MONITOR.to_string(), "-sd"])
            .arg(folder.path().join("store"))
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(broker.stderr.take().ok_or("no pipe")?).lines();
        let mut fleet = Self { nodes: Vec::new(), broker, _folder: folder, network };
        while !said.next().ok_or("the broker did not start")??.ends_with("Server is ready") {}
        // Until it ends, so that it can always write.
        std::thread::spawn(move || said.for_each(drop));
        for place in PLACES {
            let own = std::env::current_exe()?;
            let mut child = fleet
                .network
                .inside(place, &own.to_string_lossy())
                .arg(WORD)
                .arg(place)
                .arg(fleet._folder.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (asks, said) = child.stdin.take().zip(child.stdout.take()).ok_or("no pipes")?;
            fleet.nodes.push(Member { child, asks, answers: BufReader::new(said).lines() });
        }
        for place in PLACES {
            let said = fleet.answer(place)?;
            if said != "up" {
                return Err(format!("{place} says {said:?}").into());
            }
        }
        Ok(Some(fleet))
    }

    /// Asks a node something and waits for the answer.
    pub(crate) fn ask(&mut self, place: &str, question: &str) -> Result<String> {
        self.tell(place, question)?;
        self.answer(place)
    }

    /// Asks all of them the same, and waits for the answers.
    pub(crate) fn ask_all(&mut self, question: &str) -> Result<Vec<String>> {
        PLACES.iter().try_for_each(|place| self.tell(place, question))?;
        PLACES.iter().map(|place| self.answer(place)).collect()
    }

    /// Asks a node something, the answer to which is for later.
    pub(crate) fn tell(&mut self, place: &str, question: &str) -> Result<()> {
        Ok(writeln!(self.member(place)?.asks, "{question}")?)
    }

    /// The next answer of a node.
    pub(crate) fn answer(&mut self, place: &str) -> Result<String> {
        let answer = self.member(place)?.answers.next().ok_or_else(|| format!("{place} has ended"))??;
        if answer.starts_with("error") { Err(format!("{place}: {answer}").into()) } else { Ok(answer) }
    }

    fn member(&mut self, place: &str) -> Result<&mut Member> {
        let position = PLACES.iter().position(|known| *known == place).ok_or("no such node")?;
        Ok(&mut self.nodes[position])
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().map(|node| &mut node.child).chain([&mut self.broker]) {
            // It fails when the process has ended already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
