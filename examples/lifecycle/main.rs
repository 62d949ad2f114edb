//! The life of a model on a running fabric: `cargo run --release --example lifecycle`
//!
//! Handwritten digits are trained on by three edge nodes that keep their pictures (federated averaging), the model is
//! measured, let through a gate and serves. Then the pictures change: the monitor finds it, the edges train again with
//! what was labelled meanwhile, and the new version takes over under traffic, a tenth of the calls first. Options:
//! `--drift inverted|shifted|noisy|rotated`, `--seed N`, `--quick` (fewer calls), `--out FILE` (the page).

#[path = "../shared/chart.rs"]
mod chart;
mod cycle;
mod drifted;
mod functions;
mod page;
#[path = "../shared/random.rs"]
mod random;
mod report;
mod site;
mod traffic;

use std::{
    io::{IsTerminal, stdout},
    path::PathBuf,
    sync::Arc,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use scf::{
    ai::DigitImages,
    state::{MemoryObjects, ObjectConfig},
};

use crate::{
    cycle::{Event, Scale, live},
    drifted::Drift,
    site::{Disks, Failure},
};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/digits.safetensors");

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (scale, out) = options()?;
    let digits = DigitImages::read(&std::fs::read(DIGITS)?)?;
    let disks = Disks::new(Arc::new(MemoryObjects::new(ObjectConfig::default())));
    let bar = if stdout().is_terminal() {
        ProgressBar::with_draw_target(Some(u64::from(scale.rounds)), ProgressDrawTarget::stdout())
    } else {
        ProgressBar::hidden()
    };
    bar.set_style(ProgressStyle::with_template("training {bar:30} {pos:>2}/{len} {msg}")?);
    let mut tell = |event: Event<'_>| {
        let line = match event {
            Event::Round { version, round, of, loss, accuracy } => {
                bar.set_length(u64::from(of));
                bar.set_position(u64::from(round));
                let accuracy = accuracy * 100.0;
                let line = format!("version {version}, loss {loss:.3}, accuracy {accuracy:.1} %");
                bar.set_message(line.clone());
                if round < of && !bar.is_hidden() {
                    return;
                }
                format!("round {round:>2} of {of}: {line}")
            }
            Event::Step(step) => step.to_owned(),
        };
        if bar.is_hidden() { println!("{line}") } else { bar.println(line) }
    };
    let story = live(&disks, digits, scale, &mut tell).await?;
    bar.finish_and_clear();
    let table = report::table(&story)?;
    println!("\n{table}");
    std::fs::write(&out, page::html(&story, &table)?)?;
    println!("page: {}", out.display());
    match story.log.errors.first() {
        Some(error) => Err(format!("{} calls failed: {error}", story.log.errors.len()).into()),
        None => Ok(()),
    }
}

fn options() -> Result<(Scale, PathBuf), Failure> {
    let mut scale = Scale { rounds: 12, calm: 1500, seed: 1, drift: Drift::Inverted };
    let mut out = std::env::temp_dir().join("scf-lifecycle.html");
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => scale.calm = 500,
            "--seed" => scale.seed = value()?.parse().map_err(|_| "--seed takes a number")?,
            "--out" => out = value()?.into(),
            "--drift" => {
                let name = value()?;
                let found = Drift::ALL.iter().find(|(known, _)| *known == name);
                scale.drift = found.ok_or("--drift takes inverted, shifted, noisy or rotated")?.1;
            }
            _ => return Err(format!("unknown option {word}; see the first lines of this example").into()),
        }
    }
    Ok((scale, out))
}
