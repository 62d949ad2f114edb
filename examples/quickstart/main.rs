//! Photos classified across device, gateway and cloud: `cargo run --release --example quickstart`
//!
//! Options: `--camera N` and `--gateway N` (how many times slower than this CPU; 8 and 2), `--out FILE` (the page).

mod arms;
mod assemble;
mod network;
mod page;
mod record;
mod report;
mod run;
mod tally;

use std::{
    error::Error,
    io::{IsTerminal, stdout},
    path::PathBuf,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    assemble::{Demo, Slowdowns},
    network::SCHEDULE,
    record::Frame,
    run::Photo,
};

/// The first frames come rarely, so that the state of `tally` stays where it is at first …
const RARE: (usize, Duration) = (3, Duration::from_millis(2600));
/// … and before the last ones nothing comes for a while, so that it returns.
const PAUSE: (usize, Duration) = (57, Duration::from_millis(3200));

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (slow, out) = options()?;
    let disk = tempfile::tempdir()?;
    println!("compiling the guests, loading the model, measuring nodes and links …");
    let demo = Demo::assemble(disk.path(), slow)?;
    let photos = Photo::load()?;
    let best_static = demo.prepare(&photos).await?;

    let bar = if stdout().is_terminal() {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        bar.set_length(SCHEDULE.iter().map(|weather| weather.frames as u64).sum());
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")?);
        bar
    } else {
        ProgressBar::hidden()
    };
    let mut frames: Vec<Frame> = Vec::new();
    let start = demo.fabric.now();
    for (weather, state) in SCHEDULE.iter().enumerate() {
        state.apply(&demo.network, &demo.gateway, &demo.cloud)?;
        for _ in 0..state.frames {
            let number = frames.len();
            if (1..RARE.0).contains(&number) {
                tokio::time::sleep(RARE.1).await;
            } else if number == PAUSE.0 {
                tokio::time::sleep(PAUSE.1).await;
            }
            let at = demo.fabric.now().since(start);
            let frame = demo.frame(number, weather, at, &photos[number % photos.len()]).await?;
            let line = progress(&frame, state.name);
            bar.set_message(line.clone());
            bar.inc(1);
            if bar.is_hidden() {
                println!("{:>3} {line}", number + 1);
            }
            frames.push(frame);
        }
    }
    bar.finish_and_clear();

    let tables = report::tables(&frames, &demo.fabric.bills(), &best_static)?;
    println!("\n{tables}");
    let images: Vec<(&str, Vec<u8>)> = photos.iter().map(|photo| (photo.name, photo.jpeg.to_vec())).collect();
    std::fs::write(&out, page::html(&frames, &images, &tables)?)?;
    println!("timeline: {}", out.display());
    Ok(demo.fabric.shutdown().await?)
}

fn progress(frame: &Frame, weather: &str) -> String {
    match &frame.arms[0] {
        Ok(run) => format!(
            "{weather:<14} {:>8} {:<44} {} is {}, tally {}",
            report::millis(Some(run.took)),
            run.split,
            frame.photo,
            frame.label,
            frame.phase
        ),
        Err(error) => format!("{weather:<14} {error}"),
    }
}

fn options() -> Result<(Slowdowns, PathBuf), Box<dyn Error>> {
    let (mut slow, mut out) =
        (Slowdowns { camera: 8.0, gateway: 2.0 }, std::env::temp_dir().join("scf-quickstart.html"));
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{word} takes a number, not {value:?}"));
        match word.as_str() {
            "--camera" => slow.camera = number()?,
            "--gateway" => slow.gateway = number()?,
            "--out" => out = value.into(),
            _ => return Err(format!("unknown option {word}; see the first lines of this example").into()),
        }
    }
    Ok((slow, out))
}
