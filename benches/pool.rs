//! Calls from a pool that has little room beside calls from one that has enough: `cargo bench --bench pool`, with
//! `-- --quick` for less.
//!
//! The two are processes of this program, one of them under `ulimit -v 1048576`, which take turns.

use std::{
    error::Error,
    hint::black_box,
    io::{BufRead, BufReader, Write, stdin},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use scf::{
    core::{Function, FunctionName, Payload},
    runtime::{Fabric, WasmFactory},
    sched::Pipeline,
};

const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components/echo.wasm");
/// What the small process may have of addresses, in KiB.
const ADDRESSES: &str = "1048576";
const CHILD: &str = "--pool-child";

/// Runs batches of calls when told to, and says how long each took.
fn child() -> Result<(), Box<dyn Error>> {
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wasm = WasmFactory::builder().build()?;
    println!("{}", wasm.instances());
    one.block_on(async {
        let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm)).build()?;
        let echo = FunctionName::new("echo")?;
        fabric.deploy(Function::component(echo.clone(), std::fs::read(ECHO)?, "echo")).await?;
        for calls in stdin().lines() {
            let calls = calls?.parse()?;
            let start = Instant::now();
            for _ in 0..calls {
                black_box(fabric.call(&echo, Payload::new(&[7; 16][..])).await?);
            }
            println!("{}", start.elapsed().as_secs_f64());
        }
        Ok(())
    })
}

struct Pool {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Pool {
    fn start(mut command: Command) -> Result<(Self, u32), Box<dyn Error>> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = process.stdin.take().ok_or("the input is piped")?;
        let answers = BufReader::new(process.stdout.take().ok_or("the output is piped")?);
        let mut pool = Self { process, orders, answers };
        let instances = pool.answer()?.parse()?;
        Ok((pool, instances))
    }

    fn answer(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Seconds that so many calls take.
    fn run(&mut self, calls: usize) -> Result<f64, Box<dyn Error>> {
        writeln!(self.orders, "{calls}")?;
        Ok(self.answer()?.parse()?)
    }

    fn stop(self) -> Result<(), Box<dyn Error>> {
        let Self { mut process, orders, .. } = self;
        drop(orders);
        if !process.wait()?.success() {
            return Err("a pool's process failed".into());
        }
        Ok(())
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|argument| argument == CHILD) {
        return child();
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, calls) = if quick { (20, 200) } else { (200, 500) };
    let program = std::env::current_exe()?;
    let mut large = Command::new(&program);
    large.arg(CHILD);
    let mut small = Command::new("sh");
    small.args(["-c", "ulimit -v $1 && exec \"$0\" $2"]).arg(&program).args([ADDRESSES, CHILD]);
    let (mut large, of_large) = Pool::start(large)?;
    let (mut small, of_small) = Pool::start(small)?;
    let (mut slow, mut fast) = (Vec::new(), Vec::new());
    for round in 0..rounds + rounds / 10 {
        let times = (large.run(calls)?, small.run(calls)?);
        if round >= rounds / 10 {
            fast.push(times.0);
            slow.push(times.1);
        }
    }
    large.stop()?;
    small.stop()?;
    let speed = median(fast) / median(slow);
    println!(r#"{{"bar":"footprint.small_pool_speed","value":{speed:.4},"unit":"ratio","n":{}}}"#, rounds * calls);
    println!("{of_small} instances under ulimit -v {ADDRESSES}, {of_large} without");
    Ok(())
}
