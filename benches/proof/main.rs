//! Whether splitting anew for every input beats every split that stays and both ends: `cargo bench --bench proof`, with
//! `-- --quick` for less, `-- --seed N` for another world, `-- --out FILE` for the page.
//!
//! A photo is classified by a node that is ten times slower than the cloud behind a link that changes, beside other
//! callers and under load that change too. Each arm has a fabric of its own with two nodes: router, admission, isolates,
//! planner, estimators and transport are those of production, the blocks really run, and their times are measured once,
//! before the arms take turns. Links and slower nodes are emulated by waiting, on a clock that leaps over waits and over
//! the blocks: what is measured is what links, queues, codecs and the slower node add to the blocks' times, and neither a
//! busy machine nor a fast one shows in it. What decisions cost is measured on an arm whose blocks take real time.

mod arm;
#[path = "../../examples/shared/chart.rs"]
mod chart;
mod clock;
mod crowd;
mod experiment;
mod inputs;
mod oracle;
mod outage;
mod page;
mod processor;
mod regime;
mod table;

use std::{
    io::{IsTerminal, stderr},
    path::PathBuf,
};

use indicatif::{ProgressBar, ProgressStyle};
use scf::{
    ai::{Device, efficientnet_lite0},
    core::{BoxError, WireForm},
};

use crate::{
    clock::Stage,
    experiment::{Labelled, Record, Run, mean},
    outage::Outages,
    processor::{Processor, Profile},
    regime::{Moment, moments},
};

const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/efficientnet-lite0.safetensors");

/// How much is run, and where the page goes.
struct Options {
    lossless: usize,
    decided: usize,
    jpeg: usize,
    failures: usize,
    seed: u64,
    out: PathBuf,
}

impl Options {
    fn read() -> Result<Self, BoxError> {
        let mut out = std::env::temp_dir().join("scf-proof.html");
        let (mut quick, mut seed) = (std::env::var_os("SCF_FIGURES_QUICK").is_some(), 1);
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => quick = true,
                "--seed" => seed = words.next().ok_or("--seed needs a number")?.parse()?,
                "--out" => out = words.next().ok_or("--out needs a file")?.into(),
                // Cargo's own.
                "--bench" => {}
                _ => return Err(format!("unknown option {word}; see the first lines of this bench").into()),
            }
        }
        // Link, queue and load change every hundred inputs on average: fewer would meet no more than a few of them.
        let (lossless, decided, jpeg, failures) = if quick { (2000, 100, 20, 4) } else { (2000, 1000, 500, 20) };
        Ok(Self { lossless, decided, jpeg, failures, seed, out })
    }
}

fn main() -> Result<(), BoxError> {
    let options = Options::read()?;
    let stage = Stage::default();
    let runtime = stage.runtime()?;
    runtime.block_on(async { tokio::spawn(prove(stage, options)).await? })
}

async fn prove(stage: Stage, options: Options) -> Result<(), BoxError> {
    let graph = efficientnet_lite0(&std::fs::read(WEIGHTS)?, Device::Cpu)?;
    let crops = inputs::crops()?;
    let raw = inputs::pixels(&graph, &crops)?;
    let pixels = Labelled::all(&graph, raw.clone())?;
    let network = graph.blocks().len();
    let processor = Processor::new(&graph, Profile::measure(&graph, network, &raw)?);
    let outages = outage::run(&stage, &processor, &pixels, options.failures).await?;
    let world = moments(options.lossless, options.seed);
    let lossless = all_arms(&stage, &processor, WireForm::Int8, &pixels, &world).await?;
    let decided = experiment::decide(&stage, &graph, &pixels, &world[..options.decided]).await?;
    let (behind_jpeg, compressed) = inputs::compressed(&graph, &crops)?;
    let size = behind_jpeg.input.elements().unwrap_or(0) as f64 / 1e3;
    let processor = Processor::new(&behind_jpeg, Profile::measure(&behind_jpeg, network, &compressed)?);
    let compressed = Labelled::all(&behind_jpeg, compressed)?;
    let jpeg = all_arms(&stage, &processor, WireForm::Exact, &compressed, &moments(options.jpeg, options.seed)).await?;

    let parts =
        [("raw pixels, 150 kB".to_owned(), &graph, &lossless), (format!("JPEG, {size:.0} kB"), &behind_jpeg, &jpeg)];
    let mut text = String::new();
    for (title, graph, record) in &parts {
        text.push_str(&table::table(title, graph, record)?);
    }
    text.push_str(&table::outages(&outages));
    eprintln!("{text}");
    std::fs::write(&options.out, page::html(&parts, &text)?)?;
    eprintln!("charts: {}", options.out.display());
    figures(&lossless, &decided, &jpeg, &outages);
    Ok(())
}

async fn all_arms(
    stage: &Stage,
    processor: &Processor,
    form: WireForm,
    inputs: &[Labelled],
    moments: &[Moment],
) -> Result<Record, BoxError> {
    let bar = if stderr().is_terminal() { ProgressBar::new(moments.len() as u64) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}")?);
    let record = experiment::run(stage, processor, form, inputs, moments, || bar.inc(1)).await;
    bar.finish_and_clear();
    record
}

fn figures(lossless: &Record, decided: &[Run], jpeg: &Record, outages: &Outages) {
    let n = lossless.dynamic.len();
    let dynamic = mean(&lossless.dynamic);
    let used = lossless.cuts().iter().filter(|&&count| count as f64 > 0.03 * n as f64).count();
    figure("ai.dynamic.vs_best_static", dynamic / lossless.best_fixed().0, "ratio", n);
    figure("ai.dynamic.vs_oracle", dynamic / mean(&lossless.oracle_runs()), "ratio", n);
    figure("ai.dynamic.cuts_used", used as f64, "cuts", n);
    figure("ai.plan.cpu_share", experiment::planner_share(decided), "share", decided.len());
    let (n, dynamic) = (jpeg.dynamic.len(), mean(&jpeg.dynamic));
    figure("ai.dynamic.jpeg.vs_best_static", dynamic / jpeg.best_fixed().0, "ratio", n);
    figure("ai.dynamic.jpeg.vs_oracle", dynamic / mean(&jpeg.oracle_runs()), "ratio", n);
    figure("ai.linkcut.answered", outages.answered as f64 / outages.asked as f64, "share", outages.asked);
    figure("ai.linkcut.added", outages.added(), "time-outs", outages.asked);
}

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!("{{\"bar\":\"{bar}\",\"value\":{value:.6},\"unit\":\"{unit}\",\"n\":{n}}}");
}
