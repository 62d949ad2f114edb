use super::*;
use crate::lifecycle::parameters::Random;

/// About normal: the sum of twelve uniform numbers (Knuth, TAOCP 2, 3.4.1).
fn normal(random: &mut Random) -> f32 {
    (0..12).map(|_| random.unit()).sum::<f64>() as f32 - 6.0
}

/// Calls whose second feature and first number of the embedding are moved by `shift`; right in nine of ten cases.
fn calls(count: usize, shift: f32, random: &mut Random) -> Vec<Observation> {
    let mut call = || {
        let class = (random.unit() * 4.0) as u32;
        let label = Some(if random.unit() < 0.9 { class } else { class + 1 });
        let features = vec![normal(random), normal(random) + shift];
        Observation { embedding: vec![normal(random) + shift, normal(random)], features, answer: class, label }
    };
    (0..count).map(|_| call()).collect()
}

fn policies() -> [DriftPolicy; 3] {
    [
        DriftPolicy::new(DriftMetric::Psi, 0.25, DriftAction::Retrain),
        DriftPolicy::new(DriftMetric::EmbeddingShift, 0.4, DriftAction::Alert),
        DriftPolicy::new(DriftMetric::AccuracyLoss, 0.15, DriftAction::RollBack),
    ]
}

fn watched(monitor: &mut DriftMonitor, calls: Vec<Observation>) -> Vec<DriftReading> {
    let observe = |call| monitor.observe(call, Timestamp::default()).unwrap();
    calls.into_iter().flat_map(observe).collect()
}

#[test]
fn calls_like_the_reference_never_raise_an_alarm() {
    for seed in 0..20 {
        let random = &mut Random::new(seed);
        let mut monitor = DriftMonitor::new(Reference::new(&calls(400, 0.0, random)).unwrap(), policies());
        let readings = watched(&mut monitor, calls(3000, 0.0, random));
        assert_eq!(readings.len(), 3 * 57, "from the first full window on, every quarter of it");
        let alarm = readings.iter().find(|reading| reading.action.is_some());
        assert_eq!(alarm, None, "seed {seed}");
    }
}

#[test]
fn a_shift_is_found_within_a_window_and_told_once_by_each_policy_that_sees_it() {
    for seed in 0..20 {
        let random = &mut Random::new(seed);
        let mut monitor = DriftMonitor::new(Reference::new(&calls(400, 0.0, random)).unwrap(), policies());
        watched(&mut monitor, calls(600, 0.0, random));
        let readings = watched(&mut monitor, calls(600, 2.0, random));
        let alarms: Vec<_> = readings.iter().filter(|reading| reading.action.is_some()).collect();
        let by: Vec<_> = alarms.iter().map(|alarm| alarm.metric).collect();
        assert!(by.len() == 2 && !by.contains(&DriftMetric::AccuracyLoss), "seed {seed}: {alarms:?}");
        assert!(alarms.iter().all(|alarm| alarm.calls <= 600 + 200), "seed {seed}: {alarms:?}");
    }
}

#[test]
fn answers_that_turn_wrong_are_found_where_labels_come() {
    let random = &mut Random::new(1);
    let mut monitor = DriftMonitor::new(Reference::new(&calls(400, 0.0, random)).unwrap(), policies());
    let mut wrong = calls(400, 0.0, random);
    wrong.iter_mut().step_by(2).for_each(|call| call.label = Some(9));
    let mut unlabelled = wrong.clone();
    unlabelled.iter_mut().for_each(|call| call.label = None);
    assert!(watched(&mut monitor, unlabelled).iter().all(|reading| reading.metric != DriftMetric::AccuracyLoss));
    let readings = watched(&mut monitor, wrong);
    let actions: Vec<_> = readings.iter().filter_map(|reading| reading.action).collect();
    assert_eq!(actions, [DriftAction::RollBack]);
}

#[test]
fn a_monitor_goes_on_from_its_bytes_and_begins_anew_with_another_reference() {
    let random = &mut Random::new(3);
    let reference = Reference::new(&calls(400, 0.0, random)).unwrap();
    let mut monitor = DriftMonitor::new(reference, policies());
    watched(&mut monitor, calls(330, 0.0, random));
    let stored = serde_json::to_vec(&monitor).unwrap();
    let mut again: DriftMonitor = serde_json::from_slice(&stored).unwrap();
    let shifted = calls(400, 2.0, random);
    assert_eq!(watched(&mut again, shifted.clone()), watched(&mut monitor, shifted.clone()));
    monitor.rebase(Reference::new(&shifted).unwrap());
    let readings = watched(&mut monitor, calls(400, 2.0, random));
    assert!(!readings.is_empty() && readings.iter().all(|reading| reading.action.is_none()));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let random = &mut Random::new(4);
    assert_eq!(Reference::new(&calls(99, 0.0, random)), Err(DriftError::Few { given: 99, least: 100 }));
    let mut monitor = DriftMonitor::new(Reference::new(&calls(100, 0.0, random)).unwrap(), policies());
    let before = monitor.clone();
    let mut call = calls(1, 0.0, random).remove(0);
    call.features.push(0.0);
    let error = monitor.observe(call.clone(), Timestamp::default()).unwrap_err();
    assert_eq!(error, DriftError::Different { what: "features", given: 3, wanted: 2 });
    call.features = vec![0.0, f32::NAN];
    let error = monitor.observe(call, Timestamp::default()).unwrap_err();
    assert_eq!(error, DriftError::NotFinite { what: "a feature" });
    assert_eq!(monitor, before);
}
