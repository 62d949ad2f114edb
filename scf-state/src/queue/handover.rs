//! Calls that go to the queue of another node, and that come from one: on the board and on the records.

use std::collections::HashSet;

use scf_core::{Cause, Due, Handover, InvocationId, NodeId, OfferAsk, QueueError, QueuedCall, Room};

use super::{
    book::refusal,
    page::Page,
    record::{CALL, DONE, Done, OFFERED, Records, Stored, TAKEN, TakenOf, key, load, node_key, save},
};

impl<R: Records> Page<'_, R> {
    /// Settles what was offered to a node last, and offers what is next.
    pub(super) fn offer(&mut self, ask: &OfferAsk) -> Result<Vec<QueuedCall>, R::Error> {
        if let Some(settled) = &ask.settled {
            self.settle_offer(&ask.to, settled)?;
        }
        self.pass_time()?;
        let mut ids = self.state.board.offered(&ask.to);
        if ids.is_empty() {
            ids = self.state.board.offer(&ask.to, ask.calls, ask.bytes);
            if !ids.is_empty() {
                save(self.records, &node_key(OFFERED, &ask.to)?, &ids)?;
            }
        }
        let mut calls = Vec::with_capacity(ids.len());
        for id in ids {
            match load::<Stored, R>(self.records, &key(CALL, id))? {
                Ok(Some(stored)) => calls.push(self.as_it_goes(stored.call)),
                Ok(None) => drop(self.drop_call(id)),
                Err(error) => {
                    tracing::error!(%id, %error, "a stored call cannot be decoded");
                    self.bury(id, Cause::failed(&format!("the stored call cannot be decoded: {error}")))?;
                }
            }
        }
        Ok(calls)
    }

    /// The call as the other queue is given it: what it waited for is over.
    fn as_it_goes(&self, mut call: QueuedCall) -> QueuedCall {
        let since = self.state.board.get(call.id).and_then(|pending| pending.due_since).unwrap_or(self.now.passed);
        let waited = self.now.passed.saturating_sub(since);
        call.max_age = call.max_age.map(|age| age.saturating_sub(waited));
        (call.due, call.every, call.timer, call.destination) = (Due::Now, None, None, None);
        call
    }

    fn settle_offer(&mut self, to: &NodeId, settled: &[(InvocationId, Handover)]) -> Result<(), R::Error> {
        let offered: HashSet<_> = self.state.board.offered(to).into_iter().collect();
        if offered.is_empty() {
            return Ok(());
        }
        for (id, outcome) in settled.iter().filter(|(id, _)| offered.contains(id)) {
            match outcome {
                Handover::Taken => self.forwarded(*id, to)?,
                Handover::Refused(cause) => self.bury(*id, cause.clone())?,
                other => tracing::warn!(%id, ?other, "a call was handed over in a way that this queue does not know"),
            }
        }
        self.state.board.take_back(to);
        self.records.remove(&node_key(OFFERED, to)?)
    }

    /// The other queue has the call.
    fn forwarded(&mut self, id: InvocationId, to: &NodeId) -> Result<(), R::Error> {
        self.come_again(id)?;
        let attempts = self.state.board.get(id).map_or(0, |pending| pending.attempts);
        self.records.remove(&key(CALL, id))?;
        let done = Done { at: self.now, attempts, result: None, forwarded: Some(to.clone()) };
        save(self.records, &key(DONE, id), &done)?;
        self.drop_call(id);
        self.state.settled.complete(id, self.now.passed, 0);
        self.forget()
    }

    /// Takes calls that another node offers, as many as there is room for.
    pub(super) fn take(
        &mut self,
        from: &NodeId,
        calls: &[QueuedCall],
    ) -> Result<Result<Vec<Handover>, QueueError>, R::Error> {
        let (mut outcomes, mut taken) = (Vec::with_capacity(calls.len()), HashSet::with_capacity(calls.len()));
        for call in calls {
            let is_known = self.state.origins.has(from, call.id) || self.state.knows(call.id);
            match refusal(self.state, self.config, [call]).filter(|_| !is_known) {
                Some(QueueError::Full { room: Room::Payload { limit }, .. }) => {
                    let message = format!("{from} offered a payload of {}, {limit} are taken", call.payload.size());
                    outcomes.push(Handover::Refused(Cause::refused(&message)));
                    continue;
                }
                Some(full) if outcomes.is_empty() => return Ok(Err(full)),
                Some(_) => break,
                None => {}
            }
            if !is_known {
                self.enter(&Stored {
                    seq: self.state.seq,
                    at: self.now,
                    due: self.now.due(call.due),
                    call: call.clone(),
                })?;
            }
            taken.insert(call.id);
            outcomes.push(Handover::Taken);
        }
        let record = TakenOf { at: self.now, ids: taken.iter().copied().collect() };
        save(self.records, &node_key(TAKEN, from)?, &record)?;
        if let Some(forgotten) = self.state.origins.note(from, self.now.passed, taken) {
            self.records.remove(&node_key(TAKEN, &forgotten)?)?;
        }
        Ok(Ok(outcomes))
    }
}
