//! Published results, in sizes that continuous integration has time for; `benches/published.rs` has them whole.

use scf_sched::{
    Binding,
    sim::{Technique, Workers},
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
        let run = Workers::supermarket(500, load, 150_000).run(Technique::PowerOf { d }, 1);
        close(&format!("{d} choices at {load}"), run.response.mean(), expected, 0.02);
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
