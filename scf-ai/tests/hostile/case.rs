//! One file that means harm, and whether it did any.

use std::panic::{AssertUnwindSafe, catch_unwind};

use scf_core::{Activation, BlockGraph, ModelError};

use crate::allocator;

/// What loading may take whatever the file has: a header of up to 16 KiB is read also where it is most of the file.
const ALWAYS: usize = 128 << 10;

/// A network, or the field of the file that was refused and why.
pub(crate) type Loaded = Result<BlockGraph, (String, String)>;

/// What has to come of a file.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    /// Refused, naming this field of the file with this problem.
    Refused(&'static str, &'static str),
    /// Refused, or loaded and run: where the harm is is left to chance.
    Either,
}

/// A file and who takes it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) file: Box<dyn Fn() -> Vec<u8>>,
    pub(crate) load: fn(&[u8]) -> Loaded,
    pub(crate) outcome: Outcome,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        load: fn(&[u8]) -> Loaded,
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
        let file = (self.file)();
        let (loaded, peak) = allocator::peak(|| catch_unwind(AssertUnwindSafe(|| (self.load)(&file))));
        let loaded = loaded.map_err(|_| "loading it panicked".to_owned())?;
        if peak > 2 * file.len() + ALWAYS {
            return Err(format!("a file of {} bytes took {peak}", file.len()));
        }
        match (loaded, self.outcome) {
            (Err((field, problem)), Outcome::Refused(at, why)) if field != at || !problem.contains(why) => {
                Err(format!("refused as {field}: {problem}"))
            }
            (Err(_), _) => Ok(()),
            (Ok(_), Outcome::Refused(..)) => Err("it was loaded".into()),
            (Ok(graph), Outcome::Either) => {
                catch_unwind(AssertUnwindSafe(|| run(&graph))).map_err(|_| "running it panicked".to_owned())
            }
        }
    }
}

/// What a loader gave, where its error is one that names a field of the file.
pub(crate) fn named(loaded: Result<BlockGraph, ModelError>) -> Loaded {
    loaded.map_err(|error| match error {
        ModelError::Weight { weight, problem } => (weight, problem),
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
