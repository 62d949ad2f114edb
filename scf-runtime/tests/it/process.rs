//! Jailed processes, from outside and from inside.

use std::{
    collections::HashMap,
    env, fs,
    future::poll_fn,
    io::{self, Write},
    net::{TcpListener, UdpSocket},
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    pin::Pin,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use scf_core::{
    ByteSize, FileGrant, Function, Grants, InvokeError, Isolate, IsolateFactory, LimitKind, Limits, MediaType, Name,
    Payload, PrepareError, Prepared, Reply, Reuse, Statefulness,
    conformance::isolate::{Samples, isolate_factory},
};
use scf_runtime::process::{Jail, Layer, ProcessError, ProcessFactory, Program, guest_main};

use crate::support::{Alone, call, name, run};

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

#[tokio::test]
async fn jailed_processes_keep_the_contract() {
    let foreign = Function::component(name("other"), vec![0], "echo");
    let samples = Samples { echo: process("echo").gives(MediaType::TEXT), count: Some(process("count")), foreign };
    isolate_factory(|| async { Arc::new(factory()) as Arc<dyn IsolateFactory> }, &samples).await;
}

#[tokio::test]
async fn what_is_in_force_is_told() {
    let all = factory();
    for layer in [Layer::Namespaces, Layer::Landlock, Layer::Seccomp, Layer::Rlimits] {
        assert!(all.isolation().has(layer), "{}", all.isolation());
    }
    let few = factory_in(Jail::default().without(Layer::Cgroup).without(Layer::Landlock));
    assert!(!few.isolation().has(Layer::Cgroup) && few.isolation().to_string().contains("no landlock: not wanted"));
}

#[tokio::test]
async fn a_layer_that_is_required_and_cannot_be_had_is_an_error() {
    let jail = Jail::default().require(Layer::Cgroup).group("/absent");
    let error = ProcessFactory::builder().jail(jail).build().unwrap_err();
    assert!(matches!(error, ProcessError::Layer { layer: Layer::Cgroup, .. }), "{error:?}");
}

#[tokio::test]
async fn each_bad_ending_is_one_failed_call_that_says_how() {
    let factory = factory();
    let prepared = factory.prepare(&process("behave")).await.unwrap();
    let endings = [
        ("exit", "exited with code 3"),
        ("panic", "seven is not\\u{1b}[31m a number"),
        ("overflow", "overflowed its stack"),
        ("abort", "ended by signal"),
        ("garbage", "sent what is no frame"),
        ("unknown", "sent a frame of a kind that is no answer"),
    ];
    for (how, said) in endings {
        let message = trapped(invoke(&*prepared, &process("behave"), how).await.unwrap_err());
        assert!(message.contains(said), "{how}: {message}");
    }
    assert_eq!(refused(invoke(&*prepared, &process("behave"), "refuse").await.unwrap_err()), "bad \\u{1b}[31minput");
    assert_eq!(invoke(&*prepared, &process("behave"), "print").await.unwrap().payload.bytes, "");
}

#[tokio::test]
async fn a_process_over_a_limit_is_ended_and_the_limit_is_named() {
    let factory = factory();
    let limits = Limits {
        memory: ByteSize::from_mib(48),
        cpu: Duration::from_millis(500),
        payload: ByteSize::from_mib(1),
        ..Limits::default()
    };
    let function = within("behave", limits);
    let prepared = factory.prepare(&function).await.unwrap();
    let cases = [
        ("spin", LimitKind::Cpu),
        ("spin in threads", LimitKind::Cpu),
        ("memory", LimitKind::Memory),
        ("oversize", LimitKind::Output),
        ("large", LimitKind::Output),
    ];
    for (how, limit) in cases {
        let host = Alone::new();
        let error = invoke_on(&*prepared, &function, how, &host).await.unwrap_err();
        assert_eq!(error, InvokeError::Limit { function: name("behave"), limit }, "{how}");
        assert!(host.paced() > Duration::ZERO, "{how} is billed");
        if limit == LimitKind::Cpu {
            assert!(host.paced() >= limits.cpu, "{how}: {:?}", host.paced());
        }
    }
}

#[tokio::test]
async fn memory_is_bounded_without_a_control_group_too() {
    let factory = factory_in(Jail::default().without(Layer::Cgroup));
    let function = within("behave", Limits { memory: ByteSize::from_mib(48), ..Limits::default() });
    let error = run(&factory, &function, "memory").await.unwrap_err();
    assert_eq!(error, InvokeError::Limit { function: name("behave"), limit: LimitKind::Memory });
}

#[tokio::test]
async fn the_peak_of_memory_is_on_the_bill() {
    let factory = factory();
    let Reply { usage, spans, .. } = run(&factory, &process("behave"), "use 20 MiB").await.unwrap();
    assert_eq!(spans.iter().map(|span| &*span.name).collect::<Vec<_>>(), ["init"], "its start is a part of the call");
    assert!((20..40).contains(&(usage.memory.bytes() >> 20)), "{}", usage.memory);
}

#[tokio::test]
async fn a_process_makes_no_more_threads_than_it_may_and_no_other_process() {
    let factory = factory_in(Jail::default().threads(20));
    let threads = run(&factory, &process("behave"), "threads").await.unwrap().payload;
    let threads: u32 = std::str::from_utf8(&threads.bytes).unwrap().parse().unwrap();
    assert!((10..20).contains(&threads), "{threads}");
    let error = run(&factory, &process("attack"), "run /bin/true").await.unwrap_err();
    assert!(refused(error).contains("not permitted"));
}

#[tokio::test]
async fn nothing_outside_is_reached() {
    let home = env::var("HOME").unwrap_or_else(|_| "/root".into());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    let secret = folder.path().join("secret");
    let attacks = [
        "read /etc/passwd".to_owned(),
        "read /etc/shadow".to_owned(),
        "read /proc/self/environ".to_owned(),
        "read /proc/1/mem".to_owned(),
        format!("list {home}"),
        "list /".to_owned(),
        "list /usr".to_owned(),
        "list /proc".to_owned(),
        format!("read {}", secret.display()),
        format!("read /usr/lib/../../{}", secret.display()),
        format!("write {}", secret.display()),
        "write /tmp/x".to_owned(),
        "write /usr/lib/x".to_owned(),
        "write /x".to_owned(),
        "bind".to_owned(),
        "udp".to_owned(),
        "unix".to_owned(),
    ];
    // Either layer that confines files does so alone.
    let program = env::current_exe().unwrap();
    // Without a root of its own a process finds its program by its path, which may lead through folders that only the
    // host may enter.
    let rootless = Jail::default().without(Layer::Namespaces).user(rustix::process::getuid().as_raw());
    for jail in [Jail::default(), rootless, Jail::default().without(Layer::Landlock)] {
        let factory = factory_in(jail.clone());
        let prepared = factory.prepare(&process("attack")).await.unwrap();
        for how in &attacks {
            // With nothing but a root of its own, what is in that can be listed: names that every system has, and the
            // way to the program.
            let listed = how.strip_prefix("list ").filter(|_| !factory.isolation().has(Layer::Landlock));
            if listed.is_some_and(|folder| folder == "/usr" || program.starts_with(folder)) {
                continue;
            }
            match invoke(&*prepared, &process("attack"), how.clone()).await {
                Err(InvokeError::Refused { .. }) => {}
                other => panic!("{how} in {jail:?}: {other:?}"),
            }
        }
    }
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
}

#[tokio::test]
async fn the_environment_is_what_is_granted() {
    let factory = factory();
    let grants = Grants { environment: vec![("LANG".into(), "C".into())], ..Grants::default() };
    let variables = run(&factory, &process("attack").grants(grants), "environment").await.unwrap().payload;
    let text = String::from_utf8(variables.bytes.to_vec()).unwrap();
    // The test harness adds variables of its own to none.
    assert_eq!(text.lines().collect::<Vec<_>>(), ["LANG=C", "SCF_PROCESS_ENTRY=attack"]);
}

#[tokio::test]
async fn granted_folders_are_seen_where_the_grant_says_and_written_only_where_it_says() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model"), "weights").unwrap();
    // The program is nobody where the tests run as root.
    open_to_all(folder.path());
    let grants = |write| Grants {
        files: vec![FileGrant { host: folder.path().into(), guest: "/data/models".into(), write }],
        ..Grants::default()
    };
    let factory = factory();
    let reads = process("attack").grants(grants(false));
    assert_eq!(run(&factory, &reads, "read /data/models/model").await.unwrap().payload.bytes, "weights");
    assert_eq!(run(&factory, &reads, "list /data/models").await.unwrap().payload.bytes, "model");
    let error = run(&factory, &reads, "write /data/models/new").await.unwrap_err();
    assert!(matches!(error, InvokeError::Refused { .. }), "{error:?}");
    run(&factory, &process("attack").grants(grants(true)), "write /data/models/new").await.unwrap();
    assert_eq!(fs::read(folder.path().join("new")).unwrap(), b"x");
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}

#[tokio::test]
async fn what_a_process_cannot_be_given_is_an_error_when_it_is_deployed() {
    let factory = factory();
    let refused = async |function: Function| factory.prepare(&function).await.unwrap_err().to_string();
    let secrets = Grants { secrets: vec![Name::new("key").unwrap()], ..Grants::default() };
    assert!(refused(process("echo").grants(secrets)).await.contains("grant secrets"));
    let file = |host: &str, guest: &str| Grants {
        files: vec![FileGrant { host: host.into(), guest: guest.into(), write: false }],
        ..Grants::default()
    };
    assert!(refused(process("echo").grants(file("/absent", "/data"))).await.contains("/absent"));
    assert!(refused(process("echo").grants(file("/tmp", "/usr"))).await.contains("the program's own"));
    let climbs = factory.prepare(&process("echo").grants(file("/tmp", "/data/../x"))).await.unwrap_err();
    assert!(matches!(climbs, PrepareError::Grant { .. }), "{climbs:?}");
    let stateful = process("echo").stateful();
    assert_eq!(stateful.state, Statefulness::PerKey);
    assert!(refused(stateful).await.contains("state per key"));
}

#[tokio::test]
async fn a_program_that_is_no_guest_is_found_when_it_is_deployed() {
    let factory = factory();
    let cause = async |entry: &str| {
        let error = factory.prepare(&process(entry)).await.unwrap_err();
        let PrepareError::InvalidCode { source, .. } = error else { panic!("{error:?}") };
        format!("{source} {}", source.source().map(ToString::to_string).unwrap_or_default())
    };
    assert!(cause("false").await.contains("exited with code 1"));
    assert!(cause("absent").await.contains("/absent"));
    let silent = within("cat", Limits { wall: Duration::from_millis(50), ..Limits::default() });
    let error = factory.prepare(&silent).await.unwrap_err();
    let PrepareError::InvalidCode { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("did not say in time"), "{source}");
    assert!(matches!(
        factory.prepare(&process("unheard-of")).await.unwrap_err(),
        PrepareError::NotRegistered { kind: "process", .. }
    ));
}

fn warm(max_idle: u32, max_calls: u32, max_age: Duration) -> Function {
    process("count").reuse(Reuse::Warm { max_idle, max_calls, max_age })
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_warm_process_serves_so_many_calls_and_no_more() {
    let factory = factory();
    let function = warm(1, 3, LONG);
    let prepared = factory.prepare(&function).await.unwrap();
    let mut replies = Vec::new();
    for _ in 0..7 {
        let reply = invoke(&*prepared, &function, "").await.unwrap();
        assert!(reply.usage.cpu > Duration::ZERO);
        replies.push((String::from_utf8(reply.payload.bytes.to_vec()).unwrap(), reply.reused));
    }
    let texts: Vec<_> = replies.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["1", "2", "3", "1", "2", "3", "1"]);
    assert_eq!(
        replies.iter().map(|(_, reused)| *reused).collect::<Vec<_>>(),
        [false, true, true, false, true, true, false]
    );
}

#[tokio::test]
async fn a_process_that_is_too_old_or_has_failed_is_not_used_again() {
    let factory = factory();
    let old = warm(1, 100, Duration::ZERO);
    let prepared = factory.prepare(&old).await.unwrap();
    for _ in 0..2 {
        assert_eq!(invoke(&*prepared, &old, "").await.unwrap().payload.bytes, "1");
    }
    let fails = process("behave").reuse(Reuse::Warm { max_idle: 4, max_calls: 100, max_age: LONG });
    let prepared = factory.prepare(&fails).await.unwrap();
    trapped(invoke(&*prepared, &fails, "exit").await.unwrap_err());
    // A refusal is an answer; the process has done nothing wrong.
    for reused in [false, true] {
        let error = invoke(&*prepared, &fails, "refuse").await.unwrap_err();
        assert!(matches!(error, InvokeError::Refused { .. }), "{reused}");
    }
    assert!(invoke(&*prepared, &fails, "print").await.unwrap().reused);
}

#[tokio::test]
async fn as_many_processes_as_asked_for_are_kept_ready() {
    let factory = factory();
    let function = warm(3, 100, LONG);
    let prepared = factory.prepare(&function).await.unwrap();
    assert_eq!(prepared.keep(8).await.unwrap(), 3, "no more than may be idle");
    let mut isolates = Vec::new();
    for _ in 0..3 {
        isolates.push(prepared.instantiate().await.unwrap());
    }
    assert_eq!(prepared.keep(0).await.unwrap(), 0);
    for isolate in &mut isolates {
        let reply = isolate.invoke(&call(&function, Alone::new()), Payload::default()).await.unwrap();
        assert_eq!((reply.payload.bytes.as_ref(), reply.reused), (b"1".as_slice(), false));
    }
}

#[tokio::test]
async fn where_all_processes_are_at_work_a_call_is_refused_and_an_idle_one_makes_room() {
    let factory = ProcessFactory::builder().with("count", this()).with("behave", this()).processes(1).build().unwrap();
    let idle = warm(1, 100, LONG);
    let prepared = factory.prepare(&idle).await.unwrap();
    assert_eq!(invoke(&*prepared, &idle, "").await.unwrap().payload.bytes, "1");
    // The process of the one function waits for calls and makes room for that of the other.
    let behave = factory.prepare(&process("behave")).await.unwrap();
    let (function, host) = (process("behave"), Alone::new());
    let call = call(&function, host);
    let mut isolate = behave.instantiate().await.unwrap();
    let mut hanging = isolate.invoke(&call, Payload::new("hang"));
    poll_until_started(&mut hanging).await;
    let refused = invoke(&*prepared, &idle, "").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Overloaded { .. }), "{refused:?}");
}

/// Polls a call that never ends until its process has a number of its own.
async fn poll_until_started<F: Future + Unpin>(call: &mut F) {
    for _ in 0..100 {
        let is_ready = poll_fn(|cx| Poll::Ready(Pin::new(&mut *call).poll(cx).is_ready())).await;
        assert!(!is_ready);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_metered_all_the_same() {
    let factory = factory();
    let function = process("behave");
    let prepared = factory.prepare(&function).await.unwrap();
    let call = call(&function, Alone::new());
    let mut isolate = prepared.instantiate().await.unwrap();
    let spinning = isolate.invoke(&call, Payload::new("spin"));
    let enough = async {
        while call.meter.usage().cpu < Duration::from_millis(30) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ended = spinning => panic!("{ended:?}"),
        () = enough => {}
    }
    assert!(call.meter.usage().memory > ByteSize::ZERO);
}

#[tokio::test]
async fn a_guest_in_python_speaks_the_protocol_and_is_kept_in() {
    if !Path::new(PYTHON).exists() {
        println!("skipped: no {PYTHON}");
        return;
    }
    let factory = factory();
    let function = process("python");
    let prepared = factory.prepare(&function).await.unwrap();
    let text = vec![b'x'; 300_000];
    assert_eq!(invoke(&*prepared, &function, text.clone()).await.unwrap().payload.bytes, text);
    let crashed = trapped(invoke(&*prepared, &function, "null").await.unwrap_err());
    assert!(crashed.contains("ended by signal 11 (segmentation fault)"), "{crashed}");
    let hung_up = trapped(invoke(&*prepared, &function, "hang up").await.unwrap_err());
    assert_eq!(hung_up, "hung up and went on: over and out");
    assert!(refused(invoke(&*prepared, &function, "fork").await.unwrap_err()).contains("not permitted"));
    for (what, number) in system_calls() {
        let error = invoke(&*prepared, &function, format!("syscall {number} 0 0 0 0 0 0")).await.unwrap_err();
        assert!(refused(error).contains("Operation not permitted"), "{what}");
    }
}

/// System calls that reach out of a process, by their number on this architecture.
fn system_calls() -> HashMap<&'static str, u32> {
    let numbers: &[(&'static str, u32, u32)] = &[
        ("socket", 41, 198),
        ("socketpair", 53, 199),
        ("ptrace", 101, 117),
        ("mount", 165, 40),
        ("pivot_root", 155, 41),
        ("chroot", 161, 51),
        ("setuid", 105, 146),
        ("unshare", 272, 97),
        ("setns", 308, 268),
        ("bpf", 321, 280),
        ("keyctl", 250, 219),
        ("kexec_load", 246, 104),
        ("init_module", 175, 105),
        ("reboot", 169, 142),
        ("io_uring_setup", 425, 425),
        ("userfaultfd", 323, 282),
        ("perf_event_open", 298, 241),
        ("process_vm_readv", 310, 270),
        ("memfd_create", 319, 279),
        ("open_by_handle_at", 304, 265),
        ("pidfd_open", 434, 434),
        ("setsid", 112, 157),
        ("prctl", 157, 167),
        ("seccomp", 317, 277),
        ("vfork", 58, 220),
    ];
    let is_x86 = cfg!(target_arch = "x86_64");
    numbers.iter().map(|(name, x86, arm)| (*name, if is_x86 { *x86 } else { *arm })).collect()
}

#[test]
fn nothing_is_left_of_two_hundred_calls_of_each_ending() {
    // In a process of its own, where no other test has children and files.
    let this = env::current_exe().unwrap();
    let output = Command::new(this).args(["process::count_leaks", "--exact", "--ignored", "--nocapture"]).output();
    let output = output.unwrap();
    let [said, why] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{said}{why}");
}

#[tokio::test]
#[ignore = "run by the test above, alone in its process"]
async fn count_leaks() {
    let factory = factory();
    let limits = Limits { cpu: Duration::from_millis(300), ..Limits::default() };
    let function = within("behave", limits);
    let prepared = factory.prepare(&function).await.unwrap();
    let files = Some(settled(None).await);
    for how in ["exit", "abort", "garbage", "oversize", "refuse", "print", "given up"] {
        for _ in 0..200 {
            if how == "given up" {
                let call = call(&function, Alone::new());
                let mut isolate = prepared.instantiate().await.unwrap();
                let hanging = isolate.invoke(&call, Payload::new("hang"));
                assert!(tokio::time::timeout(Duration::from_millis(2), hanging).await.is_err());
            } else {
                let _ended = invoke(&*prepared, &function, how).await;
            }
        }
        settled(files).await;
    }
    for _ in 0..5 {
        let error = invoke(&*prepared, &function, "spin").await.unwrap_err();
        assert!(matches!(error, InvokeError::Limit { limit: LimitKind::Cpu, .. }));
    }
    settled(files).await;
    drop((prepared, factory));
    let groups = groups_left();
    assert!(groups.is_empty(), "{groups:?}");
}

/// How long what was ended may take to be gone; a leak never is.
const PATIENCE: Duration = Duration::from_secs(120);

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until this process has no children, zombies included, and as many open files as it should. Gives their
/// number.
async fn settled(files: Option<usize>) -> usize {
    let me = std::process::id().to_string();
    let is_mine = |path: PathBuf| {
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(&me)
    };
    let start = Instant::now();
    loop {
        let children = fs::read_dir("/proc").unwrap().filter(|entry| is_mine(entry.as_ref().unwrap().path())).count();
        let open = open_files();
        if children == 0 && files.is_none_or(|files| files == open) {
            return open;
        }
        assert!(start.elapsed() < PATIENCE, "{children} children, {open} files open, not {files:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Control groups of this process that are still there.
fn groups_left() -> Vec<PathBuf> {
    let prefix = format!("scf-{}-", std::process::id());
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    found.push(entry.path());
                }
                folders.push(entry.path());
            }
        }
    }
    found
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
