//! A fabric whose process is killed while asynchronous calls are accepted: `cargo bench --bench crash`, with
//! `-- --quick` for 10 kills, with `-- --long` for a thousand.
//!
//! Prints the figures of the run with 100 kills and 10 000 calls, and of the long one; the quick one says what it did,
//! on standard error, with one figure that does not depend on how long it ran.

use std::error::Error;

#[path = "../scf-runtime/tests/crash/life.rs"]
mod life;
#[path = "../scf-runtime/tests/crash/supervisor.rs"]
mod supervisor;

use life::Life;
use supervisor::Plan;

fn figure(bar: &str, value: f64, unit: &str, n: u64) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    if let Some(life) = Life::of_this_process() {
        return life.live();
    }
    let is_asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    let (calls, kills) = match (is_asked("--quick"), is_asked("--long")) {
        (true, _) => (1000, 10),
        (_, true) => (100_000, 1000),
        _ => (10_000, 100),
    };
    let folder = tempfile::tempdir()?;
    let report = Plan { calls, kills, fatal: None, seed: 7 }.run(folder.path())?;
    eprintln!(
        "{} kills, {} crashes, {} accepted, {} completed, {} dead letters",
        report.kills, report.crashes, report.accepted, report.completed, report.dead
    );
    let unaccounted = report.accepted.abs_diff(report.completed + report.dead);
    figure("crash.lost", (report.lost + unaccounted) as f64, "calls", report.accepted);
    figure("crash.doubled", report.doubled as f64, "effects", report.accepted);
    let slowest = report.redelivery.iter().max().ok_or("no process found calls of the one before")?;
    figure("crash.redelivery_s", slowest.as_secs_f64(), "s", report.redelivery.len() as u64);
    if !is_asked("--quick") {
        figure("crash.kills", f64::from(report.kills), "kills", report.accepted);
    }
    Ok(())
}
