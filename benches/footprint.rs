//! What SCF takes of a machine that does nothing: `cargo bench --bench footprint`.
//!
//! Builds the gateway example, which takes minutes the first time, and asks it for its memory with one function and
//! with 10,000. What an isolate takes, and a full build with ten functions, is measured in processes of their own,
//! which this program starts as itself.

use std::{
    collections::HashSet,
    error::Error,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use scf::{
    core::{Function, FunctionName, IsolateFactory, Reuse},
    runtime::{ArtefactSigner, WasmFactory},
};
use wasmtime::{
    Config, Engine, PoolingAllocationConfig, Store,
    component::{Component, Linker},
};

const GUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components");
const SECRET: [u8; 32] = [7; 32];
const DORMANT: usize = 10_000;
const ISOLATES: u32 = 200;
const KIB: f64 = 1024.0;
const MIB: f64 = KIB * KIB;

/// A function that has written to one page of its memory before it is called.
const TOUCHES: &str = r#"(component
  (core module $m
    (memory (export "memory") 1)
    (func $touch (i32.store (i32.const 0) (i32.const 1)))
    (start $touch)
    (func (export "run") (param i32 i32) (result i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "touch") (param "input" (list u8)) (result (list u8))
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#;

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

/// Memory of this process that is in RAM, in bytes: by its page tables, since `status` counts apart for each core.
fn resident() -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Rss:")).ok_or("no Rss")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * KIB)
}

/// The gateway, built with its own profile.
fn gateway() -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = ["build", "--quiet", "-p", "scf-gateway", "--bin", "scf-gateway", "--profile", "gateway"];
    let built = Command::new(cargo).args(build).current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
    if !built.success() {
        return Err("the gateway does not build".into());
    }
    // This program is in `release/deps` of the target folder.
    let target = std::env::current_exe()?.ancestors().nth(3).map(Path::to_path_buf).ok_or("no target folder")?;
    Ok(target.join("gateway/scf-gateway"))
}

/// Starts the gateway on a manifest, calls one function and asks for its memory in bytes.
fn serve(gateway: &Path, folder: &Path, manifest: &str, call: &str) -> Result<f64, Box<dyn Error>> {
    fs::write(folder.join("manifest"), manifest)?;
    let mut child = Command::new(gateway)
        .arg(folder.join("key"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    writeln!(child.stdin.take().ok_or("no input")?, "call {call} hello\nmemory")?;
    let answer = String::from_utf8(child.wait_with_output()?.stdout)?;
    let memory = answer.strip_prefix("ok hello\n").ok_or_else(|| format!("the gateway answered {answer:?}"))?;
    let memory: serde_json::Value = serde_json::from_str(memory)?;
    memory["resident"].as_f64().ok_or_else(|| "no memory".into())
}

/// Starts this program again for a measurement in a process of its own.
fn apart(what: &str) -> Result<f64, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?).arg(what).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    text.trim().parse().map_err(|error| format!("{what}: {error}: {text:?}").into())
}

/// Bytes that one more live isolate takes: the page of the guest, the page of the stack that wasmtime keeps with an
/// instance, and records, all but some 300 bytes of them wasmtime's.
async fn isolate() -> Result<f64, Box<dyn Error>> {
    let factory = WasmFactory::builder().instances(ISOLATES + 8).build()?;
    let reuse = Reuse::Warm { max_idle: ISOLATES, max_calls: u32::MAX, max_age: std::time::Duration::MAX };
    let touch = Function::component(FunctionName::new("touch")?, wat::parse_str(TOUCHES)?, "touch").reuse(reuse);
    let prepared = factory.prepare(&touch).await?;
    let few = prepared.keep(8).await?;
    let before = resident()?;
    let many = prepared.keep(ISOLATES).await?;
    if (few, many) != (8, ISOLATES) {
        return Err(format!("{many} isolates are kept").into());
    }
    Ok((resident()? - before) / f64::from(many - few))
}

/// The same with wasmtime alone, in stores without anything: memory page and wasmtime's own records.
fn bare() -> Result<f64, Box<dyn Error>> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(ISOLATES).total_component_instances(ISOLATES).total_core_instances(ISOLATES);
    pool.max_memory_size(64 << 20).total_tables(ISOLATES).total_stacks(ISOLATES);
    let mut config = Config::new();
    config.allocation_strategy(pool).memory_reservation(64 << 20).memory_guard_size(64 << 10);
    config.concurrency_support(false);
    let engine = Engine::new(&config)?;
    let component = Component::new(&engine, wat::parse_str(TOUCHES)?)?;
    let pre = Linker::new(&engine).instantiate_pre(&component)?;
    let mut live = Vec::with_capacity(ISOLATES as usize);
    let mut start = |isolates: u32| -> wasmtime::Result<()> {
        for _ in 0..isolates {
            let mut store = Store::new(&engine, ());
            let instance = pre.instantiate(&mut store)?;
            live.push((store, instance));
        }
        Ok(())
    };
    start(8)?;
    let before = resident()?;
    start(ISOLATES - 8)?;
    Ok((resident()? - before) / f64::from(ISOLATES - 8))
}

/// Bytes of a full build with ten functions of different components, each called once.
async fn full() -> Result<f64, Box<dyn Error>> {
    let fabric = scf::fabric()?.build()?;
    let mut codes = HashSet::new();
    for number in 0..10 {
        let name = FunctionName::new(&format!("echo-{number}"))?;
        // A custom section makes another component of it, so that nothing is shared.
        let mut code = fs::read(Path::new(GUESTS).join("echo.wasm"))?;
        code.extend([0, 2, 1, b'0' + number]);
        codes.insert(blake3::hash(&code));
        fabric.deploy(Function::component(name.clone(), code, "echo")).await?;
        assert_eq!(&fabric.call(&name, "x").await?.payload.bytes[..], b"x");
    }
    assert_eq!(codes.len(), 10);
    resident()
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match std::env::args().nth(1).as_deref() {
        Some("isolate") => {
            println!("{}", runtime()?.block_on(isolate())?);
            return Ok(());
        }
        Some("bare") => {
            println!("{}", bare()?);
            return Ok(());
        }
        Some("full") => {
            println!("{}", runtime()?.block_on(full())?);
            return Ok(());
        }
        _ => {}
    }
    figure("footprint.full_idle_rss_mib", apart("full")? / MIB, "MiB", 10);
    figure("footprint.isolate_kib", apart("isolate")? / KIB, "KiB", ISOLATES as usize);
    eprintln!("an instance of wasmtime alone takes {:.1} KiB", apart("bare")? / KIB);

    let gateway = gateway()?;
    figure("footprint.gateway_binary_mib", fs::metadata(&gateway)?.len() as f64 / MIB, "MiB", 1);
    let folder = tempfile::tempdir()?;
    let signer = ArtefactSigner::new(&SECRET);
    fs::write(folder.path().join("key"), signer.verifying_key())?;
    fs::write(folder.path().join("echo.scfx"), signer.sign(&fs::read(Path::new(GUESTS).join("echo.wasm"))?)?)?;
    let one = serve(&gateway, folder.path(), "echo echo echo.scfx\n", "echo")?;
    figure("footprint.gateway_rss_mib", one / MIB, "MiB", 1);
    let manifest: String = (0..DORMANT).map(|number| format!("echo-{number} echo echo.scfx\n")).collect();
    let many = serve(&gateway, folder.path(), &manifest, "echo-77")?;
    figure("footprint.dormant_kib", (many - one) / (DORMANT - 1) as f64 / KIB, "KiB", DORMANT);
    Ok(())
}
