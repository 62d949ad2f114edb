//! One file that means harm, and whether it did any.

use std::panic::{AssertUnwindSafe, catch_unwind};

use scf_core::{Activation, BlockGraph, Bytes, ModelError};

use crate::allocated;

/// What loading may take whatever the file has: a header of up to 16 KiB is read also where it is most of the file.
const ALWAYS: usize = 128 << 10;

/// A network, or the field of the file that was refused and the whole error.
pub(crate) type Loaded = Result<BlockGraph, (String, String)>;

/// What has to come of a file.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    /// Refused, naming this field of the file, with an error that has this text.
    Refused(&'static str, &'static str),
    /// Refused with an error that has this text.
    Named(&'static str),
    /// Refused, or loaded and run: where the harm is is left to chance.
    Either,
}

/// A file and who takes it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) file: Box<dyn Fn() -> Vec<u8>>,
    pub(crate) load: fn(&Bytes) -> Loaded,
    pub(crate) outcome: Outcome,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        load: fn(&Bytes) -> Loaded,
        outcome: Outcome,
        file: impl Fn() -> Vec<u8> + 'static,
    ) -> Self {
        Self { name: name.into(), file: Box::new(file), load, outcome }
    }

    /// Loads the file, and runs what was loaded.
    ///
    /// # Errors
    /// Saying how it did harm: a panic, more memory than twice the file, an answer or an error other than it has to be.
    pub(crate) fn run(&self) -> Result<(), String> {
        let file = Bytes::from((self.file)());
        let size = file.len();
        let (loaded, peak) = allocated::peak(|| catch_unwind(AssertUnwindSafe(|| (self.load)(&file))));
        let loaded = loaded.map_err(|_| "loading it panicked".to_owned())?;
        if peak > 2 * size + ALWAYS {
            return Err(format!("a file of {size} bytes took {peak}"));
        }
        let as_it_should = match (&loaded, self.outcome) {
            (Err((field, error)), Outcome::Refused(at, why)) => field == at && error.contains(why),
            (Err((_, error)), Outcome::Named(why)) => error.contains(why),
            (_, outcome) => matches!(outcome, Outcome::Either),
        };
        match loaded {
            Err((field, error)) if !as_it_should => Err(format!("refused for {field}: {error}")),
            Err(_) => Ok(()),
            Ok(_) if !as_it_should => Err("it was loaded".into()),
            Ok(graph) => catch_unwind(AssertUnwindSafe(|| run(&graph))).map_err(|_| "running it panicked".to_owned()),
        }
    }
}

/// What a loader gave, where its error is one that names a field of the file.
pub(crate) fn named(loaded: Result<BlockGraph, ModelError>) -> Loaded {
    loaded.map_err(|error| match &error {
        ModelError::Weight { weight: field, .. } | ModelError::Metadata { key: field, .. } => {
            (field.clone(), error.to_string())
        }
        other => panic!("{other:?} names no field"),
    })
}

fn run(graph: &BlockGraph) {
    let bytes = vec![0; graph.input.size().unwrap().bytes() as usize];
    let input = Activation::new(graph.input.clone(), bytes.into()).unwrap();
    // A number that is none may come of it, or an error; both are answers.
    if let Ok(output) = graph.run(0..graph.blocks().len(), input) {
        output.bytes().unwrap();
    }
}
