//! Streams of a call that another node sent here.

use std::{future::poll_fn, pin::pin, sync::Arc};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{FuturesOrdered, FuturesUnordered},
};
use scf_core::{
    Attachment, ByteSize, Clock, Envelope, FunctionName, Invocation, InvocationId, InvokeError, ItemReceiver,
    ItemSender, NodeId, Outcome, StreamError, Streams, Subject, Timestamp, Transport, TransportError, item_cost,
};

use super::message::{Ask, Lending, Told, What, join, read, split, write};

/// What the items of one message count for, unless the last one is larger: so many are worth a message.
const MESSAGE: u64 = 256 << 10;
/// Messages of one direction that are on their way at the same time.
const IN_FLIGHT: usize = 4;

/// The streams of a call that another node sent.
pub(crate) struct Carriage {
    function: FunctionName,
    lending: Lending,
    streams: Arc<Streams>,
    input: ItemSender,
    output: ItemReceiver,
}

/// The way back to the node that sent a call.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) transport: &'a dyn Transport,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) here: &'a NodeId,
    pub(crate) there: &'a NodeId,
    /// When nobody waits for the call any more.
    pub(crate) until: Timestamp,
}

/// One call's way back.
struct Link<'a> {
    way: Way<'a>,
    key: InvocationId,
}

impl Carriage {
    pub(crate) fn new(function: &FunctionName, lending: Lending) -> Self {
        let (streams, input, output) = Streams::new(function.clone(), ByteSize::from_bytes(lending.room));
        Self { function: function.clone(), lending, streams, input, output }
    }

    /// Has the streams go with `invocation`.
    pub(crate) fn load(&self, invocation: Invocation) -> Invocation {
        invocation.attach(Attachment::new(self.streams.clone()))
    }

    /// Waits for the call, which `run` makes, while its items travel; what its function sent has arrived when this gives
    /// the outcome. A call whose caller does not take its items any more is given up.
    pub(crate) async fn run(
        self,
        way: Way<'_>,
        run: impl Future<Output = Result<Outcome, InvokeError>>,
    ) -> Result<Outcome, InvokeError> {
        let Self { function, lending, streams, input, output } = self;
        let gone = |error: TransportError| {
            tracing::debug!(%error, faas.name = %function, "nobody takes what a call sends");
            InvokeError::Unreachable { function: function.clone(), node: way.there.clone() }
        };
        let link = Link { key: lending.key, way };
        let (mut pull, mut push) = (pin!(link.pull(input, lending.room)), pin!(link.push(output, lending.room)));
        let (mut is_pulled, mut is_pushed) = (false, false);
        let result = {
            let mut run = pin!(run);
            loop {
                tokio::select! {
                    biased;
                    result = &mut run => break result,
                    pushed = &mut push, if !is_pushed => match pushed {
                        Ok(()) => is_pushed = true,
                        Err(error) => return Err(gone(error)),
                    },
                    () = &mut pull, if !is_pulled => is_pulled = true,
                }
            }
        };
        streams.settle();
        if !is_pushed {
            let pushed = push.await;
            if result.is_ok() {
                pushed.map_err(gone)?;
            }
        }
        result
    }
}

impl Link<'_> {
    /// Brings what the caller sends to `sender` until it ends: as much is on the way as there is room for behind it.
    async fn pull(&self, mut sender: ItemSender, room: u64) {
        let most = (room / IN_FLIGHT as u64).clamp(1, MESSAGE);
        let lost = |error: TransportError| StreamError::Lost { reason: error.to_string() };
        let mut asked = FuturesOrdered::new();
        let (mut number, mut is_behind) = (0, false);
        loop {
            // One that waits for an item takes a place of the node that it waits on: more are for a caller who is ahead.
            let at_once = if is_behind { IN_FLIGHT } else { 1 };
            while asked.len() < at_once {
                asked.push_back(self.pulled(number, most));
                number += 1;
            }
            let items = match asked.next().await {
                Some(Ok(Some(items))) => items,
                Some(Ok(None)) => return sender.finish(),
                Some(Err(error)) => return sender.fail(error.map_or(StreamError::BrokenOff, lost)),
                None => return,
            };
            is_behind = items.iter().map(item_cost).sum::<u64>() >= most;
            for item in items {
                // The function does not want them: the caller finds out when its room is used up, or the call ends.
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The next items of the input; `None` at its end.
    ///
    /// # Errors
    /// What became of the way, or nothing where the caller broke it off.
    async fn pulled(&self, number: u64, most: u64) -> Result<Option<Vec<Bytes>>, Option<TransportError>> {
        let (told, body) = self.ask(What::Pull { number, most }, Bytes::new()).await.map_err(Some)?;
        match told {
            Told::Items { lengths } => split(&lengths, body).map(Some).ok_or(None),
            Told::Ended => Ok(None),
            _ => Err(None),
        }
    }

    /// Brings what the function sends to the caller until it ends and has arrived. `room` is granted from the beginning.
    async fn push(&self, mut receiver: ItemReceiver, room: u64) -> Result<(), TransportError> {
        let mut on_the_way = FuturesUnordered::new();
        let (mut number, mut sent, mut granted) = (0, 0, room.max(1));
        let mut has_ended = false;
        loop {
            if has_ended && on_the_way.is_empty() {
                return Ok(());
            }
            let may_send = !has_ended && sent < granted && on_the_way.len() < IN_FLIGHT;
            if !may_send && on_the_way.is_empty() {
                granted = granted.max(self.granted(What::Grant { than: granted }, Bytes::new()).await?);
                continue;
            }
            let most = ByteSize::from_bytes(MESSAGE.min(granted.saturating_sub(sent)));
            tokio::select! {
                biased;
                Some(pushed) = on_the_way.next() => granted = granted.max(pushed?),
                items = poll_fn(|cx| receiver.poll_items(cx, most)), if may_send => match items {
                    Ok(items) if !items.is_empty() => {
                        sent += items.iter().map(item_cost).sum::<u64>();
                        let (lengths, body) = join(items).ok_or_else(|| self.interrupted())?;
                        on_the_way.push(self.granted(What::Push { number, lengths }, body));
                        number += 1;
                    }
                    // How the output ends, the call says.
                    _ => has_ended = true,
                },
            }
        }
    }

    /// What the caller grants to the output.
    async fn granted(&self, what: What, body: Bytes) -> Result<u64, TransportError> {
        match self.ask(what, body).await? {
            (Told::Granted { granted }, _) => Ok(granted),
            _ => Err(self.interrupted()),
        }
    }

    async fn ask(&self, what: What, body: Bytes) -> Result<(Told, Bytes), TransportError> {
        let request = write(&Ask { key: self.key, what }, body);
        let Way { transport, clock, here, there, until } = self.way;
        let left = until.since(clock.now());
        let Envelope { head, body } = transport.request(here, there, Subject::Stream, request, left).await?;
        Ok((read(&head).ok_or_else(|| self.interrupted())?, body))
    }

    fn interrupted(&self) -> TransportError {
        TransportError::Interrupted { node: self.way.there.clone() }
    }
}
