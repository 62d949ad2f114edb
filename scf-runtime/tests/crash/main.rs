//! A fabric in a process that is killed while calls are accepted: nothing is lost and nothing happens twice.
//!
//! Is the process that it kills, so it needs its own `main`. With `-- --kills 100 --calls 10000` it does that instead;
//! `cargo bench --bench crash` prints the figures.

mod life;
mod supervisor;

use std::error::Error;

use life::Life;
use supervisor::{Plan, Report};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    if let Some(life) = Life::of_this_process() {
        return life.live();
    }
    if let (Some(kills), Some(calls)) = (number("--kills"), number("--calls")) {
        let folder = tempfile::tempdir()?;
        let report = Plan { calls, kills: u32::try_from(kills)?, fatal: None, seed: 7 }.run(folder.path())?;
        assert_balanced(&report, calls, 7);
        println!("slowest redelivery {:?}; {report:?}", report.redelivery.iter().max());
        return Ok(());
    }
    nothing_is_lost_or_done_twice_when_the_process_is_killed()?;
    a_call_that_ends_its_process_is_given_up_and_takes_no_other_with_it()
}

/// The number behind a flag.
fn number(flag: &str) -> Option<u64> {
    std::env::args().skip_while(|argument| argument != flag).nth(1)?.parse().ok()
}

fn nothing_is_lost_or_done_twice_when_the_process_is_killed() -> Result<(), Box<dyn Error + Send + Sync>> {
    for seed in [1, 2] {
        let folder = tempfile::tempdir()?;
        let report = Plan { calls: 600, kills: 12, fatal: None, seed }.run(folder.path())?;
        assert_balanced(&report, 600, seed);
        assert_eq!((report.kills, report.crashes), (12, 0), "seed {seed}: {report:?}");
        assert!(!report.redelivery.is_empty(), "seed {seed}: a process found calls of the one before");
    }
    println!("nothing_is_lost_or_done_twice_when_the_process_is_killed: ok");
    Ok(())
}

fn a_call_that_ends_its_process_is_given_up_and_takes_no_other_with_it() -> Result<(), Box<dyn Error + Send + Sync>> {
    let folder = tempfile::tempdir()?;
    let report = Plan { calls: 200, kills: 0, fatal: Some(20), seed: 3 }.run(folder.path())?;
    assert_balanced(&report, 200, 3);
    assert_eq!((report.crashes, report.dead), (4, 1), "{report:?}");
    println!("a_call_that_ends_its_process_is_given_up_and_takes_no_other_with_it: ok");
    Ok(())
}

fn assert_balanced(report: &Report, calls: u64, seed: u64) {
    assert_eq!(report.accepted, calls, "seed {seed}: {report:?}");
    assert_eq!(report.completed + report.dead, report.accepted, "seed {seed}: {report:?}");
    assert_eq!((report.lost, report.doubled), (0, 0), "seed {seed}: {report:?}");
}
