//! What a worker costs beside the same blocks in this process: `cargo bench -p scf-ai --bench accelerator`.
//!
//! One block of EfficientNet-Lite0 and the whole of it, in this process and in a worker on the same processor, in turns;
//! and how many bytes of tensors were copied for it. Ends with one JSON line per figure for `benches/figures`.

use std::{error::Error, time::Instant};

use scf_core::Activation;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[cfg(target_os = "linux")]
fn main() -> Result<()> {
    use scf_ai::{
        Device, EfficientNetLite,
        accelerator::{Accelerator, InProcess, ModelSource, Network, Worker},
    };
    use scf_core::{ByteSize, ModelName};

    const MEMORY: ByteSize = ByteSize::from_mib(256);
    let path = format!("{}/../examples/assets/efficientnet-lite0.safetensors", env!("CARGO_MANIFEST_DIR"));
    let lite0 = ModelSource {
        model: ModelName::new("lite0")?,
        network: Network::EfficientNetLite(EfficientNetLite::Lite0),
        weights: std::fs::read(path)?.into(),
    };
    let here = InProcess::cpu(MEMORY);
    let here = here.load(here.reserve(MEMORY)?, &lite0)?;
    let worker = Worker::of(env!("CARGO_BIN_EXE_scf-accelerator"), Device::Cpu).memory(MEMORY).start()?;
    let there = worker.load(worker.reserve(MEMORY)?, &lite0)?;

    let rounds = if std::env::var_os("SCF_FIGURES_QUICK").is_some() { 51 } else { 501 };
    let picture = vec![0; here.graph().input.size().ok_or("no size")?.bytes() as usize];
    let picture = Activation::new(here.graph().input.clone(), picture.into())?;
    let blocks = here.graph().blocks().len();
    for (bar, range) in [("block", 8..9), ("whole", 0..blocks)] {
        let input = in_memory(&here.graph().run(0..range.start, picture.clone())?)?;
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (graph, times) in [here.graph(), there.graph()].into_iter().zip(&mut times) {
                let since = Instant::now();
                // What the next node or the caller is given, in this process too.
                graph.step(range.clone(), input.clone())?.into_activation().bytes()?;
                times.push(since.elapsed().as_secs_f64());
            }
        }
        let [alone, beside] = times.map(median);
        figure(&format!("ai.worker.{bar}_added_us"), (beside - alone) * 1e6, "us", rounds);
        figure(&format!("ai.worker.{bar}_ratio"), beside / alone, "ratio", rounds);
        // Each tensor once into the shared memory and once out of it.
        let sizes = [range.start, range.end].map(|edge| here.graph().edges()[edge].size());
        let copied: u64 = sizes.into_iter().flatten().map(|size| 2 * size.bytes()).sum();
        figure(&format!("ai.worker.{bar}_copied"), copied as f64, "bytes", rounds);
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() -> Result<()> {
    Err("workers are for Linux".into())
}

/// As it is when it comes from somewhere else.
fn in_memory(activation: &Activation) -> Result<Activation> {
    Ok(Activation::new(activation.spec.clone(), activation.bytes()?)?)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!("{{\"bar\":\"{bar}\",\"value\":{value:.3},\"unit\":\"{unit}\",\"n\":{n}}}");
}
