//! A fleet of processes that are killed, over a real NATS server: what one accepted while the other was away arrives
//! there, once and in order. Skipped, visibly, where no server can be had.
//!
//! Is the processes that it kills, so it needs its own `main`. `cargo bench --bench offline` prints the figures.

#[path = "../../../tests/support/nats_server.rs"]
mod nats_server;

mod edge;
mod hub;
mod life;
mod supervisor;

use life::{Life, Result};
use nats_server::NatsServer;
use supervisor::{Kill, Plan};

fn main() -> Result<()> {
    if let Some(life) = Life::of_this_process() {
        return life.live();
    }
    what_was_accepted_while_nobody_could_be_reached_arrives_once_and_in_order()?;
    nothing_is_lost_or_done_twice_when_processes_and_broker_are_killed_under_load()
}

fn what_was_accepted_while_nobody_could_be_reached_arrives_once_and_in_order() -> Result<()> {
    let plan = Plan { calls: 400, is_offline: true, kills: vec![Kill::Site] };
    run(&plan, "what_was_accepted_while_nobody_could_be_reached_arrives_once_and_in_order")
}

fn nothing_is_lost_or_done_twice_when_processes_and_broker_are_killed_under_load() -> Result<()> {
    let kills = vec![Kill::Hub, Kill::Edge, Kill::Broker, Kill::Hub, Kill::Edge, Kill::Site];
    let plan = Plan { calls: 700, is_offline: false, kills };
    run(&plan, "nothing_is_lost_or_done_twice_when_processes_and_broker_are_killed_under_load")
}

fn run(plan: &Plan, name: &str) -> Result<()> {
    let Some(broker) = NatsServer::start("") else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let report = plan.run(broker, folder.path())?;
    assert_eq!(report.accepted, plan.calls, "{report:?}");
    assert_eq!(report.completed + report.dead, report.accepted, "{report:?}");
    assert_eq!((report.dead, report.lost, report.doubled, report.disordered), (0, 0, 0, 0), "{report:?}");
    assert_eq!(report.heard_of, plan.calls.div_ceil(edge::ASKED as u64), "{report:?}");
    println!("{name}: ok");
    Ok(())
}
