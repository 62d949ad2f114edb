//! Phases of stateful functions beside the paper's model: `cargo bench --bench phases`, with `-- --quick` for less.
//!
//! The experiment of Puliafito et al. (IEEE Computer 55(9), 2022) at 1:100 of its time on a real fabric, the phase
//! policy beside the offline optimum, and scopes that move between two nodes under load.

use std::{error::Error, sync::Arc, time::Duration};

use scf::{
    core::{PhaseLoad, ServiceTimes},
    state::{
        AlwaysLocal, AlwaysRemote, BestShare, Migration, SkiRental, best_share,
        replay::{TraceCosts, TraceFamily, optimum, replay},
    },
};

#[path = "../examples/phases/arm.rs"]
mod arm;
#[path = "phases/migrate.rs"]
mod migrate;
#[path = "../examples/phases/provision.rs"]
mod provision;
#[path = "../examples/shared/random.rs"]
mod random;
#[path = "../examples/phases/session.rs"]
mod session;

use arm::{Length, RATE, SCALE, SLOTS, run};

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

/// Twenty seeds on each family of traces.
fn ski_rental() {
    let costs = TraceCosts::default();
    let policy = SkiRental { patience: Duration::MAX, warm_cost: costs.warm, ..SkiRental::default() };
    let (mut worst, seeds) = (0.0f64, 20);
    for family in TraceFamily::ALL {
        let (mut sum, mut most) = (0.0, 0.0f64);
        for seed in 0..seeds {
            let trace = family.trace(4000, seed);
            let ratio = replay(&policy, &trace, &costs, seed) / optimum(&trace, &costs);
            (sum, most) = (sum + ratio, most.max(ratio));
        }
        let mean = sum / seeds as f64;
        eprintln!("{:14} {mean:.2} of the optimum, at most {most:.2}", family.as_str());
        worst = worst.max(mean);
        if family == TraceFamily::Bursty {
            figure("phase.ski.bursty", mean, "ratio", 4000 * seeds as usize);
        }
    }
    figure("phase.ski.worst", worst, "ratio", 4000 * seeds as usize * TraceFamily::ALL.len());
}

async fn experiment(clients: &[usize], length: Length) -> Result<(), Box<dyn Error>> {
    for &clients in clients {
        let remote = run(clients, SLOTS, Arc::new(AlwaysRemote), length, 1, |_| {}).await?;
        let share = Arc::new(BestShare::new(AlwaysLocal, SLOTS));
        let best = run(clients, SLOTS, share, length, 1, |_| {}).await?;
        let optimum = f64::from(best_share(SLOTS, &paper(clients), 1.0));
        eprintln!(
            "N={clients}: all remote {:.2} s, p95 {:.2}; {:.1} local (optimum {optimum}) {:.2} s, p95 {:.2}; {:.2} and {:.2} \
             cores, {} calls failed",
            remote.mean(),
            remote.quantile(0.95),
            best.local,
            best.mean(),
            best.quantile(0.95),
            remote.cores,
            best.cores,
            remote.failed + best.failed,
        );
        let n = best.responses.len();
        figure(&format!("phase.n{clients}.mean_s"), best.mean(), "s", n);
        figure(&format!("phase.n{clients}.remote_mean_s"), remote.mean(), "s", remote.responses.len());
        figure(&format!("phase.n{clients}.p95_gain"), 1.0 - best.quantile(0.95) / remote.quantile(0.95), "share", n);
        figure(&format!("phase.n{clients}.off_optimum"), (best.local - optimum).abs(), "slots", n);
    }
    Ok(())
}

/// The experiment as a model.
fn paper(clients: usize) -> PhaseLoad {
    let times = |mean| ServiceTimes { calls: 1e6, mean, variation: 1.0 };
    PhaseLoad {
        scopes: clients as u32,
        rate: RATE * SCALE * clients as f64,
        remote: times(3.0),
        local: times(1.0),
        remote_cost: 2.0,
        ..PhaseLoad::default()
    }
}

async fn provisioning(shares: &[f64], length: Length) -> Result<(), Box<dyn Error>> {
    let (clients, mut saved, mut n) = (100, f64::INFINITY, 0);
    for &share in shares {
        let provisioned = provision::provision(clients, share, length, |_| {}).await?;
        let provision::Provisioned { wanted, slots, local, overflow, arm } = provisioned;
        eprintln!(
            "{:.0} % want local: {slots} slots, {local} local at most, overflow {:.2} %, mean {:.2} s, {:.2} cores",
            wanted * 100.0,
            overflow * 100.0,
            arm.mean(),
            arm.cores
        );
        // Where clients overflow, the slots were not enough.
        let enough = overflow <= provision::OVERFLOW && arm.failed == 0;
        saved = saved.min(if enough { 1.0 - f64::from(slots) / f64::from(clients) } else { 0.0 });
        n += arm.responses.len();
    }
    figure("phase.slots_saved_n100", saved, "share", n);
    Ok(())
}

async fn migrations(moves: usize) -> Result<(), Box<dyn Error>> {
    let staged = migrate::run(Migration::TwoStage, moves).await?;
    let stopped = migrate::run(Migration::StopAndCopy, moves.div_ceil(3)).await?;
    eprintln!(
        "two stages: gate closed p50 {:.1} ms, p99 {:.1} ms; stop and copy: p50 {:.1} ms; {} calls",
        staged.closed(0.5),
        staged.closed(0.99),
        stopped.closed(0.5),
        staged.calls + stopped.calls,
    );
    figure("migrate.gate_p99_ms", staged.closed(0.99), "ms", moves);
    figure("migrate.gate_vs_stop_and_copy", stopped.closed(0.5) / staged.closed(0.5), "ratio", moves);
    figure("migrate.lost_or_doubled", (staged.wrong + stopped.wrong) as f64, "calls", staged.calls + stopped.calls);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let length =
        |warm_up, measured| Length { warm_up: Duration::from_secs(warm_up), measured: Duration::from_secs(measured) };
    ski_rental();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if quick {
            experiment(&[50], length(4, 8)).await?;
            provisioning(&[0.4], length(2, 8)).await?;
            migrations(20).await
        } else {
            experiment(&[50, 70, 90, 110], length(8, 25)).await?;
            provisioning(&[0.2, 0.3, 0.4], length(3, 20)).await?;
            migrations(100).await
        }
    })
}
