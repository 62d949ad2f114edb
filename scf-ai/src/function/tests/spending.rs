//! What runs spend on all of their nodes together.

use scf_core::{Radio, SplitSpent};

use super::*;

/// Plans as a fixed split does, and notes what had been spent before.
#[derive(Debug)]
struct Noting {
    split: FixedSplit,
    spent: Arc<Mutex<Vec<(usize, SplitSpent)>>>,
}

impl SplitPlanner for Noting {
    fn name(&self) -> &'static str {
        "noting"
    }

    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        self.spent.lock().unwrap().push((problem.first, problem.spent));
        self.split.plan(problem)
    }
}

/// Three nodes, whose radios alone spend anything, of which each hands two blocks on.
async fn relay() -> (Net, Arc<Mutex<Vec<(usize, SplitSpent)>>>) {
    let spent: Arc<Mutex<Vec<_>>> = Arc::default();
    let split = || {
        let there = FixedSplit::here().hand_over(2, node("gw"), WireForm::Exact);
        Noting { split: there.hand_over(4, node("cloud"), WireForm::Exact), spent: Arc::clone(&spent) }
    };
    let mut net = Net::new(&[("cam", 1.0), ("gw", 1.0), ("cloud", 1.0)], split).await;
    for node in &mut net.nodes {
        *node = Arc::new(Node::clone(node).radio(Radio { sent: 2.0, received: 1.0 }));
    }
    (net, spent)
}

#[tokio::test]
async fn what_a_run_spends_goes_with_it_from_node_to_node() {
    let (net, spent) = relay().await;
    Arc::new(net).start(input()).await.unwrap();
    let [(0, before), (2, once), (4, twice)] = spent.lock().unwrap()[..] else { panic!("it is planned three times") };
    assert_eq!(before, SplitSpent::NOTHING);
    // Message and result, each sent for 2 uJ and received for 1 uJ a byte, have 16 bytes of numbers at least.
    assert!(once.energy.microjoules() >= 2 * 3 * 16, "{once:?}");
    assert_eq!(twice.energy, once.energy + once.energy, "both hops are alike");
    assert_eq!((once.money, once.battery), (SplitSpent::NOTHING.money, SplitSpent::NOTHING.battery));
}

#[tokio::test]
async fn a_hop_that_was_not_made_has_spent_nothing() {
    let (mut net, spent) = relay().await;
    net.unreachable = [node("gw")].into();
    assert!(Arc::new(net).start(input()).await.is_err(), "a fixed split has no other way");
    let planned = spent.lock().unwrap();
    assert!(planned.iter().all(|(_, spent)| *spent == SplitSpent::NOTHING), "{planned:?}");
}
