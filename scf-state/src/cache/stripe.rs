//! What keeps a late answer from being kept.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use scf_core::Scope;

/// Scopes share so many; those that share one disturb each other's reads and never falsify them.
const STRIPES: usize = 1024;

#[derive(Debug)]
pub(super) struct Stripes {
    stripes: Box<[Mutex<Stripe>]>,
    hash: RandomState,
}

#[derive(Debug, Default)]
struct Stripe {
    /// Counts what may have made an answer on its way obsolete.
    epoch: u64,
    /// Counts what made everything obsolete that was kept.
    generation: u64,
    /// Commits that are on their way.
    writers: u64,
    /// Whether one went and nobody learned what came of it.
    uncertain: bool,
}

/// The epoch in which a question was asked; none while something was on its way to change the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(Option<u64>);

/// A commit on its way.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    stripe: &'a Mutex<Stripe>,
    learned: bool,
    replaced: bool,
}

impl Writing<'_> {
    /// Its end, and whether its outcome is known.
    pub(super) fn end(mut self, learned: bool) {
        self.learned = learned;
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut stripe = locked(self.stripe);
        stripe.writers -= 1;
        stripe.epoch += 1;
        stripe.generation += u64::from(self.replaced);
        stripe.uncertain |= !self.learned;
    }
}

fn locked(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stripes {
    pub(super) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), hash: RandomState::new() }
    }

    fn stripe(&self, scope: &Scope) -> &Mutex<Stripe> {
        &self.stripes[self.hash.hash_one(scope) as usize % STRIPES]
    }

    pub(super) fn generation(&self, scope: &Scope) -> u64 {
        locked(self.stripe(scope)).generation
    }

    pub(super) fn is_uncertain(&self, scope: &Scope) -> bool {
        locked(self.stripe(scope)).uncertain
    }

    pub(super) fn ticket(&self, scope: &Scope) -> Ticket {
        let stripe = locked(self.stripe(scope));
        Ticket((stripe.writers == 0).then_some(stripe.epoch))
    }

    /// Keeps an answer, with the generation that it is of, unless it may be obsolete.
    pub(super) fn fill(&self, scope: &Scope, ticket: Ticket, keep: impl FnOnce(u64)) {
        let stripe = locked(self.stripe(scope));
        if stripe.writers == 0 && ticket.0 == Some(stripe.epoch) {
            keep(stripe.generation);
        }
    }

    /// Drops what was changed elsewhere, and every answer that is on its way.
    pub(super) fn disturb(&self, scope: &Scope, remove: impl FnOnce()) {
        let mut stripe = locked(self.stripe(scope));
        stripe.epoch += 1;
        remove();
    }

    pub(super) fn forget(&self, scope: &Scope) {
        let mut stripe = locked(self.stripe(scope));
        stripe.epoch += 1;
        stripe.generation += 1;
    }

    /// Begins a commit: what it touches is removed, and nothing is kept until it ends. Cancelled, it is one of
    /// which nobody learned what came.
    pub(super) fn write(&self, scope: &Scope, remove: impl FnOnce()) -> Writing<'_> {
        let stripe = self.stripe(scope);
        let mut held = locked(stripe);
        held.writers += 1;
        held.epoch += 1;
        remove();
        drop(held);
        Writing { stripe, learned: false, replaced: false }
    }

    /// Begins what replaces everything in a scope.
    pub(super) fn replace(&self, scope: &Scope) -> Writing<'_> {
        self.forget(scope);
        let mut writing = self.write(scope, || ());
        writing.replaced = true;
        writing
    }
}
