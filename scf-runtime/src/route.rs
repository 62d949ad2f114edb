//! One revision of a function, ready on its nodes.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use bytes::Bytes;
use scf_core::{Function, Repeat, Revision, Statefulness};

use crate::{
    claim::{self, Digest},
    controller::Ready,
    deployment::Deployment,
    hedge::Hedge,
    ledger::{Books, Pages},
    peer,
    spread::Shared,
    tenant::Account,
};

/// Where a call goes and who pays for it: a picture of when it was made.
#[derive(Debug)]
pub(crate) struct Found {
    /// The cores that it was made on.
    pub(crate) part: usize,
    deployment: Shared<Deployment>,
    /// Which of its revisions.
    at: usize,
    /// Where it is not the function's own tenant.
    payer: Option<Shared<Account>>,
}

impl Found {
    /// The revision `at` of `deployment`, paid for by `payer`, or else by the function's own tenant.
    pub(crate) const fn new(
        part: usize,
        deployment: Shared<Deployment>,
        at: usize,
        payer: Option<Shared<Account>>,
    ) -> Self {
        Self { part, deployment, at, payer }
    }

    pub(crate) fn route(&self) -> &Arc<Route> {
        &self.deployment.revisions()[self.at]
    }

    /// Where the call is booked.
    pub(crate) fn pages(&self) -> Pages<'_> {
        self.route().books.pages(self.part, self.account())
    }

    /// The account of who pays.
    pub(crate) fn account(&self) -> &Arc<Account> {
        match &self.payer {
            Some(account) => account,
            None => &self.route().account,
        }
    }
}

/// One revision of a function as the router knows it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) function: Arc<Function>,
    pub(crate) revision: Revision,
    pub(crate) books: Books,
    /// The account of the function's own tenant.
    pub(crate) account: Arc<Account>,
    /// By position of the node; none where its needs do not allow it.
    pub(crate) ready: Box<[Option<Arc<Ready>>]>,
    /// Per calling node where its calls go: position plus one in the low half, the network's epoch at
    /// which that was decided in the high half; 0 before the first decision.
    sticky: Box<[AtomicU64]>,
    /// Whether any traffic or alias points to it.
    serves: AtomicBool,
    /// The nodes of other processes, by position, on which it has claimed what it needs.
    abroad: RwLock<HashSet<usize>>,
    /// What they know it by.
    definition: OnceLock<(Digest, Bytes)>,
    /// Of a function whose calls may be hedged.
    hedge: Option<Box<Mutex<Hedge>>>,
}

impl Route {
    pub(crate) fn new(
        function: Arc<Function>,
        revision: Revision,
        books: Books,
        account: Arc<Account>,
        ready: Box<[Option<Arc<Ready>>]>,
    ) -> Self {
        let sticky = ready.iter().map(|_| AtomicU64::new(0)).collect();
        let (abroad, definition) = (RwLock::default(), OnceLock::new());
        let is_hedged = function.repeat == Repeat::Freely && function.state == Statefulness::Stateless;
        let hedge = is_hedged.then(|| Box::new(Mutex::new(Hedge::new())));
        let serves = AtomicBool::new(false);
        Self { function, revision, books, account, ready, sticky, serves, abroad, definition, hedge }
    }

    /// Whether it has claimed what it needs on a node of another process.
    pub(crate) fn is_abroad(&self, to: usize) -> bool {
        peer::CAN_JOIN && self.abroad.read().unwrap_or_else(PoisonError::into_inner).contains(&to)
    }

    pub(crate) fn note_abroad(&self, to: usize) {
        self.abroad.write().unwrap_or_else(PoisonError::into_inner).insert(to);
    }

    /// Forgets what it has claimed on one node, which does not know of it any more.
    pub(crate) fn forget_at(&self, to: usize) {
        self.abroad.write().unwrap_or_else(PoisonError::into_inner).remove(&to);
    }

    /// Forgets what it has claimed on nodes of other processes; gives on which.
    pub(crate) fn forget_abroad(&self) -> Vec<usize> {
        let mut abroad = self.abroad.write().unwrap_or_else(PoisonError::into_inner);
        abroad.drain().collect()
    }

    /// What nodes of other processes know it by; where they pull its code, without that.
    pub(crate) fn definition(&self, is_pulled: bool) -> &(Digest, Bytes) {
        self.definition.get_or_init(|| claim::definition(&self.function, is_pulled))
    }

    /// What is known of the latencies of a function whose calls may be hedged.
    pub(crate) fn hedge(&self) -> Option<MutexGuard<'_, Hedge>> {
        self.hedge.as_ref().map(|hedge| hedge.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn placed(&self, from: usize, epoch: u32) -> Option<usize> {
        let word = self.sticky[from].load(Relaxed);
        let fresh = word != 0 && (word >> 32) as u32 == epoch;
        fresh.then(|| (word as u32 - 1) as usize)
    }

    pub(crate) fn place(&self, from: usize, epoch: u32, to: usize) {
        self.sticky[from].store((u64::from(epoch) << 32) | (to as u64 + 1), Relaxed);
    }

    pub(crate) fn forget(&self, from: usize) {
        self.sticky[from].store(0, Relaxed);
    }

    /// Whether any traffic or alias points to it.
    pub(crate) fn serves(&self) -> bool {
        self.serves.load(SeqCst)
    }

    /// Notes whether any traffic or alias points to it; gives whether it did before.
    pub(crate) fn set_serves(&self, serves: bool) -> bool {
        self.serves.swap(serves, SeqCst)
    }

    /// Whether it is this revision of its function.
    pub(crate) fn is(&self, revision: Revision) -> bool {
        self.revision == revision
    }
}
