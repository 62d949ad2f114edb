//! Jailed processes, from outside and from inside.

mod deploy;
mod jail;
mod leaks;
mod limits;
mod warm;

use std::{
    env, fs,
    io::{self, Write},
    net::{TcpListener, UdpSocket},
    os::{fd::AsFd, unix::net::UnixListener},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use scf_core::{Function, InvokeError, Isolate, Limits, Name, Payload, Prepared, Reply};
use scf_runtime::process::{Jail, ProcessFactory, Program, current, guest_main};

use crate::support::{Alone, call, name};

/// Where the children of these tests begin; an ordinary run returns at once.
#[test]
fn guest() {
    guest_main(&[("echo", Ok), ("count", count), ("behave", behave), ("attack", attack)]);
}

#[expect(clippy::unnecessary_wraps, reason = "a guest function may refuse")]
fn count(_: Vec<u8>) -> Result<Vec<u8>, String> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    Ok((CALLS.fetch_add(1, Ordering::Relaxed) + 1).to_string().into_bytes())
}

/// Ends badly, as it is told to.
fn behave(how: Vec<u8>) -> Result<Vec<u8>, String> {
    let how = String::from_utf8(how).map_err(|error| error.to_string())?;
    let mut host = fs::File::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    match how.as_str() {
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "panic" => panic!("seven is not\u{1b}[31m a number"),
        "overflow" => return Ok(vec![recurse(1) as u8]),
        "garbage" => host.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap(),
        "unknown" => host.write_all(&[0, 0, 0, 0, 9, 0, 0, 0]).unwrap(),
        // A frame of 4 GiB.
        "oversize" => host.write_all(&[0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0]).unwrap(),
        "current" => return Ok(format!("{:?}", current()).into_bytes()),
        "refuse" => return Err("bad \u{1b}[31minput".into()),
        "large" => return Ok(vec![0; 2 << 20]),
        "hang" => loop {
            thread::park();
        },
        "spin" => loop {
            std::hint::spin_loop();
        },
        "spin in threads" => {
            for _ in 0..4 {
                thread::spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
            loop {
                thread::park();
            }
        }
        "threads" => {
            let mut threads = 0;
            while thread::Builder::new().stack_size(16 << 10).spawn(thread::park).is_ok() {
                threads += 1;
            }
            return Ok(threads.to_string().into_bytes());
        }
        "memory" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
            }
        }
        "use 20 MiB" => return Ok(vec![vec![1_u8; 20 << 20][7]]),
        "print" => {
            for _ in 0..10_000 {
                println!("line after line after line");
            }
        }
        _ => return Err("unknown".into()),
    }
    Ok(Vec::new())
}

#[expect(unconditional_recursion, reason = "the stack is to overflow")]
fn recurse(depth: u64) -> u64 {
    let page = [depth; 512];
    recurse(depth + 1) + std::hint::black_box(page)[3]
}

/// Tries what a jail forbids; gives what it got, or refuses with the error.
fn attack(how: Vec<u8>) -> Result<Vec<u8>, String> {
    let how = String::from_utf8(how).map_err(|error| error.to_string())?;
    let (what, rest) = how.split_once(' ').unwrap_or((&how, ""));
    let gave = |result: io::Result<Vec<u8>>| result.map_err(|error| error.to_string());
    match what {
        "read" => gave(fs::read(rest)),
        "list" => gave(fs::read_dir(rest).map(|all| {
            let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<Vec<_>>().join(" ").into_bytes()
        })),
        "write" => gave(fs::write(rest, "x").map(|()| Vec::new())),
        "bind" => gave(TcpListener::bind("127.0.0.1:0").map(|_| Vec::new())),
        "udp" => gave(UdpSocket::bind("127.0.0.1:0").map(|_| Vec::new())),
        "unix" => gave(UnixListener::bind("/tmp/socket").map(|_| Vec::new())),
        "run" => gave(Command::new(rest).output().map(|output| output.stdout)),
        "environment" => Ok(env::vars().map(|(name, value)| format!("{name}={value}\n")).collect::<String>().into()),
        _ => Err("unknown".into()),
    }
}

fn this() -> Program {
    // The test binary runs the guest above and nothing else.
    Program::this().args(["process::guest", "--exact", "--nocapture", "--test-threads=1"])
}

fn factory_in(jail: Jail) -> ProcessFactory {
    ["echo", "count", "behave", "attack"]
        .iter()
        .fold(ProcessFactory::builder().jail(jail), |builder, entry| builder.with(entry, this()))
        .with("python", python())
        .with("false", Program::new("/bin/false"))
        .with("cat", Program::new("/bin/cat"))
        .with("absent", Program::new("/absent"))
        .build()
        .unwrap()
}

fn factory() -> ProcessFactory {
    factory_in(Jail::default())
}

const PYTHON: &str = "/usr/bin/python3";

fn python() -> Program {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/guest.py");
    Program::new(PYTHON).args(["-I", "-S"]).args([&guest]).reads(&guest)
}

fn process(entry: &str) -> Function {
    Function::process(name(entry), Name::new(entry).unwrap())
}

fn within(entry: &str, limits: Limits) -> Function {
    process(entry).limits(limits)
}

fn trapped(error: InvokeError) -> String {
    match error {
        InvokeError::Trapped { message, .. } => message,
        other => panic!("not a trap: {other:?}"),
    }
}

fn refused(error: InvokeError) -> String {
    match error {
        InvokeError::Refused { message, .. } => message,
        other => panic!("not refused: {other:?}"),
    }
}

async fn invoke(prepared: &dyn Prepared, function: &Function, input: impl Into<Payload>) -> Result<Reply, InvokeError> {
    invoke_on(prepared, function, input, &Alone::new()).await
}

async fn invoke_on(
    prepared: &dyn Prepared,
    function: &Function,
    input: impl Into<Payload>,
    host: &Arc<Alone>,
) -> Result<Reply, InvokeError> {
    let mut isolate: Box<dyn Isolate> = prepared.instantiate().await?;
    isolate.invoke(&call(function, Arc::<Alone>::clone(host)), input.into()).await
}
