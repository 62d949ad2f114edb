//! A model's life with the parts of the example `lifecycle`, and the artefacts that it leaves.

#[path = "../../examples/lifecycle/cycle.rs"]
#[expect(dead_code, reason = "the example prints and draws more than is looked at here")]
mod cycle;
#[path = "../../examples/lifecycle/drifted.rs"]
mod drifted;
#[path = "../../examples/lifecycle/functions.rs"]
mod functions;
#[path = "../../examples/shared/random.rs"]
mod random;
#[path = "../../examples/lifecycle/site.rs"]
mod site;
#[path = "../../examples/lifecycle/traffic.rs"]
#[expect(dead_code, reason = "the example draws more than is looked at here")]
mod traffic;

use std::{error::Error, sync::Arc};

use scf::{
    ai::{
        DigitImages, DigitsCnn,
        lifecycle::{
            ArtefactKind, Bound, Catalogue, CatalogueError, Draft, DriftMetric, DriftMonitor, Lineage, Network as _,
            Observation, Parameters, Reference, Selector, Training, TrainingPlan, predict,
        },
    },
    core::{ByteSize, Bytes, Name, ObjectStore, Timestamp},
    state::{MemoryObjects, ObjectConfig},
};

use self::{
    cycle::{Scale, live},
    drifted::{Drift, observation},
    functions::{Process, Train, Trained, policies},
    random::Random,
    site::{Disks, EDGES, SERVE, Site},
};
use super::support::ROOT;

/// Calls of a monitor's window.
const WINDOW: u64 = 200;

fn digits() -> DigitImages {
    DigitImages::read(&std::fs::read(format!("{ROOT}/examples/assets/digits.safetensors")).unwrap()).unwrap()
}

fn objects() -> Arc<dyn ObjectStore> {
    Arc::new(MemoryObjects::new(ObjectConfig::default()))
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The error and all that caused it.
fn chain(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_pictures_drift_away_from_is_trained_again_and_swapped_without_a_failed_call() {
    let scale = Scale { rounds: 6, calm: 300, seed: 1, drift: Drift::Inverted };
    let story = live(&Disks::new(objects()), digits(), scale, &mut |_| {}).await.unwrap();
    let log = &story.log;
    assert_eq!(log.errors, Vec::<String>::new());

    let first = log.calls.iter().position(|call| call.drifted).unwrap() as u64;
    let alarm = story.alarm.calls;
    assert!(first < alarm && alarm <= first + WINDOW, "drift from call {first} on was found at {alarm}");

    let [before, after] = &story.learned[..] else { panic!("two models") };
    let accuracy = after.accuracy[after.accuracy.len() - 1];
    assert!(story.first_on_drifted + 0.3 < accuracy, "{} and {accuracy}", story.first_on_drifted);
    let (swapped, split) = &story.splits[story.splits.len() - 1];
    assert_eq!(split[..], [(story.serving, 1)]);
    // A call that was asked before the swap may be answered by the version before.
    let late: Vec<_> = log.calls.iter().filter(|call| call.at > *swapped).map(|call| call.revision).collect();
    assert!(late.len() >= 100 && late.iter().all(|revision| *revision == Some(story.serving)));

    let origins: Vec<_> = story.origins.iter().map(|origin| origin.id.to_string()).collect();
    assert!(story.origins.iter().any(|origin| origin.id == before.model.id), "its parent: {origins:?}");
    for raw in ["data digits-raw v1", "data digits-raw v2"] {
        assert!(origins.iter().any(|origin| origin == raw), "{raw}: {origins:?}");
    }
    for edge in EDGES {
        let shards = story.origins.iter().filter(|origin| origin.id.name.as_str() == format!("digits-{edge}"));
        assert_eq!(shards.count(), 2, "what {edge} had at first, and what was labelled later: {origins:?}");
    }
}

/// What a monitor sees of `images`, as a model with `weights` answers them.
fn seen(weights: &Parameters, images: &DigitImages) -> Vec<Observation> {
    let logits = predict(&DigitsCnn, weights, &images.examples()).unwrap();
    let seen = logits.iter().enumerate().map(|(at, logits)| {
        let (pixels, label) = images.get(at).unwrap();
        observation(pixels, logits, Some(label))
    });
    seen.collect()
}

fn trained(images: &DigitImages) -> Parameters {
    let (examples, plan) = (images.examples(), TrainingPlan { epochs: 8, seed: 1, ..TrainingPlan::default() });
    let initial = Parameters::random(&DigitsCnn.shapes(), 1);
    let mut training = Training::begin(&DigitsCnn, &examples, plan, &initial).unwrap();
    training.run(u64::MAX).unwrap();
    training.parameters().unwrap()
}

#[test]
fn over_20_seeds_every_drift_is_found_within_the_window_and_no_stream_without_one_raises_an_alarm() {
    let parts = digits().split(1, &[7, 11]);
    let weights = trained(&parts[0]);
    for seed in 0..20 {
        let rest = parts[1].split(seed, &[3, 8]);
        let monitor = DriftMonitor::new(Reference::new(&seen(&weights, &rest[0])).unwrap(), policies());
        let alarm = |monitor: &mut DriftMonitor, calls: &[Observation], count: usize, random: &mut Random| {
            for _ in 0..count {
                let call = calls[(random.unit() * calls.len() as f64) as usize].clone();
                let readings = monitor.observe(call, Timestamp::default()).unwrap();
                if let Some(found) = readings.into_iter().find(|reading| reading.action.is_some()) {
                    return Some(found);
                }
            }
            None
        };
        let (plain, random) = (seen(&weights, &rest[1]), &mut Random::new(seed));
        assert_eq!(alarm(&mut monitor.clone(), &plain, 1500, random), None, "seed {seed}");
        for (kind, drift) in Drift::ALL {
            let mut other = DigitImages::default();
            for (pixels, label) in (0..rest[1].len()).filter_map(|at| rest[1].get(at)) {
                other.push(&drift.apply(pixels, random), label);
            }
            let (mut watching, drifted) = (monitor.clone(), seen(&weights, &other));
            assert_eq!(alarm(&mut watching, &plain, 400, random), None, "seed {seed}");
            let found = alarm(&mut watching, &drifted, WINDOW as usize, random);
            let found = found.unwrap_or_else(|| panic!("{kind} was not found, seed {seed}"));
            assert!(found.metric != DriftMetric::AccuracyLoss || found.value > 0.15);
        }
    }
}

#[tokio::test]
async fn a_training_goes_on_from_its_checkpoint_when_its_fabric_is_gone() {
    let disks = Disks::new(objects());
    let site = Site::new(&disks).await.unwrap();
    let raw = site.arrives("digits-raw", digits().to_bytes()).await.unwrap();
    let parts = vec![(name("digits-edge-a"), "edge-a".to_owned(), 1), (name("digits-stream"), "stream".to_owned(), 3)];
    let data = site.call("process", None, &Process { raw, seed: 1, parts }).await.unwrap();
    let data: Vec<_> = Vec::into_iter(data).take(1).collect();
    let base = Parameters::random(&DigitsCnn.shapes(), 1).to_bytes();
    let base = disks.objects.put_bytes(base).await.unwrap().object;
    let train = Train { base, data, plan: TrainingPlan::default(), batches: 5 };
    let first: Trained = site.call("train", Some("edge-a"), &train).await.unwrap();
    assert_eq!((first.progress.done, first.progress.of, first.weights), (5, 15, None));
    site.fabric.shutdown().await.unwrap();
    drop(site);

    let site = Site::new(&disks).await.unwrap();
    let second: Trained = site.call("train", Some("edge-a"), &train).await.unwrap();
    assert_eq!((second.progress.done, second.weights), (10, None));
    let last: Trained = site.call("train", Some("edge-a"), &Train { batches: 99, ..train }).await.unwrap();
    assert_eq!(last.progress.done, 15);
    assert!(last.weights.is_some() && last.progress.loss < first.progress.loss);
}

#[tokio::test]
async fn who_consumes_what_is_not_there_is_told_what_is_missing() {
    let site = Site::new(&Disks::new(objects())).await.unwrap();
    let missing = chain(&*site.consumed(SERVE).await.unwrap_err());
    let wanted = "function classify cannot have what it consumes: there is no model {task = digits, accuracy >= 0.85}";
    assert_eq!(missing, format!("{wanted}; none was published"));
    let draft = || Draft::model(name("digits")).tag(name("task"), "digits");
    let model = site.catalogue.publish(draft(), Bytes::from_static(b"1")).await.unwrap();
    let missing = chain(&*site.consumed(SERVE).await.unwrap_err());
    let lacks = "of model digits v1, which is nearest, accuracy was not measured, >= 0.85 is wanted";
    assert_eq!(missing, format!("{wanted}; {lacks}"));
    site.catalogue.measured(&model.id, [(name("accuracy"), 0.95)]).await.unwrap();
    assert_eq!(site.consumed(SERVE).await.unwrap(), [model.id]);
}

#[tokio::test]
async fn a_catalogue_counts_versions_and_knows_where_they_come_from() {
    let catalogue = Catalogue::new(objects());
    let content = |text: &'static str| Bytes::from_static(text.as_bytes());
    let raw = catalogue.publish(Draft::data(name("raw")), content("raw")).await.unwrap();
    let part = Draft::data(name("part")).lineage(Lineage::new().parent(raw.id.clone()));
    let part = catalogue.publish(part, content("part")).await.unwrap();
    let model = |accuracy| {
        let lineage = Lineage::new().from_data([&part.id]);
        Draft::model(name("m")).metric(name("accuracy"), accuracy).lineage(lineage)
    };
    let first = catalogue.publish(model(0.9), content("one")).await.unwrap();
    let second = catalogue.publish(model(0.8), content("one")).await.unwrap();
    assert_eq!((first.id.version, second.id.version), (1, 2));
    assert_eq!(first.id.content, second.id.content, "equal content is one object");
    assert_eq!(catalogue.lineage(&second).await.unwrap(), [part.clone(), raw]);
    assert_eq!(catalogue.get(&second.id).await.unwrap(), second);

    let accurate = |least| Selector::model().metric(name("accuracy"), Bound::AtLeast(least));
    assert_eq!(catalogue.find(&accurate(0.5)).await.unwrap(), second, "the newest");
    assert_eq!(catalogue.find(&accurate(0.85)).await.unwrap(), first, "the newest that is accurate enough");
    let error = catalogue.publish(model(f64::NAN), content("two")).await.unwrap_err();
    assert!(matches!(error, CatalogueError::Metric { .. }), "{error}");
    assert_eq!(catalogue.list(ArtefactKind::Model, None).await.unwrap().len(), 2);
    let mut other = first.id.clone();
    other.version = 3;
    let error = catalogue.get(&other).await.unwrap_err();
    assert_eq!(error.to_string(), "model m v3 is not in the catalogue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_catalogues_over_one_store_neither_share_a_version_nor_lose_a_metric() {
    let store = objects();
    let publishers: Vec<_> = (0..4)
        .map(|publisher: u8| {
            let catalogue = Catalogue::new(Arc::clone(&store));
            tokio::spawn(async move {
                let mut published = Vec::new();
                for content in 0..8 {
                    let content = Bytes::copy_from_slice(&[publisher, content]);
                    published
                        .push((catalogue.publish(Draft::model(name("m")), content.clone()).await.unwrap(), content));
                }
                published
            })
        })
        .collect();
    let reader = Catalogue::new(Arc::clone(&store));
    let mut versions = Vec::new();
    for publisher in publishers {
        for (artefact, content) in publisher.await.unwrap() {
            assert_eq!(reader.content(&artefact.id, ByteSize::from_kib(1)).await.unwrap(), content);
            assert_eq!(reader.get(&artefact.id).await.unwrap(), artefact);
            versions.push(artefact.id.version);
        }
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=32).collect::<Vec<u32>>());

    let newest = reader.find(&Selector::model()).await.unwrap().id;
    let metrics = ["accuracy", "recall", "precision", "loss"];
    let measuring: Vec<_> = metrics
        .into_iter()
        .map(|metric| {
            let (catalogue, newest) = (Catalogue::new(Arc::clone(&store)), newest.clone());
            tokio::spawn(async move { catalogue.measured(&newest, [(name(metric), 0.5)]).await.map(drop) })
        })
        .collect();
    for measured in measuring {
        measured.await.unwrap().unwrap();
    }
    let known = reader.get(&newest).await.unwrap();
    assert_eq!(known.metrics, metrics.map(|metric| (name(metric), 0.5)).into());
}
