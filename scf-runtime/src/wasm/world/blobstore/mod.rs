//! `wasi:blobstore` over the fabric's [`ObjectStore`].
//!
//! A container is what the references of a tenant begin with up to their first `/`: the object `cat.jpg` in the container
//! `photos` is what the reference `photos/cat.jpg` names. Of a container that was created and may be empty tells the
//! reference `photos/`, which names an object of no bytes. When something was created is not kept; it is said to be 0.

mod container;
mod value;

use scf_core::{GrantedObjects, ObjectError, ObjectId, ObjectStore as _, TenantName};

#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub use self::{
    container::{Container, Names},
    value::{Incoming, Outgoing},
};
use super::{World, bindings::wasi::blobstore::types};

/// References that are listed at once.
const PAGE: usize = 256;

/// What a function of the interface gives: an error of its own, or a trap for a handle that is none.
type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

/// What the interface tells of an error.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn told(error: ObjectError) -> types::Error {
    if let ObjectError::Unavailable { source, .. } = &error {
        let source: &dyn std::error::Error = &**source;
        tracing::warn!(error = source, "the object store failed");
    }
    error.to_string()
}

impl World {
    /// The objects of the call that runs, for what was opened on behalf of `tenant`.
    fn objects_of(&self, tenant: &TenantName) -> Answer<GrantedObjects> {
        let call = self.call()?;
        if call.tenant != *tenant {
            return Err(wasmtime::format_err!("it was opened on behalf of another tenant"));
        }
        let Some(store) = call.host.objects() else { return Ok(Err("this node has no object store".into())) };
        Ok(Ok(GrantedObjects::new(store, self.plan.grants.objects, tenant, call.output.clone())))
    }

    /// The objects of the call that runs.
    fn objects(&self) -> Answer<GrantedObjects> {
        self.objects_of(&self.call()?.tenant)
    }
}

/// The references of one container.
#[derive(Clone, Debug)]
struct Folder {
    /// With the slash at its end.
    prefix: String,
}

impl Folder {
    fn new(name: &str) -> Result<Self, types::Error> {
        if name.is_empty() || name.contains('/') {
            return Err(format!("{name:?} is no name of a container: it is empty or has a slash"));
        }
        Ok(Self { prefix: [name, "/"].concat() })
    }

    fn name(&self) -> &str {
        &self.prefix[..self.prefix.len() - 1]
    }

    /// The reference of an object in it.
    fn reference(&self, object: &str) -> Result<String, types::Error> {
        if object.is_empty() {
            return Err("an object has a name".into());
        }
        Ok([&self.prefix, object].concat())
    }

    async fn exists(&self, objects: &GrantedObjects) -> Result<bool, types::Error> {
        Ok(!objects.references(&self.prefix, None, 1).await.map_err(told)?.is_empty())
    }

    /// An error where it does not exist.
    async fn check(&self, objects: &GrantedObjects) -> Result<(), types::Error> {
        match self.exists(objects).await? {
            true => Ok(()),
            false => Err(format!("there is no container {:?}", self.name())),
        }
    }

    async fn create(&self, objects: &GrantedObjects) -> Result<(), types::Error> {
        let empty = objects.put_bytes(Default::default()).await.map_err(told)?;
        objects.refer(&self.prefix, empty.object).await.map(drop).map_err(told)
    }

    async fn resolve(&self, objects: &GrantedObjects, object: &str) -> Result<Option<ObjectId>, types::Error> {
        objects.resolve(&self.reference(object)?).await.map_err(told)
    }

    /// What an object of it is, or that there is none.
    async fn find(&self, objects: &GrantedObjects, object: &str) -> Result<ObjectId, types::Error> {
        let found = self.resolve(objects, object).await?;
        found.ok_or_else(|| format!("there is no object {object:?} in the container {:?}", self.name()))
    }

    async fn delete(&self, objects: &GrantedObjects, object: &str) -> Result<(), types::Error> {
        objects.unrefer(&self.reference(object)?).await.map(drop).map_err(told)
    }

    /// The names of at most `limit` objects from behind `after`, and whether these are all that are left.
    async fn list(
        &self,
        objects: &GrantedObjects,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, bool), types::Error> {
        let limit = limit.min(PAGE);
        // Behind the reference that says that it exists.
        let after = [&self.prefix, after.unwrap_or_default()].concat();
        let mut found = objects.references(&self.prefix, Some(&after), limit + 1).await.map_err(told)?;
        let is_end = found.len() <= limit;
        found.truncate(limit);
        let bare = |(name, _): (String, ObjectId)| Some(name.strip_prefix(&self.prefix)?.to_owned());
        Ok((found.into_iter().filter_map(bare).collect(), is_end))
    }

    async fn clear(&self, objects: &GrantedObjects) -> Result<(), types::Error> {
        loop {
            let (names, is_end) = self.list(objects, None, PAGE).await?;
            for name in names {
                self.delete(objects, &name).await?;
            }
            if is_end {
                return Ok(());
            }
        }
    }
}
