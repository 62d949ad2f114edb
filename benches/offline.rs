//! An edge that goes on accepting calls of a hub that is away, over a real NATS server:
//! `cargo bench --features nats --bench offline`, with `-- --quick` for less.
//!
//! Two processes and a broker, all of them killed with SIGKILL. First 10 000 calls are accepted while hub and broker are
//! down, and both are killed twice more while the calls are brought over; what is drained is counted when a call has run
//! and its effect is on the hub's disk. Then, not in the quick variant, one of the three is killed 66 times under load, 55 times a node.
//! Skipped, visibly, where no server can be had.

#[path = "../tests/support/nats_server.rs"]
mod nats_server;

#[path = "../scf-runtime/tests/offline/edge.rs"]
mod edge;
#[path = "../scf-runtime/tests/offline/hub.rs"]
mod hub;
#[path = "../scf-runtime/tests/offline/life.rs"]
mod life;
#[path = "../scf-runtime/tests/offline/supervisor.rs"]
mod supervisor;

use life::{Life, Result};
use nats_server::NatsServer;
use supervisor::{Kill, Plan, Report};

fn figure(bar: &str, value: f64, unit: &str, n: u64) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

/// Runs a plan; `None` where no server can be had.
fn run(plan: &Plan, name: &str) -> Result<Option<Report>> {
    let Some(broker) = NatsServer::start("") else { return Ok(None) };
    let folder = tempfile::tempdir()?;
    let report = plan.run(broker, folder.path())?;
    eprintln!("{name}: {} kills, {report:?}", plan.kills.len());
    Ok(Some(report))
}

/// Calls that are neither completed nor dead letters, happened twice, or overtook another of their key.
fn wrong(report: &Report) -> u64 {
    let unaccounted = report.accepted.abs_diff(report.completed + report.dead);
    report.lost + report.doubled + report.disordered + unaccounted
}

fn main() -> Result<()> {
    if let Some(life) = Life::of_this_process() {
        return life.live();
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let offline = Plan { calls: if quick { 4000 } else { 10_000 }, is_offline: true, kills: vec![Kill::Site; 2] };
    let Some(report) = run(&offline, "offline")? else { return Ok(()) };
    let slowest = report.resync.iter().max().ok_or("no call came")?;
    figure("fleet.resync_first_s", slowest.as_secs_f64(), "s", report.resync.len() as u64);
    figure("fleet.drain_per_s", report.completed as f64 / report.draining.as_secs_f64(), "1/s", report.completed);
    let (mut wrong_calls, mut calls) = (wrong(&report), report.accepted);
    if !quick {
        let round = [Kill::Hub, Kill::Edge, Kill::Hub, Kill::Broker, Kill::Edge, Kill::Site];
        let under_load = Plan { calls: 12_000, is_offline: false, kills: round.repeat(11) };
        let report = run(&under_load, "under load")?.ok_or("the server is gone")?;
        (wrong_calls, calls) = (wrong_calls + wrong(&report), calls + report.accepted);
    }
    figure("fleet.lost_or_doubled", wrong_calls as f64, "calls", calls);
    Ok(())
}
