//! Artefacts by what they must be.

use std::{collections::BTreeMap, fmt};

use scf_core::Name;
use thiserror::Error;

use super::artefact::{Artefact, ArtefactId, ArtefactKind};

/// On which side of a number a metric must be.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a bound is on one side or the other")]
pub enum Bound {
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
}

impl Bound {
    /// Whether `value` keeps it.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::AtMost(most) => write!(f, "<= {most}"),
        }
    }
}

/// What a function consumes: a model or data of some tags whose metrics keep some bounds. The selector of Rausch et al.,
/// "Towards a Serverless Platform for Edge AI", HotEdge 2019, section 3.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Selector {
    pub(super) kind: ArtefactKind,
    pub(super) name: Option<Name>,
    pub(super) tags: BTreeMap<Name, String>,
    pub(super) bounds: BTreeMap<Name, Bound>,
}

impl Selector {
    /// A model, whichever.
    pub const fn model() -> Self {
        Self { kind: ArtefactKind::Model, name: None, tags: BTreeMap::new(), bounds: BTreeMap::new() }
    }

    /// Data, whichever.
    pub const fn data() -> Self {
        Self { kind: ArtefactKind::Data, name: None, tags: BTreeMap::new(), bounds: BTreeMap::new() }
    }

    /// Versions of `name` only.
    pub fn name(mut self, name: Name) -> Self {
        self.name = Some(name);
        self
    }

    /// With this tag only.
    pub fn tag(mut self, key: Name, value: impl Into<String>) -> Self {
        self.tags.insert(key, value.into());
        self
    }

    /// Where `metric` was measured and keeps `bound` only.
    pub fn metric(mut self, metric: Name, bound: Bound) -> Self {
        self.bounds.insert(metric, bound);
        self
    }

    /// What `artefact` lacks; nothing where it is one of those.
    #[must_use]
    pub fn lacks(&self, artefact: &Artefact) -> Vec<Lack> {
        let mut lacks = Vec::new();
        for (key, wanted) in &self.tags {
            let has = artefact.tags.get(key);
            if has != Some(wanted) {
                lacks.push(Lack::Tag { key: key.clone(), wanted: wanted.clone(), has: has.cloned() });
            }
        }
        for (metric, wanted) in &self.bounds {
            let has = artefact.metrics.get(metric).copied();
            if !has.is_some_and(|value| wanted.holds(value)) {
                lacks.push(Lack::Metric { metric: metric.clone(), wanted: *wanted, has });
            }
        }
        lacks
    }

    /// Whether it may be that artefacts of `kind`, `name` and `tags` are among those; metrics are known once measured.
    pub(super) fn may_be(&self, kind: ArtefactKind, name: &Name, tags: &BTreeMap<Name, String>) -> bool {
        let named = self.name.as_ref().is_none_or(|wanted| wanted == name);
        kind == self.kind && named && self.tags.iter().all(|(key, wanted)| tags.get(key) == Some(wanted))
    }
}

impl fmt::Display for Selector {
    /// `model digits {task = digits, accuracy >= 0.9}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        let tags = self.tags.iter().map(|(key, value)| format!("{key} = {value}"));
        let all: Vec<_> = tags.chain(self.bounds.iter().map(|(metric, bound)| format!("{metric} {bound}"))).collect();
        if all.is_empty() { Ok(()) } else { write!(f, " {{{}}}", all.join(", ")) }
    }
}

/// One thing that an artefact lacks.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Lack {
    /// It has another tag, or none.
    Tag {
        /// The tag.
        key: Name,
        /// What it must be.
        wanted: String,
        /// What it is.
        has: Option<String>,
    },
    /// It was measured to be otherwise, or was not measured.
    Metric {
        /// The metric.
        metric: Name,
        /// What it must keep.
        wanted: Bound,
        /// What it is.
        has: Option<f64>,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { key, wanted, has: Some(has) } => write!(f, "{key} is {has}, not {wanted}"),
            Self::Tag { key, wanted, has: None } => write!(f, "{key} is not set, {wanted} is wanted"),
            Self::Metric { metric, wanted, has: Some(has) } => write!(f, "{metric} is {has}, not {wanted}"),
            Self::Metric { metric, wanted, has: None } => write!(f, "{metric} was not measured, {wanted} is wanted"),
        }
    }
}

/// There is no such artefact.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("there is no {wanted}{}", near(.nearest.as_ref()))]
#[non_exhaustive]
pub struct Unmet {
    /// What was looked for.
    pub wanted: Selector,
    /// The one that lacks least, and what it lacks; none where nothing of that kind and name was published.
    pub nearest: Option<(ArtefactId, Vec<Lack>)>,
}

fn near(nearest: Option<&(ArtefactId, Vec<Lack>)>) -> String {
    let Some((artefact, lacks)) = nearest else { return "; none was published".into() };
    let lacks: Vec<_> = lacks.iter().map(Lack::to_string).collect();
    format!("; of {artefact}, which is nearest, {}", lacks.join(" and "))
}
