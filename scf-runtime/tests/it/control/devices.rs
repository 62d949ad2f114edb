use futures::FutureExt;
use scf_core::{
    Bandwidth, ByteSize, DeviceGrant, Grants, InvokeError, Limits, Link, ManualClock, Node, Outcome, PrepareError, Tier,
};
use scf_runtime::{DeployError, SystemClock, transport::InProcess};

use super::*;
use crate::support::node;

const SECOND: Duration = Duration::from_secs(1);

fn device(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn holds(function: Function, device: &str, units: Option<u32>) -> Function {
    let mut grants = function.grants.clone();
    grants.devices.push(DeviceGrant { device: Name::new(device).unwrap(), units });
    function.grants(grants)
}

/// A node with a valve and a GPU of four units, on which `probe` needs both whole.
async fn site(stage: &Stage, clock: &ManualClock) -> Fabric {
    let gateway = Node::new(node("gateway"), Tier::Edge).device(device("valve"), 1).device(device("gpu"), 4);
    let fabric = alone(stage, |builder| builder.clock(Arc::new(clock.clone())).node(gateway));
    let probe = holds(holds(native("probe", "echo"), "gpu", None), "valve", None);
    fabric.deploy(probe).await.unwrap();
    fabric
}

/// Whether all devices are free: a call that needs them whole is done at once.
fn all_free(fabric: &Fabric) -> bool {
    let done: Option<Result<Outcome, InvokeError>> = fabric.invoke(to(fabric, "probe")).now_or_never();
    done.is_some_and(|result| result.is_ok())
}

#[tokio::test]
async fn devices_are_free_again_on_every_way_out_of_a_call() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let fabric = site(&stage, &clock).await;
    let small = Limits { payload: ByteSize::from_bytes(12), ..Limits::default() };
    fabric.deploy(holds(native("burn", "burn"), "valve", None)).await.unwrap();
    fabric.deploy(holds(native("gate", "gate").limits(small), "valve", None)).await.unwrap();
    let burn = |input: &str| Invocation::new(fabric.new_id(), name("burn"), input.to_owned());
    assert!(all_free(&fabric));
    fabric.invoke(burn("0")).await.unwrap();
    assert!(all_free(&fabric), "after a success");
    assert!(matches!(fabric.invoke(burn("0 panics")).await, Err(InvokeError::Trapped { .. })));
    assert!(all_free(&fabric), "after a panic");
    assert!(matches!(fabric.invoke(burn("0 refuses")).await, Err(InvokeError::Refused { .. })));
    assert!(all_free(&fabric), "after a refusal");
    let hanging = spawn(&fabric, burn("0 hangs").patience(SECOND));
    settle().await;
    assert!(!all_free(&fabric), "while it runs");
    clock.advance(2 * SECOND);
    assert!(matches!(hanging.await.unwrap(), Err(InvokeError::Limit { .. })));
    assert!(all_free(&fabric), "after the deadline");
    let dropped = spawn(&fabric, burn("0 hangs"));
    settle().await;
    assert!(!all_free(&fabric));
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert!(all_free(&fabric), "after it was dropped");
    let (running, waiting) =
        (spawn(&fabric, to(&fabric, "gate")), spawn(&fabric, to(&fabric, "gate").patience(SECOND)));
    settle().await;
    assert_eq!(stage.entered(), 1, "the second waits for the valve");
    clock.advance(2 * SECOND);
    assert!(matches!(waiting.await.unwrap(), Err(InvokeError::Limit { .. })));
    stage.gate.add_permits(1);
    let receipt = running.await.unwrap().unwrap().receipt;
    assert_eq!(receipt.usage.accelerator, 2 * SECOND);
    assert_eq!(stage.entered(), 1, "who waited too long did not run");
    assert!(all_free(&fabric), "after a wait that was too long");
    let bills: std::collections::BTreeMap<_, _> = fabric.bills().into_iter().collect();
    assert_eq!(bills[&name("gate")].accelerator, 2 * SECOND);
    assert_eq!(bills[&name("burn")].accelerator, 2 * SECOND, "also where the call failed");
}

#[cfg(feature = "wasm")]
#[tokio::test]
async fn a_guest_that_traps_or_goes_over_its_limit_gives_its_device_back() {
    const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests/components/hostile.wasm");
    let wasm = scf_runtime::WasmFactory::builder().instances(8).build().unwrap();
    let camera = Node::new(node("gateway"), Tier::Edge).device(device("camera"), 1);
    let fabric = alone(&Stage::new(), |builder| builder.node(camera).isolates(Arc::new(wasm)));
    let limits = Limits { cpu: Duration::from_millis(5), ..Limits::default() };
    let spin = Function::component(name("spin"), std::fs::read(HOSTILE).unwrap(), "spin").limits(limits);
    fabric.deploy(holds(spin, "camera", None)).await.unwrap();
    fabric.deploy(holds(native("probe", "echo"), "camera", None)).await.unwrap();
    assert!(matches!(fabric.call(&name("spin"), "").await, Err(InvokeError::Limit { .. })));
    assert!(all_free(&fabric));
}

#[tokio::test]
async fn units_bound_how_many_hold_a_device_and_all_of_them_exclude_everybody() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let fabric = site(&stage, &clock).await;
    fabric.deploy(holds(native("half", "gate"), "gpu", Some(2))).await.unwrap();
    fabric.deploy(holds(native("whole", "gate"), "gpu", None)).await.unwrap();
    let calls: Vec<_> =
        (0..12).map(|at| spawn(&fabric, to(&fabric, if at % 4 == 3 { "whole" } else { "half" }))).collect();
    settle().await;
    assert_eq!(stage.entered(), 2);
    stage.gate.add_permits(12);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(stage.most.load(Ordering::SeqCst), 2);
    assert!(all_free(&fabric));
}

#[tokio::test]
async fn a_grant_for_a_device_that_no_node_has_is_refused_when_it_is_deployed() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let fabric = site(&stage, &clock).await;
    for (device, units, problem) in
        [("camera", None, "node gateway has no such device"), ("gpu", Some(5), "asks for 5 units, node gateway has 4")]
    {
        let error = fabric.deploy(holds(native("f", "echo"), device, units)).await.unwrap_err();
        let DeployError::Prepare { source: PrepareError::Grant { grant, problem: told, .. }, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!((grant, told.as_str()), (format!("devices {device}"), problem));
    }
    assert!(matches!(fabric.call(&name("f"), "x").await, Err(InvokeError::NotFound { .. })));
}

#[tokio::test]
async fn a_function_runs_only_where_its_devices_are() {
    let clock: Arc<dyn scf_core::Clock> = Arc::new(SystemClock::new());
    let link = Link { latency: Duration::from_micros(100), bandwidth: Bandwidth::from_mbit_per_s(1000) };
    let network = InProcess::builder().link(node("a"), node("b"), link).build(clock.clone()).unwrap();
    let fabric = alone(&Stage::new(), |builder| {
        let b = Node::new(node("b"), Tier::Edge).device(device("camera"), 1);
        builder.node(Node::new(node("a"), Tier::Edge)).node(b).transport(Arc::new(network)).clock(clock)
    });
    let grants = Grants { devices: vec![DeviceGrant { device: device("camera"), units: None }], ..Grants::default() };
    fabric.deploy(native("f", "echo").grants(grants)).await.unwrap();
    fabric.ready().await;
    let receipt = fabric.call(&name("f"), "x").await.unwrap().receipt;
    assert_eq!(receipt.node, node("b"));
    assert!(!receipt.usage.accelerator.is_zero());
}
