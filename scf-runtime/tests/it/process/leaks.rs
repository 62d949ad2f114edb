//! That nothing is left of processes that ended.

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    sync::Arc,
    task::{Context, Wake, Waker},
    time::{Duration, Instant},
};

use scf_core::{InvokeError, IsolateFactory, LimitKind, Limits, Payload};
use tokio::sync::Notify;

use super::{factory, invoke, within};
use crate::support::{Alone, call};

#[test]
fn nothing_is_left_of_two_hundred_calls_of_each_ending() {
    // In a process of its own, where no other test has children and files.
    let this = env::current_exe().unwrap();
    let output =
        Command::new(this).args(["process::leaks::count_leaks", "--exact", "--ignored", "--nocapture"]).output();
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
    for how in ["exit", "abort", "garbage", "oversize", "refuse", "print", "given up", "given up unseen"] {
        for _ in 0..200 {
            if !how.starts_with("given up") {
                let _ended = invoke(&*prepared, &function, how).await;
                continue;
            }
            let call = call(&function, Alone::new());
            let mut isolate = prepared.instantiate().await.unwrap();
            let mut hanging = isolate.invoke(&call, Payload::new("hang"));
            if how == "given up" {
                assert!(tokio::time::timeout(Duration::from_millis(2), hanging).await.is_err());
            } else {
                // What wakes it first is its process, which it does not come to take.
                let woken = Arc::new(Woken::default());
                let waker = Waker::from(Arc::clone(&woken));
                assert!(hanging.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                woken.0.notified().await;
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

#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
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
