//! `wasi:keyvalue` in both drafts that are in the field, over the [`KeyValue`] store.

use std::sync::Arc;

use bytes::Bytes;
use scf_core::{Bucket, KeyValue, KeyValueError, Name, Op, OutputGate, Version};
use wasmtime::component::Resource;

use super::{
    World,
    bindings::wasi::{
        keyvalue0_2_0_draft::{self as draft, store as store1},
        keyvalue0_2_0_draft2::{self as draft2, atomics::CasError, store as store2},
    },
};

/// Keys that one page lists.
const PAGE: usize = 256;
/// How often a counter is tried to be raised because others raised it meanwhile.
const TRIES: u32 = 64;
/// What components that were made for wasmtime open: the empty identifier stands for this bucket.
const DEFAULT: &str = "default";

/// A bucket that a guest has open.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Opened {
    store: Arc<dyn KeyValue>,
    bucket: Arc<Bucket>,
    write: bool,
    /// Bytes that one answer may have.
    answer: u64,
    /// Of the call that uses it.
    output: Option<Arc<dyn OutputGate>>,
}

/// What a compare-and-swap rests on.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Cas {
    of: Opened,
    key: String,
    current: Option<(Version, Bytes)>,
}

/// What both drafts call an error.
enum Failure {
    NoSuchStore,
    AccessDenied,
    Other(String),
}

impl From<KeyValueError> for Failure {
    fn from(error: KeyValueError) -> Self {
        if let KeyValueError::Store { source } = &error {
            let source: &dyn std::error::Error = &**source;
            tracing::warn!(error = source, "the key-value store failed");
        }
        Self::Other(error.to_string())
    }
}

impl From<Failure> for store1::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSuchStore => Self::NoSuchStore,
            Failure::AccessDenied => Self::AccessDenied,
            Failure::Other(text) => Self::Other(text),
        }
    }
}

impl From<Failure> for store2::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSuchStore => Self::NoSuchStore,
            Failure::AccessDenied => Self::AccessDenied,
            Failure::Other(text) => Self::Other(text),
        }
    }
}

impl Opened {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.store.get(&self.bucket, key).await?.map(|entry| entry.value.into()))
    }

    async fn exists(&self, key: &str) -> Result<bool, Failure> {
        Ok(self.store.get(&self.bucket, key).await?.is_some())
    }

    async fn write(&self, changes: Vec<Op>) -> Result<(), Failure> {
        self.check_write().await?;
        Ok(self.store.write(&self.bucket, changes).await?)
    }

    /// Others see what is written: it waits for what the call may have read.
    async fn check_write(&self) -> Result<(), Failure> {
        if !self.write {
            return Err(Failure::AccessDenied);
        }
        match &self.output {
            Some(output) => output.open().await.map_err(|error| Failure::Other(error.to_string())),
            None => Ok(()),
        }
    }

    async fn set_many(&self, entries: Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
        self.write(
            entries.into_iter().map(|(key, value)| Op::Put { key, value: value.into(), expires: None }).collect(),
        )
        .await
    }

    async fn delete_many(&self, keys: Vec<String>) -> Result<(), Failure> {
        self.write(keys.into_iter().map(|key| Op::Delete { key }).collect()).await
    }

    async fn get_many(&self, keys: Vec<String>) -> Result<Vec<(String, Option<Vec<u8>>)>, Failure> {
        let limit = self.store.limits().changes;
        if keys.len() > limit {
            return Err(Failure::Other(format!("{} keys at once, where {limit} are allowed", keys.len())));
        }
        let mut left = self.answer;
        let mut found = Vec::new();
        for key in keys {
            let value = self.get(&key).await?;
            let size = value.as_ref().map_or(0, Vec::len) as u64;
            left = left
                .checked_sub(size)
                .ok_or_else(|| Failure::Other(format!("values of over {} bytes at once", self.answer)))?;
            found.push((key, value));
        }
        Ok(found)
    }

    /// A page of keys, and whether there are more.
    async fn page(&self, after: Option<&str>) -> Result<(Vec<String>, bool), Failure> {
        let mut keys = self.store.keys(&self.bucket, after, PAGE + 1).await?;
        let more = keys.len() > PAGE;
        keys.truncate(PAGE);
        Ok((keys, more))
    }

    /// As [`Opened::page`], by how many keys precede it.
    async fn from(&self, start: usize) -> Result<(Vec<String>, bool), Failure> {
        let until = start.saturating_add(PAGE);
        let mut keys = self.store.keys(&self.bucket, None, until.saturating_add(1)).await?;
        let more = keys.len() > until;
        keys.truncate(until);
        keys.drain(..start.min(keys.len()));
        Ok((keys, more))
    }

    /// Adds to a counter, kept as a decimal as in wasmtime and Redis.
    async fn increment<T>(&self, key: &str, add: impl Fn(T) -> Option<T>) -> Result<T, Failure>
    where
        T: Default + Copy + ToString + std::str::FromStr,
    {
        self.check_write().await?;
        for _ in 0..TRIES {
            let before = self.store.get(&self.bucket, key).await?;
            let value = match &before {
                None => T::default(),
                Some(entry) => str::from_utf8(&entry.value)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| Failure::Other("the value is no counter".into()))?,
            };
            let value = add(value).ok_or_else(|| Failure::Other("the counter would overflow".into()))?;
            let expect = before.map(|entry| entry.version);
            if self.store.swap(&self.bucket, key, expect, value.to_string().into()).await? {
                return Ok(value);
            }
        }
        Err(KeyValueError::Contended.into())
    }
}

impl Cas {
    async fn read(of: Opened, key: String) -> Result<Self, Failure> {
        let entry = of.store.get(&of.bucket, &key).await?;
        Ok(Self { of, key, current: entry.map(|entry| (entry.version, entry.value)) })
    }
}

impl World {
    fn open_bucket(&self, identifier: &str) -> Result<Opened, Failure> {
        let identifier = if identifier.is_empty() { DEFAULT } else { identifier };
        let Ok(name) = Name::new(identifier) else { return Err(Failure::NoSuchStore) };
        let grant = self.plan.grants.buckets.iter().find(|grant| grant.bucket == name);
        // Whether a bucket exists is nothing that a function without the grant learns.
        let (Some(grant), Some(store), Some(call)) = (grant, &self.plan.services.keyvalue, &self.call) else {
            return Err(Failure::AccessDenied);
        };
        let bucket = Arc::new(Bucket { tenant: call.tenant.clone(), name });
        Ok(Opened {
            store: Arc::clone(store),
            bucket,
            write: grant.write,
            answer: self.plan.payload.bytes(),
            output: None,
        })
    }

    fn opened(&self, bucket: &Resource<Opened>) -> wasmtime::Result<Opened> {
        let opened = self.table.get(bucket)?;
        if opened.bucket.tenant != self.call()?.tenant {
            return Err(wasmtime::format_err!("the bucket was opened on behalf of another tenant"));
        }
        Ok(Opened { output: self.call()?.output.clone(), ..opened.clone() })
    }
}

/// What a draft's function gives: an error of its own, or a trap for a handle that is none.
type Answer<T, E> = wasmtime::Result<Result<T, E>>;

impl store1::Host for World {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Opened>, store1::Error> {
        Ok(match self.open_bucket(&identifier) {
            Ok(opened) => Ok(self.table.push(opened)?),
            Err(failure) => Err(failure.into()),
        })
    }
}

impl store1::HostBucket for World {
    async fn get(&mut self, bucket: Resource<Opened>, key: String) -> Answer<Option<Vec<u8>>, store1::Error> {
        Ok(self.opened(&bucket)?.get(&key).await.map_err(Into::into))
    }

    async fn set(&mut self, bucket: Resource<Opened>, key: String, value: Vec<u8>) -> Answer<(), store1::Error> {
        Ok(self.opened(&bucket)?.set_many(vec![(key, value)]).await.map_err(Into::into))
    }

    async fn delete(&mut self, bucket: Resource<Opened>, key: String) -> Answer<(), store1::Error> {
        Ok(self.opened(&bucket)?.delete_many(vec![key]).await.map_err(Into::into))
    }

    async fn exists(&mut self, bucket: Resource<Opened>, key: String) -> Answer<bool, store1::Error> {
        Ok(self.opened(&bucket)?.exists(&key).await.map_err(Into::into))
    }

    /// The cursor counts keys, so that what is listed while others write may have gaps.
    async fn list_keys(
        &mut self,
        bucket: Resource<Opened>,
        cursor: Option<u64>,
    ) -> Answer<store1::KeyResponse, store1::Error> {
        let start = usize::try_from(cursor.unwrap_or(0)).unwrap_or(usize::MAX);
        Ok(match self.opened(&bucket)?.from(start).await {
            Ok((keys, more)) => {
                let cursor = more.then_some(start as u64 + keys.len() as u64);
                Ok(store1::KeyResponse { keys, cursor })
            }
            Err(failure) => Err(failure.into()),
        })
    }

    async fn drop(&mut self, bucket: Resource<Opened>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl draft::atomics::Host for World {
    async fn increment(&mut self, bucket: Resource<Opened>, key: String, delta: u64) -> Answer<u64, store1::Error> {
        let add = |value: u64| value.checked_add(delta);
        Ok(self.opened(&bucket)?.increment(&key, add).await.map_err(Into::into))
    }
}

impl draft::batch::Host for World {
    async fn get_many(
        &mut self,
        bucket: Resource<Opened>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>, store1::Error> {
        let found = self.opened(&bucket)?.get_many(keys).await;
        let found = found.map(|found| found.into_iter().map(|(key, value)| Some((key, value?))).collect());
        Ok(found.map_err(Into::into))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Opened>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Answer<(), store1::Error> {
        Ok(self.opened(&bucket)?.set_many(entries).await.map_err(Into::into))
    }

    async fn delete_many(&mut self, bucket: Resource<Opened>, keys: Vec<String>) -> Answer<(), store1::Error> {
        Ok(self.opened(&bucket)?.delete_many(keys).await.map_err(Into::into))
    }
}

impl store2::Host for World {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Opened>, store2::Error> {
        Ok(match self.open_bucket(&identifier) {
            Ok(opened) => Ok(self.table.push(opened)?),
            Err(failure) => Err(failure.into()),
        })
    }
}

impl store2::HostBucket for World {
    async fn get(&mut self, bucket: Resource<Opened>, key: String) -> Answer<Option<Vec<u8>>, store2::Error> {
        Ok(self.opened(&bucket)?.get(&key).await.map_err(Into::into))
    }

    async fn set(&mut self, bucket: Resource<Opened>, key: String, value: Vec<u8>) -> Answer<(), store2::Error> {
        Ok(self.opened(&bucket)?.set_many(vec![(key, value)]).await.map_err(Into::into))
    }

    async fn delete(&mut self, bucket: Resource<Opened>, key: String) -> Answer<(), store2::Error> {
        Ok(self.opened(&bucket)?.delete_many(vec![key]).await.map_err(Into::into))
    }

    async fn exists(&mut self, bucket: Resource<Opened>, key: String) -> Answer<bool, store2::Error> {
        Ok(self.opened(&bucket)?.exists(&key).await.map_err(Into::into))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Opened>,
        cursor: Option<String>,
    ) -> Answer<store2::KeyResponse, store2::Error> {
        Ok(match self.opened(&bucket)?.page(cursor.as_deref()).await {
            Ok((keys, more)) => {
                let cursor = if more { keys.last().cloned() } else { None };
                Ok(store2::KeyResponse { keys, cursor })
            }
            Err(failure) => Err(failure.into()),
        })
    }

    async fn drop(&mut self, bucket: Resource<Opened>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl draft2::atomics::Host for World {
    async fn increment(&mut self, bucket: Resource<Opened>, key: String, delta: i64) -> Answer<i64, store2::Error> {
        let add = |value: i64| value.checked_add(delta);
        Ok(self.opened(&bucket)?.increment(&key, add).await.map_err(Into::into))
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> Answer<(), CasError> {
        let Cas { of, key, current } = self.table.delete(cas)?;
        if of.bucket.tenant != self.call()?.tenant {
            return Err(wasmtime::format_err!("the bucket was opened on behalf of another tenant"));
        }
        let failed = |failure: Failure| Ok(Err(CasError::StoreError(failure.into())));
        if let Err(failure) = of.check_write().await {
            return failed(failure);
        }
        let expect = current.map(|(version, _)| version);
        match of.store.swap(&of.bucket, &key, expect, value.into()).await {
            Ok(true) => Ok(Ok(())),
            Ok(false) => match Cas::read(of, key).await {
                Ok(again) => Ok(Err(CasError::CasFailed(self.table.push(again)?))),
                Err(failure) => failed(failure),
            },
            Err(error) => failed(error.into()),
        }
    }
}

impl draft2::atomics::HostCas for World {
    async fn new(&mut self, bucket: Resource<Opened>, key: String) -> Answer<Resource<Cas>, store2::Error> {
        Ok(match Cas::read(self.opened(&bucket)?, key).await {
            Ok(cas) => Ok(self.table.push(cas)?),
            Err(failure) => Err(failure.into()),
        })
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>, store2::Error> {
        let cas = self.table.get(&cas)?;
        Ok(Ok(cas.current.as_ref().map(|(_, value)| value.to_vec())))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl draft2::batch::Host for World {
    async fn get_many(
        &mut self,
        bucket: Resource<Opened>,
        keys: Vec<String>,
    ) -> Answer<Vec<(String, Option<Vec<u8>>)>, store2::Error> {
        Ok(self.opened(&bucket)?.get_many(keys).await.map_err(Into::into))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Opened>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Answer<(), store2::Error> {
        Ok(self.opened(&bucket)?.set_many(entries).await.map_err(Into::into))
    }

    async fn delete_many(&mut self, bucket: Resource<Opened>, keys: Vec<String>) -> Answer<(), store2::Error> {
        Ok(self.opened(&bucket)?.delete_many(keys).await.map_err(Into::into))
    }
}
