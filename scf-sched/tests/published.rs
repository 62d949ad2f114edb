//! Published results, in sizes that continuous integration has time for; `benches/published.rs` has them whole.

use scf_core::{ByteSize, Code, Function, FunctionName, MilliCpu, Name, Needs, Resources, Timestamp};
use scf_sched::{
    Binding, Demand, Fleet, Placer, Policy, Request, Scf,
    policy::{TwoSmart, UniformRandom},
    sim::{Auction, Commit, ConflictTest, Eviction, SUPERCLUSTER_TASKS, SharedState, Technique, Workers, supercluster},
};

const IDLE_FIRST: Technique = Technique::IdleFirst { schedulers: 10 };

#[track_caller]
fn close(what: &str, measured: f64, expected: f64, share: f64) {
    assert!((measured / expected - 1.0).abs() <= share, "{what}: {measured} instead of {expected}");
}

/// Mean milliseconds over so many seeds on the small cluster, and messages per task.
fn small(technique: Technique, load: f64, seeds: u64) -> (f64, f64) {
    let runs: Vec<_> =
        (1..=seeds).map(|seed| Workers { jobs: 20_000, ..Workers::small(load) }.run(technique, seed)).collect();
    let mean = |of: &dyn Fn(&scf_sched::sim::WorkersReport) -> f64| runs.iter().map(of).sum::<f64>() / seeds as f64;
    (mean(&|run| run.response.mean() * 1e3), mean(&|run| run.messages_per_task()))
}

#[test]
fn queues_are_as_long_as_the_supermarket_model_says() {
    for (d, load, expected) in [(1, 0.5, 2.0), (2, 0.7, 1.6140), (2, 0.9, 2.614), (3, 0.9, 2.028)] {
        let servers = Workers::supermarket(500, load, 500_000);
        let mean = |seed| servers.run(Technique::PowerOf { d }, seed).response.mean();
        close(&format!("{d} choices at {load}"), (1..=4).map(mean).sum::<f64>() / 4.0, expected, 0.01);
    }
}

#[test]
fn sparrows_techniques_come_out_as_published_on_a_small_cluster() {
    let [_, per_task, batch, late, _] = Technique::SPARROW;
    for (technique, at_08, at_09) in
        [(Technique::Omniscient, 100.1, 100.0), (per_task, 142.7, 179.9), (batch, 116.4, 153.0), (late, 105.5, 122.6)]
    {
        close(&format!("{technique:?} at 0.8"), small(technique, 0.8, 2).0, at_08, 0.1);
        close(&format!("{technique:?} at 0.9"), small(technique, 0.9, 2).0, at_09, 0.1);
    }
    let messages = |technique| small(technique, 0.8, 1).1;
    close("messages per task, per task", messages(per_task), 5.0, 0.01);
    close("messages per task, late binding", messages(late), 6.0, 0.01);
}

#[test]
fn nodes_that_offer_themselves_come_near_to_the_ideal_at_half_the_messages() {
    let (ideal, _) = small(Technique::Omniscient, 0.9, 2);
    let (offered, messages) = small(IDLE_FIRST, 0.9, 2);
    assert!(offered / ideal <= 1.05, "{offered} ms, ideally {ideal}");
    assert!(messages <= 3.0, "{messages}");
}

#[test]
fn the_same_seed_gives_the_same_jobs_to_every_technique_and_the_same_run_to_each() {
    let cluster = Workers { jobs: 300, warm_up: 0.0, ..Workers::small(0.5) };
    let late = Technique::Batch { ratio: 2.0, binding: Binding::Late { cancels: true } };
    for technique in [late, IDLE_FIRST] {
        let hash = |seed| cluster.run(technique, seed).hash;
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}

/// Vela's task of 4 cores and 4 GiB.
fn task(fleet: &Fleet) -> Demand {
    let resources = Resources { cpu: MilliCpu::from_cores(4), memory: ByteSize::from_mib(4096) };
    let code = Code::Native { entry: Name::new("task").unwrap() };
    let function = Function::new(FunctionName::new("task").unwrap(), code);
    fleet.demand(&function.needs(Needs { resources, ..Needs::default() })).unwrap()
}

/// Packs as many tasks as fit on a cluster with so many hundreds of nodes in each part, each decided up to 11 times as
/// Vela does; gives those without a node, and nodes looked at per task.
fn pack(hundreds: u32, policy: impl FnOnce(Vec<scf_sched::fleet::SiteIx>) -> Box<dyn Policy>, seed: u64) -> (u32, f64) {
    let (fleet, sites) = supercluster(hundreds).unwrap();
    let (demand, mut policy) = (task(&fleet), policy(sites));
    let mut decision = scf_sched::Decision::new();
    let (mut failed, mut evaluated) = (0, 0);
    let tasks = SUPERCLUSTER_TASKS * hundreds;
    for at in 0..tasks {
        let is_placed = (0..11).any(|attempt| {
            let request = Request::new(&demand, seed << 32 | u64::from(at) << 8 | attempt, Timestamp::default());
            decision.clear();
            policy.decide(&fleet, &request, &mut decision);
            evaluated += u64::from(decision.evaluated);
            decision.choices.iter().any(|choice| fleet.claim(choice.node, demand.need).is_ok())
        });
        failed += u32::from(!is_placed);
    }
    (failed, evaluated as f64 / f64::from(tasks))
}

#[test]
fn a_cluster_is_packed_to_the_last_task_and_sampling_alone_looks_at_many_more() {
    for seed in 0..3 {
        let (failed, evaluated) = pack(5, |_| Box::new(Scf::default()), seed);
        assert!(failed == 0 && evaluated <= 64.0, "{failed} failed, {evaluated} looked at");
    }
    let (_, evaluated) = pack(5, |sites| Box::new(TwoSmart::new(sites)), 0);
    // 1,303 on 20,000 nodes; the share of nodes that is sampled is the same.
    close("nodes that two-smart sampling looks at", evaluated, 1303.0 / 4.0, 0.15);
}

#[test]
fn eight_schedulers_at_saturation_seldom_decide_again_and_never_book_twice() {
    // 5,000 nodes with room for 2,800 tasks, 95 % of which run.
    let (fleet, _) = supercluster(5).unwrap();
    let of = SharedState::single(8, 0.95 * 2800.0 * 0.01 / 8.0, 8_000);
    let report = of.run(&fleet, &task(&fleet), |_| Box::new(Scf::default()), 1);
    assert!(report.requeued_share() <= 0.003, "{report:?}");
    assert_eq!(report.double_bookings, 0);
    assert!(report.transactions >= 8_000, "{report:?}");
    // What ran was given back: everything fits again.
    let mut placer = Placer::new(Scf::default(), 0);
    let demand = task(&fleet);
    for seed in 0..2800 {
        let _held = placer.place(&fleet, &Request::new(&demand, seed, Timestamp::default())).unwrap();
    }
}

#[test]
fn conflicts_rise_with_schedulers_and_thinking_and_fall_by_finer_tests_and_smaller_commits() {
    let (fleet, _) = supercluster(2).unwrap();
    let demand = task(&fleet);
    let run = |of: SharedState| of.run(&fleet, &demand, |_| Box::new(UniformRandom::new()), 1).conflict_fraction();
    // Jobs of ten tasks that come and go at the same rate whatever the schedulers are like.
    let of = |schedulers: u32, per_job: f64| {
        let lasts = 0.6 * 112.0 * per_job / f64::from(schedulers);
        SharedState { tasks: 10, spare: 0, per_job, ..SharedState::single(schedulers, lasts, 3000) }
    };
    let (few, more, many) = (run(of(2, 0.01)), run(of(8, 0.01)), run(of(32, 0.01)));
    assert!(few < more && more < many, "{few} {more} {many}");
    let fine = of(8, 0.01);
    let coarse = SharedState { conflict: ConflictTest::Sequence, ..fine };
    assert!(run(coarse) > run(fine));
    let requeued = |of: SharedState| of.run(&fleet, &demand, |_| Box::new(UniformRandom::new()), 1).requeued_share();
    let gang = SharedState { commit: Commit::AllOrNothing, ..fine };
    assert!(requeued(gang) > 2.0 * requeued(fine));
}

#[test]
fn requests_of_an_auction_take_as_long_as_published() {
    // OpenFogStack/faas4fogsim, `simResults/`.
    for (load, latency) in [(1000, 61.946), (2000, 77.429), (5000, 85.442)] {
        let run = Auction::loaded(load).run(0);
        close(&format!("{load} requests per second"), run.latency_by_visit, latency, 0.02);
        assert!(run.latency < run.latency_by_visit, "{run:?}");
    }
    for (executables, latency) in [(10, 30.0), (20, 45.8), (50, 49.4), (100, 74.1)] {
        let run = Auction::crowded(executables).run(0);
        close(&format!("{executables} executables"), run.latency_by_visit, latency, 0.02);
    }
    close("the bid of what runs at the edge", Auction::loaded(1000).run(0).edge_bid, 106.87, 0.02);
}

#[test]
fn where_bids_are_compared_nobody_yields_to_a_lower_one_and_what_is_kept_pays_more() {
    for executables in [20, 50, 100] {
        let published = Auction::crowded(executables);
        let (newest, highest) = (published.run(0), Auction { eviction: Eviction::Margin(0.0), ..published }.run(0));
        assert!(newest.outbid > 0 && highest.outbid == 0, "{newest:?} {highest:?}");
        assert!(highest.edge_storage > newest.edge_storage, "{newest:?} {highest:?}");
    }
}
