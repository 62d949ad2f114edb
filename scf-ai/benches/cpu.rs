//! Inference on the CPU: `cargo bench -p scf-ai --bench cpu`.
//!
//! Prints what an inference takes on one thread, and of MiniLM-L6, also in eight bits, how its similarities of the Lee
//! corpus agree with people's and what its weights take. With `--serve MODEL THREADS FILE` it writes its input to the file and says so with a
//! line, then answers each line of the standard input with the nanoseconds that one inference took and the output's
//! elements, for `benches/side-by-side/inference`.

use std::{
    error::Error,
    io::{self, BufRead as _, Write as _},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use photo::Photo;
use scf_ai::{Device, EfficientNetLite, MiniLm, SentenceTokenizer, SileroVad};
use scf_core::{Activation, BlockGraph};

#[path = "../../examples/assets/fetched.rs"]
mod fetched;
#[path = "../tests/photo/mod.rs"]
mod photo;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Tokens of the text that is timed.
const TOKENS: usize = 128;

fn graph(model: &str, threads: NonZeroUsize) -> Result<BlockGraph> {
    match model {
        "minilm" | "minilm-int8" => {
            let weights = fetched::read("minilm-l6.safetensors")?;
            let float = MiniLm::new(TOKENS).threads(threads);
            let model = if model == "minilm" { float } else { float.int8() };
            Ok(model.load(&weights, Device::Cpu)?)
        }
        "vad" => Ok(SileroVad::load(&fetched::read("silero-vad-16k.safetensors")?)?),
        "lite0" => lite(EfficientNetLite::Lite0),
        "lite1" => lite(EfficientNetLite::Lite1),
        "lite2" => lite(EfficientNetLite::Lite2),
        other => Err(format!("no model {other}: minilm, minilm-int8, vad, lite0, lite1 or lite2").into()),
    }
}

fn lite(variant: EfficientNetLite) -> Result<BlockGraph> {
    let name = format!("{}.safetensors", variant.name());
    let kept = format!("{}/../examples/assets/{name}", env!("CARGO_MANIFEST_DIR"));
    let weights = std::fs::read(kept).or_else(|_| fetched::read(&name))?;
    Ok(variant.load(&weights, Device::Cpu)?)
}

/// Ids of tokens, 32 ms of a tone, or a photo.
fn input(model: &str, graph: &BlockGraph) -> Result<Activation> {
    let bytes = match model {
        "minilm" | "minilm-int8" => (0..TOKENS).flat_map(|i| ((i * 37 % 20_000 + 1000) as f32).to_le_bytes()).collect(),
        "vad" => (0..SileroVad::CHUNK).flat_map(|i| ((i as f32 * 0.1).sin() * 0.3).to_le_bytes()).collect(),
        _ => Photo::load("china").centre(graph.input.shape[1]),
    };
    Ok(Activation::new(graph.input.clone(), bytes.into())?)
}

fn floats(activation: &Activation) -> Result<Vec<f32>> {
    Ok(activation.bytes()?.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

fn serve(model: &str, threads: NonZeroUsize, file: &str) -> Result<()> {
    let graph = graph(model, threads)?;
    let x = input(model, &graph)?;
    std::fs::write(file, x.bytes()?)?;
    println!("{file}");
    let blocks = graph.blocks().len();
    for line in io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        let y = graph.run(0..blocks, x.clone())?;
        let took = start.elapsed().as_nanos();
        let elements: Vec<String> = floats(&y)?.iter().map(f32::to_string).collect();
        println!("{took} {}", elements.join(" "));
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
        let [_, model, threads, file] = arguments.get(at..at + 4).unwrap_or_default() else {
            return Err("--serve MODEL THREADS FILE".into());
        };
        return serve(model, threads.parse()?, file);
    }
    let rounds = if arguments.iter().any(|argument| argument == "--quick") { 11 } else { 101 };
    for model in ["lite0", "lite1", "lite2", "minilm", "minilm-int8", "vad"] {
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
        println!(r#"{{"bar":"ai.{model}.one_thread","value":{took:.3},"unit":"ms","n":{rounds}}}"#);
        if model.starts_with("minilm") {
            println!(r#"{{"bar":"ai.{model}.lee_pearson","value":{:.4},"unit":"corr","n":1225}}"#, pearson(&graph)?);
            let weights: u64 = graph.blocks().iter().map(|block| block.cost(&graph.input).weights.bytes()).sum();
            println!(r#"{{"bar":"ai.{model}.weights","value":{:.1},"unit":"MB","n":1}}"#, weights as f64 / 1e6);
        }
    }
    Ok(())
}
