//! What guests are granted of WASI: clocks, random numbers, environment, folders; no network.

use std::{
    fs,
    path::Path as FilePath,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use scf_core::{
    Call, Callee, Clock, ClockGrant, FileGrant, FolderQuota, Function, FunctionName, Grants, Host, InvocationId,
    InvokeError, IsolateFactory, Node, NodeId, Outcome, Path, PrepareError, Tier, Timestamp,
};
use scf_runtime::{SystemClock, WasmBuilder, WasmFactory};

use crate::{
    support::{call, node},
    wasm::guest,
};

/// A host on which time passes.
#[derive(Debug)]
pub(crate) struct Ticking {
    node: Arc<Node>,
    clock: SystemClock,
}

impl Ticking {
    pub(crate) fn new() -> Arc<Self> {
        let clock = SystemClock::new();
        Arc::new(Self { node: Arc::new(Node::new(node("here"), Tier::Edge)), clock })
    }
}

#[async_trait]
impl Host for Ticking {
    fn node(&self) -> &Arc<Node> {
        &self.node
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn hosts_of(&self, _: &FunctionName) -> Vec<Arc<Node>> {
        Vec::new()
    }

    fn path(&self, _: &NodeId, _: &NodeId) -> Option<Path> {
        None
    }

    async fn pace(&self, cpu: Duration) -> Duration {
        cpu
    }

    async fn invoke(&self, _: &Call, _: u64, callee: Callee) -> Result<Outcome, InvokeError> {
        Err(InvokeError::NotFound { function: callee.function })
    }
}

/// Compiles each guest once for all tests that use it.
pub(crate) fn builder() -> WasmBuilder {
    WasmFactory::builder().instances(16).cache(concat!(env!("CARGO_TARGET_TMPDIR"), "/components"))
}

fn factory() -> WasmFactory {
    builder().build().unwrap()
}

fn probe(grants: Grants) -> Function {
    guest("probe", "run").grants(grants)
}

/// What the guest answers to each line of `commands`, in the call `id`.
async fn answers(function: &Function, id: u128, commands: &str) -> Vec<String> {
    let prepared = factory().prepare(function).await.unwrap();
    let mut call = call(function, Ticking::new());
    call.id = InvocationId::new(id);
    let reply = prepared.instantiate().await.unwrap().invoke(&call, commands.to_owned().into()).await.unwrap();
    str::from_utf8(&reply.payload.bytes).unwrap().lines().map(Into::into).collect()
}

async fn answer(grants: Grants, command: &str) -> String {
    answers(&probe(grants), 1, command).await.remove(0)
}

async fn refused(grants: Grants) -> (String, String) {
    match factory().prepare(&probe(grants)).await.unwrap_err() {
        PrepareError::Grant { grant, problem, .. } => (grant, problem),
        other => panic!("{other}"),
    }
}

/// Nanoseconds: monotonic clock before and after, wall clock before and after.
async fn clocks(clock: ClockGrant) -> [u128; 4] {
    let answer = answer(Grants { clock, ..Grants::default() }, "clock").await;
    let numbers: Vec<u128> = answer.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

fn unix_now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

#[tokio::test]
async fn clocks_stand_still_unless_they_are_granted() {
    let before = unix_now();
    let [mono, mono_after, wall, wall_after] = clocks(ClockGrant::Stopped).await;
    assert_eq!((mono, wall), (mono_after, wall_after));
    let step = 1_000_000;
    assert!(wall >= before - step && wall <= unix_now(), "they stand at the time at which the call began: {wall}");
}

#[tokio::test]
async fn coarse_clocks_go_in_steps_of_a_millisecond() {
    for _ in 0..3 {
        let times = clocks(ClockGrant::Coarse).await;
        assert!(times.iter().all(|time| time % 1_000_000 == 0), "{times:?}");
    }
    let resolution = answer(Grants { clock: ClockGrant::Coarse, ..Grants::default() }, "resolution").await;
    assert_eq!(resolution, "1000000 1000000");
}

#[tokio::test]
async fn precise_clocks_go_with_the_machine() {
    let before = unix_now();
    let [mono, mono_after, wall, wall_after] = clocks(ClockGrant::Precise).await;
    assert!(mono < mono_after && before <= wall && wall < wall_after && wall_after <= unix_now());
}

#[tokio::test]
async fn random_numbers_are_those_of_the_invocation_unless_they_are_granted() {
    let without = probe(Grants::default());
    let first = answers(&without, 1, "random 16\nrandom 16").await;
    assert_eq!(first, answers(&without, 1, "random 16\nrandom 16").await, "a retry sees the same");
    assert_ne!(first, answers(&without, 2, "random 16\nrandom 16").await);
    let bytes = |answer: &str| answer.split(' ').map(Into::into).collect::<Vec<String>>();
    let (one, two) = (bytes(&first[0]), bytes(&first[1]));
    assert!(one[0] != two[0] && one[0] != one[1] && one[0] != one[2], "{first:?}");
    let with = probe(Grants { random: true, ..Grants::default() });
    assert_ne!(answers(&with, 1, "random 16").await, answers(&with, 1, "random 16").await);
}

#[tokio::test]
async fn more_random_numbers_than_the_bound_are_a_trap() {
    let prepared = factory().prepare(&probe(Grants::default())).await.unwrap();
    let function = probe(Grants::default());
    let mut isolate = prepared.instantiate().await.unwrap();
    let ended = isolate.invoke(&call(&function, Ticking::new()), "random 65537".into()).await.unwrap_err();
    assert!(matches!(ended, InvokeError::Trapped { .. }), "{ended}");
}

#[tokio::test]
async fn the_environment_is_what_is_granted_and_not_the_hosts() {
    assert!(std::env::var("PATH").is_ok(), "the host has an environment");
    assert_eq!(answer(Grants::default(), "env").await, "");
    let environment = vec![("MODE".into(), "night".into()), ("EMPTY".into(), String::new())];
    assert_eq!(answer(Grants { environment, ..Grants::default() }, "env").await, "MODE=night EMPTY=");
}

#[tokio::test]
async fn an_environment_that_is_none_is_refused_when_deployed() {
    for (name, value) in [("", "x"), ("A=B", "x"), ("A", "x\0y")] {
        let environment = vec![(name.into(), value.into())];
        let (grant, _) = refused(Grants { environment, ..Grants::default() }).await;
        assert_eq!(grant, format!("environment {name:?}"));
    }
}

#[tokio::test]
async fn there_is_no_network() {
    let answers = answers(&probe(Grants::default()), 1, "tcp\nudp\nresolve localhost").await;
    assert_eq!(answers, ["error access-denied", "error access-denied", "error permanent-resolver-failure"]);
}

/// A folder with `inside/f`, beside a file that nobody is granted.
struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        let folders = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folders.at("inside")).unwrap();
        fs::write(folders.at("inside/f"), "content").unwrap();
        fs::write(folders.at("secret"), "secret").unwrap();
        folders
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn grant(&self, write: bool) -> Grants {
        let files =
            vec![FileGrant { host: self.at("inside"), guest: "/data".into(), write, quota: FolderQuota::default() }];
        Grants { files, ..Grants::default() }
    }

    fn content(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }
}

#[tokio::test]
async fn without_a_grant_there_are_no_folders() {
    let answers = answers(&probe(Grants::default()), 1, "preopens\nread /etc/hostname\nlist /\nlist .").await;
    assert_eq!(answers[0], "");
    assert!(answers[1..].iter().all(|answer| answer.starts_with("error ")), "{answers:?}");
}

#[tokio::test]
async fn a_folder_can_be_read() {
    let folders = Folders::new();
    let answers = answers(&probe(folders.grant(false)), 1, "preopens\nlist /data\nread /data/f").await;
    assert_eq!(answers, ["/data", "f", "content"]);
}

#[tokio::test]
async fn a_folder_is_read_only_unless_the_grant_says_otherwise() {
    let folders = Folders::new();
    let commands = "write /data/new x\nwrite /data/f x\nappend /data/f x\ntruncate f\nrename /data/f /data/g\n\
                    link /data/f /data/g\nsymlink f g\nremove /data/f\nmkdir /data/d";
    let answers = answers(&probe(folders.grant(false)), 1, commands).await;
    assert_eq!(answers.len(), commands.lines().count());
    assert!(answers.iter().all(|answer| answer.starts_with("error ")), "{answers:?}");
    assert_eq!(folders.content("inside/f"), "content");
    assert_eq!(fs::read_dir(folders.at("inside")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_folder_that_is_granted_for_writing_can_be_changed() {
    let folders = Folders::new();
    let commands = "write /data/new x\nappend /data/f !\nrename /data/new /data/d\nmkdir /data/e\nlink /data/f /data/g\nremove /data/g\nsymlink f s\nread /data/s";
    let answers = answers(&probe(folders.grant(true)), 1, commands).await;
    assert_eq!(answers[..7], ["done"; 7]);
    assert_eq!(answers[7], "content!", "a link within the folder leads where it says");
    assert_eq!((folders.content("inside/f").as_str(), folders.content("inside/d").as_str()), ("content!", "x"));
}

#[cfg(unix)]
#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    let folders = Folders::new();
    let secret = folders.at("secret");
    let link = |from: &FilePath, to: &str| std::os::unix::fs::symlink(from, folders.at(to)).unwrap();
    link(&secret, "inside/absolute");
    link(FilePath::new("../secret"), "inside/relative");
    link(FilePath::new("/"), "inside/root");
    link(FilePath::new(".."), "inside/up");
    let absolute = secret.display().to_string();
    let escapes = [
        "/data/../secret",
        "/data/x/../../secret",
        "/data/./../secret",
        "//data/../secret",
        &absolute,
        "/data/up/secret",
    ];
    // Links themselves can be moved and named like files: what they lead to cannot be had all the same.
    let links = ["/data/absolute", "/data/relative", "/data/root", &format!("/data/root{absolute}")];
    let mut commands: Vec<String> = Vec::new();
    for path in escapes.iter().chain(&links) {
        commands.extend([format!("read {path}"), format!("write {path} stolen"), format!("append {path} stolen")]);
    }
    for path in escapes {
        let moves = ["rename PATH /data/got", "link PATH /data/got", "rename /data/f PATH", "link /data/f PATH"];
        commands.extend(moves.map(|command| command.replace("PATH", path)));
    }
    for write in [false, true] {
        let answers = answers(&probe(folders.grant(write)), 1, &commands.join("\n")).await;
        assert_eq!(answers.len(), commands.len());
        for (command, answer) in commands.iter().zip(answers) {
            assert!(answer.starts_with("error ") && !answer.contains("unknown"), "{command}: {answer}");
        }
        assert_eq!(folders.content("secret"), "secret");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_the_guest_makes_leads_nowhere_else() {
    let folders = Folders::new();
    let commands = "symlink ../secret out\nread /data/out\nsymlink / root\nlist /data/root";
    let answers = answers(&probe(folders.grant(true)), 1, commands).await;
    assert!(
        answers[1].starts_with("error ") && answers[2].starts_with("error ") && answers[3].starts_with("error "),
        "{answers:?}"
    );
}

#[tokio::test]
async fn a_folder_is_the_one_that_was_there_when_the_function_was_deployed() {
    let folders = Folders::new();
    let function = probe(folders.grant(false));
    let prepared = factory().prepare(&function).await.unwrap();
    fs::rename(folders.at("inside"), folders.at("moved")).unwrap();
    fs::create_dir(folders.at("inside")).unwrap();
    fs::write(folders.at("inside/f"), "another").unwrap();
    let call = call(&function, Ticking::new());
    let reply = prepared.instantiate().await.unwrap().invoke(&call, "read /data/f".into()).await.unwrap();
    assert_eq!(reply.payload.bytes, "content\n");
}

#[tokio::test]
async fn a_folder_that_cannot_be_had_is_refused_when_deployed() {
    let folders = Folders::new();
    for path in ["absent", "secret"] {
        let files = vec![FileGrant {
            host: folders.at(path),
            guest: "/data".into(),
            write: false,
            quota: FolderQuota::default(),
        }];
        let (grant, problem) = refused(Grants { files, ..Grants::default() }).await;
        assert_eq!(grant, format!("files {:?}", folders.at(path)));
        assert!(problem.starts_with("cannot be opened as a folder: "), "{problem}");
    }
    let mut twice = folders.grant(false);
    twice.files.push(twice.files[0].clone());
    assert_eq!(refused(twice).await.1, "\"/data\" is no path for a folder, or that of another");
}
