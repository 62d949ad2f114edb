//! Hostile guests: what becomes of them, and what a neighbour notices: `cargo bench --bench hostile`, with
//! `-- --quick` for less.
//!
//! Every measurement runs in a process of its own, so that a guest that ends its process is one that was not
//! contained, and so that one core can be measured by pinning the process. What is no figure goes to standard error:
//! the parts of a figure, what slots leak, the table of bulk operations.

#[path = "hostile/bulk.rs"]
mod bulk;
#[path = "hostile/kill.rs"]
mod kill;
#[path = "hostile/neighbour.rs"]
mod neighbour;
#[path = "../scf-runtime/tests/hostile/suite/mod.rs"]
mod suite;
#[path = "hostile/table.rs"]
mod table;

use std::{
    error::Error,
    io::Read as _,
    process::{Command, Stdio},
    time::Duration,
};

use scf::core::{Function, FunctionName};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// On how many cores what depends on it is measured; a figure is the worst of them.
const CORES: [usize; 2] = [2, 1];

/// Where a measurement runs and how long.
#[derive(Clone, Copy)]
struct Setup {
    cores: usize,
    quick: bool,
}

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize].as_secs_f64()
}

/// The function `name`: a component whose body is `body`, with `pages` of memory.
fn guest(name: &str, pages: u64, body: &str) -> Result<Function> {
    let text = format!(
        r#"(component
          (core module $m (memory (export "memory") {pages})
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
            (func (export "run") (param i32 i32) (result i32) {body} (i32.const 0)))
          (core instance $i (instantiate $m))
          (func (export "f") (param "input" (list u8)) (result (list u8))
            (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#
    );
    Ok(Function::component(FunctionName::new(name)?, wat::parse_str(text)?, "f"))
}

/// Lets this process, which has one thread yet, run on the first `cores` cores only.
fn pin(cores: usize) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let allowed = sched_getaffinity(None)?;
        let mut few = CpuSet::new();
        (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).take(cores).for_each(|core| few.set(core));
        sched_setaffinity(None, &few)?;
    }
    Ok(())
}

/// Runs a measurement in a process of its own and gives the numbers that it prints.
fn measure(what: &str, Setup { cores, quick }: Setup) -> Result<Vec<f64>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([what, &cores.to_string(), if quick { "--quick" } else { "" }])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut printed = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut printed)?;
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("{what} on {cores} cores: {status}").into());
    }
    Ok(printed.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?)
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(0);
    match arguments.first().map(String::as_str) {
        Some("table") => return table::child(number(1)),
        Some(what @ ("neighbour" | "kill" | "reuse")) => {
            let setup = Setup { cores: number(1), quick };
            pin(setup.cores)?;
            return match what {
                "kill" => kill::child(setup),
                "neighbour" => neighbour::child(setup),
                _ => table::reuse(setup),
            };
        }
        _ => {}
    }
    table::figures()?;
    let mut worst = (0.0, 0.0);
    for cores in CORES {
        let measured = measure("neighbour", Setup { cores, quick })?;
        let &[ratio, alone, beside, calls] = &measured[..] else { return Err("four numbers of neighbour".into()) };
        eprintln!("neighbour's p99, cores {cores}: {alone:.1} us alone, {beside:.1} us beside 64 endless loops");
        worst = if ratio > worst.0 { (ratio, calls) } else { worst };
    }
    figure("hostile.neighbour_p99", worst.0, "ratio", worst.1 as usize);
    let mut worst = (0.0, 0.0);
    for cores in CORES {
        let measured = measure("kill", Setup { cores, quick })?;
        let &[p50, p99, ran, waited, kills] = &measured[..] else { return Err("five numbers of kill".into()) };
        eprintln!(
            "past the CPU budget, cores {cores}: {p50:.2} ticks at p50, {p99:.2} at p99; \
             at p99 it ran for {ran:.2} of them, and threads waited {waited:.2} for a core"
        );
        worst = if p99 > worst.0 { (p99, kills) } else { worst };
    }
    figure("kill.ticks.p99", worst.0, "ticks", worst.1 as usize);
    let measured = measure("reuse", Setup { cores: 2, quick })?;
    let &[leaked, reuses] = &measured[..] else { return Err("two numbers of reuse".into()) };
    eprintln!("{leaked} places that were not as they should be in {reuses} reuses of slots");
    bulk::table(quick)
}
