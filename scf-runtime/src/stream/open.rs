//! Calls with streams, as callers have them.

use std::sync::Arc;

use scf_core::{
    Attachment, ByteSize, Bytes, FunctionName, Invocation, InvokeError, ItemReceiver, ItemSender, NodeId, Outcome,
    Streams,
};
use tokio::task::JoinHandle;

use crate::Fabric;

/// A call that runs while items are sent to it and read from it.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "what is sent and what comes back are all that there is")]
pub struct Streaming {
    /// Where items for the function are sent. Dropped before [`ItemSender::finish`], the function's input breaks off.
    pub input: ItemSender,
    /// What the function sends, and the call itself.
    pub output: Answer,
}

/// What a call sends while it runs, and what it comes to. Dropped, it gives the call up, wherever that runs.
#[derive(Debug)]
pub struct Answer {
    function: FunctionName,
    items: ItemReceiver,
    call: JoinHandle<Result<Outcome, InvokeError>>,
    over: Option<Result<Outcome, InvokeError>>,
}

/// Ends the output with the call, also where that panics or is given up.
struct Settles(Arc<Streams>);

impl Drop for Settles {
    fn drop(&mut self) {
        self.0.settle();
    }
}

impl Fabric {
    /// Calls a function from the first node while items go to it and come back: see [`Fabric::stream_from`].
    #[must_use]
    pub fn stream(&self, invocation: Invocation, room: ByteSize) -> Streaming {
        let node = self.inner().members[0].node.id.clone();
        self.stream_from(&node, invocation, room)
    }

    /// Calls a function from `node` while items go to it and come back. Each node that they come by keeps at most
    /// `room` of those that were sent and not read in each direction; who sends more waits.
    ///
    /// The call runs as every other one, with its payload, deadline and bill, where the scheduler places it; items travel to
    /// another node as they are sent. Once an item was read by the function or sent by it, the call is not tried on another
    /// node. Functions that keep state are refused: what they sent could not be taken back where their commit fails.
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn stream_from(&self, node: &NodeId, invocation: Invocation, room: ByteSize) -> Streaming {
        let (streams, input, items) = Streams::new(invocation.function.clone(), room);
        let invocation = invocation.attach(Attachment::new(streams.clone()));
        let (fabric, node, function) = (self.clone(), node.clone(), invocation.function.clone());
        let call = tokio::spawn(async move {
            let _settles = Settles(streams);
            fabric.invoke_from(&node, invocation).await
        });
        Streaming { input, output: Answer { function, items, call, over: None } }
    }
}

impl Answer {
    /// The function's next item; `None` once the call has succeeded.
    ///
    /// # Errors
    /// Why the call failed, once all that was sent before was read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, InvokeError> {
        if let Ok(Some(item)) = self.items.next().await {
            return Ok(Some(item));
        }
        // Its output ends with the call, or before.
        self.outcome().await.map(|_| None)
    }

    /// What the call came to, once it is over. While items wait to be read for which there is no room, that is not.
    ///
    /// # Errors
    /// Why the call failed.
    pub async fn outcome(&mut self) -> Result<&Outcome, InvokeError> {
        let over = match self.over.take() {
            Some(over) => over,
            None => (&mut self.call).await.unwrap_or_else(|error| {
                let message = format!("the call did not end: {error}");
                Err(InvokeError::Host { function: self.function.clone(), message })
            }),
        };
        self.over.insert(over).as_ref().map_err(Clone::clone)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.call.abort();
    }
}
