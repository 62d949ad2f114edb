//! Runs a scenario under all its policies, prints a table of what came of them and draws it.
//!
//! ```text
//! cargo run --release -p scf-sched --features sim --example simulate -- urban-sensing
//! cargo run --release -p scf-sched --features sim --example simulate -- my-scenario.toml --out figures --invocations 5000
//! ```

mod chart;
mod table;

use std::{env, error::Error, fs, path::PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use scf_sched::sim::{Report, Scenario};

struct Arguments {
    scenario: Scenario,
    out: PathBuf,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let (mut name, mut out, mut invocations) = (None, PathBuf::from("target/simulate"), None);
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--out" => out = PathBuf::from(value()?),
            "--invocations" => invocations = Some(value()?.parse()?),
            _ => name = Some(word),
        }
    }
    let usage = || {
        let names: Vec<&str> = Scenario::names().collect();
        format!(
            "usage: simulate SCENARIO [--out FOLDER] [--invocations N]; a TOML file, or one of {}",
            names.join(", ")
        )
    };
    let name = name.ok_or_else(usage)?;
    let scenario = match Scenario::shipped(&name) {
        Some(scenario) => scenario?,
        None => {
            Scenario::from_toml(&fs::read_to_string(&name).map_err(|error| format!("{name}: {error}\n{}", usage()))?)?
        }
    };
    let scenario = if let Some(invocations) = invocations { scenario.with_invocations(invocations) } else { scenario };
    Ok(Arguments { scenario, out })
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { scenario, out } = arguments()?;
    let style = ProgressStyle::with_template("{msg:28} {wide_bar:.cyan} {percent:>3} % {eta:>4}")?;
    let mut all: Vec<(String, Vec<Report>)> = Vec::new();
    for policy in scenario.policies() {
        let mut runs = Vec::new();
        for seed in scenario.seeds() {
            let bar = ProgressBar::new(scenario.invocations().unwrap_or(0)).with_style(style.clone());
            bar.set_message(format!("{policy}, seed {seed}"));
            runs.push(scenario.run(*policy, *seed, |done| bar.set_position(done))?);
            bar.finish_and_clear();
        }
        all.push((policy.to_string(), runs));
    }
    print!("{}", table::of(&all));
    fs::create_dir_all(&out)?;
    for (name, svg) in chart::all(scenario.name(), &all) {
        let path = out.join(format!("{}-{name}.svg", scenario.name()));
        fs::write(&path, svg)?;
        println!("{}", path.display());
    }
    let csv = out.join(format!("{}.csv", scenario.name()));
    fs::write(&csv, table::csv(&all))?;
    println!("{}", csv.display());
    Ok(())
}
