//! Three processes in network namespaces whose links fail: nothing is lost, nothing happens twice, who is cut off goes
//! on alone, and all meet again. Takes root, `ip`, `tc` and `nft`; skipped, visibly, without them.
//!
//! Is the processes that it starts, so it needs its own `main`. `cargo bench --features nats --bench netns` prints the
//! figures.

mod fleet;
#[path = "../support/nats_server.rs"]
mod nats_server;
mod network;
mod node;
mod scenario;

use std::error::Error;

use fleet::Fleet;
use network::Fault;
use node::Life;
use scenario::suffer;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    if let Some(lived) = Life::of_this_process() {
        return lived;
    }
    calls_that_cross_a_link_that_fails_are_neither_lost_nor_doubled_and_all_meet_again()
}

fn calls_that_cross_a_link_that_fails_are_neither_lost_nor_doubled_and_all_meet_again() -> Result<()> {
    let Some(mut fleet) = Fleet::start()? else { return Ok(()) };
    for fault in Fault::ALL {
        let report = suffer(&mut fleet, fault, 8)?;
        assert_eq!(report.completed + report.dead, report.accepted, "{report:?}");
        assert_eq!((report.lost, report.doubled), (0, 0), "{report:?}");
        let ms = report.converged.as_millis();
        println!("{:?}: {} calls, none lost, none doubled, converged after {ms} ms", report.fault, report.accepted);
    }
    println!("calls_that_cross_a_link_that_fails_are_neither_lost_nor_doubled_and_all_meet_again: ok");
    Ok(())
}
