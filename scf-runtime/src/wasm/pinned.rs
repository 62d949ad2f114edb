//! Instances that belong to a key.

use async_trait::async_trait;
use scf_core::{Call, InvokeError, Isolate, LimitKind, Payload, Reply};

use super::{
    live::{Live, Task},
    made::{Made, payload_of},
};
use crate::spread::Shared;

/// Keeps its instance from call to call, for the calls of one key.
#[derive(Debug)]
pub(super) struct Pinned {
    made: Shared<Made>,
    /// The cores that it was made on.
    part: usize,
    live: Option<Box<Live>>,
}

impl Pinned {
    pub(super) const fn new(made: Shared<Made>, part: usize) -> Self {
        Self { made, part, live: None }
    }
}

#[async_trait]
impl Isolate for Pinned {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        #[cfg(feature = "services")]
        if let Some(session) = &call.state {
            let function = self.made.program.function.clone();
            let (mut desk, guests) = super::world::Desk::open(call);
            let run = std::pin::pin!(self.run(&guests, input));
            let (reply, failed) = desk.answer(&**session, run).await;
            let Some(source) = failed else { return reply };
            let key = call.key.clone().unwrap_or_default();
            return Err(InvokeError::State { function, key, source: Box::new(source) });
        }
        self.run(call, input).await
    }
}

impl Pinned {
    async fn run(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let made = &**self.made;
        let program = &made.program;
        let near = made.near(self.part);
        let other = program.other_account(call);
        let account = other.as_ref().unwrap_or(&program.account);
        let mut live = match self.live.take() {
            Some(mut live) => {
                if !live.begin(account, call) {
                    return Err(program.limit(LimitKind::TenantMemory));
                }
                live
            }
            None => Live::fresh(near, account, call),
        };
        live.assign(Task::Call(input), self.part);
        let mut live = made.work(live, call).await;
        while live.had_no_room() && program.machine.idle.evict() {
            let mut next = Live::fresh(near, account, call);
            next.assign(live.take_task(), self.part);
            live = made.work(next, call).await;
        }
        let (usage, refused, reused, calls) = (live.usage(), live.refused(), live.reused, live.take_receipts());
        call.meter.saw_memory(usage.memory);
        if call.host.paces() {
            call.host.pace(usage.cpu).await;
        }
        match live.take_output() {
            Ok(output) => {
                let payload = payload_of(program, output, refused)?;
                // Between calls its memory is the function's owner's.
                if live.store.data_mut().ledger.charge_to(&program.account) {
                    self.live = Some(live);
                }
                Ok(Reply { reused, calls, ..Reply::new(payload, usage) })
            }
            // An instance that did not come to its end is not used again.
            Err(error) => Err(made.failed(&error, &live, call)),
        }
    }
}
