//! What is done during a fault, and what must hold.

use std::time::{Duration, Instant};

use super::{Result, fleet::Fleet, network::Fault};

/// How long a fault lasts: long enough that everybody has noticed it, and that a connection over which nothing came is
/// given up.
const LASTS: Duration = Duration::from_secs(10);

/// What came of a fault.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) fault: Fault,
    /// From its end until every node knew of every other one again and was answered by it.
    pub(crate) converged: Duration,
    /// Of all nodes, since the fleet was started.
    pub(crate) accepted: u64,
    pub(crate) completed: u64,
    pub(crate) dead: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
}

/// Has every node accept `calls` before, during and after `fault`, which lasts some seconds, and waits until all of
/// them are settled.
pub(crate) fn suffer(fleet: &mut Fleet, fault: Fault, calls: u64) -> Result<Report> {
    let accept = format!("accept {calls}");
    fleet.ask_all(&accept)?;
    let begun = Instant::now();
    fleet.network.begin(fault)?;
    // What is accepted is on the node's own disk: no link is needed for it.
    fleet.ask_all(&accept)?;
    if matches!(fault, Fault::Partition | Fault::Mute | Fault::Deaf) {
        // Who is cut off knows it, and takes nobody for gone; the others take it for gone, and not each other.
        fleet.ask("a", "until hub CutOff")?;
        fleet.ask("b", "until hub Alive")?;
        if fault != Fault::Deaf {
            fleet.ask("b", "until a Suspected Gone")?;
        }
    }
    // It goes on serving what is its own.
    let ran = fleet.ask("a", "alone")?;
    if ran != "a" {
        return Err(format!("{fault:?}: a function of a alone ran on {ran}").into());
    }
    std::thread::sleep(LASTS.saturating_sub(begun.elapsed()));
    let healed = Instant::now();
    fleet.network.heal(fault)?;
    fleet.ask_all("converge")?;
    let converged = healed.elapsed();
    fleet.ask_all(&accept)?;
    let mut report = Report { fault, converged, accepted: 0, completed: 0, dead: 0, lost: 0, doubled: 0 };
    for counted in fleet.ask_all("settle")? {
        let numbers: Vec<u64> = counted.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [accepted, completed, dead, lost, doubled] = numbers[..] else { return Err(counted.into()) };
        report.accepted += accepted;
        report.completed += completed;
        report.dead += dead;
        report.lost += lost;
        report.doubled += doubled;
    }
    Ok(report)
}
