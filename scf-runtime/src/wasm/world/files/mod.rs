//! `wasi:filesystem`: folders, as far as they are granted and within their quotas.
//!
//! What paths lead to, wasmtime decides, and it keeps them inside of the folder. This adds what a folder may come to:
//! whatever makes it larger takes room first. Two folders are two devices: nothing is moved or linked from one to the
//! other.

mod count;
mod folder;
mod writer;

use std::{collections::HashMap, fs::File, io, sync::Arc};

use bytes::Bytes;
use scf_core::Grants;
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystemCtxView},
    p2::{
        DynInputStream, DynOutputStream, FsError, FsResult,
        bindings::filesystem::{
            preopens,
            types::{
                self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
                ErrorCode, Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp,
                OpenFlags, PathFlags,
            },
        },
    },
};

use self::{
    folder::{Amount, Folder, Taken},
    writer::{Place, Writer},
};
use super::World;
use crate::wasm::run::Run;

/// The folders that a function may write to, by where it sees them.
#[derive(Debug)]
pub(super) struct Folders(Vec<(String, Arc<Folder>)>);

impl Folders {
    pub(super) fn of(grants: &Grants) -> Self {
        let written = grants.files.iter().filter(|file| file.write);
        Self(written.map(|file| (file.guest.clone(), Folder::new(file.quota))).collect())
    }
}

/// The handles of one guest to folders that it may write to and to what is in them.
#[derive(Debug, Default)]
pub(super) struct Opened(HashMap<u32, Arc<Folder>>);

/// What host functions of `wasi:filesystem` work on.
pub(in crate::wasm) struct Files<'a> {
    view: WasiFilesystemCtxView<'a>,
    folders: &'a Folders,
    opened: &'a mut Opened,
    /// The call that the guest serves, which pays for what is counted.
    run: &'a Arc<Run>,
}

/// Gives `wasi:filesystem` its files.
pub(super) struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

impl World {
    /// What `wasi:filesystem`'s host functions work on, on behalf of `run`.
    pub(in crate::wasm) fn files<'a>(&'a mut self, run: &'a Arc<Run>) -> Files<'a> {
        let Self { plan, wasi, call, clock, output, table, opened, .. } = self;
        let ctx = wasi.get_or_insert_with(|| plan.wasi(call.as_deref(), clock, output)).filesystem();
        Files { view: WasiFilesystemCtxView { ctx, table }, folders: &plan.folders, opened, run }
    }
}

impl Files<'_> {
    /// The folder with a quota that a handle belongs to.
    fn folder(&self, fd: &Resource<Descriptor>) -> Option<Arc<Folder>> {
        self.opened.0.get(&fd.rep()).cloned()
    }

    /// The same and the file, where the handle is one of a file.
    fn file(&self, fd: &Resource<Descriptor>) -> FsResult<Option<(Arc<Folder>, Arc<File>)>> {
        Ok(match (self.folder(fd), self.view.table.get(fd)?) {
            (Some(folder), Descriptor::File(file)) => Some((folder, Arc::clone(&file.file))),
            _ => None,
        })
    }

    /// Room for an entry in the folder of a handle.
    fn entry(&self, fd: &Resource<Descriptor>) -> impl Future<Output = FsResult<Option<Taken>>> + Send + use<> {
        let (folder, run) = (self.folder(fd), Arc::clone(self.run));
        async move {
            match folder {
                Some(folder) => folder.take(Amount::ENTRY, &run).await.map(Some).map_err(refused),
                None => Ok(None),
            }
        }
    }

    /// The folder of both handles; an error where each has its own.
    fn one_folder(&self, from: &Resource<Descriptor>, to: &Resource<Descriptor>) -> FsResult<Option<Arc<Folder>>> {
        match (self.folder(from), self.folder(to)) {
            (Some(from), Some(to)) if !Arc::ptr_eq(&from, &to) => Err(ErrorCode::CrossDevice.into()),
            (from, to) => Ok(from.or(to)),
        }
    }

    fn stream(&mut self, file: (Arc<Folder>, Arc<File>), place: Place) -> FsResult<Resource<DynOutputStream>> {
        let writer: DynOutputStream = Box::new(Writer::new(file.0, file.1, Arc::clone(self.run), place));
        Ok(self.view.table.push(writer)?)
    }
}

fn refused(error: io::Error) -> FsError {
    match error.kind() {
        io::ErrorKind::StorageFull => ErrorCode::InsufficientSpace.into(),
        _ => error.into(),
    }
}

impl preopens::Host for Files<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let directories = preopens::Host::get_directories(&mut self.view)?;
        for (fd, name) in &directories {
            let folder = self.folders.0.iter().find(|(guest, _)| guest == name);
            if let (Some((_, folder)), Descriptor::Dir(root)) = (folder, self.view.table.get(fd)?) {
                folder.is_at(&root.dir);
                self.opened.0.insert(fd.rep(), Arc::clone(folder));
            }
        }
        Ok(directories)
    }
}

impl types::Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.view.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        let cause = self.view.table.get(&error)?.downcast_ref::<io::Error>();
        if cause.is_some_and(|cause| cause.kind() == io::ErrorKind::StorageFull) {
            return Ok(Some(ErrorCode::InsufficientSpace));
        }
        self.view.filesystem_error_code(error)
    }
}

/// Functions that make nothing larger.
macro_rules! as_they_are {
    ($($name:ident($($argument:ident: $ty:ty),*) -> $result:ty;)*) => {
        $(async fn $name(&mut self, fd: Resource<Descriptor>, $($argument: $ty),*) -> $result {
            self.view.$name(fd, $($argument),*).await
        })*
    };
}

impl HostDescriptor for Files<'_> {
    as_they_are! {
        advise(offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()>;
        sync_data() -> FsResult<()>;
        sync() -> FsResult<()>;
        get_flags() -> FsResult<DescriptorFlags>;
        get_type() -> FsResult<DescriptorType>;
        set_times(accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()>;
        set_times_at(flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()>;
        read(length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)>;
        read_directory() -> FsResult<Resource<DirectoryEntryStream>>;
        stat() -> FsResult<DescriptorStat>;
        stat_at(flags: PathFlags, path: String) -> FsResult<DescriptorStat>;
        readlink_at(path: String) -> FsResult<String>;
        remove_directory_at(path: String) -> FsResult<()>;
        unlink_file_at(path: String) -> FsResult<()>;
        is_same_object(other: Resource<Descriptor>) -> wasmtime::Result<bool>;
        metadata_hash() -> FsResult<MetadataHashValue>;
        metadata_hash_at(flags: PathFlags, path: String) -> FsResult<MetadataHashValue>;
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        match self.file(&fd)? {
            Some((folder, file)) => writer::resize(&folder, &file, self.run, size).await.map_err(refused),
            None => self.view.set_size(fd, size).await,
        }
    }

    async fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let Some((folder, file)) = self.file(&fd)? else { return self.view.write(fd, bytes, offset).await };
        let written = bytes.len() as Filesize;
        let writing = writer::write(&folder, &file, self.run, Place::At(offset), Bytes::from(bytes));
        writing.await.map(|()| written).map_err(refused)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        match self.file(&fd)? {
            Some(file) => self.stream(file, Place::At(offset)),
            None => self.view.write_via_stream(fd, offset),
        }
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        match self.file(&fd)? {
            Some(file) => self.stream(file, Place::End),
            None => self.view.append_via_stream(fd),
        }
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.view.read_via_stream(fd, offset)
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        mut how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let folder = self.folder(&fd);
        let mut is_full = None;
        let mut _room = None;
        if how.contains(OpenFlags::CREATE) {
            match self.entry(&fd).await {
                Ok(room) => _room = room,
                // It may be there already.
                Err(error) if !how.contains(OpenFlags::EXCLUSIVE) => {
                    how ^= OpenFlags::CREATE;
                    is_full = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let opened = match (self.view.open_at(fd, path_flags, path, how, flags).await, is_full) {
            (Err(error), Some(full)) if matches!(error.downcast_ref(), Some(ErrorCode::NoEntry)) => return Err(full),
            (opened, _) => opened?,
        };
        if let Some(folder) = folder {
            if let Descriptor::File(file) = self.view.table.get(&opened)? {
                folder.opened(&file.file);
            }
            self.opened.0.insert(opened.rep(), folder);
        }
        Ok(opened)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.opened.0.remove(&fd.rep());
        HostDescriptor::drop(&mut self.view, fd)
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let _room = self.entry(&fd).await?;
        self.view.create_directory_at(fd, path).await
    }

    async fn symlink_at(&mut self, fd: Resource<Descriptor>, target: String, path: String) -> FsResult<()> {
        let _room = self.entry(&fd).await?;
        self.view.symlink_at(fd, target, path).await
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        to: Resource<Descriptor>,
        to_path: String,
    ) -> FsResult<()> {
        self.one_folder(&fd, &to)?;
        let _room = self.entry(&to).await?;
        self.view.link_at(fd, flags, path, to, to_path).await
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
        to: Resource<Descriptor>,
        to_path: String,
    ) -> FsResult<()> {
        match self.one_folder(&fd, &to)? {
            Some(folder) => folder.unless_counted(self.view.rename_at(fd, path, to, to_path)).await,
            None => self.view.rename_at(fd, path, to, to_path).await,
        }
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.view.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.view, stream)
    }
}
