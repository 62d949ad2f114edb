//! The paper's alternation of remote and local state, on a running fabric: `cargo run --release --example phases`
//!
//! N clients call a stateful function on 40 slots, at 1:100 of the time of Puliafito et al., IEEE Computer 55(9), 2022.
//! Prints what was measured beside the paper's model and draws it. Options: `--quick` (shorter runs, fewer points),
//! `--out FILE` (the page).

mod arm;
#[path = "../shared/chart.rs"]
mod chart;
mod page;
mod provision;
#[path = "../shared/random.rs"]
mod random;
mod session;

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use scf::{
    core::{PhaseLoad, PhasePolicy, PhaseRule, ServiceTimes},
    state::{AlwaysLocal, BestShare, best_share, mean_response},
};

use crate::{
    arm::{Length, RATE, SCALE, SLOTS, run},
    page::{Curve, Point, Saving},
    provision::{plan, provision},
};

/// Clients of the paper's latency figure that are run.
const CLIENTS: [usize; 4] = [50, 70, 90, 110];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (quick, out) = options()?;
    let length =
        |warm_up, measured| Length { warm_up: Duration::from_secs(warm_up), measured: Duration::from_secs(measured) };
    let (short, long) = if quick { (length(3, 5), length(4, 7)) } else { (length(4, 10), length(8, 25)) };
    println!("  N  local     mean s  (model)   p95 s  all remote: mean s  (model)   p95 s   p95 gain");
    let mut curves = Vec::new();
    for clients in CLIENTS {
        let load = paper(clients);
        let optimum = best_share(SLOTS, &load, 1.0);
        let model = |local| mean_response(SLOTS, local, &load).map_or(f64::NAN, |(mean, _)| mean);
        let measure = async |policy: Arc<dyn PhasePolicy>, length: Length, name: &str| {
            let bar = progress(length, &format!("N = {clients}, {name}"))?;
            let arm = run(clients, SLOTS, policy, length, 1, |part| bar.set_position((part * 1000.0) as u64)).await?;
            bar.finish_and_clear();
            Ok::<_, Box<dyn Error>>(arm)
        };
        let remote = measure(Arc::new(Fixed(0)), long, "all remote").await?;
        let mut points = vec![Point { local: 0.0, mean: remote.mean(), p95: remote.quantile(0.95) }];
        let steps = if quick { vec![optimum / 2] } else { vec![optimum / 3, 2 * optimum / 3, optimum + 2] };
        for local in steps {
            let arm = measure(Arc::new(Fixed(local)), short, &format!("{local} local")).await?;
            points.push(Point { local: arm.local, mean: arm.mean(), p95: arm.quantile(0.95) });
        }
        let best = measure(Arc::new(BestShare::new(AlwaysLocal, SLOTS)), long, "the share that is found").await?;
        println!(
            "{clients:>3}  {:>4.1} ({optimum:>2})  {:>6.2}   ({:.2})  {:>6.2}  {:>18.2}   ({:.2})  {:>6.2}  {:>8.0} %  {:.2} cores{}",
            best.local,
            best.mean(),
            model(optimum),
            best.quantile(0.95),
            remote.mean(),
            model(0),
            remote.quantile(0.95),
            100.0 * (1.0 - best.quantile(0.95) / remote.quantile(0.95)),
            best.cores.max(remote.cores),
            if best.failed + remote.failed > 0 { " with failed calls" } else { "" },
        );
        let found = Point { local: best.local, mean: best.mean(), p95: best.quantile(0.95) };
        let model: Vec<(f64, f64)> =
            (0..SLOTS).filter_map(|local| Some((f64::from(local), mean_response(SLOTS, local, &load)?.0))).collect();
        curves.push(Curve { clients, model, points, found });
    }

    println!("\nslots for clients of which a share wants local state, N = 100 (one each: 100)");
    let mut savings = Vec::new();
    for wanted in [0.2, 0.3, 0.4] {
        let bar = progress(short, &format!("{:.0} % want local state", wanted * 100.0))?;
        let provisioned = provision(100, wanted, short, |part| bar.set_position((part * 1000.0) as u64)).await?;
        bar.finish_and_clear();
        println!(
            "{:>4.0} %: {} slots, {} local at most, overflow {:.2} %, mean {:.2} s",
            provisioned.wanted * 100.0,
            provisioned.slots,
            provisioned.local,
            provisioned.overflow * 100.0,
            provisioned.arm.mean(),
        );
        let model = (1..=20).map(|tens| 5 * tens).filter(|&clients| clients >= 10);
        let model = model.map(|clients| (f64::from(clients), f64::from(plan(clients, wanted).0) / f64::from(clients)));
        let measured = f64::from(provisioned.slots) / 100.0;
        savings.push(Saving { wanted, model: model.collect(), measured, overflow: provisioned.overflow });
    }
    std::fs::write(&out, page::html(&curves, &savings)?)?;
    println!("\nfigures: {}", out.display());
    Ok(())
}

/// As many local scopes as it says, whichever come first.
#[derive(Clone, Copy, Debug)]
struct Fixed(u32);

impl PhasePolicy for Fixed {
    fn rule(&self, seed: u64) -> Box<dyn PhaseRule> {
        AlwaysLocal.rule(seed)
    }

    fn share(&self, _: &PhaseLoad) -> u32 {
        self.0
    }
}

/// The experiment as the paper's model has it.
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

fn progress(length: Length, name: &str) -> Result<ProgressBar, Box<dyn Error>> {
    let bar = ProgressBar::new(1000);
    bar.set_style(ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}")?);
    bar.set_message(format!("{name} ({} s)", (length.warm_up + length.measured).as_secs()));
    Ok(bar)
}

fn options() -> Result<(bool, PathBuf), Box<dyn Error>> {
    let (mut quick, mut out) = (false, std::env::temp_dir().join("scf-phases.html"));
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--out" => out = words.next().ok_or("--out needs a file")?.into(),
            _ => return Err(format!("unknown option {word}; see the first lines of this example").into()),
        }
    }
    Ok((quick, out))
}
