//! An object store as much of it as somebody is granted.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Collected, ObjectError, ObjectId, ObjectReader, ObjectStat, ObjectStore, ObjectUsage, ObjectWriter};
use crate::{ObjectGrant, OutputGate, StateError, TenantName, Timestamp};

/// An [`ObjectStore`] that does what an [`ObjectGrant`] allows on behalf of one call, and keeps the references of each
/// tenant apart: those of a tenant are in the store behind it under `tenant/TENANT/`. Content is not kept apart: whoever
/// may read and knows an object's name reads it.
///
/// Objects are put whatever becomes of the call; without a reference they go with a collection. References change once
/// what the call rests on is committed.
#[derive(Clone, Debug)]
pub struct GrantedObjects {
    store: Arc<dyn ObjectStore>,
    grant: ObjectGrant,
    prefix: String,
    output: Option<Arc<dyn OutputGate>>,
}

impl GrantedObjects {
    /// What `grant` allows of `store` on behalf of `tenant`. References wait for `output`, where there is one.
    #[must_use]
    pub fn new(
        store: Arc<dyn ObjectStore>,
        grant: ObjectGrant,
        tenant: &TenantName,
        output: Option<Arc<dyn OutputGate>>,
    ) -> Self {
        Self { store, grant, prefix: format!("tenant/{tenant}/"), output }
    }

    fn reads(&self) -> Result<&dyn ObjectStore, ObjectError> {
        match self.grant {
            ObjectGrant::None => Err(ObjectError::Denied { what: "read" }),
            ObjectGrant::Read | ObjectGrant::Write => Ok(&*self.store),
        }
    }

    fn writes(&self) -> Result<&dyn ObjectStore, ObjectError> {
        match self.grant {
            ObjectGrant::None | ObjectGrant::Read => Err(ObjectError::Denied { what: "write" }),
            ObjectGrant::Write => Ok(&*self.store),
        }
    }

    fn name(&self, name: &str) -> Result<String, ObjectError> {
        if name.is_empty() {
            return Err(ObjectError::Name { name: String::new() });
        }
        Ok([&self.prefix, name].concat())
    }

    async fn open(&self) -> Result<(), ObjectError> {
        let Some(output) = &self.output else { return Ok(()) };
        let failed = |source: StateError| {
            let what = "change a reference: what the call rests on was not committed".to_owned();
            ObjectError::Unavailable { what, source: source.into() }
        };
        output.open().await.map_err(failed)
    }
}

#[async_trait]
impl ObjectStore for GrantedObjects {
    async fn put(&self) -> Result<Box<dyn ObjectWriter>, ObjectError> {
        self.writes()?.put().await
    }

    async fn get(&self, object: ObjectId, range: Range<u64>) -> Result<Box<dyn ObjectReader>, ObjectError> {
        self.reads()?.get(object, range).await
    }

    async fn stat(&self, object: ObjectId) -> Result<Option<ObjectStat>, ObjectError> {
        self.reads()?.stat(object).await
    }

    async fn refer(&self, name: &str, object: ObjectId) -> Result<Option<ObjectId>, ObjectError> {
        let (store, name) = (self.writes()?, self.name(name)?);
        self.open().await?;
        store.refer(&name, object).await
    }

    async fn resolve(&self, name: &str) -> Result<Option<ObjectId>, ObjectError> {
        self.reads()?.resolve(&self.name(name)?).await
    }

    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, ObjectId)>, ObjectError> {
        let full = |name: &str| [&self.prefix, name].concat();
        let found = self.reads()?.references(&full(prefix), after.map(full).as_deref(), limit).await?;
        let bare = |(name, object): (String, ObjectId)| Some((name.strip_prefix(&self.prefix)?.to_owned(), object));
        Ok(found.into_iter().filter_map(bare).collect())
    }

    async fn unrefer(&self, name: &str) -> Result<Option<ObjectId>, ObjectError> {
        let (store, name) = (self.writes()?, self.name(name)?);
        self.open().await?;
        store.unrefer(&name).await
    }

    /// Denied: objects are collected by whoever has the store.
    async fn collect(&self, _: Timestamp, _: Duration) -> Result<Collected, ObjectError> {
        Err(ObjectError::Denied { what: "collect" })
    }

    fn usage(&self) -> ObjectUsage {
        self.store.usage()
    }
}
