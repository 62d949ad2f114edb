//! Three processes in network namespaces whose links fail: `cargo bench --features nats --bench netns`, with `-- --quick`
//! for less.
//!
//! Each fault lasts some seconds while calls go over the link; the figures are the longest time from the end of a fault
//! until every node is answered by every other one again, and what was lost or done twice over all faults. Skipped,
//! visibly, without root, `ip`, `tc`, `nft` and a NATS server.

#[path = "../tests/netns/fleet.rs"]
mod fleet;
#[path = "../tests/support/nats_server.rs"]
mod nats_server;
#[path = "../tests/netns/network.rs"]
mod network;
#[path = "../tests/netns/node.rs"]
mod node;
#[path = "../tests/netns/scenario.rs"]
mod scenario;

use std::error::Error;

use fleet::Fleet;
use network::Fault;
use node::Life;
use scenario::suffer;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How often every fault happens, and how many calls each node accepts before, during and after it.
const ROUNDS: usize = 5;
const CALLS: u64 = 100;

fn main() -> Result<()> {
    if let Some(lived) = Life::of_this_process() {
        return lived;
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, calls) = if quick { (1, 8) } else { (ROUNDS, CALLS) };
    let Some(mut fleet) = Fleet::start()? else { return Ok(()) };
    let (mut longest, mut wrong, mut accepted, mut faults) = (0.0_f64, 0, 0, 0);
    for fault in std::iter::repeat_n(Fault::ALL, rounds).flatten() {
        let report = suffer(&mut fleet, fault, calls)?;
        eprintln!("{:?}: converged after {:.2} s", report.fault, report.converged.as_secs_f64());
        longest = longest.max(report.converged.as_secs_f64());
        // Each report counts from the start.
        wrong = report.lost + report.doubled + report.accepted - report.completed - report.dead;
        (accepted, faults) = (report.accepted, faults + 1);
    }
    println!(r#"{{"bar":"fleet.converge_s","value":{longest:.3},"unit":"s","n":{faults}}}"#);
    println!(r#"{{"bar":"fleet.lost_or_doubled","value":{wrong},"unit":"calls","n":{accepted}}}"#);
    Ok(())
}
