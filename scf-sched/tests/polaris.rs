//! Polaris' traffic monitoring: whether links are as asked, held against an exact solver.

mod exact;

use scf_sched::{
    NodeIx, Placer, Scf,
    fleet::Hold,
    place::Unplaced,
    policy::{Polaris, UniformRandom},
    sim::TrafficMonitoring,
};

type Placed = Result<Vec<Option<NodeIx>>, (usize, Unplaced)>;

/// Places all replicas together and gives them back.
fn together(of: &TrafficMonitoring, seed: u64) -> Placed {
    let (gang, links) = (of.requests(seed).collect::<Vec<_>>(), of.links());
    let holds = Placer::new(Scf::default(), 0).place_all(of.fleet(), &gang, &links)?;
    let nodes = holds.iter().map(Hold::node).map(Some).collect();
    holds.into_iter().for_each(|hold| of.fleet().abort(hold));
    Ok(nodes)
}

fn polaris(of: &TrafficMonitoring) -> Polaris {
    let told = of.services().iter().enumerate();
    told.fold(Polaris::new(), |policy, (at, service)| policy.strictest(service.function, of.strictest(at)))
}

#[test]
fn the_evaluations_cluster_has_the_ways_that_its_links_make() {
    let of = TrafficMonitoring::new(10, 1).unwrap();
    assert_eq!(of.fleet().len(), 120);
    let node = |text: &str| of.fleet().position(&scf_core::NodeId::new(text).unwrap()).unwrap();
    let way = |from: &str, to: &str| of.fleet().way(node(from), node(to)).unwrap();
    let ms = |from, to| (way(from, to).delay * 1e3).round();
    assert_eq!(ms("base-station-5g-0-2", "raspi-4s-0-1"), 10.0, "over the link of 2 Mbit/s, which is the shortest");
    assert_eq!(way("base-station-5g-0-2", "raspi-4s-0-1").rate, 250_000.0);
    assert_eq!(ms("base-station-5g-3-0", "cloud-medium-3-0"), 75.0, "over two boards and another");
    assert_eq!(ms("raspi-4m-3-0", "raspi-4m-7-0"), 41.0, "over two cloud nodes");
}

#[test]
fn scf_violates_no_link_wherever_there_is_a_placement_and_refuses_where_there_is_none() {
    let (mut placed, mut refused) = (0, 0);
    for seed in 0..120 {
        let of = TrafficMonitoring::new(2, 1 + seed as usize % 2).unwrap();
        exact::occupy(&of, 0.1 + 0.1 * (seed % 5) as f64, seed);
        let is_placeable = exact::is_placeable(&of).unwrap_or_else(|| panic!("seed {seed} is too hard for the oracle"));
        match together(&of, seed) {
            Ok(nodes) => {
                assert!(is_placeable, "seed {seed}");
                assert_eq!(of.violations(&nodes), 0, "seed {seed}");
                placed += 1;
            }
            Err((_, error)) => {
                assert!(!is_placeable, "seed {seed}: {error}");
                assert!(matches!(error, Unplaced::NoNode { .. } | Unplaced::Undecided { .. }), "seed {seed}: {error}");
                refused += 1;
            }
        }
        assert_eq!(of.fleet().open_holds(), 0, "seed {seed}");
    }
    assert!(placed >= 20 && refused >= 20, "{placed} placed, {refused} refused");
}

#[test]
fn a_gang_takes_no_more_of_a_node_than_it_has_and_nothing_when_it_is_refused() {
    let of = TrafficMonitoring::new(1, 1).unwrap();
    let free = |of: &TrafficMonitoring| -> Vec<_> {
        (0..of.fleet().len() as u32).map(|at| of.fleet().look(NodeIx::new(at)).unwrap().free()).collect()
    };
    let whole = free(&of);
    let nodes = together(&of, 1).unwrap();
    let collectors: std::collections::HashSet<_> = nodes[..3].iter().collect();
    assert_eq!(collectors.len(), 3, "a base station has room for one");
    assert_eq!(free(&of), whole);
    // Two applications do not fit on three base stations.
    let of = TrafficMonitoring::new(1, 2).unwrap();
    let (_, error) = together(&of, 1).unwrap_err();
    assert!(matches!(error, Unplaced::NoNode { .. }), "{error}");
    assert_eq!(free(&of), whole);
}

#[test]
fn schedulers_of_single_pods_leave_links_that_are_not_as_asked() {
    let of = TrafficMonitoring::new(10, 1).unwrap();
    let random: usize = (0..20).map(|seed| of.violations(&of.in_turn(&mut UniformRandom::new(), false, seed))).sum();
    assert!(random > 20, "{random} of 160");
    // Polaris asks for a path from one of the collectors, and leaves the ways from the others as they are.
    let of_polaris: usize = (0..20).map(|seed| of.violations(&of.in_turn(&mut polaris(&of), true, seed))).sum();
    assert!(of_polaris < random, "{of_polaris} instead of {random}");
    let scf: usize = (0..20).map(|seed| of.violations(&together(&of, seed).unwrap())).sum();
    assert_eq!(scf, 0);
}
