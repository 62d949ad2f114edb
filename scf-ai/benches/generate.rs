//! Tokens out of a language model on one thread: `cargo bench -p scf-ai --bench generate`.
//!
//! Prints what tokens of SmolLM2-135M in Q4_1 take one by one and what a prompt of 128 takes until the first is there,
//! in CPU time of the process, beside what candle takes for the same matrix products alone. Ends with one JSON line per figure for `benches/figures`.

use std::{error::Error, io::Cursor, path::PathBuf, process::Command, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use scf_ai::{
    Generation, Llama, Sampling,
    candle_core::{
        DType, Device, Module, Tensor,
        quantized::{QMatMul, gguf_file::Content},
    },
};
use scf_core::{Bytes, ModelName};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PROMPT: usize = 128;
/// Candle's own threads spin while they wait, which would be counted.
const THREADS: &str = "CANDLE_NUM_THREADS";

/// Where `examples/assets/fetch-models` puts what it fetches.
fn model() -> Result<Bytes> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let folder = std::env::var_os("SCF_MODELS").map(PathBuf::from).or_else(|| Some(cache?.join("scf/models")));
    let path = folder.ok_or("HOME is not set")?.join("smollm2-135m-instruct.q4_1.gguf");
    let missing = |error| format!("{}: {error}; run examples/assets/fetch-models", path.display());
    Ok(std::fs::read(&path).map_err(missing)?.into())
}

fn timed<T>(f: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    };
    let start = now();
    Ok((f()?, now() - start))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// The matrices that one token is multiplied with, as candle has them.
fn products(file: &[u8]) -> Result<Vec<(QMatMul, Tensor)>> {
    let content = Content::read(&mut Cursor::new(file))?;
    let mut products = Vec::new();
    for (name, info) in &content.tensor_infos {
        if let &[_, columns] = info.shape.dims() {
            let matrix = content.tensor(&mut Cursor::new(file), name, &Device::Cpu)?;
            products.push((QMatMul::from_qtensor(matrix)?, Tensor::ones((1, columns), DType::F32, &Device::Cpu)?));
        }
    }
    Ok(products)
}

fn main() -> Result<()> {
    if std::env::var_os(THREADS).is_none() {
        let again =
            Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(THREADS, "1").status()?;
        std::process::exit(again.code().unwrap_or(1));
    }
    let (rounds, prompts) = if std::env::args().any(|argument| argument == "--quick") { (16, 3) } else { (128, 9) };
    let file = model()?;
    let (model, opened) = timed(|| Ok(Llama::open(file.clone(), 2048)?))?;
    let graph = model.graph(ModelName::new("smollm2-135m")?, Sampling::greedy())?;
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| 1000 + i * 37).collect();

    let mut firsts = Vec::new();
    for _ in 0..prompts {
        let mut generation = Generation::new(&graph);
        generation.prompt(&prompt);
        firsts.push(timed(|| Ok(generation.next_token()?))?.1);
    }
    let mut generation = Generation::new(&graph);
    generation.prompt(&prompt);
    generation.next_token()?;
    let products = products(&file)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        // Whether or not it ended its answer, a token more is one more position.
        let ((), step) = timed(|| {
            if generation.next_token()?.is_none() {
                generation.prompt(&[1000]);
                generation.next_token()?;
            }
            Ok(())
        })?;
        ours.push(step);
        theirs.push(timed(|| Ok(products.iter().try_for_each(|(matrix, x)| matrix.forward(x).map(drop))?))?.1);
    }
    let (first, token, candle) = (median(firsts), median(ours), median(theirs));
    eprintln!("opened in {opened:.1?}; {} are kept per position", model.kept_per_position());
    for (bar, value, unit, n) in [
        ("ai.smollm2.first_token_128", first, "ms", prompts),
        ("ai.smollm2.prompt_tokens", PROMPT as f64 / first * 1e3, "1/s", prompts),
        ("ai.smollm2.tokens", 1e3 / token, "1/s", rounds),
        ("ai.smollm2.candle_products", candle, "ms", rounds),
        ("ai.smollm2.token_vs_candle_products", token / candle, "ratio", rounds),
    ] {
        println!(r#"{{"bar":"{bar}","value":{value:.3},"unit":"{unit}","n":{n}}}"#);
    }
    Ok(())
}
