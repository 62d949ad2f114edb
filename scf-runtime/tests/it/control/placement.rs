use scf_core::{ByteSize, Context, InvokeError, Needs, Strength, Verdict, Wanted};

use super::{
    operate::{several, where_it_runs},
    *,
};
use crate::support::node;

/// 4 s over the links between the nodes: far more than what a busy machine makes them look like.
const RECORDING: ByteSize = ByteSize::from_mib(10);

#[tokio::test]
async fn a_function_runs_where_the_data_lies_that_it_reads() {
    let fabric = several(&Stage::new(), &["camera", "archive"]).await;
    fabric.deploy(native("small", "echo")).await.unwrap();
    fabric.deploy(native("reader", "echo").reads(node("archive"), RECORDING)).await.unwrap();
    let called_on_camera = |function| {
        let fabric = &fabric;
        async move {
            let outcome = fabric.invoke_from(&node("camera"), to(fabric, function)).await.unwrap();
            outcome.receipt.node
        }
    };
    assert_eq!(called_on_camera("small").await, node("camera"));
    assert_eq!(called_on_camera("reader").await, node("archive"));
}

#[tokio::test]
async fn data_that_cannot_be_there_in_time_is_an_error_that_says_so() {
    let fabric = several(&Stage::new(), &["camera", "archive"]).await;
    let soon = Wanted { what: Duration::from_millis(20), strength: Strength::Hard };
    let context = Context { data: Some(soon), ..Context::default() };
    let here = Needs { nodes: vec![node("camera")], context: context.clone(), ..Needs::default() };
    fabric.deploy(native("here", "echo").needs(here).reads(node("archive"), RECORDING)).await.unwrap();
    let error = fabric.invoke_from(&node("camera"), to(&fabric, "here")).await.unwrap_err();
    let InvokeError::Unplaceable { source: ScheduleError::Unplaceable { refused, .. }, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(refused.iter().any(|refusal| refusal.filter == "surroundings" && refusal.nodes == 1), "{refused:?}");
    let anywhere = Needs { context, ..Needs::default() };
    fabric.deploy(native("anywhere", "echo").needs(anywhere).reads(node("archive"), RECORDING)).await.unwrap();
    assert_eq!(where_it_runs(&fabric, "anywhere").await, "archive");
}

#[tokio::test]
async fn every_node_has_a_reason_why_it_was_or_was_not_chosen() {
    let fabric = several(&Stage::new(), &["camera", "archive", "spare"]).await;
    fabric.deploy(native("reader", "echo").reads(node("archive"), RECORDING)).await.unwrap();
    fabric.cordon(&node("spare")).unwrap();
    let verdicts = fabric.explain(&name("reader"), &node("camera")).unwrap();
    let [camera, archive, spare] = &verdicts[..] else { panic!("{verdicts:?}") };
    let said = |verdict: &Verdict| (verdict.node.to_string(), verdict.is_chosen, verdict.refused.join(" "));
    assert_eq!(said(camera), ("camera".into(), false, String::new()));
    assert_eq!(said(archive), ("archive".into(), true, String::new()));
    assert_eq!(said(spare), ("spare".into(), false, "reach".into()));
    assert!(camera.seconds.unwrap() - archive.seconds.unwrap() > 1.0, "{camera}; {archive}");

    let none = fabric.explain(&name("stranger"), &node("camera")).unwrap_err();
    assert!(matches!(none, InvokeError::NotFound { .. }), "{none:?}");
    let stranger = node("stranger");
    let nobody = fabric.explain(&name("reader"), &stranger).unwrap_err();
    let InvokeError::Unplaceable { source, .. } = nobody else { panic!("{nobody:?}") };
    assert_eq!(source, ScheduleError::UnknownCaller { from: stranger });
}

#[tokio::test]
async fn a_scheduler_that_explains_nothing_has_its_needs_and_its_choice_told() {
    let fabric = alone(&Stage::new(), |builder| builder);
    fabric.deploy(native("f", "echo")).await.unwrap();
    let local = node("local");
    let verdict = |refused: &[&str]| Verdict {
        node: local.clone(),
        refused: refused.iter().map(|text| (*text).to_owned()).collect(),
        seconds: None,
        is_chosen: refused.is_empty(),
    };
    assert_eq!(fabric.explain(&name("f"), &local).unwrap(), [verdict(&[])]);
    fabric.cordon(&local).unwrap();
    assert_eq!(fabric.explain(&name("f"), &local).unwrap(), [verdict(&["health"])]);
}
