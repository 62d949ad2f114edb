//! What objects have in them, on its way to and from guests.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use scf_core::{GrantedObjects, ObjectError, ObjectId, ObjectReader, ObjectStore as _, ObjectWriter, TenantName};
use wasmtime::component::Resource;
use wasmtime_wasi::{
    p2::{DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult},
    runtime::{AbortOnDropJoinHandle, spawn},
};

use super::{
    super::{World, bindings::wasi::blobstore::types},
    Answer, told,
};

/// Bytes that a guest may write to a stream at once.
const WRITE: usize = 64 << 10;

/// A part of an object that a guest may read.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Incoming {
    reader: Box<dyn ObjectReader>,
    size: u64,
}

impl Incoming {
    /// The bytes of `object` from `start` to `end`, both of them included, or to its end where that comes first.
    pub(super) async fn open(
        objects: &GrantedObjects,
        object: ObjectId,
        start: u64,
        end: u64,
    ) -> Result<Self, types::Error> {
        if end < start {
            return Err(format!("a range from byte {start} to byte {end} is none"));
        }
        let end = end.saturating_add(1);
        let stat = objects.stat(object).await.map_err(told)?;
        let stat = stat.ok_or_else(|| told(ObjectError::NotFound { object }))?;
        let size = stat.manifest.size.bytes().min(end).saturating_sub(start);
        Ok(Self { reader: objects.get(object, start..end).await.map_err(told)?, size })
    }

    async fn read(mut self) -> Result<Vec<u8>, ObjectError> {
        let mut content = Vec::with_capacity(usize::try_from(self.size).unwrap_or_default());
        while let Some(part) = self.reader.next().await? {
            content.extend_from_slice(&part);
        }
        Ok(content)
    }
}

/// An object that a guest writes. Its content is stored as it comes; it is an object, and has its name, once it is
/// finished.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Outgoing {
    tenant: TenantName,
    /// The reference that is to name it.
    target: Option<String>,
    sink: Arc<Sink>,
    has_stream: bool,
}

impl Outgoing {
    /// Names the reference that is to name it.
    pub(super) fn goes_to(&mut self, reference: String) {
        self.target = Some(reference);
    }
}

/// Where what was written is.
#[derive(Debug, Default)]
struct Sink(Mutex<Content>);

#[derive(Debug, Default)]
enum Content {
    /// Nothing yet.
    #[default]
    Empty,
    Begun(Box<dyn ObjectWriter>),
    /// It is being written to, or that was given up.
    Away,
    Failed(types::Error),
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Content {
        mem::replace(&mut *self.lock(), Content::Away)
    }

    /// What may be added to; begins an object of `objects` where there is none yet.
    async fn writer(&self, objects: &GrantedObjects) -> Result<Box<dyn ObjectWriter>, types::Error> {
        let content = self.take();
        match content {
            Content::Begun(writer) => Ok(writer),
            Content::Empty => objects.put().await.map_err(told),
            Content::Away => Err(told(ObjectError::Abandoned)),
            Content::Failed(error) => Err(error),
        }
    }

    async fn write(&self, objects: &GrantedObjects, bytes: Bytes) -> Result<(), types::Error> {
        let written = async {
            let mut writer = self.writer(objects).await?;
            writer.write(bytes).await.map_err(told)?;
            Ok(writer)
        };
        let written = written.await;
        let result = written.as_ref().map(drop).map_err(Clone::clone);
        *self.lock() = match written {
            Ok(writer) => Content::Begun(writer),
            Err(error) => Content::Failed(error),
        };
        result
    }
}

/// A stream out of an object.
struct Source {
    reader: Option<Box<dyn ObjectReader>>,
    /// Read from the store and not by the guest.
    rest: Bytes,
    failed: Option<ObjectError>,
}

impl InputStream for Source {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if let Some(error) = self.failed.take() {
            return Err(StreamError::LastOperationFailed(wasmtime::Error::msg(told(error))));
        }
        if self.rest.is_empty() && self.reader.is_none() {
            return Err(StreamError::Closed);
        }
        Ok(self.rest.split_to(size.min(self.rest.len())))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Source {
    async fn ready(&mut self) {
        let (true, Some(reader)) = (self.rest.is_empty(), &mut self.reader) else { return };
        match reader.next().await {
            Ok(Some(part)) => self.rest = part,
            Ok(None) => self.reader = None,
            Err(error) => (self.reader, self.failed) = (None, Some(error)),
        }
    }
}

/// A stream into an object.
struct Drain {
    objects: GrantedObjects,
    sink: Arc<Sink>,
    state: State,
}

enum State {
    Ready,
    Writing(AbortOnDropJoinHandle<Result<(), types::Error>>),
    Failed(types::Error),
    Closed,
}

impl Drain {
    /// Why nothing can be written any more, said once.
    fn failure(&mut self) -> StreamResult<()> {
        match &mut self.state {
            State::Ready | State::Writing(_) => Ok(()),
            State::Closed => Err(StreamError::Closed),
            State::Failed(error) => {
                let error = wasmtime::Error::msg(mem::take(error));
                self.state = State::Closed;
                Err(StreamError::LastOperationFailed(error))
            }
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Drain {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.failure()?;
        if !matches!(self.state, State::Ready) || bytes.len() > WRITE {
            return Err(StreamError::trap("the guest wrote more than it was permitted to"));
        }
        let (objects, sink) = (self.objects.clone(), Arc::clone(&self.sink));
        self.state = State::Writing(spawn(async move { sink.write(&objects, bytes).await }));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.failure()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.failure()?;
        Ok(if matches!(self.state, State::Ready) { WRITE } else { 0 })
    }

    /// Waits for what is being written: it is part of the object.
    async fn cancel(&mut self) {
        if let State::Writing(writing) = mem::replace(&mut self.state, State::Closed) {
            // What failed is known to the sink, which tells whoever finishes the object.
            let _told_later = writing.await;
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Drain {
    async fn ready(&mut self) {
        if let State::Writing(writing) = &mut self.state {
            self.state = match writing.await {
                Ok(()) => State::Ready,
                Err(error) => State::Failed(error),
            };
        }
    }
}

impl types::Host for World {}

impl types::HostOutgoingValue for World {
    async fn new_outgoing_value(&mut self) -> wasmtime::Result<Resource<Outgoing>> {
        let tenant = self.call()?.tenant.clone();
        let value = Outgoing { tenant, target: None, sink: Arc::default(), has_stream: false };
        Ok(self.table.push(value)?)
    }

    async fn outgoing_value_write_body(
        &mut self,
        value: Resource<Outgoing>,
    ) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
        let Outgoing { tenant, sink, has_stream, .. } = self.table.get(&value)?;
        let (false, Ok(objects)) = (*has_stream, self.objects_of(tenant)?) else { return Ok(Err(())) };
        let drain: DynOutputStream = Box::new(Drain { objects, sink: Arc::clone(sink), state: State::Ready });
        self.table.get_mut(&value)?.has_stream = true;
        Ok(Ok(self.table.push_child(drain, &value)?))
    }

    async fn finish(&mut self, value: Resource<Outgoing>) -> Answer<()> {
        let Outgoing { tenant, target, sink, .. } = self.table.delete(value)?;
        let objects = match self.objects_of(&tenant)? {
            Ok(objects) => objects,
            Err(error) => return Ok(Err(error)),
        };
        let Some(target) = target else {
            return Ok(Err("nothing says where it goes: give it to write-data before it is finished".into()));
        };
        let finished = async {
            let stored = sink.writer(&objects).await?.finish().await.map_err(told)?;
            objects.refer(&target, stored.object).await.map(drop).map_err(told)
        };
        Ok(finished.await)
    }

    async fn drop(&mut self, value: Resource<Outgoing>) -> wasmtime::Result<()> {
        self.table.delete(value)?;
        Ok(())
    }
}

impl types::HostIncomingValue for World {
    /// As much as a call may pass on; more is read as a stream.
    async fn incoming_value_consume_sync(&mut self, value: Resource<Incoming>) -> Answer<Vec<u8>> {
        let value = self.table.delete(value)?;
        let limit = self.plan.payload;
        if value.size > limit.bytes() {
            return Ok(Err(format!("{} bytes at once, where {limit} are allowed: read it as a stream", value.size)));
        }
        Ok(value.read().await.map_err(told))
    }

    async fn incoming_value_consume_async(&mut self, value: Resource<Incoming>) -> Answer<Resource<DynInputStream>> {
        let Incoming { reader, .. } = self.table.delete(value)?;
        let source: DynInputStream = Box::new(Source { reader: Some(reader), rest: Bytes::new(), failed: None });
        Ok(Ok(self.table.push(source)?))
    }

    async fn size(&mut self, value: Resource<Incoming>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&value)?.size)
    }

    async fn drop(&mut self, value: Resource<Incoming>) -> wasmtime::Result<()> {
        self.table.delete(value)?;
        Ok(())
    }
}
