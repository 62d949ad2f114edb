//! An invocation queue beside the state, behind the same writer.

use std::{fmt, sync::Arc};

use ::redb::{Database, ReadOnlyTable, ReadableDatabase as _};
use async_trait::async_trait;
use scf_core::{
    Acceptance, Bucket, CallStatus, Clock, DeadLetter, Delivery, Durability, FunctionName, Handover, Hold,
    InvocationId, InvocationQueue, Lease, LeaseAsk, NodeId, OfferAsk, QueueError, QueueLoad, QueuedCall, Room, Scope,
    Settle, StateError,
};

use super::{
    RedbState,
    apply::{Done, Request},
    error::{EngineError, Failure},
    log::Logged,
    table::STATE,
};
use crate::queue::{Answer, Ask, BEHIND, Book, Found, QueueConfig, REGION, Records};

/// An [`InvocationQueue`] in the same store as the state of a [`RedbState`], behind the same writer: what is accepted
/// is on the disk, shares its sync with whatever else is committed, and can be accepted by a commit of state
/// ([`Op::Enqueue`](scf_core::Op)).
///
/// Gives [`Durability::Durable`]. That a call was leased is written without a sync: it outlives the process, which is
/// what it is for, and when the power goes its worker is gone as well. After a failed write or sync the store takes
/// nothing more, as [`RedbState`] says; what was accepted is delivered when it is opened anew.
pub struct RedbQueue {
    state: Arc<RedbState>,
    book: Arc<Book>,
}

impl fmt::Debug for RedbQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbQueue").field("load", &self.book.load()).finish_non_exhaustive()
    }
}

impl RedbQueue {
    /// Opens the queue of a store and reads what is pending. Calls that ran when the process before this one ended
    /// are tried again or given up. Once per opened store.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] when a record cannot be decoded, [`StateError::Unavailable`] when the store cannot be
    /// written or its queue is open already.
    pub async fn open(state: Arc<RedbState>, clock: Arc<dyn Clock>, config: QueueConfig) -> Result<Self, StateError> {
        let scope = region();
        let found = found(&state.shared.db()).map_err(|error| StateError::from(Failure(&scope, error)))?;
        let book = Arc::new(found.open(clock, config, Durability::Durable));
        if state.shared.queue.set(Arc::clone(&book)).is_err() {
            return Err(StateError::Unavailable { reason: "the queue of this store is open already".to_owned() });
        }
        let queue = Self { state, book };
        queue.ask(Ask::Recover, scope).await.map_err(|error| match error {
            QueueError::Unavailable { reason } => StateError::Unavailable { reason },
            other => StateError::Unavailable { reason: other.to_string() },
        })?;
        Ok(queue)
    }

    async fn ask(&self, ask: Ask, scope: Scope) -> Result<Answer, QueueError> {
        let id = ask.id();
        let request = Request::Queue { book: Arc::clone(&self.book), ask, scope };
        match self.state.writer.ask(request).await {
            Ok(Done::Queue(answer)) => answer,
            Ok(other) => Err(QueueError::Unavailable { reason: format!("the writer answered {other:?}") }),
            Err(StateError::Full { .. }) => Err(QueueError::Full { id, room: Room::Disk }),
            Err(StateError::Unknown { .. }) => Err(QueueError::Unknown { id }),
            Err(StateError::Corrupt { what, .. }) => Err(QueueError::Corrupt { id, what }),
            Err(StateError::Unavailable { reason }) => Err(QueueError::Unavailable { reason }),
            Err(other) => Err(QueueError::Unavailable { reason: other.to_string() }),
        }
    }

    fn read<T>(
        &self,
        id: InvocationId,
        read: impl FnOnce(&Read) -> Result<Result<T, QueueError>, EngineError>,
    ) -> Result<T, QueueError> {
        let records = || Ok::<_, EngineError>(Read(self.state.shared.db().begin_read()?.open_table(STATE)?));
        records().and_then(|records| read(&records)).unwrap_or_else(|error| {
            Err(match error {
                EngineError::Record(_) | EngineError::Malformed(_) => {
                    QueueError::Corrupt { id, what: error.to_string() }
                }
                other => QueueError::Unavailable { reason: other.to_string() },
            })
        })
    }
}

/// The scope that stands for what is about no call.
fn region() -> Scope {
    let function = FunctionName::new(Bucket::RESERVED).expect("the reserved name is a name");
    Scope { function, key: "queue".to_owned() }
}

/// Reads the queue anew after a group of commits was given up: what it was to keep is not kept.
pub(super) fn reload(book: &Book, db: &Database) -> Result<(), EngineError> {
    book.reload(found(db)?);
    Ok(())
}

fn found(db: &Database) -> Result<Found, EngineError> {
    let table = db.begin_read()?.open_table(STATE)?;
    let mut found = Found::default();
    for record in table.range(&REGION[..]..&BEHIND[..])? {
        let (key, value) = record?;
        found.take(key.value(), value.value())?;
    }
    Ok(found)
}

/// Records as they were committed last.
struct Read(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Records for Read {
    type Error = EngineError;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.0.get(key)?.map(|found| found.value().to_vec()))
    }

    fn put(&mut self, _: &[u8], _: &[u8]) -> Result<(), EngineError> {
        Err(EngineError::Malformed("a write to a read transaction"))
    }

    fn remove(&mut self, _: &[u8]) -> Result<(), EngineError> {
        Err(EngineError::Malformed("a write to a read transaction"))
    }
}

/// Records in the writer's transaction.
pub(super) struct Written<'r, 't> {
    pub(super) state: &'r mut Logged<'t>,
    /// Whether anything was written.
    pub(super) changed: bool,
}

impl Records for Written<'_, '_> {
    type Error = EngineError;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        use ::redb::ReadableTable as _;
        Ok(self.state.table.get(key)?.map(|found| found.value().to_vec()))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.changed = true;
        self.state.put(key, value, |_| ()).map(drop)
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.changed = true;
        self.state.remove(key, |_| ()).map(drop)
    }
}

#[async_trait]
impl InvocationQueue for RedbQueue {
    fn durability(&self) -> Durability {
        Durability::Durable
    }

    async fn accept(&self, call: QueuedCall) -> Result<Acceptance, QueueError> {
        // Before it costs a transaction; the writer looks again.
        if let Some(refused) = self.book.refuses([&call]) {
            return Err(refused);
        }
        let scope = call.scope();
        self.ask(Ask::Accept(Box::new(call)), scope).await.and_then(Answer::accepted)
    }

    async fn lease(&self, ask: LeaseAsk) -> Result<Vec<Delivery>, QueueError> {
        self.ask(Ask::Lease(ask), region()).await.and_then(Answer::leased)
    }

    async fn progress(&self, lease: Lease) -> Result<(), QueueError> {
        self.book.progress(lease)
    }

    async fn settle(&self, lease: Lease, settle: Settle) -> Result<(), QueueError> {
        self.ask(Ask::Settle(lease, settle), region()).await.map(drop)
    }

    async fn status(&self, id: InvocationId) -> Result<Option<CallStatus>, QueueError> {
        self.read(id, |records| self.book.status(records, id))
    }

    async fn dead_letters(&self, after: Option<InvocationId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let id = after.unwrap_or(InvocationId::new(0));
        self.read(id, |records| self.book.dead_letters(records, after, limit))
    }

    async fn redrive(&self, id: InvocationId) -> Result<(), QueueError> {
        self.ask(Ask::Redrive(id), region()).await.map(drop)
    }

    async fn discard(&self, id: InvocationId) -> Result<(), QueueError> {
        self.ask(Ask::Discard(id), region()).await.map(drop)
    }

    async fn cancel(&self, id: InvocationId) -> Result<(), QueueError> {
        self.ask(Ask::Cancel(id), region()).await.map(drop)
    }

    async fn cancel_timer(&self, scope: &Scope, name: &str) -> Result<(), QueueError> {
        self.ask(Ask::CancelTimer(scope.clone(), name.to_owned()), scope.clone()).await.map(drop)
    }

    async fn hold(&self, scope: &Scope, hold: Hold) -> Result<(), QueueError> {
        self.ask(Ask::Hold(scope.clone(), hold), scope.clone()).await.map(drop)
    }

    async fn release(&self, scope: &Scope) -> Result<Option<InvocationId>, QueueError> {
        self.ask(Ask::Release(scope.clone()), scope.clone()).await.and_then(Answer::released)
    }

    async fn offer(&self, ask: OfferAsk) -> Result<Vec<QueuedCall>, QueueError> {
        self.ask(Ask::Offer(ask), region()).await.and_then(Answer::offered)
    }

    async fn take(&self, from: &NodeId, calls: Vec<QueuedCall>) -> Result<Vec<Handover>, QueueError> {
        self.ask(Ask::Take(from.clone(), calls), region()).await.and_then(Answer::taken)
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
