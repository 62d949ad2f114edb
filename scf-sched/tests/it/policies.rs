//! What defines each policy.

use scf_core::{Health, Needs, Timestamp};
use scf_sched::{
    Decision, Demand, Fleet, NodeIx, Policy, Request,
    policy::{Auction, BoundedLoads, Event, IdleFirst, PackThenSpread, PowerOfD, RandomLoadUpdates, UniformRandom},
};

use crate::support::{function, join, node};

const NODES: usize = 20;

fn fleet() -> (Fleet, Demand) {
    let fleet = Fleet::new();
    for at in 0..NODES {
        join(&fleet, node(&format!("n{at}")).slots(1000));
    }
    let demand = fleet.demand(&function(Needs::default())).unwrap();
    (fleet, demand)
}

/// The demand of another function.
fn other(fleet: &Fleet, number: usize) -> Demand {
    let mut function = function(Needs::default());
    function.name = scf_core::FunctionName::new(&format!("f{number}")).unwrap();
    fleet.demand(&function).unwrap()
}

fn choose(policy: &mut dyn Policy, fleet: &Fleet, demand: &Demand, seed: u64) -> Option<NodeIx> {
    let mut decision = Decision::new();
    policy.decide(fleet, &Request::new(demand, seed, Timestamp::default()), &mut decision);
    decision.best()
}

/// Puts one more call on a node.
fn add(fleet: &Fleet, node: NodeIx) {
    fleet.set_load(node, fleet.look(node).unwrap().queued() + 1, 0.0);
}

#[test]
fn with_bounded_loads_no_node_gets_more_than_its_share_and_a_quarter() {
    let (fleet, demand) = fleet();
    let mut policy = BoundedLoads::new(1.25);
    for calls in 1..=400u32 {
        // All calls are of one function: without the bound they would be on one node.
        add(&fleet, choose(&mut policy, &fleet, &demand, 0).unwrap());
        let most = (0..NODES).map(|at| fleet.look(NodeIx::new(at as u32)).unwrap().queued()).max().unwrap();
        assert!(most <= (1.25 * calls as f32 / NODES as f32).ceil() as u32, "{most} of {calls} calls");
    }
}

#[test]
fn with_bounded_loads_functions_stay_at_home_and_only_those_of_a_lost_node_move() {
    let (fleet, _) = fleet();
    let mut policy = BoundedLoads::default();
    let demands: Vec<Demand> = (0..200).map(|number| other(&fleet, number)).collect();
    let mut homes = || -> Vec<NodeIx> {
        demands.iter().enumerate().map(|(seed, of)| choose(&mut policy, &fleet, of, seed as u64).unwrap()).collect()
    };
    let before = homes();
    assert_eq!(before, homes());
    let lost = before[0];
    fleet.set_health(lost, Health::Draining);
    for (was, is) in before.iter().zip(homes()) {
        assert!(if *was == lost { is != lost } else { is == *was });
    }
    let used: std::collections::HashSet<_> = before.iter().collect();
    assert!(used.len() > NODES / 2, "{} nodes are home to some function", used.len());
}

#[test]
fn with_random_load_updates_only_popular_functions_leave_home_and_not_for_further_than_a_chain_of_four() {
    let (fleet, _) = fleet();
    let mut policy = RandomLoadUpdates::new(1.25, 0.04);
    let demands: Vec<Demand> = (0..20).map(|number| other(&fleet, number)).collect();
    let mut used = vec![std::collections::HashSet::new(); demands.len()];
    for call in 0..4000u64 {
        // Function 0 is called twice a second, the others once every 9.5 s; nobody reports loads meanwhile.
        let function = if call % 2 == 0 { 0 } else { 1 + (call / 2 % 19) as usize };
        let request = Request::new(&demands[function], call, Timestamp::from_nanos(call * 250_000_000));
        let mut decision = Decision::new();
        policy.decide(&fleet, &request, &mut decision);
        // Until the popular are known from the others, all may be.
        if call >= 1000 {
            used[function].insert(decision.best().unwrap());
        }
        if call % 8 == 0 {
            (0..NODES as u32).for_each(|at| fleet.set_load(NodeIx::new(at), (call / 8 % 2) as u32, 0.0));
        }
    }
    assert!((2..=4).contains(&used[0].len()), "{:?}", used[0]);
    assert!(used[1..].iter().all(|nodes| nodes.len() == 1), "{used:?}");
}

#[test]
fn with_random_load_updates_a_full_chain_sends_calls_home() {
    let (fleet, demand) = fleet();
    let mut policy = RandomLoadUpdates::default();
    let home = choose(&mut policy, &fleet, &demand, 0);
    (0..NODES as u32).for_each(|at| fleet.set_load(NodeIx::new(at), 100, 0.0));
    assert!((0..50).all(|seed| choose(&mut policy, &fleet, &demand, seed) == home));
}

#[test]
fn nodes_are_packed_while_they_have_cores_and_even_afterwards() {
    let (fleet, demand) = fleet();
    let mut policy = PackThenSpread;
    for call in 0..NODES as u64 * 4 {
        add(&fleet, choose(&mut policy, &fleet, &demand, call).unwrap());
        let used = (0..NODES).filter(|at| fleet.look(NodeIx::new(*at as u32)).unwrap().queued() > 0).count();
        assert_eq!(used as u64, call / 4 + 1, "of four cores each");
    }
    for call in 0..NODES as u64 {
        add(&fleet, choose(&mut policy, &fleet, &demand, call).unwrap());
    }
    for at in 0..NODES {
        assert_eq!(fleet.look(NodeIx::new(at as u32)).unwrap().queued(), 5, "one more on each");
    }
}

#[test]
fn a_node_with_the_function_started_is_taken_before_a_busier_one() {
    let (fleet, demand) = fleet();
    add(&fleet, NodeIx::new(3));
    assert_eq!(choose(&mut PackThenSpread, &fleet, &demand, 0), Some(NodeIx::new(3)));
    fleet.set_warm(demand.function, NodeIx::new(7), true);
    assert_eq!(choose(&mut PackThenSpread, &fleet, &demand, 0), Some(NodeIx::new(7)));
}

#[test]
fn sampling_finds_the_last_node_that_takes_calls() {
    let (fleet, demand) = fleet();
    for at in (0..NODES as u32).filter(|at| *at != 11) {
        fleet.set_health(NodeIx::new(at), Health::Draining);
    }
    for seed in 0..50 {
        assert_eq!(choose(&mut UniformRandom::new(), &fleet, &demand, seed), Some(NodeIx::new(11)));
        assert_eq!(choose(&mut PowerOfD::new(2), &fleet, &demand, seed), Some(NodeIx::new(11)));
    }
}

#[test]
fn of_the_sampled_nodes_the_one_with_fewest_calls_is_taken() {
    let (fleet, demand) = fleet();
    (0..NODES as u32).for_each(|at| fleet.set_load(NodeIx::new(at), at + 1, 0.0));
    assert_eq!(choose(&mut PowerOfD::new(NODES), &fleet, &demand, 1), Some(NodeIx::new(0)));
}

#[test]
fn an_offer_is_used_once_and_not_at_all_when_its_node_is_gone() {
    let (fleet, demand) = fleet();
    let mut policy = IdleFirst::only();
    let now = Timestamp::default();
    for at in [5, 6] {
        policy.note(&fleet, &Event::Idle { node: NodeIx::new(at), now });
    }
    fleet.set_health(NodeIx::new(5), Health::Draining);
    assert_eq!(choose(&mut policy, &fleet, &demand, 1), Some(NodeIx::new(6)));
    assert_eq!(choose(&mut policy, &fleet, &demand, 2), None);
    assert_eq!(policy.offers(), 0);
    let mut asks = IdleFirst::or(UniformRandom::new());
    assert!(choose(&mut asks, &fleet, &demand, 3).is_some(), "without an offer the policy below decides");
}

#[test]
fn in_an_auction_calls_go_where_they_run_soonest_and_cheapest_and_nowhere_above_what_they_bid() {
    let (fleet, demand) = fleet();
    let mut policy = Auction::new(1.0).asked(NODES);
    let now = Timestamp::default();
    let request = Request { work: 1.0, ..Request::new(&demand, 1, now) };
    let decide = |policy: &mut Auction, bid: f32| {
        let mut decision = Decision::new();
        policy.decide(&fleet, &Request { bid, ..request }, &mut decision);
        decision
    };
    // Every node wins a call, since one that has won one has a backlog.
    let mut won = std::collections::HashSet::new();
    for _ in 0..NODES {
        let node = decide(&mut policy, 0.0).best().unwrap();
        policy.note(&fleet, &Event::Claimed { node, now });
        won.insert(node);
    }
    assert_eq!(won.len(), NODES);
    // The one whose call ended first is free again.
    let ended = NodeIx::new(7);
    policy.note(&fleet, &Event::Finished { node: ended, now, took: 1.0, queued: 0 });
    assert_eq!(decide(&mut policy, 0.0).best(), Some(ended));
    let refused = decide(&mut policy, 0.5);
    assert!(refused.choices.is_empty() && refused.refused[0].1 as usize == NODES, "nodes want 1 for it: {refused:?}");
}
