//! Inference on the CPU: `cargo bench -p scf-ai --bench cpu`.
//!
//! Prints how MiniLM-L6's similarities of the Lee corpus agree with people's and what an inference takes beside the
//! same network out of one thread. With `--serve minilm|lite0 THREADS` it answers each line of the standard input
//! with the outputs' first elements and the nanoseconds that one inference took, for `benches/side-by-side/onnxruntime`.

use std::{
    error::Error,
    io::{self, BufRead as _, Write as _},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use scf_ai::{Device, MiniLm, SentenceTokenizer, efficientnet_lite0};
use scf_core::{Activation, BlockGraph};

#[path = "../../examples/assets/fetched.rs"]
mod fetched;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Tokens of the text that is timed.
const TOKENS: usize = 128;

fn graph(model: &str, threads: NonZeroUsize) -> Result<BlockGraph> {
    match model {
        "minilm" => {
            let weights = fetched::read("minilm-l6.safetensors")?;
            Ok(MiniLm::new(TOKENS).threads(threads).load(&weights, Device::Cpu)?)
        }
        "lite0" => {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/assets/efficientnet-lite0.safetensors");
            Ok(efficientnet_lite0(&std::fs::read(path)?, Device::Cpu)?)
        }
        other => Err(format!("no model {other}: minilm or lite0").into()),
    }
}

/// Ids of tokens, or a pattern of colours; the side-by-side script makes the same.
fn input(model: &str, graph: &BlockGraph) -> Result<Activation> {
    let elements = graph.input.elements().ok_or("the input has a size")?;
    let value = |i: usize| match model {
        "minilm" => (i * 37 % 20_000 + 1000) as f32,
        _ => (i % 97) as f32 / 48.5 - 1.0,
    };
    let bytes: Vec<u8> = (0..elements).flat_map(|i| value(i).to_le_bytes()).collect();
    Ok(Activation::new(graph.input.clone(), bytes.into())?)
}

fn floats(activation: &Activation) -> Result<Vec<f32>> {
    Ok(activation.bytes()?.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

fn serve(model: &str, threads: NonZeroUsize) -> Result<()> {
    let graph = graph(model, threads)?;
    let x = input(model, &graph)?;
    let blocks = graph.blocks().len();
    for line in io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        let y = graph.run(0..blocks, x.clone())?;
        let took = start.elapsed().as_nanos();
        let first: Vec<String> = floats(&y)?.iter().take(8).map(f32::to_string).collect();
        println!("{took} {}", first.join(" "));
        io::stdout().flush()?;
    }
    Ok(())
}

/// Pearson's correlation of the cosines of the corpus's texts with how alike people found them.
fn pearson(graph: &BlockGraph) -> Result<f64> {
    let tokenizer = SentenceTokenizer::open(&fetched::read("minilm-l6-tokenizer.json")?, TOKENS)?;
    let texts = String::from_utf8(fetched::read("lee.txt")?)?;
    let mut embeddings = Vec::new();
    for text in texts.lines() {
        embeddings.push(floats(&graph.run(0..graph.blocks().len(), tokenizer.encode(text)?)?)?);
    }
    let mut pairs = Vec::new();
    for (i, line) in String::from_utf8(fetched::read("lee-similarities.txt")?)?.lines().enumerate() {
        for (j, people) in line.split_whitespace().enumerate().skip(i + 1) {
            let cosine: f32 = embeddings[i].iter().zip(&embeddings[j]).map(|(a, b)| a * b).sum();
            pairs.push((f64::from(cosine), people.parse::<f64>()?));
        }
    }
    let n = pairs.len() as f64;
    let (x, y) = pairs.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let (xy, xx, yy) = pairs.iter().fold((0.0, 0.0, 0.0), |(xy, xx, yy), p| {
        (xy + (p.0 - x) * (p.1 - y), xx + (p.0 - x).powi(2), yy + (p.1 - y).powi(2))
    });
    Ok(xy / (xx * yy).sqrt())
}

fn median(graph: &BlockGraph, x: &Activation, rounds: usize) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        graph.run(0..graph.blocks().len(), x.clone())?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[rounds / 2])
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--serve") {
        let [model, threads] = arguments.get(at + 1..at + 3).ok_or("--serve MODEL THREADS")? else {
            return Err("--serve MODEL THREADS".into());
        };
        return serve(model, threads.parse()?);
    }
    let rounds = if arguments.iter().any(|argument| argument == "--quick") { 11 } else { 101 };
    for model in ["lite0", "minilm"] {
        let graph = match graph(model, NonZeroUsize::MIN) {
            Ok(graph) => graph,
            // What was not fetched is left out.
            Err(error) if error.is::<io::Error>() => {
                eprintln!("{error}");
                continue;
            }
            Err(error) => return Err(error),
        };
        let x = input(model, &graph)?;
        let took = median(&graph, &x, rounds)?.as_secs_f64() * 1e3;
        println!(r#"{{"bar":"ai.{model}.one_thread","value":{took:.2},"unit":"ms","n":{rounds}}}"#);
        if model == "minilm" {
            println!(r#"{{"bar":"ai.minilm.lee_pearson","value":{:.4},"unit":"corr","n":1225}}"#, pearson(&graph)?);
        }
    }
    Ok(())
}
