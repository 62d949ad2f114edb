//! Nodes whose blocks a runner runs in one piece.

use super::*;
use crate::accelerator::tests::{Held, PER_BLOCK};

/// Runs [`input`] from `cam`, which hands over to `cloud`, where `graph` is behind a runner; and says what that was
/// asked for.
async fn run(graph: &BlockGraph, hand_over: usize) -> (Payload, Receipt, Vec<(usize, usize)>) {
    let split = || FixedSplit::here().hand_over(hand_over, node("cloud"), WireForm::Exact);
    let mut net = Net::new(&[("cam", 1.0), ("cloud", 1.0)], split).await;
    let function = Function::model(FunctionName::new("f").unwrap(), graph.model.clone());
    let (behind, held) = Held::behind(graph);
    for (name, graph) in [("cam", graph), ("cloud", &behind)] {
        let factory = ModelFactory::new().with(graph, split());
        net.profilers.insert(node(name), factory.profiler(&graph.model).unwrap().clone());
        net.prepared.insert(node(name), factory.prepare(&function).await.unwrap());
    }
    let (payload, receipt) = Arc::new(net).start(input()).await.unwrap();
    let asked = held.asked.lock().unwrap().clone();
    (payload, receipt, asked)
}

#[tokio::test]
async fn the_blocks_of_a_node_run_in_one_piece_and_its_bill_has_the_time_of_the_device() {
    let (payload, receipt, asked) = run(&graph(), 2).await;
    assert_eq!(elements(&payload), expected());
    assert_eq!(asked, [(2, BLOCKS)]);
    assert_eq!(SplitTrace::of(&receipt).to_string(), "cam block0..block1 > cloud block2..block5");
    let there = &receipt.calls[0];
    assert_eq!((receipt.usage.accelerator, there.usage.accelerator), (Duration::ZERO, 4 * PER_BLOCK));
    let named = |block: usize| there.spans.iter().filter(|span| span.name == format!("block{block}")).count();
    assert_eq!((0..BLOCKS).map(named).collect::<Vec<_>>(), [0, 0, 1, 1, 1, 1]);
}

#[tokio::test]
async fn an_early_exit_ends_a_run_in_one_piece_too() {
    let sure = exiting(0.9);
    let answer = sure.step(0..BLOCKS, Activation::decode(&input()).unwrap()).unwrap().into_activation();
    let (payload, receipt, asked) = run(&sure, 2).await;
    assert_eq!(elements(&payload), answer.bytes().unwrap());
    assert_eq!(asked, [(2, BLOCKS)]);
    assert_eq!(SplitTrace::of(&receipt).to_string(), "cam block0..block1 > cloud block2..block4");
    assert_eq!(receipt.calls[0].usage.accelerator, 3 * PER_BLOCK);
}
