//! Where the default policy places.

use std::time::Duration;

use scf_core::{
    Accelerator, Area, Bandwidth, Battery, BatteryNeed, Context, GeoPoint, LinkNeed, LinkQuality, Needs, Node, Rates,
    Slowdown, Tier, Timestamp, Wanted,
};
use scf_sched::{
    Decision, Estimator, Fleet, Input, Means, Neighbour, NodeIx, Objective, Placer, Policy, ProfileKey, Request, Scf,
    Source,
    place::{CompletionTime, Exchange, Quality, Unplaced},
};

use crate::support::{connect, function, join, name, node, resources, way, zone};

const NOW: Timestamp = Timestamp::from_nanos(0);

/// The node that is chosen, or the reasons why none is.
fn choose(fleet: &Fleet, request: &Request<'_>) -> Result<NodeIx, String> {
    let mut decision = Decision::new();
    Scf::default().decide(fleet, request, &mut decision);
    let reasons = || decision.refused.iter().map(|(reason, nodes)| format!("{reason} {nodes}")).collect::<Vec<_>>();
    decision.best().ok_or_else(|| reasons().join(", "))
}

fn chosen(fleet: &Fleet, needs: Needs) -> Result<NodeIx, String> {
    let demand = fleet.demand(&function(needs)).map_err(|error| error.to_string())?;
    choose(fleet, &Request::new(&demand, 1, NOW))
}

fn context(context: Context) -> Needs {
    Needs { context, ..Needs::default() }
}

/// Of two nodes only the second satisfies a need; nothing satisfies it once that node is gone.
fn only_the_second(first: Node, second: Node, needs: Needs, refused: &str) {
    let fleet = Fleet::new();
    let wrong = join(&fleet, first);
    let right = join(&fleet, second);
    assert_eq!(chosen(&fleet, needs.clone()), Ok(right), "{refused}");
    fleet.set_health(right, scf_core::Health::Unreachable);
    let error = chosen(&fleet, needs.clone()).unwrap_err();
    assert!(error.contains("takes no calls 1"), "{refused}: {error}");
    let demand = fleet.demand(&function(needs)).unwrap();
    let why = Scf::default().explain(&fleet, &Request::new(&demand, 1, NOW), wrong).unwrap().refused;
    assert_eq!(why.iter().map(|reason| reason.as_str()).collect::<Vec<_>>(), [refused]);
}

#[test]
fn what_a_function_states_rules_other_nodes_out() {
    let needs = Needs::default;
    let here = GeoPoint::degrees(48.2, 16.4);
    let area = Area { centre: here, metres: 5000 };
    let low = Battery { watt_hours: 50, percent: 10 };
    let high = Battery { watt_hours: 50, percent: 80 };
    let charge = BatteryNeed { percent: 50, share: 1_000_000 };
    only_the_second(node("a"), node("b").zone(zone("plant")), Needs { zone: Some(zone("plant")), ..needs() }, "zone");
    only_the_second(
        node("a").region(zone("us")),
        node("b").region(zone("eu")),
        Needs { regions: vec![zone("eu")], ..needs() },
        "region",
    );
    only_the_second(
        node("a"),
        node("b").label(name("arm")),
        Needs { labels: vec![name("arm")], ..needs() },
        "capability",
    );
    only_the_second(
        node("a").accelerators(Accelerator::Cuda, 1),
        node("b").accelerators(Accelerator::Cuda, 4),
        Needs { accelerator: Some(Accelerator::Cuda), accelerator_units: 2, ..needs() },
        "accelerator",
    );
    only_the_second(
        node("a").resources(resources(900, 4096)),
        node("b"),
        Needs { resources: resources(1000, 64), ..needs() },
        "processor",
    );
    only_the_second(node("a").slots(0), node("b"), needs(), "slots");
    only_the_second(
        node("a").at(GeoPoint::degrees(52.5, 13.4), 0.0),
        node("b").at(here, 0.0),
        context(Context { area: Some(Wanted::hard(area)), ..Context::default() }),
        "area",
    );
    only_the_second(
        node("a").battery(low),
        node("b").battery(high),
        context(Context { battery: Some(Wanted::hard(charge)), ..Context::default() }),
        "battery",
    );
    only_the_second(
        node("a").at(here, 30.0),
        node("b").at(here, 1.0),
        context(Context { dwell: Some(Wanted::hard(Duration::from_secs(600))), ..Context::default() }),
        "dwell",
    );
    let tiers = vec![Tier::Edge];
    let device = Node::new(node("a").id, Tier::Device).site(name("site"));
    only_the_second(device, node("b"), Needs { tiers, ..needs() }, "tier");
}

#[test]
fn a_battery_lends_no_more_than_the_asked_share_to_one_call() {
    let fleet = Fleet::new();
    let rates = Rates { joules: 10.0, ..Rates::default() };
    // 5 Wh at 50 % are 9 kJ: 100 s at 10 W are a ninth of that.
    let phone = join(&fleet, node("phone").battery(Battery { watt_hours: 5, percent: 50 }).rates(rates));
    let need = |share| {
        let battery = BatteryNeed { percent: 20, share };
        context(Context { battery: Some(Wanted::hard(battery)), ..Context::default() })
    };
    for (share, expected) in [(120_000, Ok(phone)), (100_000, Err("battery 1".to_owned()))] {
        let demand = fleet.demand(&function(need(share))).unwrap();
        let request = Request { work: 100.0, ..Request::new(&demand, 1, NOW) };
        assert_eq!(choose(&fleet, &request), expected, "{share} ppm");
    }
}

#[test]
fn a_soft_need_is_weighed_against_time_and_a_hard_one_is_not() {
    let fleet = Fleet::new();
    let here = GeoPoint::degrees(48.2, 16.4);
    let near = join(&fleet, node("near").at(here, 0.0).slowdown(Slowdown::new(3.0)));
    let far = join(&fleet, node("far").at(GeoPoint::degrees(52.5, 13.4), 0.0));
    let area = Area { centre: here, metres: 5000 };
    for (wanted, expected) in [
        (Wanted::hard(area), near),
        (Wanted::soft(area, Duration::from_secs(5)), near),
        (Wanted::soft(area, Duration::from_secs(1)), far),
    ] {
        let demand = fleet.demand(&function(context(Context { area: Some(wanted), ..Context::default() }))).unwrap();
        let request = Request { work: 1.0, ..Request::new(&demand, 1, NOW) };
        assert_eq!(choose(&fleet, &request), Ok(expected), "{wanted:?}");
    }
}

#[test]
fn each_quality_of_a_way_can_be_asked_for() {
    let good = LinkQuality { jitter: Duration::from_millis(1), loss: 100, ..way(5, 100) };
    for (bad, refused) in [
        (LinkQuality { bandwidth: Bandwidth::from_mbit_per_s(2), ..good }, "bandwidth"),
        (LinkQuality { latency: Duration::from_millis(50), ..good }, "latency"),
        (LinkQuality { jitter: Duration::from_millis(20), ..good }, "jitter"),
        (LinkQuality { loss: 20_000, ..good }, "loss"),
    ] {
        let fleet = Fleet::new();
        let caller = join(&fleet, node("caller").site(name("here")).slots(0));
        join(&fleet, node("a").site(name("worse")));
        let right = join(&fleet, node("b").site(name("better")));
        connect(&fleet, "here", "worse", bad);
        connect(&fleet, "here", "better", good);
        let link = LinkNeed {
            bandwidth: Bandwidth::from_mbit_per_s(10),
            latency: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            loss: 1000,
        };
        let needs = context(Context { link: Some(Wanted::hard(link)), ..Context::default() });
        let demand = fleet.demand(&function(needs)).unwrap();
        let request = Request { from: Some(caller), ..Request::new(&demand, 3, NOW) };
        assert_eq!(choose(&fleet, &request), Ok(right), "{refused}");
        fleet.set_health(right, scf_core::Health::Draining);
        let reasons = choose(&fleet, &request).unwrap_err();
        assert!(reasons.contains(&format!("{refused} 1")), "{reasons}");
    }
}

/// A camera, a gateway one hop away and a cloud behind the gateway.
fn three_tiers() -> (Fleet, [NodeIx; 3]) {
    let fleet = Fleet::new();
    let tier = |id: &str, slowdown: f32| join(&fleet, node(id).site(name(id)).slowdown(Slowdown::new(slowdown)));
    let nodes = [tier("camera", 8.0), tier("gateway", 2.0), tier("cloud", 1.0)];
    connect(&fleet, "camera", "gateway", way(3, 50));
    connect(&fleet, "camera", "cloud", way(28, 20));
    connect(&fleet, "gateway", "cloud", way(25, 20));
    (fleet, nodes)
}

#[test]
fn work_moves_outwards_as_it_grows_and_stays_where_its_data_is_dear_to_move() {
    let (fleet, [camera, gateway, cloud]) = three_tiers();
    let demand = fleet.demand(&function(Needs::default())).unwrap();
    let request = Request { from: Some(camera), ..Request::new(&demand, 1, NOW) };
    for (work, payload, expected) in
        [(0.0005, 0.0, camera), (0.01, 0.0, gateway), (0.2, 0.0, cloud), (0.01, 1e6, camera)]
    {
        assert_eq!(choose(&fleet, &Request { work, payload, ..request }), Ok(expected), "{work} s, {payload} bytes");
    }
}

#[test]
fn the_nearest_copy_of_the_data_counts_and_a_started_function_saves_the_start() {
    let (fleet, [camera, gateway, cloud]) = three_tiers();
    let demand = fleet.demand(&function(Needs::default())).unwrap();
    let data = fleet.data(&name("frames"), 4_000_000);
    let inputs = [Input { source: Source::Data(data), read: 4e6, written: 0.0, within: None }];
    let request = Request { from: Some(camera), inputs: &inputs, work: 0.001, ..Request::new(&demand, 1, NOW) };
    fleet.set_holder(data, cloud, true);
    assert_eq!(choose(&fleet, &request), Ok(cloud));
    fleet.set_holder(data, gateway, true);
    assert_eq!(choose(&fleet, &request), Ok(gateway));

    let means = Means::new(0.01, 2.0);
    let mut decision = Decision::new();
    fleet.set_warm(demand.function, cloud, true);
    Scf::learning(means).decide(&fleet, &Request { inputs: &[], ..request }, &mut decision);
    assert_eq!(decision.best(), Some(cloud), "2 s to start elsewhere");
}

#[test]
fn data_that_would_arrive_too_late_rules_a_node_out() {
    let (fleet, [camera, gateway, cloud]) = three_tiers();
    let data = fleet.data(&name("frames"), 4_000_000);
    fleet.set_holder(data, cloud, true);
    let inputs = [Input { source: Source::Data(data), read: 4e6, written: 0.0, within: None }];
    let needs = |within| context(Context { data: Some(Wanted::hard(within)), ..Context::default() });
    let demand = fleet.demand(&function(needs(Duration::from_millis(500)))).unwrap();
    let request = Request { from: Some(camera), inputs: &inputs, payload: 1e8, ..Request::new(&demand, 1, NOW) };
    assert_eq!(choose(&fleet, &request), Ok(cloud), "however long the payload takes there");
    fleet.set_health(cloud, scf_core::Health::Draining);
    assert_eq!(choose(&fleet, &request), Err("data 2, takes no calls 1".into()));
    let _ = gateway;
}

#[test]
fn learned_times_outweigh_what_the_request_says() {
    let (fleet, [camera, _, cloud]) = three_tiers();
    let demand = fleet.demand(&function(Needs::default())).unwrap();
    let means = Means::new(0.001, 0.0);
    let key = |node| ProfileKey { function: demand.function, input: 0, class: fleet.look(node).unwrap().class() };
    for (node, seconds) in [(camera, 0.05), (NodeIx::new(1), 9.0), (cloud, 9.0)] {
        means.observed(key(node), seconds);
    }
    let mut decision = Decision::new();
    let request = Request { from: Some(camera), work: 100.0, ..Request::new(&demand, 1, NOW) };
    Scf::learning(means).decide(&fleet, &request, &mut decision);
    assert_eq!(decision.best(), Some(camera));
}

#[test]
fn of_those_that_meet_the_objective_the_cheapest_is_taken() {
    let fleet = Fleet::new();
    let rates = |money| Rates { money, ..Rates::default() };
    let fast = join(&fleet, node("fast").rates(rates(100.0)));
    let cheap = join(&fleet, node("cheap").slowdown(Slowdown::new(4.0)).rates(rates(1.0)));
    let demand = fleet.demand(&function(Needs::default())).unwrap();
    let mut scf = Scf::default().exchange(Exchange { money: 1.0, joule: 0.0 });
    for (within, expected) in [(5.0, cheap), (2.0, fast)] {
        let mut decision = Decision::new();
        let objective = Some(Objective { within, share: 0.95 });
        scf.decide(&fleet, &Request { work: 1.0, objective, ..Request::new(&demand, 1, NOW) }, &mut decision);
        assert_eq!(decision.best(), Some(expected), "within {within} s");
    }
}

#[test]
fn bytes_that_leave_their_site_can_be_made_dear() {
    let (fleet, [camera, gateway, _]) = three_tiers();
    let demand = fleet.demand(&function(Needs::default())).unwrap();
    let request = Request { from: Some(camera), payload: 1e4, work: 0.01, ..Request::new(&demand, 1, NOW) };
    for (remote_byte, expected) in [(0.0, gateway), (1e-3, camera)] {
        let mut decision = Decision::new();
        Scf::new(CompletionTime::default().remote_byte(remote_byte)).decide(&fleet, &request, &mut decision);
        assert_eq!(decision.best(), Some(expected), "{remote_byte} s per byte");
    }
}

#[test]
fn the_steps_of_a_gang_are_placed_near_to_each_other_or_none_is() {
    let (fleet, [camera, gateway, cloud]) = three_tiers();
    let needs = Needs { resources: resources(3000, 64), ..Needs::default() };
    let demand = fleet.demand(&function(needs)).unwrap();
    let step = Request { work: 0.5, ..Request::new(&demand, 1, NOW) };
    let first = Request { from: Some(camera), ..step };
    let edge = Neighbour { node: NodeIx::new(0), incoming: 5e6, outgoing: 0.0, link: None };
    let mut placer = Placer::new(Scf::default(), 0);
    let held = placer.place_all(&fleet, &[first, step], &[&[], &[(0, edge)]]).unwrap();
    let nodes: Vec<_> = held.iter().map(scf_sched::fleet::Hold::node).collect();
    assert_eq!(nodes, [cloud, gateway], "the second where 5 MB arrive soonest of those with room");
    held.into_iter().for_each(|hold| fleet.abort(hold));
    let four = [first, step, step, step];
    let (position, error) = placer.place_all(&fleet, &four, &[]).unwrap_err();
    assert!(position == 3 && matches!(error, Unplaced::NoNode { considered: 3, .. }), "{position}: {error}");
    assert_eq!(fleet.open_holds(), 0);
    assert!([camera, gateway, cloud].iter().all(|n| fleet.look(*n).unwrap().free().milli() == 4000));
}

#[test]
fn it_explains_what_a_node_costs_and_why_it_is_refused() {
    let (fleet, [camera, gateway, cloud]) = three_tiers();
    let needs = Needs { within: Some(Duration::from_millis(10)), ..Needs::default() };
    let demand = fleet.demand(&function(needs)).unwrap();
    let request = Request { from: Some(camera), payload: 62_500.0, work: 0.01, ..Request::new(&demand, 1, NOW) };
    let scf = Scf::default();
    let explain = |node| scf.explain(&fleet, &request, node).unwrap().to_string();
    assert_eq!(explain(gateway), "gateway: 0.036000 s = transfer 0.016000 + execution 0.020000");
    fleet.set_health(cloud, scf_core::Health::Draining);
    assert_eq!(
        explain(cloud),
        "cloud: 0.091000 s = transfer 0.081000 + execution 0.010000, refused for takes no calls, within"
    );
}

#[test]
fn the_last_node_that_fits_is_found_among_a_hundred_thousand_full_ones() {
    let fleet = Fleet::new();
    for at in 0..100_000 {
        let cores = if at == 77_777 { 4000 } else { 100 };
        join(&fleet, node(&format!("n{at}")).resources(resources(cores, 4096)));
    }
    let demand = fleet.demand(&function(Needs { resources: resources(4000, 64), ..Needs::default() })).unwrap();
    let mut decision = Decision::new();
    Scf::default().decide(&fleet, &Request::new(&demand, 5, NOW), &mut decision);
    assert_eq!(decision.best(), Some(NodeIx::new(77_777)));
    assert!(decision.evaluated < 32, "{} nodes were looked at", decision.evaluated);
}

#[test]
fn a_sample_of_a_wanted_quality_is_as_good_as_promised() {
    let fleet = Fleet::new();
    for at in 0..2000 {
        join(&fleet, node(&format!("n{at}")).slowdown(Slowdown::new(1.0 + at as f32 / 100.0)));
    }
    let demand = fleet.demand(&function(Needs::default())).unwrap();
    let mut scf = Scf::default().quality(Quality { top: 0.1, confidence: 0.99 });
    let among_best = |seed: &u64| {
        let mut decision = Decision::new();
        scf.decide(&fleet, &Request { work: 1.0, ..Request::new(&demand, *seed * 7919, NOW) }, &mut decision);
        decision.best().is_some_and(|node| node.index() < 200)
    };
    let good = (0..1000).filter(among_best).count();
    assert!(good >= 980, "{good} of 1000 among the best tenth");
}
