//! What a process reaches, and what it does not.

use std::{collections::HashMap, env, fs, path::Path};

use scf_core::{FileGrant, FolderQuota, Grants, InvokeError, IsolateFactory};
use scf_runtime::process::{Jail, Layer};

use super::{PYTHON, factory, factory_in, invoke, process, refused, trapped};
use crate::support::run;

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
        files: vec![FileGrant {
            host: folder.path().into(),
            guest: "/data/models".into(),
            write,
            quota: FolderQuota::default(),
        }],
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
