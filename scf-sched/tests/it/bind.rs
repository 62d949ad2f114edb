//! Asking the nodes that were chosen.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use scf_core::{Needs, Timestamp};
use scf_sched::{
    Choice, Fleet, NodeIx, Request,
    fleet::{Hold, HoldError},
    place::{Bind, BindError, multi_bind},
};

use crate::support::{function, join, node, resources};

/// Answers at once: these nodes refuse, the others take what they are asked for.
#[derive(Debug)]
struct Refusing(Vec<NodeIx>);

impl Bind for Refusing {
    type Placed = NodeIx;

    async fn bind(&self, hold: &Hold, _request: &Request<'_>) -> Result<NodeIx, BindError> {
        if self.0.contains(&hold.node()) { Err(BindError::Refused) } else { Ok(hold.node()) }
    }
}

/// Runs a future that never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits for something"),
    }
}

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

#[test]
fn the_next_best_is_asked_when_one_is_full_or_refuses_and_nothing_stays_held() {
    let fleet = Fleet::new();
    let nodes: Vec<_> = (0..4).map(|at| join(&fleet, node(&format!("n{at}")))).collect();
    let demand = fleet.demand(&function(Needs { resources: resources(1000, 64), ..Needs::default() })).unwrap();
    let request = Request::new(&demand, 1, at(0));
    let choices: Vec<_> = nodes.iter().map(|node| Choice { node: *node, cost: 1.0 }).collect();
    let _full = (0..4).map(|_| fleet.claim(nodes[0], demand.need).unwrap()).collect::<Vec<_>>();
    let place = |refusing: &[NodeIx], now: u64| {
        let bind = Refusing(refusing.to_vec());
        ready(multi_bind(&fleet, &bind, &request, &choices, at(100), || at(now), 0))
    };
    let free = || nodes.iter().map(|node| fleet.look(*node).unwrap().free().milli()).collect::<Vec<_>>();

    let (claim, placed) = place(&nodes[1..2], 50).unwrap();
    assert_eq!((claim.node(), placed), (nodes[2], nodes[2]));
    assert_eq!(free(), [0, 4000, 3000, 4000], "the one that refused holds nothing");
    assert!(fleet.release(claim));
    assert!(matches!(place(&nodes, 50), Err(BindError::NoneLeft { tried: 3 })));
    assert!(matches!(place(&[], 100), Err(BindError::Lapsed(HoldError::Lapsed))), "the answer came too late");
    assert_eq!((free(), fleet.open_holds()), (vec![0, 4000, 4000, 4000], 0));
}
