//! Calls from a pool that has little room beside calls from one that has enough: `cargo bench --bench pool`, with
//! `-- --quick` for less.
//!
//! The two are processes of this program, one of them under `ulimit -v 1048576`, which take turns. Where the system
//! happens to place the memory of a process makes some percent of its speed, so several pairs are started.

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
const PAIRS: usize = 5;

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

/// How fast the small pool is beside the large one, by the medians of `rounds` of `calls` each; and the instances of
/// both.
fn pair(rounds: usize, calls: usize) -> Result<(f64, [u32; 2]), Box<dyn Error>> {
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
    Ok((median(fast) / median(slow), [of_small, of_large]))
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|argument| argument == CHILD) {
        return child();
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, calls) = if quick { (20, 200) } else { (100, 500) };
    let pairs = (0..PAIRS).map(|_| pair(rounds, calls)).collect::<Result<Vec<_>, _>>()?;
    let (speeds, instances): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let n = PAIRS * rounds * calls;
    println!(r#"{{"bar":"footprint.small_pool_speed","value":{:.4},"unit":"ratio","n":{n}}}"#, median(speeds));
    let [of_small, of_large] = instances[0];
    println!("{of_small} instances under ulimit -v {ADDRESSES}, {of_large} without");
    Ok(())
}
