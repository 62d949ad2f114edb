//! Photos classified by three processes over a NATS server, while one of them is killed and comes back:
//! `cargo run --release --features nats --example fleet`
//!
//! The camera alone has the model's file and deploys; the others pull the model by its hash out of the broker's store.
//!
//! Options: `--camera N` and `--gateway N` (how many times slower than this CPU; 20 and 4), `--photos N` (in each of the
//! three parts of the run; 24).
//!
//! The program starts itself for every node, and a NATS server: the one on PATH, or what `examples/assets/nats-server`
//! fetches. None of them outlives it.

mod broker;
mod camera;
mod link;
mod node;
mod process;
mod report;
mod site;

use std::{env, error::Error};

use crate::{node::Role, site::Site};

/// What goes wrong here is told and ends the program.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How the run is.
pub(crate) struct Options {
    pub(crate) camera: f32,
    pub(crate) gateway: f32,
    /// In each part of the run.
    pub(crate) photos: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some(node::WORD) => node::run(Role::read(&words[1..])?).await,
        Some(broker::WORD) => broker::keep(&words[1..]).await,
        _ => {
            let options = options(&words)?;
            println!("starting a broker and the processes camera, gateway and cloud …");
            Site::start(&options).await?.run(&options).await
        }
    }
}

fn options(words: &[String]) -> Result<Options> {
    let mut options = Options { camera: 20.0, gateway: 4.0, photos: 24 };
    for pair in words.chunks(2) {
        let [word, value] = pair else { return Err(format!("{} needs a value", pair[0]).into()) };
        let wrong = |_| format!("{word} takes a number, not {value:?}");
        match word.as_str() {
            "--camera" => options.camera = value.parse().map_err(wrong)?,
            "--gateway" => options.gateway = value.parse().map_err(wrong)?,
            "--photos" => options.photos = value.parse::<u16>().map_err(|_| format!("{word} takes a number"))?.into(),
            _ => return Err(format!("unknown option {word}; see the first lines of this example").into()),
        }
    }
    Ok(options)
}
