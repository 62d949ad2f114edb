//! Nodes from the edge to a cloud that let their room and their processors to those who bid most: the model of
//! AuctionWhisk's evaluation (Bermbach et al., Software: Practice and Experience 52(5), 2022, section 5).

use super::java_random::JavaRandom;
use crate::{bidding::Shelf, fleet::FunctionIx};

/// Milliseconds of a run.
const DURATION: u32 = 120_000;
/// Milliseconds of an execution.
const EXECUTION: f64 = 30.0;
/// Milliseconds from the edge to the intermediary, and from there to the cloud.
const WAYS: [f64; 2] = [20.0, 40.0];
/// By what share of itself every time, size and bid differs from its mean at most.
const DEVIATION: f64 = 0.5;
/// What is bid for an execution, and for keeping an executable, on average.
const BID: f64 = 100.0;
/// Bytes of an executable of average size, for a [`Shelf`].
const BYTES: f64 = 1e6;
/// The edge and the intermediary; the cloud behind them has no bounds.
const BOUNDED: usize = 2;

/// An edge node, an intermediary and a cloud, and requests to the edge: one that cannot be executed on a node, because the
/// executable is not kept there or all slots are taken, goes on towards the cloud, where everything is possible. Of the
/// requests that reach a node in the same millisecond the highest bids go first.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "benches and tests change a field of one that is given")]
pub struct Auction {
    /// Requests per second.
    pub load: u32,
    /// Executables, each as often asked for.
    pub executables: u32,
    /// Requests that the edge and the intermediary execute at once.
    pub slots: [u32; BOUNDED],
    /// Executables of average size that the edge and the intermediary have room for.
    pub room: [f64; BOUNDED],
    /// Who is kept when room is short.
    pub eviction: Eviction,
}

/// Who is kept when room is short.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Eviction {
    /// The newcomer, whatever it bids, in the place of those that bid least: as published.
    Newest,
    /// The higher bid per byte, by this share: [`Shelf`].
    Margin(f32),
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AuctionReport {
    /// Requests that were executed.
    pub executed: u64,
    /// Mean milliseconds from the edge to the end of the execution.
    pub latency: f64,
    /// The same where a request counts once for every node that it came to, those that are far away thus thrice: the mean
    /// that was published.
    pub latency_by_visit: f64,
    /// The mean bid of those that were executed at the edge.
    pub edge_bid: f64,
    /// The sum of the bids for what is kept at the edge.
    pub edge_storage: f64,
    /// Executables for which one with a higher bid per byte was dropped.
    pub outbid: u64,
}

#[derive(Clone, Copy, Debug)]
struct Executable {
    size: f64,
    bid: f64,
}

/// A request on its way, and the node that it reaches next, by its steps from the edge.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: usize,
    executable: u32,
    bid: f64,
    came: u32,
}

/// A node with bounds: what it keeps, and how many requests it executes in each millisecond.
#[derive(Debug)]
struct Host {
    keeps: Vec<bool>,
    slots: u32,
    busy: Vec<u32>,
}

impl Auction {
    /// What was published for a rising load: 5 slots at the edge, 20 at the intermediary, room for all of 10 executables.
    #[must_use]
    pub const fn loaded(load: u32) -> Self {
        let room = [f64::INFINITY; BOUNDED];
        Self { load, executables: 10, slots: [5, 20], room, eviction: Eviction::Newest }
    }

    /// What was published for a rising number of executables: room for 10 at the edge and 50 at the intermediary, 1,000
    /// requests per second, as many slots as are needed.
    #[must_use]
    pub const fn crowded(executables: u32) -> Self {
        let slots = [u32::MAX; BOUNDED];
        Self { load: 1000, executables, slots, room: [10.0, 50.0], eviction: Eviction::Newest }
    }

    /// Runs it once. Seed 0 is that of the published runs.
    #[must_use]
    pub fn run(&self, seed: u64) -> AuctionReport {
        let mut random = JavaRandom::new(seed);
        let mut report = AuctionReport::default();
        let executables: Vec<Executable> = (0..self.executables)
            .map(|_| Executable { size: deviate(&mut random, 1.0), bid: deviate(&mut random, BID) })
            .collect();
        let mut hosts = [0, 1].map(|at| Host {
            keeps: self.kept(&executables, self.room[at], &mut report),
            slots: self.slots[at],
            busy: vec![0; DURATION as usize],
        });
        let kept = executables.iter().zip(&hosts[0].keeps).filter(|(_, kept)| **kept);
        report.edge_storage = kept.map(|(of, _)| of.bid).sum();
        // By the millisecond in which a node is reached.
        let mut due: Vec<Vec<Asked>> = vec![Vec::new(); DURATION as usize];
        for _ in 0..u64::from(self.load) * u64::from(DURATION / 1000) {
            let came = random.below(DURATION);
            let executable = random.below(self.executables);
            due[came as usize].push(Asked { at: 0, executable, bid: deviate(&mut random, BID), came });
        }
        let (mut latency, mut by_visit, mut visits) = (0, 0, 0);
        let (mut at_edge, mut edge_bids) = (0u64, 0.0);
        for now in 0..DURATION {
            let mut here = std::mem::take(&mut due[now as usize]);
            here.sort_by(|a, b| a.at.cmp(&b.at).then(b.bid.total_cmp(&a.bid)));
            for asked in here {
                let Some(ends) = execute(&mut hosts, &asked, now, &mut random) else {
                    let there = now + whole(&mut random, WAYS[asked.at]);
                    // Who is on the way at the end does not count.
                    if let Some(due) = due.get_mut(there as usize) {
                        due.push(Asked { at: asked.at + 1, ..asked });
                    }
                    continue;
                };
                let (took, visited) = (u64::from(ends - asked.came), asked.at as u64 + 1);
                report.executed += 1;
                latency += took;
                by_visit += took * visited;
                visits += visited;
                if asked.at == 0 {
                    at_edge += 1;
                    edge_bids += asked.bid;
                }
            }
        }
        report.latency = latency as f64 / report.executed.max(1) as f64;
        report.latency_by_visit = by_visit as f64 / visits.max(1) as f64;
        report.edge_bid = edge_bids / at_edge.max(1) as f64;
        report
    }

    /// Which executables a node with so much room keeps after all were offered to it in turn.
    fn kept(&self, executables: &[Executable], room: f64, report: &mut AuctionReport) -> Vec<bool> {
        let mut keeps = vec![false; executables.len()];
        if room.is_infinite() {
            keeps.fill(true);
            return keeps;
        }
        let per_byte = |at: usize| executables[at].bid / executables[at].size;
        let margin = if let Eviction::Margin(margin) = self.eviction { margin } else { 0.0 };
        let mut shelf = Shelf::new((room * BYTES) as u64, margin);
        for (new, Executable { size, bid }) in executables.iter().enumerate() {
            let gone = match self.eviction {
                Eviction::Newest => make_room(executables, &keeps, *size, room),
                Eviction::Margin(_) => {
                    let taken = shelf.take(FunctionIx(new as u32), (size * BYTES) as u64, *bid as f32);
                    let Ok(out) = taken else { continue };
                    out.iter().map(|function| function.index()).collect()
                }
            };
            report.outbid += gone.iter().filter(|at| per_byte(**at) > per_byte(new)).count() as u64;
            gone.into_iter().for_each(|at| keeps[at] = false);
            keeps[new] = true;
        }
        keeps
    }
}

/// Those that bid least of what is kept, as many as must go until `size` fits into `room`.
fn make_room(executables: &[Executable], keeps: &[bool], size: f64, room: f64) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..keeps.len()).filter(|at| keeps[*at]).collect();
    kept.sort_by(|a, b| executables[*b].bid.total_cmp(&executables[*a].bid));
    let mut taken: f64 = kept.iter().map(|at| executables[*at].size).sum();
    let mut gone = Vec::new();
    while taken + size > room {
        let Some(lowest) = kept.pop() else { break };
        taken -= executables[lowest].size;
        gone.push(lowest);
    }
    gone
}

/// Executes a request on the node that it reached, if that can be, and says when it ends.
fn execute(hosts: &mut [Host; BOUNDED], asked: &Asked, now: u32, random: &mut JavaRandom) -> Option<u32> {
    let host = hosts.get_mut(asked.at);
    let is_possible = |host: &Host| host.keeps[asked.executable as usize] && host.busy[now as usize] < host.slots;
    if host.as_ref().is_some_and(|host| !is_possible(host)) {
        return None;
    }
    let ends = now + whole(random, EXECUTION);
    if let Some(host) = host {
        host.busy[now as usize..ends.min(DURATION) as usize].iter_mut().for_each(|busy| *busy += 1);
    }
    Some(ends)
}

/// A number that differs from the mean by up to half of it: how much, then which way.
fn deviate(random: &mut JavaRandom, mean: f64) -> f64 {
    let by = random.unit() * mean * DEVIATION;
    if random.is_heads() { mean + by } else { mean - by }
}

/// The same in whole milliseconds.
fn whole(random: &mut JavaRandom, mean: f64) -> u32 {
    let by = (random.unit() * mean * DEVIATION).round();
    (if random.is_heads() { mean + by } else { mean - by }) as u32
}
