use candle_core::Tensor;
use std::time::Duration;

use scf_core::{FunctionName, Name, ObjectId, Share, Timestamp};

use super::{parameters::Random, *};
use crate::{Executor, ModelRegistry, Query};

/// The smallest network: logits are a matrix times the input.
#[derive(Debug)]
struct Linear;

impl Network for Linear {
    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        vec![("w".into(), vec![2, 2])]
    }

    fn logits(&self, weights: &Variables, inputs: &Tensor) -> candle_core::Result<Tensor> {
        inputs.matmul(weights.of("w")?)
    }
}

/// Points above and below a line through the origin.
fn points(count: usize, seed: u64) -> Examples {
    let mut random = Random::new(seed);
    let inputs: Vec<f32> = (0..2 * count).map(|_| random.unit() as f32 - 0.5).collect();
    let labels = inputs.chunks_exact(2).map(|p| u32::from(p[0] + 2.0 * p[1] > 0.0)).collect();
    Examples::new(vec![2], inputs, labels).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn function(text: &str) -> FunctionName {
    FunctionName::new(text).unwrap()
}

#[test]
fn a_training_that_stops_at_checkpoints_ends_where_one_at_one_go_does() {
    let (examples, plan) = (points(90, 1), TrainingPlan { epochs: 4, seed: 5, ..TrainingPlan::default() });
    let initial = Parameters::random(&Linear.shapes(), 2);
    let mut at_once = Training::begin(&Linear, &examples, plan, &initial).unwrap();
    let all = at_once.run(u64::MAX).unwrap();
    assert_eq!((all.done, all.of), (12, 12));

    let mut stopped = Training::begin(&Linear, &examples, plan, &initial).unwrap().checkpoint().unwrap();
    for batches in [1, 4, 2, 3, 9] {
        let stored = stopped.to_bytes();
        let mut resumed = Training::resume(&Linear, &examples, &Checkpoint::read(&stored).unwrap()).unwrap();
        resumed.run(batches).unwrap();
        stopped = resumed.checkpoint().unwrap();
    }
    assert_eq!(stopped, at_once.checkpoint().unwrap());
    assert!(evaluate(&Linear, &at_once.parameters().unwrap(), &points(200, 9)).unwrap().accuracy > 0.95);
}

#[test]
fn a_checkpoint_of_other_examples_or_another_network_is_refused() {
    let plan = TrainingPlan::default();
    let initial = Parameters::random(&Linear.shapes(), 2);
    let examples = points(40, 1);
    let checkpoint = Training::begin(&Linear, &examples, plan, &initial).unwrap().checkpoint().unwrap();
    let more = points(80, 1);
    let error = Training::resume(&Linear, &more, &checkpoint).unwrap_err();
    assert!(matches!(error, TrainingError::Checkpoint { had: 2, has: 3 }), "{error}");
    let error = Training::resume(&crate::DigitsCnn, &examples, &checkpoint).unwrap_err();
    assert!(matches!(error, TrainingError::Weights(_)), "{error}");
    assert!(matches!(Checkpoint::read(&checkpoint.to_bytes()[..9]), Err(TrainingError::Damaged { .. })));
}

#[test]
fn what_cannot_be_trained_is_refused_with_the_field() {
    let (examples, initial) = (points(40, 1), Parameters::random(&Linear.shapes(), 2));
    let refused = |plan| Training::begin(&Linear, &examples, plan, &initial).unwrap_err().to_string();
    let plan = TrainingPlan::default();
    assert_eq!(refused(TrainingPlan { batch: 0, ..plan }), "training plan: batch must be at least 1");
    assert_eq!(refused(TrainingPlan { rate: f64::NAN, ..plan }), "training plan: rate must be a number above 0");
    let none = Examples::new(vec![2], Vec::new(), Vec::new()).unwrap();
    let error = Training::begin(&Linear, &none, plan, &initial).unwrap_err();
    assert!(matches!(error, TrainingError::NoExamples));
    let mut wild =
        Training::begin(&Linear, &examples, TrainingPlan { rate: f64::MAX, epochs: 9, ..plan }, &initial).unwrap();
    assert!(matches!(wild.run(u64::MAX), Err(TrainingError::Diverged { .. })));
}

fn artefact(kind: ArtefactKind, version: u32, metrics: &[(&str, f64)]) -> Artefact {
    let content = ObjectId::of(&version.to_le_bytes());
    let id = ArtefactId { kind, name: name("digits"), version, content };
    let metrics = metrics.iter().map(|(metric, value)| (name(metric), *value)).collect();
    let tags = [(name("task"), "digits".to_owned())].into();
    Artefact { id, size: scf_core::ByteSize::ZERO, tags, metrics, lineage: Lineage::new() }
}

#[test]
fn a_selector_says_what_an_artefact_lacks() {
    let selector = Selector::model()
        .tag(name("task"), "digits")
        .tag(name("site"), "a")
        .metric(name("accuracy"), Bound::AtLeast(0.9))
        .metric(name("loss"), Bound::AtMost(0.2));
    assert_eq!(selector.to_string(), "model {site = a, task = digits, accuracy >= 0.9, loss <= 0.2}");
    let lacks = selector.lacks(&artefact(ArtefactKind::Model, 1, &[("accuracy", 0.85)]));
    let lacks: Vec<_> = lacks.iter().map(Lack::to_string).collect();
    let wanted =
        ["site is not set, a is wanted", "accuracy is 0.85, not >= 0.9", "loss was not measured, <= 0.2 is wanted"];
    assert_eq!(lacks, wanted);
}

#[test]
fn a_gate_holds_what_is_unmeasured_too_low_or_worse_than_what_serves() {
    let gate = Gate::new(name("accuracy"), 0.9).margin(0.01);
    let model = |version, accuracy| artefact(ArtefactKind::Model, version, &[("accuracy", accuracy)]);
    assert_eq!(gate.check(&model(1, 0.92), None), Ok(()));
    assert_eq!(gate.check(&model(2, 0.92), Some(&model(1, 0.925))), Ok(()), "within the margin");
    let held =
        |candidate: &Artefact, serving: Option<&Artefact>| gate.check(candidate, serving).unwrap_err().to_string();
    assert_eq!(held(&model(2, 0.85), None), "model digits v2 is held: accuracy is 0.85, at least 0.9 is needed");
    let worse = "model digits v2 is held: accuracy is 0.92, that of model digits v1, which serves, is 0.95";
    assert_eq!(held(&model(2, 0.92), Some(&model(1, 0.95))), worse);
    let unmeasured = held(&artefact(ArtefactKind::Model, 2, &[]), None);
    assert_eq!(unmeasured, "model digits v2 is held: its accuracy was not measured");
}

#[test]
fn a_registry_answers_by_the_version_that_was_registered_last() {
    let model = |version, accuracy| artefact(ArtefactKind::Model, version, &[("accuracy", accuracy)]);
    let executor = Executor::new(name("cpu"), 1);
    let mut registry = ModelRegistry::new(1).executor(executor).variant(model(1, 0.9).variant().unwrap());
    let query = Query::new(name("digits"), Duration::from_secs(9)).accuracy(Share::from_fraction(0.95));
    assert!(registry.select(&query, Timestamp::default()).is_err());
    registry.register(model(2, 0.97).variant().unwrap());
    let selection = registry.select(&query, Timestamp::default()).unwrap();
    assert_eq!((selection.variant.as_str(), selection.accuracy), ("digits", Share::from_fraction(0.97)));
    assert_eq!(artefact(ArtefactKind::Model, 3, &[]).variant(), None, "not measured");
}

#[test]
fn a_life_cycle_says_what_nobody_produces_and_which_function_lacks_what() {
    let train = || {
        StageFunction::new(function("train"), Stage::Train)
            .consumes(Selector::data().tag(name("task"), "digits"))
            .produces(Product::model(name("digits")).tag(name("task"), "digits"))
    };
    let accurate = Selector::model().tag(name("task"), "digits").metric(name("accuracy"), Bound::AtLeast(0.9));
    let serve = || StageFunction::new(function("serve"), Stage::Serve).consumes(accurate.clone());
    let data = || Product::data(name("raw")).tag(name("task"), "digits");
    LifeCycle::new().source(data()).function(train()).function(serve()).check().unwrap();

    let error = LifeCycle::new().source(data()).function(serve()).check().unwrap_err().to_string();
    let nobody = "function serve consumes model {task = digits, accuracy >= 0.9}, which no source and no function of the \
                  life cycle produces";
    assert_eq!(error, nobody);
    let error = LifeCycle::new().function(StageFunction::new(function("watch"), Stage::Monitor)).check().unwrap_err();
    assert_eq!(error.to_string(), "function watch is to monitor and consumes no data");
    let twice = LifeCycle::new().source(data()).function(train()).function(train()).check().unwrap_err();
    assert!(matches!(twice, LifeCycleError::Twice { .. }));
}
