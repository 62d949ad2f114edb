//! What is found when a function is deployed, or before.

use std::{sync::Arc, time::Duration};

use scf_core::{
    FileGrant, FolderQuota, Function, Grants, IsolateFactory, Limits, MediaType, Name, PrepareError, Statefulness,
    conformance::isolate::{Samples, isolate_factory},
};
use scf_runtime::process::{Jail, Layer, ProcessError, ProcessFactory};

use super::{factory, factory_in, process, within};
use crate::support::name;

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
async fn what_a_process_cannot_be_given_is_an_error_when_it_is_deployed() {
    let factory = factory();
    let refused = async |function: Function| factory.prepare(&function).await.unwrap_err().to_string();
    let secrets = Grants { secrets: vec![Name::new("key").unwrap()], ..Grants::default() };
    assert!(refused(process("echo").grants(secrets)).await.contains("grant secrets"));
    let file = |host: &str, guest: &str| Grants {
        files: vec![FileGrant { host: host.into(), guest: guest.into(), write: false, quota: FolderQuota::default() }],
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
