//! Starts a process over and over, and kills it.

use std::{
    collections::BTreeSet,
    error::Error,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::life::Life;

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) calls: u64,
    pub(crate) kills: u32,
    /// A call that ends its process.
    pub(crate) fatal: Option<u64>,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) kills: u32,
    /// Processes that ended without being killed or being the last.
    pub(crate) crashes: u32,
    pub(crate) accepted: u64,
    pub(crate) completed: u64,
    pub(crate) dead: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// From the start of a process until the first call ran that an earlier one had accepted; of every process.
    pub(crate) redelivery: Vec<Duration>,
}

impl Plan {
    /// Runs it on a store in `folder`.
    pub(crate) fn run(&self, folder: &Path) -> Result<Report, Box<dyn Error + Send + Sync>> {
        let mut random = Random(self.seed);
        let (mut report, mut accepted) = (Report::default(), BTreeSet::new());
        loop {
            let from = (0..).find(|number| !accepted.contains(number)).unwrap_or_default();
            let is_last = report.kills >= self.kills;
            let folder = folder.to_string_lossy().into_owned();
            let life = Life { folder, from, calls: self.calls, fatal: self.fatal, is_last };
            let started = Instant::now();
            let mut child = start(&life)?;
            // After so many acknowledgements, or so many ticks where nothing is left to accept.
            let limit = 1 + random.below(2 * self.calls / u64::from(self.kills.max(1)));
            let (mut heard, mut ticks, mut is_killed, mut ends) = (0, 0, false, false);
            let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
            for line in lines {
                let line = line?;
                let words: Vec<&str> = line.split(' ').collect();
                match words[..] {
                    ["a", number] => {
                        accepted.insert(number.parse::<u64>()?);
                        heard += 1;
                    }
                    ["t"] => ticks += 1,
                    ["r"] => report.redelivery.push(started.elapsed()),
                    ["end", completed, dead, lost, doubled] => {
                        (report.completed, report.dead) = (completed.parse()?, dead.parse()?);
                        (report.lost, report.doubled) = (lost.parse()?, doubled.parse()?);
                        ends = true;
                    }
                    _ => {}
                }
                if !is_last && (heard >= limit || ticks > 20 + limit % 20) {
                    // Once more does nothing; what it had written before is still read.
                    child.kill()?;
                    is_killed = true;
                }
            }
            let status = child.wait()?;
            if ends {
                if !status.success() {
                    return Err(format!("the last process ended with {status}").into());
                }
                report.accepted = accepted.len() as u64;
                return Ok(report);
            }
            if is_killed {
                report.kills += 1;
            } else {
                report.crashes += 1;
            }
            if report.crashes > 20 {
                return Err(format!("the process ended {} times without being killed: {status}", report.crashes).into());
            }
        }
    }
}

fn start(life: &Life) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).args(life.to_args()).stdout(Stdio::piped()).spawn()
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, figure 16).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
