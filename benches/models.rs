//! Models resident in the host, asked by guests: `cargo bench --bench models`.
//!
//! A second isolate asks for a model that is resident, beside loading the model again for it: what a host does that
//! loads a model per instance. Both arms end with the same answer to the same sentence. The model is MiniLM-L6; its
//! weights come with `examples/assets/fetch-models`.

use std::{
    error::Error,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use scf::{
    ai::{Device, MiniLm, ModelHost, SentenceTokenizer},
    core::{Activation, BlockGraph, Function, FunctionName, Grants, MediaType, Payload},
    runtime::{Fabric, WasmFactory},
    sched::Pipeline,
};

#[path = "../examples/assets/fetched.rs"]
mod fetched;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Longest sentence, in tokens.
const TOKENS: usize = 32;
const SENTENCE: &str =
    "The gateway of the greenhouse reports that its northern windows have been open since the morning.";

fn load() -> Result<BlockGraph, Box<dyn Error>> {
    Ok(MiniLm::new(TOKENS).load(&fetched::read("minilm-l6.safetensors")?, Device::Cpu)?)
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// Resident memory of this process in bytes.
fn resident() -> Result<u64, Box<dyn Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("statm has a second field")?.parse()?;
    Ok(pages * 4096)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 11 } else { 101 };
    let graph = load()?;
    let model = graph.model.clone();
    let models = Arc::new(ModelHost::new().with(graph.clone()));
    let wasm = WasmFactory::builder().inference(models).build()?;
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm)).build()?;
    let infer = FunctionName::new("infer")?;
    let component = std::fs::read(format!("{ROOT}/examples/guests/components/infer.wasm"))?;
    let grants = Grants { models: vec![model.clone()], ..Grants::default() };
    fabric
        .deploy(Function::component(infer.clone(), component, "infer").gives(MediaType::ACTIVATION).grants(grants))
        .await?;

    let sentence = SentenceTokenizer::open(&fetched::read("minilm-l6-tokenizer.json")?, TOKENS)?.encode(SENTENCE)?;
    let request = Payload::new([model.as_str().as_bytes(), b"\n", &sentence.encode()?.bytes].concat());

    let (mut resident_arm, mut again_arm) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let start = Instant::now();
        let answer = fabric.call(&infer, request.clone()).await?;
        let asked = start.elapsed();
        let start = Instant::now();
        let again = load()?;
        let output = again.run(0..again.blocks().len(), sentence.clone())?;
        let loaded = start.elapsed();
        assert_eq!(Activation::decode(&answer.payload)?.bytes()?, output.bytes()?);
        black_box(output);
        if round > 0 {
            resident_arm.push(asked);
            again_arm.push(loaded);
        }
    }
    let (asked, loaded) = (median(&mut resident_arm), median(&mut again_arm));
    eprintln!("resident: {:.1} ms; loaded again: {:.1} ms", asked * 1e3, loaded * 1e3);
    println!(r#"{{"bar":"wasm.model.reuse_speedup","value":{:.2},"unit":"ratio","n":{rounds}}}"#, loaded / asked);

    let before = resident()?;
    let isolates = 64;
    let calls: Vec<_> = (0..isolates)
        .map(|_| {
            let (fabric, infer, request) = (fabric.clone(), infer.clone(), request.clone());
            tokio::spawn(async move { fabric.call(&infer, request).await })
        })
        .collect();
    for call in calls {
        call.await??;
    }
    let weights = graph.blocks().iter().map(|block| block.cost(&graph.input).weights.bytes()).sum::<u64>();
    eprintln!(
        "{isolates} isolates at once: {:.1} MiB more resident, where the weights are {:.1} MiB",
        resident()?.saturating_sub(before) as f64 / (1 << 20) as f64,
        weights as f64 / (1 << 20) as f64
    );
    Ok(())
}
