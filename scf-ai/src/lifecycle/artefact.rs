//! Models and data as things of their own, with what is known about them.

use std::{collections::BTreeMap, fmt};

use scf_core::{ByteSize, FunctionName, InvalidName, InvocationId, ModelName, Name, ObjectId, Share};
use serde::{Deserialize, Serialize};

use crate::registry::Variant;

/// What an artefact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ArtefactKind {
    /// A trained network.
    Model,
    /// What networks are trained, validated or compared with.
    Data,
}

impl ArtefactKind {
    /// The kind as one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Data => "data",
        }
    }
}

impl fmt::Display for ArtefactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One version of a model or of data, and exactly which content that is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArtefactId {
    /// What it is.
    pub kind: ArtefactKind,
    /// What it is called over all of its versions.
    pub name: Name,
    /// Which version, counted from 1.
    pub version: u32,
    /// BLAKE3 of its content.
    pub content: ObjectId,
}

impl ArtefactId {
    /// The name that this version of a model is served under: `NAME-vVERSION`.
    ///
    /// # Errors
    /// [`InvalidName`] when that is longer than a name may be.
    pub fn served(&self) -> Result<ModelName, InvalidName> {
        ModelName::new(&format!("{}-v{}", self.name, self.version))
    }
}

impl fmt::Display for ArtefactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} v{}", self.kind, self.name, self.version)
    }
}

/// What an artefact was made of, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lineage {
    /// The data that went into it.
    pub data: Vec<ArtefactId>,
    /// The model or data that it is a change of.
    pub parent: Option<ArtefactId>,
    /// The function and its invocation; none where it came from outside.
    pub made_by: Option<(FunctionName, InvocationId)>,
}

impl Lineage {
    /// Of what came from outside.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds data that went into it.
    #[must_use]
    pub fn from_data<'a>(mut self, data: impl IntoIterator<Item = &'a ArtefactId>) -> Self {
        self.data.extend(data.into_iter().cloned());
        self
    }

    /// What it is a change of.
    #[must_use]
    pub fn parent(mut self, parent: ArtefactId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Who made it.
    #[must_use]
    pub fn made_by(mut self, function: FunctionName, invocation: InvocationId) -> Self {
        self.made_by = Some((function, invocation));
        self
    }

    /// All that it was made of.
    pub fn origins(&self) -> impl Iterator<Item = &ArtefactId> {
        self.data.iter().chain(&self.parent)
    }
}

/// An artefact with what is known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Artefact {
    /// Which it is.
    pub id: ArtefactId,
    /// How large its content is.
    pub size: ByteSize,
    /// What selectors ask for, as words: the task, the licence, the site.
    pub tags: BTreeMap<Name, String>,
    /// What was measured of it, each a finite number: the accuracy, the loss.
    pub metrics: BTreeMap<Name, f64>,
    /// Where it comes from.
    pub lineage: Lineage,
}

impl Artefact {
    /// The model as a [`ModelRegistry`](crate::ModelRegistry) chooses by it, out of its tag `task` and its metric
    /// `accuracy`; `None` where one of them is missing or it is data. It has the name of all versions, so that registering
    /// it takes the place of the version before at once.
    #[must_use]
    pub fn variant(&self) -> Option<Variant> {
        let of = |key| Name::new(key).ok();
        let task = Name::new(self.tags.get(&of("task")?)?).ok()?;
        let accuracy = Share::from_fraction(*self.metrics.get(&of("accuracy")?)?);
        let name = ModelName::new(self.id.name.as_str()).ok()?;
        (self.id.kind == ArtefactKind::Model).then(|| Variant::new(name, task, accuracy, self.size))
    }
}

/// An artefact before it is published.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Draft {
    pub(super) kind: ArtefactKind,
    pub(super) name: Name,
    pub(super) tags: BTreeMap<Name, String>,
    pub(super) metrics: BTreeMap<Name, f64>,
    pub(super) lineage: Lineage,
}

impl Draft {
    /// The next version of the model `name`.
    pub const fn model(name: Name) -> Self {
        Self::new(ArtefactKind::Model, name)
    }

    /// The next version of the data `name`.
    pub const fn data(name: Name) -> Self {
        Self::new(ArtefactKind::Data, name)
    }

    const fn new(kind: ArtefactKind, name: Name) -> Self {
        let lineage = Lineage { data: Vec::new(), parent: None, made_by: None };
        Self { kind, name, tags: BTreeMap::new(), metrics: BTreeMap::new(), lineage }
    }

    /// Adds a tag, or replaces it.
    pub fn tag(mut self, key: Name, value: impl Into<String>) -> Self {
        self.tags.insert(key, value.into());
        self
    }

    /// Adds what was measured, or replaces it.
    pub fn metric(mut self, metric: Name, value: f64) -> Self {
        self.metrics.insert(metric, value);
        self
    }

    /// Where it comes from; default from outside.
    pub fn lineage(mut self, lineage: Lineage) -> Self {
        self.lineage = lineage;
        self
    }
}
