//! Tokens out of a language model on one thread: `cargo bench -p scf-ai --bench generate`.
//!
//! Prints what tokens of SmolLM2-135M in Q4_1 take one by one and what a prompt of 128 takes until the first is there,
//! in CPU time of the process, beside what candle takes for the same matrix products alone. Ends with one JSON line per
//! figure for `benches/figures`. With `--serve` it answers each line of the standard input with the nanoseconds of the
//! first token and of each of the 32 behind it, for `benches/side-by-side/llamacpp`.

use std::{
    error::Error,
    io::{BufRead as _, Cursor, Write as _},
    process::Command,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use scf_ai::{
    Generation, Llama, Sampling,
    candle_core::{
        DType, Device, Module, Tensor,
        quantized::{QMatMul, gguf_file::Content},
    },
};
use scf_core::{BlockGraph, Bytes, ModelName};

#[path = "../../examples/assets/fetched.rs"]
mod fetched;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PROMPT: usize = 128;
const MORE: u32 = 32;
/// Candle's own threads spin while they wait, which would be counted.
const THREADS: &str = "CANDLE_NUM_THREADS";

fn model() -> Result<Bytes> {
    Ok(fetched::read("smollm2-135m-instruct.q4_1.gguf")?.into())
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

/// CPU time of the first token behind the prompt, and of each of the [`MORE`] behind it.
fn generate(graph: &BlockGraph, prompt: &[u32]) -> Result<[Duration; 2]> {
    let mut generation = Generation::new(graph);
    generation.prompt(prompt);
    let (_, first) = timed(|| Ok(generation.next_token()?))?;
    let more = timed(|| (0..MORE).try_for_each(|_| step(&mut generation)))?.1;
    Ok([first, more / MORE])
}

/// One position more, whether or not the model ended its answer.
fn step(generation: &mut Generation) -> Result<()> {
    if generation.next_token()?.is_none() {
        generation.prompt(&[1000]);
        generation.next_token()?;
    }
    Ok(())
}

fn serve(graph: &BlockGraph, prompt: &[u32]) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        line?;
        let [first, each] = generate(graph, prompt)?;
        println!("{} {}", first.as_nanos(), each.as_nanos());
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn main() -> Result<()> {
    if std::env::var_os(THREADS).is_none() {
        let again =
            Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(THREADS, "1").status()?;
        std::process::exit(again.code().unwrap_or(1));
    }
    let rounds = if std::env::args().any(|argument| argument == "--quick") { 3 } else { 15 };
    let file = model()?;
    let (model, opened) = timed(|| Ok(Llama::open(file.clone(), 2048)?))?;
    let graph = model.graph(ModelName::new("smollm2-135m")?, Sampling::greedy())?;
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| 1000 + i * 37).collect();

    if std::env::args().any(|argument| argument == "--serve") {
        return serve(&graph, &prompt);
    }
    let products = products(&file)?;
    let [mut firsts, mut tokens, mut theirs] = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        let [first, each] = generate(&graph, &prompt)?;
        firsts.push(first);
        tokens.push(each);
        for _ in 0..4 {
            theirs.push(timed(|| Ok(products.iter().try_for_each(|(matrix, x)| matrix.forward(x).map(drop))?))?.1);
        }
    }
    let (first, token, candle) = (median(firsts), median(tokens), median(theirs));
    eprintln!("opened in {opened:.1?}; {} are kept per position", model.kept_per_position());
    for (bar, value, unit, n) in [
        ("ai.smollm2.first_token_128", first, "ms", rounds),
        ("ai.smollm2.prompt_tokens", PROMPT as f64 / first * 1e3, "1/s", rounds),
        ("ai.smollm2.tokens", 1e3 / token, "1/s", rounds),
        ("ai.smollm2.candle_products", candle, "ms", rounds),
        ("ai.smollm2.token_vs_candle_products", token / candle, "ratio", rounds),
    ] {
        println!(r#"{{"bar":"{bar}","value":{value:.3},"unit":"{unit}","n":{n}}}"#);
    }
    Ok(())
}
