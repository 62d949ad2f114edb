//! Sends calls that are late to a second node.

use std::{pin::pin, sync::Arc, time::Duration};

use scf_core::{Invocation, InvokeError, Outcome, Timestamp};

use crate::{controller::within, fabric::Inner, router::Trip};

impl Inner {
    /// Runs the call on member `to`, and on another one as well where it may be hedged and is late: the first outcome
    /// counts, the other call is given up. A node that can not run it waits for what the other says.
    pub(crate) async fn carry_hedged(
        self: &Arc<Self>,
        trip: Trip<'_>,
        to: usize,
        invocation: &Invocation,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Outcome, InvokeError> {
        let run = self.carry(trip, to, invocation.clone(), now, patience);
        let others = self.members.len() + self.peers.all().len() - 1;
        if others == 0 || trip.route.hedge().is_none() || invocation.attachment.attached().is_some() {
            return run.await;
        }
        let late = trip.route.hedge().and_then(|mut hedge| hedge.begins(&self.hedging));
        let mut run = pin!(run);
        let in_time = match late {
            Some(late) => within(&*self.clock, late, run.as_mut()).await,
            None => Some(run.as_mut().await),
        };
        if let Some(result) = in_time {
            self.took(trip, now, &result);
            return result;
        }
        let Some(other) = self.second(trip, to, invocation).await else {
            let result = run.await;
            self.took(trip, now, &result);
            return result;
        };
        let begun = self.clock.now();
        let again = invocation.clone().attempt(invocation.attempt.saturating_add(1));
        let second = self.carry(trip, other, again, begun, patience.saturating_sub(begun.since(now)));
        let mut second = pin!(second);
        let result = tokio::select! {
            biased;
            result = &mut run => match result {
                Err(error) if error.is_retryable() => match second.await {
                    Err(other) if other.is_retryable() => Err(error),
                    result => result,
                },
                result => result,
            },
            result = &mut second => match result {
                Err(error) if error.is_retryable() => run.await,
                result => {
                    self.took(trip, begun, &result);
                    result
                }
            },
        };
        // Of a call that was given up it is known that it took longer than this.
        self.took(trip, now, &result);
        result.map(|mut outcome| {
            outcome.receipt.hedged = true;
            outcome
        })
    }

    /// The member that a late call goes to as well, if the budget allows it and there is one.
    async fn second(&self, trip: Trip<'_>, to: usize, invocation: &Invocation) -> Option<usize> {
        trip.route.hedge().filter(|hedge| hedge.may_spend()).map(drop)?;
        let (other, _) = self.propose_and_claim(trip, invocation, &[to]).await.ok()?;
        let is_spent = trip.route.hedge().is_some_and(|mut hedge| hedge.spend());
        if !is_spent || other == to {
            return None;
        }
        trip.route.books.book_hedged(trip.account);
        tracing::debug!(faas.name = %trip.route.function.name, node = ?self.id_at(other), "scf.hedge");
        Some(other)
    }

    /// Notes how long a call took; one that no node took says nothing of that.
    fn took(&self, trip: Trip<'_>, since: Timestamp, result: &Result<Outcome, InvokeError>) {
        if result.as_ref().is_err_and(InvokeError::is_retryable) {
            return;
        }
        let latency = self.clock.now().since(since);
        trip.route.hedge().into_iter().for_each(|mut hedge| hedge.took(latency));
    }
}
