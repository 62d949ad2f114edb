//! What stores state.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Batch, Commit, Delta, Durability, Entry, Fence, Head, Op, Page, Scope, Snapshot, StateError, Version, Watch,
};
use crate::{ByteSize, InvocationId, NodeId, Timestamp};

/// What a backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Caps {
    /// The best durability it gives.
    pub durability: Durability,
    /// How many results of past invocations it keeps per scope before it forgets the oldest.
    pub results_per_scope: usize,
    /// The largest value; a larger one is refused.
    pub max_value: ByteSize,
    /// Keys and values of one batch together; more are refused.
    pub max_batch: ByteSize,
    /// Whether values may expire.
    pub expiry: bool,
    /// Whether changes can be watched.
    pub watch: bool,
    /// Whether a read sees every commit that was acknowledged before it began, whoever made it.
    pub linearizable_reads: bool,
}

impl Caps {
    /// A backend that gives `durability`, with 1024 results per scope, values of 1 MiB in batches of 16 MiB,
    /// linearizable reads, and neither expiry nor watching.
    #[must_use]
    pub const fn new(durability: Durability) -> Self {
        Self {
            durability,
            results_per_scope: 1024,
            max_value: ByteSize::from_mib(1),
            max_batch: ByteSize::from_mib(16),
            expiry: false,
            watch: false,
            linearizable_reads: true,
        }
    }

    /// Results that are kept per scope; default 1024.
    #[must_use]
    pub const fn results_per_scope(mut self, results: usize) -> Self {
        self.results_per_scope = results;
        self
    }

    /// The largest value; default 1 MiB.
    #[must_use]
    pub const fn max_value(mut self, size: ByteSize) -> Self {
        self.max_value = size;
        self
    }

    /// Keys and values of one batch together; default 16 MiB.
    #[must_use]
    pub const fn max_batch(mut self, size: ByteSize) -> Self {
        self.max_batch = size;
        self
    }

    /// Values may expire; default: they may not.
    #[must_use]
    pub const fn with_expiry(mut self) -> Self {
        self.expiry = true;
        self
    }

    /// Changes can be watched; default: they cannot.
    #[must_use]
    pub const fn with_watch(mut self) -> Self {
        self.watch = true;
        self
    }

    /// A read may miss commits that were acknowledged; default: it misses none.
    #[must_use]
    pub const fn without_linearizable_reads(mut self) -> Self {
        self.linearizable_reads = false;
        self
    }

    /// Checks the durability, the expiries and the sizes that `batch` asks for.
    ///
    /// # Errors
    /// [`StateError::Durability`], [`StateError::Unsupported`], [`StateError::TooLarge`].
    pub fn check(&self, batch: &Batch) -> Result<(), StateError> {
        let (asked, given) = (batch.durability, self.durability);
        if asked > given {
            return Err(StateError::Durability { asked, given });
        }
        let mut total = 0;
        for op in &batch.ops {
            if let Op::Put { expires: Some(_), .. } = op
                && !self.expiry
            {
                return Err(StateError::Unsupported { what: "let values expire".to_owned() });
            }
            total += self.check_value(&batch.scope, op.value().map_or(0, Bytes::len))?;
            total += op.key().map_or(0, str::len) as u64;
        }
        if let Some((_, result)) = &batch.invocation {
            total += self.check_value(&batch.scope, result.len())?;
        }
        check_size(&batch.scope, "a batch", total, self.max_batch)
    }

    /// Checks the size of a value and answers it.
    fn check_value(&self, scope: &Scope, size: usize) -> Result<u64, StateError> {
        check_size(scope, "a value", size as u64, self.max_value).map(|()| size as u64)
    }
}

fn check_size(scope: &Scope, what: &str, size: u64, limit: ByteSize) -> Result<(), StateError> {
    if size <= limit.bytes() {
        return Ok(());
    }
    let size = ByteSize::from_bytes(size);
    Err(StateError::TooLarge { scope: scope.clone(), what: what.to_owned(), size, limit })
}

/// Stores the state of stateful functions.
///
/// Used as `Arc<dyn StateBackend>` by the phases of a function and by nodes that serve state to others.
/// Implementations are linearizable per scope and pass `conformance::state` (feature `conformance`).
///
/// # Contract
/// - `commit` applies everything or nothing, including the invocation's result.
/// - Of a scope that is owned, only commits with the owner's [`Fence`] apply.
/// - What a call returned is visible to every later call, whoever makes it.
/// - A value that has expired, by [`Clock::wall`](crate::Clock::wall) of the backend's clock, is absent for reads
///   and guards. That is no commit and no change, and clocks may be set: see [`WallTime`](crate::WallTime).
/// - Cancelling a future leaves the call done or not done, never half done.
#[async_trait]
pub trait StateBackend: Debug + Send + Sync + 'static {
    /// What it can do. Never changes.
    fn caps(&self) -> Caps;

    /// Reads without waiting, where the value is at hand; `None` means: use [`StateBackend::get`].
    fn try_get(&self, scope: &Scope, key: &str) -> Option<Result<Option<Entry>, StateError>> {
        let _ = (scope, key);
        None
    }

    /// Reads one value; `Ok(None)` when it is not there.
    ///
    /// # Errors
    /// [`StateError::Unavailable`], [`StateError::Corrupt`].
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError>;

    /// Where the scope stands at `now` of the caller's clock, the one that [`StateBackend::acquire`] is told.
    ///
    /// # Errors
    /// As [`StateBackend::get`].
    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError>;

    /// The result that was committed with `invocation`, if it is still kept.
    ///
    /// # Errors
    /// As [`StateBackend::get`].
    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError>;

    /// Applies `batch` or answers why not.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when the version is another, [`StateError::Guard`] when an entry is,
    /// [`StateError::Fenced`] when the scope is owned by somebody else, what [`Caps::check`] answers when more is
    /// asked than the backend can do, [`StateError::Quota`], [`StateError::Full`],
    /// [`StateError::Unknown`] when it may or may not have been applied: ask again with the same invocation.
    async fn commit(&self, batch: Batch) -> Result<Commit, StateError>;

    /// Makes `owner` the owner of `scope` for `lease`, measured on the caller's clock that says `now`.
    /// The owner itself may acquire again; it gets a new fence.
    ///
    /// # Errors
    /// [`StateError::Held`] while somebody else's lease lasts.
    async fn acquire(
        &self,
        scope: &Scope,
        owner: &NodeId,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Fence, StateError>;

    /// Extends the owner's lease to `now + lease`.
    ///
    /// # Errors
    /// [`StateError::Fenced`] when `fence` is no longer the scope's.
    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, now: Timestamp) -> Result<(), StateError>;

    /// Gives the scope up. Does nothing when `fence` is no longer the scope's.
    ///
    /// # Errors
    /// [`StateError::Unavailable`].
    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError>;

    /// At most `limit` entries whose keys begin with `prefix`, ascending, from behind `after`. A page may have
    /// fewer: [`Page::after`] says whether there is more.
    ///
    /// # Errors
    /// As [`StateBackend::get`].
    async fn scan(&self, scope: &Scope, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StateError> {
        let Snapshot { version, mut entries, .. } = self.export(scope).await?;
        entries.retain(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        let more = entries.len() > limit;
        entries.truncate(limit);
        let after = entries.last().filter(|_| more).map(|(key, _)| key.clone());
        Ok(Page { version, entries, after })
    }

    /// Word of the changes under `prefix` after version `from`.
    ///
    /// # Errors
    /// [`StateError::Unsupported`] where [`Caps::watch`] is not, [`StateError::Unavailable`].
    async fn watch(&self, scope: &Scope, prefix: &str, from: Version) -> Result<Box<dyn Watch>, StateError> {
        let _ = (scope, prefix, from);
        Err(StateError::Unsupported { what: "watch".to_owned() })
    }

    /// Everything in the scope at one version. Values that have expired are left out.
    ///
    /// # Errors
    /// As [`StateBackend::get`].
    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError>;

    /// Replaces everything in the scope by `snapshot`, as its owner.
    ///
    /// # Errors
    /// As [`StateBackend::commit`].
    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError>;

    /// What happened since version `since`, for a copy that was exported then; `None` when the backend cannot
    /// say and the copy is to be exported again. With it a scope moves in two stages: a copy while calls go on,
    /// and what they changed meanwhile while none does.
    ///
    /// # Errors
    /// As [`StateBackend::get`].
    async fn export_since(&self, scope: &Scope, since: Version) -> Result<Option<Delta>, StateError> {
        let _ = (scope, since);
        Ok(None)
    }

    /// Brings the copy in the scope from [`Delta::since`] to [`Delta::version`], as its owner.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when the scope is at another version than [`Delta::since`], otherwise as
    /// [`StateBackend::import`].
    async fn import_since(&self, scope: &Scope, fence: Fence, delta: Delta) -> Result<(), StateError> {
        let mut copy = self.export(scope).await?;
        if copy.version != delta.since {
            let (expected, actual) = (delta.since, copy.version);
            return Err(StateError::Conflict { scope: scope.clone(), expected, actual });
        }
        delta.apply(&mut copy);
        self.import(scope, fence, copy).await
    }
}

const _: fn(&dyn StateBackend) = |_| {};
