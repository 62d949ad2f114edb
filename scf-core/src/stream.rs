//! Items that go with a call one by one.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    Attached, ByteSize, FunctionName, InvokeError, ItemReceiver, ItemSender, Payload, item_stream, item_stream::Shared,
};

/// Two streams that go with a call: what its caller sends while it runs, and what the function sends before it returns.
///
/// Made by whoever calls, attached to the invocation, and taken by the function. Unlike what is attached otherwise it
/// goes with the call to another node: the items travel as they are sent, a bounded part of them at a time.
///
/// The output ends with the call: it is whole when the call succeeded, and otherwise what came before the call's error.
pub struct Streams {
    function: FunctionName,
    ends: Mutex<(Option<ItemReceiver>, Option<ItemSender>)>,
    input: Arc<Shared>,
    output: Arc<Shared>,
    room: ByteSize,
}

impl Streams {
    /// Streams for one call of `function`, with `room` for what was sent and not read in each direction; and the caller's ends of
    /// them: where it sends, and where it reads.
    #[must_use]
    pub fn new(function: FunctionName, room: ByteSize) -> (Arc<Self>, ItemSender, ItemReceiver) {
        let (sender, input) = item_stream(room);
        let (output, receiver) = item_stream(room);
        let (of_input, of_output) = (Arc::clone(&input.0), Arc::clone(&output.0));
        let ends = Mutex::new((Some(input), Some(output)));
        (Arc::new(Self { function, ends, input: of_input, output: of_output, room }), sender, receiver)
    }

    /// Takes what the caller sends; `None` when it was taken before.
    #[must_use]
    pub fn input(&self) -> Option<ItemReceiver> {
        self.ends().0.take()
    }

    /// Takes where items for the caller are sent; `None` when it was taken before.
    #[must_use]
    pub fn output(&self) -> Option<ItemSender> {
        self.ends().1.take()
    }

    /// Gives back what was taken, for another try of the call.
    pub fn give_back(&self, input: ItemReceiver, output: ItemSender) {
        *self.ends() = (Some(input), Some(output));
    }

    /// Ends the output behind what was sent: the call is over. Whoever still sends is told that nobody reads.
    pub fn settle(&self) {
        self.output.end(Ok(()));
    }

    /// Room of each direction for what was sent and not read.
    #[must_use]
    pub const fn room(&self) -> ByteSize {
        self.room
    }

    fn ends(&self) -> MutexGuard<'_, (Option<ItemReceiver>, Option<ItemSender>)> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Attached for Streams {
    /// Refused: what is sent while the call runs is no payload that could go ahead of it.
    async fn pack(&self, _: ByteSize) -> Result<Payload, InvokeError> {
        let message = "its streams can not be made a payload".to_owned();
        Err(InvokeError::Refused { function: self.function.clone(), message })
    }

    fn carried(&self) -> (ByteSize, ByteSize) {
        let (read, sent) = (self.input.read().1, self.output.sent().1);
        (ByteSize::from_bytes(read), ByteSize::from_bytes(sent))
    }

    fn is_begun(&self) -> bool {
        self.input.read().0 > 0 || self.output.sent().0 > 0
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("function", &self.function)
            .field("room", &self.room)
            .field("carried", &self.carried())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::StreamError;

    #[tokio::test]
    async fn the_output_of_a_call_ends_with_it_whoever_still_holds_its_end() {
        let (streams, _input, mut items) = Streams::new(FunctionName::new("f").unwrap(), ByteSize::from_kib(1));
        let item = Bytes::from_static(b"item.");
        let mut output = streams.output().unwrap();
        assert!(streams.output().is_none() && !streams.is_begun());
        output.send(item.clone()).await.unwrap();
        assert!(streams.is_begun());
        streams.settle();
        assert_eq!(output.send(item.clone()).await, Err(StreamError::Closed));
        assert_eq!((items.next().await, items.next().await), (Ok(Some(item)), Ok(None)));
        assert_eq!(streams.carried(), (ByteSize::ZERO, ByteSize::from_bytes(5)));
    }
}
