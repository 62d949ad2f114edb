//! Containers of objects.

use scf_core::{GrantedObjects, ObjectStore as _, TenantName};
use wasmtime::component::Resource;

use super::{
    super::{
        World,
        bindings::wasi::blobstore::{blobstore, container, types},
    },
    Answer, Folder, Incoming, Outgoing, told,
};

/// A container that a guest has open.
#[derive(Clone, Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Container {
    folder: Folder,
    tenant: TenantName,
}

/// Where a guest is in a list of a container's objects.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Names {
    of: Container,
    after: Option<String>,
}

/// Leaves a function of the interface with an error of its own.
macro_rules! ask {
    ($asked:expr) => {
        match $asked {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        }
    };
}

impl World {
    fn container(&self, folder: Folder) -> wasmtime::Result<Container> {
        Ok(Container { folder, tenant: self.call()?.tenant.clone() })
    }

    /// The next of a list, which moves on behind them.
    async fn next_names(&mut self, names: &Resource<Names>, limit: u64) -> Answer<(Vec<String>, bool)> {
        let Names { of, after } = self.table.get(names)?;
        let objects = ask!(self.objects_of(&of.tenant)?);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = ask!(of.folder.list(&objects, after.as_deref(), limit).await);
        if let Some(last) = found.0.last() {
            self.table.get_mut(names)?.after = Some(last.clone());
        }
        Ok(Ok(found))
    }
}

async fn copy(objects: &GrantedObjects, from: &types::ObjectId, to: &types::ObjectId) -> Result<(), types::Error> {
    let [source, target] = [Folder::new(&from.container)?, Folder::new(&to.container)?];
    let object = source.find(objects, &from.object).await?;
    target.check(objects).await?;
    objects.refer(&target.reference(&to.object)?, object).await.map(drop).map_err(told)
}

impl blobstore::Host for World {
    /// One that exists already is left as it is.
    async fn create_container(&mut self, name: String) -> Answer<Resource<Container>> {
        let folder = ask!(Folder::new(&name));
        ask!(folder.create(&ask!(self.objects()?)).await);
        let container = self.container(folder)?;
        Ok(Ok(self.table.push(container)?))
    }

    async fn get_container(&mut self, name: String) -> Answer<Resource<Container>> {
        let folder = ask!(Folder::new(&name));
        ask!(folder.check(&ask!(self.objects()?)).await);
        let container = self.container(folder)?;
        Ok(Ok(self.table.push(container)?))
    }

    async fn delete_container(&mut self, name: String) -> Answer<()> {
        let (folder, objects) = (ask!(Folder::new(&name)), ask!(self.objects()?));
        ask!(folder.clear(&objects).await);
        Ok(objects.unrefer(&folder.prefix).await.map(drop).map_err(told))
    }

    async fn container_exists(&mut self, name: String) -> Answer<bool> {
        let folder = ask!(Folder::new(&name));
        Ok(folder.exists(&ask!(self.objects()?)).await)
    }

    async fn copy_object(&mut self, from: types::ObjectId, to: types::ObjectId) -> Answer<()> {
        Ok(copy(&ask!(self.objects()?), &from, &to).await)
    }

    async fn move_object(&mut self, from: types::ObjectId, to: types::ObjectId) -> Answer<()> {
        let objects = ask!(self.objects()?);
        ask!(copy(&objects, &from, &to).await);
        if (&from.container, &from.object) == (&to.container, &to.object) {
            return Ok(Ok(()));
        }
        Ok(ask!(Folder::new(&from.container)).delete(&objects, &from.object).await)
    }
}

impl container::Host for World {}

impl container::HostContainer for World {
    async fn name(&mut self, container: Resource<Container>) -> Answer<String> {
        Ok(Ok(self.table.get(&container)?.folder.name().to_owned()))
    }

    async fn info(&mut self, container: Resource<Container>) -> Answer<types::ContainerMetadata> {
        let name = self.table.get(&container)?.folder.name().to_owned();
        Ok(Ok(types::ContainerMetadata { name, created_at: 0 }))
    }

    async fn get_data(
        &mut self,
        container: Resource<Container>,
        name: String,
        start: u64,
        end: u64,
    ) -> Answer<Resource<Incoming>> {
        let Container { folder, tenant } = self.table.get(&container)?.clone();
        let objects = ask!(self.objects_of(&tenant)?);
        let object = ask!(folder.find(&objects, &name).await);
        let incoming = ask!(Incoming::open(&objects, object, start, end).await);
        Ok(Ok(self.table.push(incoming)?))
    }

    /// The object is there once the value is finished.
    async fn write_data(
        &mut self,
        container: Resource<Container>,
        name: String,
        data: Resource<Outgoing>,
    ) -> Answer<()> {
        let Container { folder, tenant } = self.table.get(&container)?.clone();
        let objects = ask!(self.objects_of(&tenant)?);
        let reference = ask!(folder.reference(&name));
        ask!(folder.check(&objects).await);
        self.table.get_mut(&data)?.goes_to(reference);
        Ok(Ok(()))
    }

    async fn list_objects(&mut self, container: Resource<Container>) -> Answer<Resource<Names>> {
        let of = self.table.get(&container)?.clone();
        Ok(Ok(self.table.push(Names { of, after: None })?))
    }

    async fn delete_object(&mut self, container: Resource<Container>, name: String) -> Answer<()> {
        self.delete_objects(container, vec![name]).await
    }

    async fn delete_objects(&mut self, container: Resource<Container>, names: Vec<String>) -> Answer<()> {
        let Container { folder, tenant } = self.table.get(&container)?;
        let objects = ask!(self.objects_of(tenant)?);
        for name in names {
            ask!(folder.delete(&objects, &name).await);
        }
        Ok(Ok(()))
    }

    async fn has_object(&mut self, container: Resource<Container>, name: String) -> Answer<bool> {
        let Container { folder, tenant } = self.table.get(&container)?;
        let found = folder.resolve(&ask!(self.objects_of(tenant)?), &name).await;
        Ok(found.map(|found| found.is_some()))
    }

    async fn object_info(&mut self, container: Resource<Container>, name: String) -> Answer<types::ObjectMetadata> {
        let Container { folder, tenant } = self.table.get(&container)?;
        let objects = ask!(self.objects_of(tenant)?);
        let object = ask!(folder.find(&objects, &name).await);
        let stat = ask!(objects.stat(object).await.map_err(told));
        let Some(stat) = stat else { return Ok(Err(format!("object {object} is not there"))) };
        let (container, size) = (folder.name().to_owned(), stat.manifest.size.bytes());
        Ok(Ok(types::ObjectMetadata { name, container, created_at: 0, size }))
    }

    async fn clear(&mut self, container: Resource<Container>) -> Answer<()> {
        let Container { folder, tenant } = self.table.get(&container)?;
        Ok(folder.clear(&ask!(self.objects_of(tenant)?)).await)
    }

    async fn drop(&mut self, container: Resource<Container>) -> wasmtime::Result<()> {
        self.table.delete(container)?;
        Ok(())
    }
}

impl container::HostStreamObjectNames for World {
    /// At most 256 at once.
    async fn read_stream_object_names(&mut self, names: Resource<Names>, len: u64) -> Answer<(Vec<String>, bool)> {
        self.next_names(&names, len).await
    }

    async fn skip_stream_object_names(&mut self, names: Resource<Names>, num: u64) -> Answer<(u64, bool)> {
        let mut skipped = 0;
        loop {
            let (found, is_end) = ask!(self.next_names(&names, num - skipped).await?);
            skipped += found.len() as u64;
            if is_end || skipped == num {
                return Ok(Ok((skipped, is_end)));
            }
        }
    }

    async fn drop(&mut self, names: Resource<Names>) -> wasmtime::Result<()> {
        self.table.delete(names)?;
        Ok(())
    }
}
