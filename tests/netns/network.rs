//! Three network namespaces, `a` and `b` each joined to `hub` by a pair of virtual Ethernet interfaces, and what can be
//! made wrong about the link of `a`.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::Result;

/// What is wrong about the link between `a` and `hub`, silently: nobody is told that a packet is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No packet arrives in either direction.
    Partition,
    /// What `a` says is lost.
    Mute,
    /// What `a` would hear is lost.
    Deaf,
    /// Three packets of ten are lost in each direction.
    Lossy,
    /// 1 Mbit/s in each direction.
    Slow,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [Self::Partition, Self::Mute, Self::Deaf, Self::Lossy, Self::Slow];

    /// What happens to packets that arrive at `a`, and to those of `a` that arrive at `hub`.
    const fn verdicts(self) -> [Option<&'static str>; 2] {
        match self {
            Self::Partition => [Some("drop"), Some("drop")],
            Self::Mute => [None, Some("drop")],
            Self::Deaf => [Some("drop"), None],
            Self::Lossy => [Some(LOSSY), Some(LOSSY)],
            Self::Slow => [None, None],
        }
    }
}

const LOSSY: &str = "numgen random mod 100 < 30 drop";
/// Where nodes are.
pub(crate) const PLACES: [&str; 3] = ["hub", "a", "b"];
/// Interfaces: of `a` and `b`, and of `hub` to each.
const UP: &str = "uplink";

/// The namespaces; they are gone when it is dropped.
pub(crate) struct Network {
    prefix: String,
}

impl Network {
    /// Makes them; `None`, and a line that says so, where that can not be done.
    pub(crate) fn new() -> Result<Option<Self>> {
        if let Some(why) = lacking() {
            writeln!(std::io::stderr(), "SKIPPED: no network namespaces: {why}")?;
            return Ok(None);
        }
        let network = Self { prefix: format!("scf-{}", std::process::id()) };
        for place in PLACES {
            ip(&["netns", "add", &network.namespace(place)])?;
            ip(&["-n", &network.namespace(place), "link", "set", "lo", "up"])?;
        }
        for (link, place) in (1..).zip(&PLACES[1..]) {
            let (hub, namespace) = (network.namespace("hub"), network.namespace(place));
            let (down, here, there) = (format!("to-{place}"), address(link, 2), address(link, 1));
            ip(&["link", "add", UP, "netns", &namespace, "type", "veth", "peer", "name", &down, "netns", &hub])?;
            for (namespace, interface, address) in [(&namespace, UP, &here), (&hub, down.as_str(), &there)] {
                ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", interface])?;
                ip(&["-n", namespace, "link", "set", interface, "up"])?;
            }
            ip(&["-n", &namespace, "route", "add", "default", "via", &there])?;
        }
        run(network.inside("hub", "sh").args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]), None)?;
        Ok(Some(network))
    }

    /// The address of a place, for the others.
    pub(crate) fn address(place: &str) -> String {
        match place {
            "a" => address(1, 2),
            "b" => address(2, 2),
            _ => address(1, 1),
        }
    }

    /// A command that is run at a place.
    pub(crate) fn inside(&self, place: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(place), program]);
        command
    }

    /// Begins a fault.
    pub(crate) fn begin(&self, fault: Fault) -> Result<()> {
        for ((place, interface), verdict) in [("a", UP), ("hub", "to-a")].into_iter().zip(fault.verdicts()) {
            if let Some(verdict) = verdict {
                run(self.inside(place, "nft").args(["-f", "-"]), Some(&arriving(interface, verdict)))?;
            }
            if fault == Fault::Slow {
                let shaped = ["rate", "1mbit", "burst", "16kb", "latency", "400ms"];
                run(
                    self.inside(place, "tc").args(["qdisc", "add", "dev", interface, "root", "tbf"]).args(shaped),
                    None,
                )?;
            }
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) fn heal(&self, fault: Fault) -> Result<()> {
        for ((place, interface), verdict) in [("a", UP), ("hub", "to-a")].into_iter().zip(fault.verdicts()) {
            if verdict.is_some() {
                run(self.inside(place, "nft").args(["delete", "table", "ip", "faults"]), None)?;
            }
            if fault == Fault::Slow {
                run(self.inside(place, "tc").args(["qdisc", "del", "dev", interface, "root"]), None)?;
            }
        }
        Ok(())
    }

    fn namespace(&self, place: &str) -> String {
        format!("{}-{place}", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for place in PLACES {
            if let Err(error) = ip(&["netns", "del", &self.namespace(place)]) {
                // Not to panic while something else fails.
                let _ = writeln!(std::io::stderr(), "{error}");
            }
        }
    }
}

/// Why there can be none.
fn lacking() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("they take root".to_owned());
    }
    let is_missing = |program: &&&str| Command::new(program).arg("-V").output().is_err();
    if let Some(program) = ["ip", "tc", "nft"].iter().find(is_missing) {
        return Some(format!("{program} is missing; the packages are iproute2 and nftables"));
    }
    let probe = format!("scf-{}-probe", std::process::id());
    let tried = ip(&["netns", "add", &probe]).and_then(|()| {
        let filter = arriving("lo", LOSSY);
        let filtered = run(Command::new("ip").args(["netns", "exec", &probe, "nft", "-f", "-"]), Some(&filter));
        let deleted = ip(&["netns", "del", &probe]);
        filtered.and(deleted)
    });
    tried.err().map(|error| error.to_string())
}

/// A rule about packets that arrive at an interface, before anything else sees them.
fn arriving(interface: &str, verdict: &str) -> String {
    let rule = format!("type filter hook prerouting priority -300\niifname {interface} {verdict}");
    format!("table ip faults {{\nchain arriving {{\n{rule}\n}}\n}}\n")
}

fn address(link: u8, host: u8) -> String {
    format!("10.213.{link}.{host}")
}

fn ip(words: &[&str]) -> Result<()> {
    run(Command::new("ip").args(words), None)
}

/// Runs a command that is given `input`; an error says what it said.
fn run(command: &mut Command, input: Option<&str>) -> Result<()> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(input.unwrap_or_default().as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", said.trim()).into()) }
}
