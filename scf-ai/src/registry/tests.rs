use scf_core::{ByteSize, Money, Zone};

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Timestamp {
    Timestamp::default() + ms(millis)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn model(text: &str) -> ModelName {
    ModelName::new(text).unwrap()
}

/// Three variants of `classify`, of 10, 20 and 40 ms, resident on `cpu`, which has one lane.
fn registry() -> ModelRegistry {
    let mut registry = ModelRegistry::new(7).executor(Executor::new(name("cpu"), 1));
    for (variant, accuracy, took) in [("small", 75.0, 10), ("middle", 77.0, 20), ("large", 78.0, 40)] {
        let known =
            Variant::new(model(variant), name("classify"), Share::from_percent(accuracy), ByteSize::from_mib(20));
        registry = registry.variant(known.expect(ms(took), ms(500)));
        registry.loaded(&model(variant), &name("cpu"), ms(200), at(0));
    }
    registry
}

fn query(within: u64) -> Query {
    Query::new(name("classify"), ms(within))
}

#[test]
fn work_that_was_chosen_is_the_load_that_the_next_decision_sees() {
    let mut registry = registry();
    let chosen: Vec<Selection> = (0..8).map_while(|_| registry.select(&query(100), at(0)).ok()).collect();
    let names: Vec<&str> = chosen.iter().map(|selection| selection.variant.as_str()).collect();
    // 40 of 50 ms are within the headroom once; then whatever is done first, up to 100 ms.
    assert_eq!(names, ["large", "small", "small", "small", "small", "small", "small"]);
    assert_eq!(chosen[6].expected, at(100));
    let error = registry.select(&query(100), at(0)).unwrap_err();
    assert!(matches!(error, NoVariant::Late { earliest, .. } if earliest == ms(110)), "{error}");
    for selection in chosen {
        registry.finished(selection, at(90));
    }
    assert_eq!(registry.select(&query(100), at(90)).unwrap().variant, model("large"), "nothing is ahead");
}

#[test]
fn what_is_cancelled_is_no_load() {
    let mut registry = registry();
    for _ in 0..50 {
        let selection = registry.select(&query(45), at(0)).unwrap();
        registry.cancelled(selection);
    }
}

#[test]
fn lanes_share_the_work_ahead() {
    let mut registry = registry().executor(Executor::new(name("cpu"), 2));
    for variant in ["small", "middle", "large"] {
        registry.loaded(&model(variant), &name("cpu"), ms(200), at(0));
    }
    let mut expected = || registry.select(&query(20), at(0)).map(|selection| selection.expected);
    assert_eq!([expected(), expected(), expected()], [10, 10, 20].map(|t| Ok(at(t))));
    let error = expected().unwrap_err();
    assert!(matches!(error, NoVariant::Late { earliest, .. } if earliest == ms(25)), "{error}");
}

#[test]
fn estimates_follow_what_was_measured() {
    let mut registry = registry();
    assert_eq!(registry.estimate(&model("small"), &name("cpu"), 1, at(0)), Some(ms(10)));
    registry.observe(&model("small"), &name("cpu"), 1, ms(30), at(0));
    assert_eq!(registry.estimate(&model("small"), &name("cpu"), 1, at(0)), Some(ms(30)));
    assert_eq!(registry.estimate(&model("other"), &name("cpu"), 1, at(0)), None);
    assert_eq!(registry.select(&query(39), at(0)).unwrap().variant, model("middle"));
}

#[test]
fn a_variant_that_breaks_its_promises_gets_a_tenth_of_the_queries_until_it_keeps_them() {
    let mut registry = registry();
    let share = |registry: &mut ModelRegistry| {
        let mut went = 0;
        for _ in 0..1000 {
            let selection = registry.select(&query(100), at(0)).unwrap();
            went += usize::from(selection.variant == model("large"));
            registry.cancelled(selection);
        }
        went
    };
    assert_eq!(share(&mut registry), 1000);
    for late in [101, 102] {
        let selection = registry.select(&query(100), at(0)).unwrap();
        registry.finished(selection, at(late));
    }
    let went = share(&mut registry);
    assert!((60..140).contains(&went), "{went} of 1000 queries");
    let mut probes = 0;
    while share(&mut registry) < 1000 {
        let selection = registry.select(&query(100), at(0)).unwrap();
        probes += usize::from(selection.variant == model("large"));
        registry.finished(selection, at(50));
    }
    assert_eq!(probes, 9, "until one of the two late ones is forgotten");
}

#[test]
fn what_is_not_resident_is_loaded_where_no_other_will_do() {
    let mut registry = registry();
    registry.evicted(&model("large"), &name("cpu"));
    assert_eq!(registry.select(&query(1000), at(0)).unwrap().variant, model("middle"));
    let accurate = query(1000).accuracy(Share::from_percent(78.0));
    let selection = registry.select(&accurate, at(0)).unwrap();
    assert_eq!((selection.variant.as_str(), selection.expected), ("large", at(20 + 200 + 40)), "it loaded in 200 ms");
    assert!(registry.select(&query(100), at(0)).is_err(), "the load is ahead of others too");
}

#[test]
fn price_and_zone_choose_the_executor() {
    let cloud = Executor::new(name("cloud"), 8).price(Money::from_units(1.0));
    let here = Executor::new(name("here"), 1).zone(Zone::new("clinic").unwrap());
    let known = Variant::new(model("only"), name("classify"), Share::from_percent(75.0), ByteSize::from_mib(20));
    let mut registry = ModelRegistry::new(7).executor(cloud).executor(here).variant(known.expect(ms(10), ms(500)));
    for executor in ["cloud", "here"] {
        registry.loaded(&model("only"), &name(executor), ms(200), at(0));
    }
    let mut chosen = |query: Query| registry.select(&query, at(0)).map(|selection| selection.executor);
    assert_eq!(chosen(query(25)), Ok(name("here")), "it is cheaper");
    let private = query(25).zone(Zone::new("clinic").unwrap());
    assert_eq!(chosen(private.clone()), Ok(name("here")));
    assert_eq!(chosen(query(25)), Ok(name("cloud")), "it is done first");
    assert!(matches!(chosen(private), Err(NoVariant::Late { .. })));
    let error = chosen(query(15).price(Money::ZERO)).unwrap_err();
    assert!(matches!(error, NoVariant::Late { .. }), "what is free is late: {error}");
}

#[test]
fn the_same_seed_and_calls_choose_the_same() {
    let run = || {
        let mut registry = registry();
        let chosen = (0..200).map(|i| {
            let selection = registry.select(&query(60), at(i)).map_err(|error| error.to_string())?;
            let variant = selection.variant.clone();
            registry.finished(selection, at(i + 30 * (i % 3)));
            Ok::<_, String>(variant)
        });
        chosen.collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
