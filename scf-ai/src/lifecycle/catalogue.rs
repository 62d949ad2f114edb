//! Artefacts in an object store.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use scf_core::{ByteSize, Name, ObjectError, ObjectId, ObjectStore, read_object};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::{
    artefact::{Artefact, ArtefactId, ArtefactKind, Draft},
    selector::{Selector, Unmet},
};

/// Largest record of an artefact.
const MAX_RECORD: ByteSize = ByteSize::from_kib(256);
/// References that are asked for at a time.
const PAGE: usize = 256;
/// What the reference that claims a version refers to.
const CLAIM: &[u8] = b"claimed";
/// How often a version is claimed, or a record written, while others keep being first.
const MAX_TRIES: usize = 1000;
/// Most artefacts that a lineage is followed over.
const MAX_LINEAGE: usize = 10_000;

/// The artefacts of an object store: each a content and a record of what is known about it, under references
/// `artefact/KIND/NAME/VERSION/record` and `…/content`.
///
/// Any number of catalogues may read and publish over one store: a version is claimed under a third reference,
/// `…/claim`, by who was first to make it, which a store says of each ([`ObjectStore::refer`]). A version whose
/// publisher failed before its record was there is left out and its number is not used again. Give functions their
/// tenant's view of the store ([`GrantedObjects`](scf_core::GrantedObjects)) and each tenant has a catalogue of its own.
#[derive(Debug)]
pub struct Catalogue {
    store: Arc<dyn ObjectStore>,
    /// Publishers over this catalogue take turns, so that they do not claim versions from each other.
    turn: Semaphore,
}

impl Catalogue {
    /// The catalogue that is in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, turn: Semaphore::new(1) }
    }

    /// Stores `content` as the next version of what `draft` says. The record is there once the content is, and both once
    /// this returns; the same content may be several versions.
    ///
    /// # Errors
    /// [`CatalogueError`]; nothing is then published.
    pub async fn publish(&self, draft: Draft, content: Bytes) -> Result<Artefact, CatalogueError> {
        let Draft { kind, name, tags, metrics, lineage } = draft;
        finite(&metrics)?;
        let _turn = self.turn.acquire().await.map_err(|_| CatalogueError::Closed)?;
        let stored = self.store.put_bytes(content).await?;
        let version = self.claim(kind, &name).await?;
        let id = ArtefactId { kind, name, version, content: stored.object };
        self.store.refer(&reference(&id, "content"), stored.object).await?;
        let artefact = Artefact { id, size: stored.size, tags, metrics, lineage };
        self.note(&artefact).await?;
        Ok(artefact)
    }

    /// Takes down what was measured of an artefact after it was published, beside or in place of what was before. What
    /// others take down at the same time is kept; of one metric, one of both values.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`] when it is not there; otherwise as [`Catalogue::publish`].
    pub async fn measured(
        &self,
        artefact: &ArtefactId,
        metrics: impl IntoIterator<Item = (Name, f64)>,
    ) -> Result<Artefact, CatalogueError> {
        let _turn = self.turn.acquire().await.map_err(|_| CatalogueError::Closed)?;
        let measured: BTreeMap<Name, f64> = metrics.into_iter().collect();
        finite(&measured)?;
        let reference = reference(artefact, "record");
        let mut read = self.store.resolve(&reference).await?;
        let mut known = self.get(artefact).await?;
        for _ in 0..MAX_TRIES {
            known.metrics.extend(measured.clone());
            let (replaced, noted) = self.note(&known).await?;
            let Some(other) = replaced.filter(|replaced| read != Some(*replaced)) else { return Ok(known) };
            // Somebody else's, who read what was read here: what it says beside comes back.
            let theirs = self.read(reference.clone(), other).await?;
            known.metrics.extend(theirs.metrics);
            read = Some(noted);
        }
        Err(CatalogueError::Contended { kind: artefact.kind, name: artefact.name.clone(), tries: MAX_TRIES })
    }

    /// What is known of an artefact.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`] when that version is not there or is of other content.
    pub async fn get(&self, artefact: &ArtefactId) -> Result<Artefact, CatalogueError> {
        let found = self.version(artefact.kind, &artefact.name, artefact.version).await?;
        match found.id.content == artefact.content {
            true => Ok(found),
            false => Err(missing(artefact.kind, &artefact.name, artefact.version)),
        }
    }

    /// What is known of a version.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`], [`CatalogueError::Record`], [`CatalogueError::Objects`].
    pub async fn version(&self, kind: ArtefactKind, name: &Name, version: u32) -> Result<Artefact, CatalogueError> {
        let reference = [&folder(kind, name), &number(version)[..], "record"].join("/");
        match self.store.resolve(&reference).await? {
            Some(record) => self.read(reference, record).await,
            None => Err(missing(kind, name, version)),
        }
    }

    /// The content of an artefact, at most `limit`, held against its digest.
    ///
    /// # Errors
    /// [`CatalogueError::Objects`].
    pub async fn content(&self, artefact: &ArtefactId, limit: ByteSize) -> Result<Bytes, CatalogueError> {
        Ok(read_object(&*self.store, artefact.content, limit).await?)
    }

    /// The newest version that `selector` asks for, of the first name in order that has one.
    ///
    /// # Errors
    /// [`CatalogueError::Unmet`], which says what the nearest one lacks.
    pub async fn find(&self, selector: &Selector) -> Result<Artefact, CatalogueError> {
        let mut known = self.list(selector.kind, selector.name.as_ref()).await?;
        known.sort_by(|a, b| (&a.id.name, b.id.version).cmp(&(&b.id.name, a.id.version)));
        let mut nearest: Option<(ArtefactId, Vec<_>)> = None;
        for artefact in known {
            let lacks = selector.lacks(&artefact);
            if lacks.is_empty() {
                return Ok(artefact);
            }
            if nearest.as_ref().is_none_or(|(_, least)| lacks.len() < least.len()) {
                nearest = Some((artefact.id, lacks));
            }
        }
        Err(Box::new(Unmet { wanted: selector.clone(), nearest }).into())
    }

    /// All versions of `name`, or of every name, by name and version.
    ///
    /// # Errors
    /// [`CatalogueError::Record`], [`CatalogueError::Objects`].
    pub async fn list(&self, kind: ArtefactKind, name: Option<&Name>) -> Result<Vec<Artefact>, CatalogueError> {
        let mut found = Vec::new();
        for (reference, record) in self.records(kind, name).await? {
            found.push(self.read(reference, record).await?);
        }
        Ok(found)
    }

    /// Where an artefact comes from: what it was made of, what that was made of, and so on, each once and after what was
    /// made of it.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`] naming the ancestor that is not there; [`CatalogueError::Lineage`] over 10 000.
    pub async fn lineage(&self, artefact: &Artefact) -> Result<Vec<Artefact>, CatalogueError> {
        let mut found: Vec<Artefact> = Vec::new();
        let mut next: Vec<ArtefactId> = artefact.lineage.origins().cloned().collect();
        while !next.is_empty() {
            let mut after = Vec::new();
            for id in next {
                if found.iter().any(|known| known.id == id) {
                    continue;
                }
                if found.len() == MAX_LINEAGE {
                    return Err(CatalogueError::Lineage { artefact: artefact.id.clone(), most: MAX_LINEAGE });
                }
                let origin = self.get(&id).await?;
                after.extend(origin.lineage.origins().cloned());
                found.push(origin);
            }
            next = after;
        }
        Ok(found)
    }

    /// The next version, which nobody else has.
    async fn claim(&self, kind: ArtefactKind, name: &Name) -> Result<u32, CatalogueError> {
        let claim = self.store.put_bytes(Bytes::from_static(CLAIM)).await?.object;
        for _ in 0..MAX_TRIES {
            let version = self.last(kind, name).await?.map_or(1, |last| last + 1);
            let reference = [&folder(kind, name), &number(version)[..], "claim"].join("/");
            // Of those who claim it at the same time, one is told that there was nothing before.
            if self.store.refer(&reference, claim).await?.is_none() {
                return Ok(version);
            }
        }
        Err(CatalogueError::Contended { kind, name: name.clone(), tries: MAX_TRIES })
    }

    async fn last(&self, kind: ArtefactKind, name: &Name) -> Result<Option<u32>, CatalogueError> {
        // Also a version of which there is no record yet has taken its number.
        let prefix = folder(kind, name) + "/";
        let (mut last, mut after) = (None, None);
        loop {
            let page = self.store.references(&prefix, after.as_deref(), PAGE).await?;
            let numbers = page.iter().filter_map(|(name, _)| name[prefix.len()..].split('/').next()?.parse().ok());
            last = numbers.chain(last).max();
            match page.last() {
                Some((name, _)) if page.len() == PAGE => after = Some(name.clone()),
                _ => return Ok(last),
            }
        }
    }

    async fn records(
        &self,
        kind: ArtefactKind,
        name: Option<&Name>,
    ) -> Result<Vec<(String, ObjectId)>, CatalogueError> {
        let prefix = name.map_or_else(|| format!("artefact/{kind}/"), |name| folder(kind, name) + "/");
        let (mut found, mut after): (Vec<_>, Option<String>) = (Vec::new(), None);
        loop {
            let page = self.store.references(&prefix, after.as_deref(), PAGE).await?;
            after = page.last().filter(|_| page.len() == PAGE).map(|(name, _)| name.clone());
            found.extend(page.into_iter().filter(|(name, _)| name.ends_with("/record")));
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    async fn read(&self, reference: String, record: ObjectId) -> Result<Artefact, CatalogueError> {
        let bytes = read_object(&*self.store, record, MAX_RECORD).await?;
        serde_json::from_slice(&bytes).map_err(|source| CatalogueError::Record { reference, source })
    }

    /// Makes `artefact` what is known of its version; says what was in its place, and what is now.
    async fn note(&self, artefact: &Artefact) -> Result<(Option<ObjectId>, ObjectId), CatalogueError> {
        let reference = reference(&artefact.id, "record");
        let record = serde_json::to_vec(artefact)
            .map_err(|source| CatalogueError::Record { reference: reference.clone(), source })?;
        let stored = self.store.put_bytes(record.into()).await?;
        Ok((self.store.refer(&reference, stored.object).await?, stored.object))
    }
}

fn folder(kind: ArtefactKind, name: &Name) -> String {
    format!("artefact/{kind}/{name}")
}

/// A version so that references are in the order of versions.
fn number(version: u32) -> String {
    format!("{version:010}")
}

fn reference(id: &ArtefactId, part: &str) -> String {
    [&folder(id.kind, &id.name), &number(id.version)[..], part].join("/")
}

fn missing(kind: ArtefactKind, name: &Name, version: u32) -> CatalogueError {
    CatalogueError::NotFound { kind, name: name.clone(), version }
}

fn finite(metrics: &BTreeMap<Name, f64>) -> Result<(), CatalogueError> {
    match metrics.iter().find(|(_, value)| !value.is_finite()) {
        Some((metric, value)) => Err(CatalogueError::Metric { metric: metric.clone(), value: *value }),
        None => Ok(()),
    }
}

/// Why an artefact was not published or not found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// That version was not published, or is of other content.
    #[error("{kind} {name} v{version} is not in the catalogue")]
    NotFound {
        /// What it would be.
        kind: ArtefactKind,
        /// Its name.
        name: Name,
        /// Its version.
        version: u32,
    },
    /// No artefact is as it must be.
    #[error(transparent)]
    Unmet(#[from] Box<Unmet>),
    /// What was measured is no finite number.
    #[error("metric {metric} is {value}, which is no finite number")]
    Metric {
        /// The metric.
        metric: Name,
        /// Its value.
        value: f64,
    },
    /// A record cannot be read or written.
    #[error("the record {reference:?} is not one of an artefact")]
    Record {
        /// The reference in the object store.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// An artefact comes from more than are followed.
    #[error("{artefact} comes from over {most} artefacts")]
    Lineage {
        /// The artefact.
        artefact: ArtefactId,
        /// How many are followed.
        most: usize,
    },
    /// Others published the same, or measured it, all the time.
    #[error("others were first {tries} times to publish {kind} {name}: try again")]
    Contended {
        /// What it would be.
        kind: ArtefactKind,
        /// Its name.
        name: Name,
        /// How often it was tried.
        tries: usize,
    },
    /// The object store failed.
    #[error("the object store of the catalogue")]
    Objects(#[from] ObjectError),
    /// The catalogue is shut down.
    #[error("the catalogue is closed")]
    Closed,
}
