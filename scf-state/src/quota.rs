//! How much tenants may keep.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use scf_core::{ByteSize, FunctionName, Op, Snapshot, StateError, TenantName};

/// How much state each tenant may keep in a store: keys, values and results of past invocations.
///
/// Checked in the commit that would go beyond; removing always works, and a tenant that is over a bound that was
/// lowered is held to it from its next write on. Functions without a tenant are not bounded.
#[derive(Clone)]
pub struct Quotas {
    tenant_of: Arc<TenantOf>,
    limits: HashMap<TenantName, ByteSize>,
    default: Option<ByteSize>,
}

type TenantOf = dyn Fn(&FunctionName) -> Option<TenantName> + Send + Sync;

impl Quotas {
    /// No bounds yet; `tenant_of` says whose a function is. It is asked in every commit and at every opening, must
    /// not block and must always answer the same.
    #[must_use]
    pub fn new(tenant_of: impl Fn(&FunctionName) -> Option<TenantName> + Send + Sync + 'static) -> Self {
        Self { tenant_of: Arc::new(tenant_of), limits: HashMap::new(), default: None }
    }

    /// What `tenant` may keep.
    #[must_use]
    pub fn limit(mut self, tenant: TenantName, limit: ByteSize) -> Self {
        self.limits.insert(tenant, limit);
        self
    }

    /// What every other tenant may keep; default: no bound.
    #[must_use]
    pub const fn others(mut self, limit: ByteSize) -> Self {
        self.default = Some(limit);
        self
    }

    fn of(&self, function: &FunctionName) -> Option<(TenantName, ByteSize)> {
        let tenant = (self.tenant_of)(function)?;
        let limit = self.limits.get(&tenant).copied().or(self.default)?;
        Some((tenant, limit))
    }
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quotas").field("limits", &self.limits).field("default", &self.default).finish_non_exhaustive()
    }
}

/// What tenants keep now.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    quotas: Option<Quotas>,
    used: Mutex<HashMap<TenantName, u64>>,
}

impl Ledger {
    pub(crate) fn new(quotas: Option<Quotas>) -> Self {
        Self { quotas, used: Mutex::default() }
    }

    fn used(&self) -> MutexGuard<'_, HashMap<TenantName, u64>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, function: &FunctionName) -> Option<(TenantName, ByteSize)> {
        self.quotas.as_ref()?.of(function)
    }

    /// Whether anybody is bounded.
    pub(crate) const fn is_kept(&self) -> bool {
        self.quotas.is_some()
    }

    /// Counts that a scope of `function` has grown, or shrunk, from `before` to `after` bytes.
    pub(crate) fn count(&self, function: &FunctionName, before: u64, after: u64) {
        if before != after
            && let Some((tenant, _)) = self.of(function)
        {
            let mut used = self.used();
            let used = used.entry(tenant).or_default();
            *used = moved(*used, before, after);
        }
    }

    /// The same if the tenant may keep that much.
    pub(crate) fn charge(&self, function: &FunctionName, before: u64, after: u64) -> Result<(), StateError> {
        let Some((tenant, limit)) = self.of(function) else { return Ok(()) };
        let mut used = self.used();
        let used = used.entry(tenant.clone()).or_default();
        *used = check(tenant, limit, *used, before, after)?;
        Ok(())
    }

    /// Whether the tenant may keep that much.
    pub(crate) fn admit(&self, function: &FunctionName, before: u64, after: u64) -> Result<(), StateError> {
        let Some((tenant, limit)) = self.of(function) else { return Ok(()) };
        let used = self.used().get(&tenant).copied().unwrap_or(0);
        check(tenant, limit, used, before, after).map(drop)
    }

    /// Begins counting anew.
    pub(crate) fn clear(&self) {
        self.used().clear();
    }
}

/// What an entry counts.
pub(crate) const fn entry_size(key: &str, value: usize) -> u64 {
    key.len() as u64 + value as u64
}

/// What a result counts, its invocation included.
pub(crate) const fn result_size(result: usize) -> u64 {
    16 + result as u64
}

const fn moved(used: u64, before: u64, after: u64) -> u64 {
    used.saturating_sub(before).saturating_add(after)
}

fn check(tenant: TenantName, limit: ByteSize, used: u64, before: u64, after: u64) -> Result<u64, StateError> {
    let asked = moved(used, before, after);
    if after > before && asked > limit.bytes() {
        return Err(StateError::Quota { tenant, asked: ByteSize::from_bytes(asked), limit });
    }
    Ok(asked)
}

/// What the entries that `ops` touch count before them, where `size` says it of one, and after them.
pub(crate) fn sizes<E>(ops: &[Op], mut size: impl FnMut(&str) -> Result<u64, E>) -> Result<(u64, u64), E> {
    let mut touched: HashMap<&str, u64> = HashMap::new();
    let mut before = 0;
    for op in ops {
        let Some(key) = op.key() else { continue };
        let after = op.value().map_or(0, |value| entry_size(key, value.len()));
        if touched.insert(key, after).is_none() {
            before += size(key)?;
        }
    }
    Ok((before, touched.values().sum()))
}

/// What a snapshot counts.
pub(crate) fn size_of(snapshot: &Snapshot) -> u64 {
    let entries = snapshot.entries.iter().map(|(key, entry)| entry_size(key, entry.value.len()));
    let results = snapshot.results.iter().map(|(_, result)| result_size(result.len()));
    entries.chain(results).sum()
}

#[cfg(test)]
mod tests {
    use scf_core::{Batch, InvocationId, NodeId, Scope, StateBackend, Timestamp, Version};

    use super::*;
    use crate::{MemoryDisk, MemoryState, RedbState};

    fn quotas() -> Quotas {
        let tenant = |function: &FunctionName| TenantName::new(function.as_str().split('-').next()?).ok();
        Quotas::new(tenant).limit(TenantName::new("small").unwrap(), ByteSize::from_bytes(1000))
    }

    fn scope(function: &str, key: &str) -> Scope {
        Scope { function: FunctionName::new(function).unwrap(), key: key.to_owned() }
    }

    fn put(backend: &dyn StateBackend, scope: &Scope, key: &str, size: usize) -> Batch {
        Batch::new(scope.clone()).durability(backend.caps().durability).put(key, vec![0; size])
    }

    fn refused(asked: u64) -> StateError {
        let (asked, limit) = (ByteSize::from_bytes(asked), ByteSize::from_bytes(1000));
        StateError::Quota { tenant: TenantName::new("small").unwrap(), asked, limit }
    }

    async fn holds(backend: &dyn StateBackend) {
        let (a, b) = (scope("small-a", "1"), scope("small-b", "2"));
        backend.commit(put(backend, &a, "k", 499)).await.unwrap();
        backend.commit(put(backend, &b, "k", 399)).await.unwrap();
        let over = backend.commit(put(backend, &b, "x", 100).put("k", "")).await;
        assert!(over.is_ok(), "what a batch frees it may use: {over:?}");
        assert_eq!(backend.commit(put(backend, &b, "k", 399)).await, Err(refused(1001)), "over all functions and keys");
        let result = put(backend, &b, "k", 0).invocation(InvocationId::new(1), vec![0; 400]);
        assert_eq!(backend.commit(result).await, Err(refused(500 + 101 + 1 + 416)), "results count");
        assert_eq!(
            backend.head(&b, Timestamp::default()).await.unwrap().version,
            Version::new(2),
            "nothing was changed"
        );
        backend.commit(put(backend, &b, "k", 398)).await.unwrap();
        for other in ["other", "smaller"] {
            backend.commit(put(backend, &scope(other, ""), "k", 5000)).await.unwrap();
        }
        let fence =
            backend.acquire(&b, &NodeId::new("n").unwrap(), <_>::default(), Timestamp::default()).await.unwrap();
        let mut snapshot = backend.export(&b).await.unwrap();
        snapshot.entries[0].1.value = vec![0; 399].into();
        assert_eq!(backend.import(&b, fence, snapshot.clone()).await, Err(refused(1001)), "copies count");
        snapshot.entries.remove(0);
        backend.import(&b, fence, snapshot).await.unwrap();
        backend.commit(put(backend, &a, "more", 391).durability(backend.caps().durability)).await.unwrap();
    }

    #[tokio::test]
    async fn a_tenant_keeps_no_more_than_it_may_and_others_are_not_touched() {
        holds(&MemoryState::new().quotas(quotas())).await;
        let disk: Arc<MemoryDisk> = Arc::default();
        let open = || RedbState::builder().quotas(quotas()).on(Arc::clone(&disk) as _).unwrap();
        let state = open();
        holds(&state).await;
        drop(state);
        let state = open();
        let over = state.commit(put(&state, &scope("small-c", ""), "kk", 4)).await;
        assert_eq!(over, Err(refused(1002)), "what is kept is counted at the opening");
        state.commit(put(&state, &scope("small-c", ""), "k", 3)).await.unwrap();
    }
}
