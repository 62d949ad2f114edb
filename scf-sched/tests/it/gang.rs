//! Steps that are placed together.

use scf_core::{Needs, Timestamp};
use scf_sched::{
    Bound, Fleet, LinkBound, Neighbour, NodeIx, Placer, Request, Scf, place::Unplaced, policy::PackThenSpread,
};

use crate::support::{connect, function, join, name, node, resources, way};

/// Nodes of a site each, those of a pair 1 ms from each other and 50 ms from all others.
fn pairs(count: usize) -> Fleet {
    let fleet = Fleet::new();
    let site = |at: usize| format!("site-{at}");
    for at in 0..2 * count {
        let of = node(&format!("n{at}")).site(name(&site(at)));
        // The second of the last pair alone has room for the second step.
        let mib = if at + 1 == 2 * count { 4096 } else { 1024 };
        join(&fleet, of.resources(resources(4000, mib)));
        for other in 0..at {
            connect(&fleet, &site(other), &site(at), way(if other + 1 == at && at % 2 == 1 { 1 } else { 50 }, 100));
        }
    }
    fleet
}

fn within(ms: f32) -> Neighbour {
    let what = LinkBound { rate: 0.0, delay: ms * 1e-3, jitter: f32::INFINITY, loss: 1.0 };
    let link = Some(Bound { what, penalty: f32::INFINITY });
    Neighbour { node: NodeIx::new(0), incoming: 0.0, outgoing: 0.0, link }
}

#[test]
fn a_step_is_placed_where_the_one_behind_it_can_be_reached_from() {
    let fleet = pairs(20);
    let demand = |mib| fleet.demand(&function(Needs { resources: resources(3000, mib), ..Needs::default() })).unwrap();
    let (small, large) = (demand(64), demand(4096));
    for seed in 0..50 {
        let [first, second] = [&small, &large].map(|of| Request::new(of, seed, Timestamp::default()));
        let mut placer = Placer::new(Scf::default(), 0);
        let held = placer.place_all(&fleet, &[first, second], &[&[], &[(0, within(2.0))]]).unwrap();
        let nodes: Vec<_> = held.iter().map(|hold| hold.node().index()).collect();
        assert_eq!(nodes, [38, 39]);
        held.into_iter().for_each(|hold| fleet.abort(hold));
    }
    // Nobody is within half a millisecond.
    let [first, second] = [&small, &large].map(|of| Request::new(of, 1, Timestamp::default()));
    let impossible = Placer::new(Scf::default(), 0).place_all(&fleet, &[first, second], &[&[], &[(0, within(0.5))]]);
    let (position, error) = impossible.unwrap_err();
    assert!(position == 1 && matches!(error, Unplaced::NoNode { .. }), "{position}: {error}");
    assert_eq!(fleet.open_holds(), 0);
}

#[test]
fn a_search_that_is_too_long_ends_and_says_so() {
    let fleet = pairs(8);
    let demand = fleet.demand(&function(Needs { resources: resources(3000, 64), ..Needs::default() })).unwrap();
    // Seventeen steps for sixteen nodes with room for one each: every order would have to be tried.
    let gang = [Request::new(&demand, 1, Timestamp::default()); 17];
    let (_, error) = Placer::new(Scf::default(), 0).place_all(&fleet, &gang, &[]).unwrap_err();
    assert!(matches!(error, Unplaced::Undecided { looks } if looks < 1 << 22), "{error}");
    assert_eq!(fleet.open_holds(), 0);
}

#[test]
fn a_policy_that_ranks_few_nodes_places_a_gang_one_by_one_as_well_as_it_can() {
    let fleet = pairs(2);
    let demand = fleet.demand(&function(Needs { resources: resources(3000, 64), ..Needs::default() })).unwrap();
    let gang = [Request::new(&demand, 1, Timestamp::default()); 3];
    let held = Placer::new(PackThenSpread, 0).place_all(&fleet, &gang, &[]).unwrap();
    assert_eq!(held.len(), 3);
}
