//! A queue that is lost with the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use scf_core::{
    Acceptance, Batch, CallStatus, Clock, DeadLetter, Delivery, Durability, Handover, Hold, InvocationId,
    InvocationQueue, Lease, LeaseAsk, NodeId, OfferAsk, QueueError, QueueLoad, QueuedCall, Scope, Settle, StateError,
};

use super::{
    ask::{Answer, Ask},
    batch::calls_of,
    book::Book,
    config::QueueConfig,
    record::Records,
    restore::Found,
};

/// An [`InvocationQueue`] in memory: for tests, and for calls that may be lost with the process.
///
/// Gives [`Durability::Memory`].
#[derive(Debug)]
pub struct MemoryQueue {
    book: Book,
    records: Mutex<MemoryRecords>,
}

impl MemoryQueue {
    /// An empty queue that tells the time by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, config: QueueConfig) -> Self {
        let book = Found::default().open(clock, config, Durability::Memory);
        Self { book, records: Mutex::default() }
    }

    fn records(&self) -> MutexGuard<'_, MemoryRecords> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts what a commit asks for, or nothing of it.
    pub(crate) fn accept_all(&self, batch: &Batch) -> Result<(), StateError> {
        let mut records = self.records();
        for (book, ask) in calls_of(batch, Some(&self.book))? {
            let applied = book.apply(&mut *records, &ask);
            let source = applied.unwrap_or_else(|error| Err(corrupt(ask.id(), &error)));
            let refused = |source| StateError::Queue { scope: batch.scope.clone(), source: Box::new(source) };
            source.map_err(refused)?;
        }
        Ok(())
    }

    fn apply(&self, ask: &Ask) -> Result<Answer, QueueError> {
        let applied = self.book.apply(&mut *self.records(), ask);
        applied.unwrap_or_else(|error| Err(corrupt(ask.id(), &error)))
    }
}

fn corrupt(id: InvocationId, error: &postcard::Error) -> QueueError {
    QueueError::Corrupt { id, what: error.to_string() }
}

#[derive(Debug, Default)]
struct MemoryRecords(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records for MemoryRecords {
    type Error = postcard::Error;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, postcard::Error> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), postcard::Error> {
        self.0.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), postcard::Error> {
        self.0.remove(key);
        Ok(())
    }
}

#[async_trait]
impl InvocationQueue for MemoryQueue {
    fn durability(&self) -> Durability {
        self.book.durability()
    }

    async fn accept(&self, call: QueuedCall) -> Result<Acceptance, QueueError> {
        self.apply(&Ask::Accept(Box::new(call))).and_then(Answer::accepted)
    }

    async fn lease(&self, ask: LeaseAsk) -> Result<Vec<Delivery>, QueueError> {
        self.apply(&Ask::Lease(ask)).and_then(Answer::leased)
    }

    async fn progress(&self, lease: Lease) -> Result<(), QueueError> {
        self.book.progress(lease)
    }

    async fn settle(&self, lease: Lease, settle: Settle) -> Result<(), QueueError> {
        self.apply(&Ask::Settle(lease, settle)).map(drop)
    }

    async fn status(&self, id: InvocationId) -> Result<Option<CallStatus>, QueueError> {
        self.book.status(&*self.records(), id).unwrap_or_else(|error| Err(corrupt(id, &error)))
    }

    async fn dead_letters(&self, after: Option<InvocationId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let letters = self.book.dead_letters(&*self.records(), after, limit);
        letters.unwrap_or_else(|error| Err(corrupt(after.unwrap_or(InvocationId::new(0)), &error)))
    }

    async fn redrive(&self, id: InvocationId) -> Result<(), QueueError> {
        self.apply(&Ask::Redrive(id)).map(drop)
    }

    async fn discard(&self, id: InvocationId) -> Result<(), QueueError> {
        self.apply(&Ask::Discard(id)).map(drop)
    }

    async fn cancel(&self, id: InvocationId) -> Result<(), QueueError> {
        self.apply(&Ask::Cancel(id)).map(drop)
    }

    async fn cancel_timer(&self, scope: &Scope, name: &str) -> Result<(), QueueError> {
        self.apply(&Ask::CancelTimer(scope.clone(), name.to_owned())).map(drop)
    }

    async fn hold(&self, scope: &Scope, hold: Hold) -> Result<(), QueueError> {
        self.apply(&Ask::Hold(scope.clone(), hold)).map(drop)
    }

    async fn release(&self, scope: &Scope) -> Result<Option<InvocationId>, QueueError> {
        self.apply(&Ask::Release(scope.clone())).and_then(Answer::released)
    }

    async fn offer(&self, ask: OfferAsk) -> Result<Vec<QueuedCall>, QueueError> {
        self.apply(&Ask::Offer(ask)).and_then(Answer::offered)
    }

    async fn take(&self, from: &NodeId, calls: Vec<QueuedCall>) -> Result<Vec<Handover>, QueueError> {
        self.apply(&Ask::Take(from.clone(), calls)).and_then(Answer::taken)
    }

    fn load(&self) -> QueueLoad {
        self.book.load()
    }

    fn destinations(&self) -> Vec<NodeId> {
        self.book.destinations()
    }

    async fn changed(&self) {
        self.book.changed().await;
    }
}
