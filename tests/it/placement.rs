use scf::{
    ai::LatencyOptimal,
    core::{Code, Function, InvokeError, MediaType, Name, ScheduleError, Tier},
    runtime::DeployError,
};

use crate::support::{Site, alone, component, function, node};

#[tokio::test]
async fn a_function_runs_where_its_needs_allow() {
    let site = Site::new(LatencyOptimal).await;
    let mut greet = component("greet").gives(MediaType::TEXT);
    greet.needs.tiers = vec![Tier::Cloud];
    site.fabric.deploy(greet).await.unwrap();
    let outcome = site.call("greet", "Ada").await.unwrap();
    assert_eq!(outcome.receipt.node, node("cloud"));
    assert_eq!(&outcome.payload.bytes[..], b"hello, Ada");
    assert!(outcome.receipt.on_wire.bytes() > 0);
}

#[tokio::test]
async fn needs_that_no_node_has_are_refused_when_deployed() {
    let mut greet = component("greet");
    greet.needs.tiers = vec![Tier::Region];
    let error = alone().deploy(greet).await.unwrap_err();
    assert!(matches!(error, DeployError::NoNode { function } if function.as_str() == "greet"));
}

#[tokio::test]
async fn a_node_is_not_promised_twice() {
    let site = Site::new(LatencyOptimal).await;
    for name in ["first", "second"] {
        let mut greet = Function::new(function(name), component("greet").code).on([node("gateway")]);
        greet.needs.resources = scf::core::Node::new(node("gateway"), Tier::Edge).resources;
        site.fabric.deploy(greet).await.unwrap();
    }
    site.call("first", "Ada").await.unwrap();
    let error = site.call("second", "Ada").await.unwrap_err();
    let InvokeError::Unplaceable { source: ScheduleError::Unplaceable { refused, .. }, .. } = error else {
        panic!("{error:?}")
    };
    let refused: Vec<_> = refused.iter().map(|refusal| (refusal.filter.as_str(), refusal.nodes)).collect();
    assert_eq!(refused, [("node", 2), ("resources", 1)]);
    site.fabric.undeploy(&function("first"));
    site.call("second", "Ada").await.unwrap();
}

#[tokio::test]
async fn code_that_nothing_runs_is_refused_by_kind() {
    let nothing = Function::new(function("f"), Code::Native { entry: Name::new("f").unwrap() });
    let error = alone().deploy(nothing).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("function f: nothing here runs native code"), "{source}");
}

#[tokio::test]
async fn every_call_is_billed_to_its_function() {
    let fabric = alone();
    fabric.deploy(component("echo")).await.unwrap();
    for _ in 0..3 {
        fabric.call(&function("echo"), vec![7u8; 1000]).await.unwrap();
    }
    let (name, bill) = fabric.bills().remove(0);
    assert_eq!(name.as_str(), "echo");
    assert_eq!((bill.calls, bill.failures), (3, 0));
    assert_eq!((bill.bytes_in.bytes(), bill.bytes_out.bytes()), (3000, 3000));
    assert!(!bill.cpu.is_zero());
}
