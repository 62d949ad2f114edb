//! The functions of a life cycle, and what goes from one to the next.

use std::{collections::BTreeMap, fmt};

use scf_core::{FunctionName, Name};
use thiserror::Error;

use super::{
    artefact::{Artefact, ArtefactKind},
    catalogue::{Catalogue, CatalogueError},
    selector::Selector,
};

/// What a function does in a life cycle (Rausch et al., HotEdge 2019, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Makes data out of data.
    Process,
    /// Makes a model out of data.
    Train,
    /// Measures a model with data.
    Validate,
    /// Answers with a model.
    Serve,
    /// Watches what a model is asked and answers.
    Monitor,
}

impl Stage {
    /// The stage as one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Train => "train",
            Self::Validate => "validate",
            Self::Serve => "serve",
            Self::Monitor => "monitor",
        }
    }

    /// The kinds that a function of this stage has to consume and to produce.
    const fn needs(self) -> (&'static [ArtefactKind], Option<ArtefactKind>) {
        use ArtefactKind::{Data, Model};
        match self {
            Self::Process => (&[Data], Some(Data)),
            Self::Train => (&[Data], Some(Model)),
            Self::Validate => (&[Model, Data], None),
            Self::Serve => (&[Model], None),
            Self::Monitor => (&[Data], None),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a function makes, or what is there from the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Product {
    kind: ArtefactKind,
    name: Name,
    tags: BTreeMap<Name, String>,
}

impl Product {
    /// Versions of the model `name`.
    pub const fn model(name: Name) -> Self {
        Self { kind: ArtefactKind::Model, name, tags: BTreeMap::new() }
    }

    /// Versions of the data `name`.
    pub const fn data(name: Name) -> Self {
        Self { kind: ArtefactKind::Data, name, tags: BTreeMap::new() }
    }

    /// With this tag.
    pub fn tag(mut self, key: Name, value: impl Into<String>) -> Self {
        self.tags.insert(key, value.into());
        self
    }
}

/// A function with its stage and what it consumes and produces.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct StageFunction {
    function: FunctionName,
    stage: Stage,
    consumes: Vec<Selector>,
    produces: Vec<Product>,
}

impl StageFunction {
    /// A function of `stage` that consumes and produces nothing yet.
    pub const fn new(function: FunctionName, stage: Stage) -> Self {
        Self { function, stage, consumes: Vec::new(), produces: Vec::new() }
    }

    /// Adds what it consumes.
    pub fn consumes(mut self, selector: Selector) -> Self {
        self.consumes.push(selector);
        self
    }

    /// Adds what it produces.
    pub fn produces(mut self, product: Product) -> Self {
        self.produces.push(product);
        self
    }

    fn lacks(&self) -> Option<String> {
        let (consumes, produces) = self.stage.needs();
        let unread = consumes.iter().find(|kind| self.consumes.iter().all(|selector| selector.kind != **kind));
        let unmade = produces.filter(|kind| self.produces.iter().all(|product| product.kind != *kind));
        let unread = unread.map(|kind| format!("consumes no {kind}"));
        unread.or_else(|| unmade.map(|kind| format!("produces no {kind}")))
    }
}

/// The functions of a model's life, from its data to the watch over it.
///
/// Made once, checked as a whole; [`LifeCycle::resolve`] then gives each function what it consumes.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct LifeCycle {
    sources: Vec<Product>,
    functions: Vec<StageFunction>,
}

impl LifeCycle {
    /// Without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what is there from the beginning.
    pub fn source(mut self, source: Product) -> Self {
        self.sources.push(source);
        self
    }

    /// Adds a function.
    pub fn function(mut self, function: StageFunction) -> Self {
        self.functions.push(function);
        self
    }

    /// Checks that every function has what its stage needs, and that for all that is consumed there is a source or a
    /// function that produces it. Bounds on metrics are checked when they are known, by [`LifeCycle::resolve`].
    ///
    /// # Errors
    /// [`LifeCycleError`] naming the function and what is missing.
    pub fn check(&self) -> Result<(), LifeCycleError> {
        for (at, step) in self.functions.iter().enumerate() {
            let function = || step.function.clone();
            if self.functions[..at].iter().any(|earlier| earlier.function == step.function) {
                return Err(LifeCycleError::Twice { function: function() });
            }
            if let Some(problem) = step.lacks() {
                return Err(LifeCycleError::Stage { function: function(), stage: step.stage, problem });
            }
            for selector in &step.consumes {
                let made = self.functions.iter().flat_map(|other| &other.produces);
                let mut all = self.sources.iter().chain(made);
                if !all.any(|product| selector.may_be(product.kind, &product.name, &product.tags)) {
                    return Err(LifeCycleError::Unproduced { function: function(), selector: selector.clone() });
                }
            }
        }
        Ok(())
    }

    /// The artefacts that `function` consumes now, one for each of its selectors and in their order: the newest that the
    /// selector asks for.
    ///
    /// # Errors
    /// [`LifeCycleError::Unknown`]; [`LifeCycleError::Missing`], whose source says what is missing.
    pub async fn resolve(
        &self,
        catalogue: &Catalogue,
        function: &FunctionName,
    ) -> Result<Vec<Artefact>, LifeCycleError> {
        let found = self.functions.iter().find(|step| step.function == *function);
        let step = found.ok_or_else(|| LifeCycleError::Unknown { function: function.clone() })?;
        let mut artefacts = Vec::with_capacity(step.consumes.len());
        for selector in &step.consumes {
            let missing = |source| LifeCycleError::Missing { function: function.clone(), source };
            artefacts.push(catalogue.find(selector).await.map_err(missing)?);
        }
        Ok(artefacts)
    }
}

/// What is wrong with a life cycle.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LifeCycleError {
    /// A function is there twice.
    #[error("function {function} is in the life cycle twice")]
    Twice {
        /// The function.
        function: FunctionName,
    },
    /// A function does not do what its stage is there for.
    #[error("function {function} is to {stage} and {problem}")]
    Stage {
        /// The function.
        function: FunctionName,
        /// Its stage.
        stage: Stage,
        /// What it lacks.
        problem: String,
    },
    /// Nobody produces what a function consumes.
    #[error("function {function} consumes {selector}, which no source and no function of the life cycle produces")]
    Unproduced {
        /// The function.
        function: FunctionName,
        /// What it consumes.
        selector: Selector,
    },
    /// The function is none of the life cycle.
    #[error("function {function} is not in the life cycle")]
    Unknown {
        /// The function.
        function: FunctionName,
    },
    /// What a function consumes is not there.
    #[error("function {function} cannot have what it consumes")]
    Missing {
        /// The function.
        function: FunctionName,
        /// What is missing.
        #[source]
        source: CatalogueError,
    },
}
