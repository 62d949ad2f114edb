//! Items that go from one task to another, one by one, in bounded room.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use thiserror::Error;

use crate::ByteSize;

/// What an item counts for beside its bytes: that it is kept at all, so that items without bytes are bounded too.
const ITEM: u64 = 64;

/// Why an item did not go on, or did not come.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Nobody reads any more.
    #[error("nobody reads the stream any more")]
    Closed,
    /// There is no room, and who sends did not wait for it.
    #[error("the stream has no room for another item")]
    Full,
    /// Whoever sent stopped without saying that this is the end.
    #[error("the stream broke off before its end")]
    BrokenOff,
    /// The way to the node at the other end was lost.
    #[error("the stream broke off: {reason}")]
    Lost {
        /// What became of the way.
        reason: String,
    },
}

/// A stream of items with room for `room` of what was sent and not read yet; an item counts for its bytes and 64 more.
/// One is always taken while there is any room, so that every item fits.
#[must_use]
pub fn item_stream(room: ByteSize) -> (ItemSender, ItemReceiver) {
    let shared = Arc::new(Shared(Mutex::new(State { room: room.bytes().max(1), ..State::default() })));
    (ItemSender(Arc::clone(&shared)), ItemReceiver(shared))
}

/// Where items are sent. Dropped before [`ItemSender::finish`], it breaks the stream off.
pub struct ItemSender(pub(crate) Arc<Shared>);

/// Where items are read, in the order in which they were sent. Dropped, it ends who sends.
pub struct ItemReceiver(pub(crate) Arc<Shared>);

pub(crate) struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    items: VecDeque<Bytes>,
    room: u64,
    /// What all items that were sent, and all that were read, count for.
    sent: u64,
    read: u64,
    /// Their bytes.
    sent_bytes: u64,
    read_bytes: u64,
    /// Nothing more is sent, and why.
    ending: Option<Result<(), StreamError>>,
    is_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    const fn granted(&self) -> u64 {
        self.read.saturating_add(self.room)
    }

    const fn has_ended(&self) -> bool {
        self.is_closed || self.ending.is_some()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all items that were sent count for, and their bytes.
    pub(crate) fn sent(&self) -> (u64, u64) {
        let state = self.state();
        (state.sent, state.sent_bytes)
    }

    /// What all items that were read count for, and their bytes.
    pub(crate) fn read(&self) -> (u64, u64) {
        let state = self.state();
        (state.read, state.read_bytes)
    }

    /// Says that nothing more is sent, and why.
    pub(crate) fn end(&self, ending: Result<(), StreamError>) {
        let mut state = self.state();
        state.ending.get_or_insert(ending);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl ItemSender {
    /// Sends an item once there is room.
    ///
    /// # Errors
    /// [`StreamError::Closed`].
    pub async fn send(&mut self, item: Bytes) -> Result<(), StreamError> {
        let sent = self.0.state().sent;
        poll_fn(|cx| self.poll_granted(cx, sent)).await?;
        self.try_send(item)
    }

    /// Sends an item if there is room now.
    ///
    /// # Errors
    /// [`StreamError::Full`], [`StreamError::Closed`].
    pub fn try_send(&mut self, item: Bytes) -> Result<(), StreamError> {
        let mut state = self.0.state();
        if state.has_ended() {
            return Err(StreamError::Closed);
        }
        if state.sent >= state.granted() {
            return Err(StreamError::Full);
        }
        state.sent += item_cost(&item);
        state.sent_bytes += item.len() as u64;
        state.items.push_back(item);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// What all items of the stream together may count for so far, for who carries it on from elsewhere: another item
    /// has room while those before it count for less.
    #[must_use]
    pub fn granted(&self) -> u64 {
        self.0.state().granted()
    }

    /// Ready once more than `than` is [granted](ItemSender::granted), with what is. Who asked last is woken.
    ///
    /// # Errors
    /// [`StreamError::Closed`].
    pub fn poll_granted(&self, cx: &mut Context<'_>, than: u64) -> Poll<Result<u64, StreamError>> {
        let mut state = self.0.state();
        if state.has_ended() {
            return Poll::Ready(Err(StreamError::Closed));
        }
        if state.granted() > than {
            return Poll::Ready(Ok(state.granted()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends the stream behind what was sent.
    pub fn finish(self) {
        self.0.end(Ok(()));
    }

    /// Breaks the stream off behind what was sent, for the reason of `error`.
    pub fn fail(self, error: StreamError) {
        self.0.end(Err(error));
    }
}

impl Drop for ItemSender {
    fn drop(&mut self) {
        self.0.end(Err(StreamError::BrokenOff));
    }
}

impl ItemReceiver {
    /// The next item, once it is there; `None` at the end.
    ///
    /// # Errors
    /// Why the stream broke off, once all that was sent before was read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        let mut items = poll_fn(|cx| self.poll_items(cx, ByteSize::ZERO)).await?;
        Ok(items.pop())
    }

    /// Ready with the items that are there: the next one, and those behind it while what is taken counts for less than
    /// `most`. None at the end.
    ///
    /// # Errors
    /// As [`ItemReceiver::next`].
    pub fn poll_items(&mut self, cx: &mut Context<'_>, most: ByteSize) -> Poll<Result<Vec<Bytes>, StreamError>> {
        let mut state = self.0.state();
        let (mut items, mut taken) = (Vec::new(), 0);
        while items.is_empty() || taken < most.bytes() {
            let Some(item) = state.items.pop_front() else { break };
            taken += item_cost(&item);
            state.read_bytes += item.len() as u64;
            items.push(item);
        }
        if items.is_empty() {
            match &state.ending {
                Some(ending) => return Poll::Ready(ending.clone().map(|()| items)),
                None => state.reader = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        state.read += taken;
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(items))
    }
}

impl Drop for ItemReceiver {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_closed = true;
        let (writer, items) = (state.writer.take(), std::mem::take(&mut state.items));
        drop(state);
        drop(items);
        writer.into_iter().for_each(Waker::wake);
    }
}

/// What an item counts for.
#[must_use]
pub fn item_cost(item: &Bytes) -> u64 {
    item.len() as u64 + ITEM
}

impl fmt::Debug for ItemSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemSender").field("sent", &self.0.state().sent_bytes).finish_non_exhaustive()
    }
}

impl fmt::Debug for ItemReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemReceiver").field("read", &self.0.state().read_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: usize) -> Bytes {
        vec![7; bytes].into()
    }

    fn costing(items: u64) -> ByteSize {
        ByteSize::from_bytes(items * (ITEM + 1))
    }

    #[tokio::test]
    async fn items_are_read_in_order_and_the_end_is_told_from_a_stream_that_broke_off() {
        let (mut sender, mut receiver) = item_stream(costing(9));
        for bytes in 0..3 {
            sender.send(item(bytes)).await.unwrap();
        }
        sender.finish();
        for bytes in 0..3 {
            assert_eq!(receiver.next().await, Ok(Some(item(bytes))));
        }
        assert_eq!(receiver.next().await, Ok(None));

        let (mut sender, mut receiver) = item_stream(costing(9));
        sender.send(item(1)).await.unwrap();
        drop(sender);
        assert_eq!(receiver.next().await, Ok(Some(item(1))));
        assert_eq!(receiver.next().await, Err(StreamError::BrokenOff));

        let (sender, mut receiver) = item_stream(costing(9));
        let lost = StreamError::Lost { reason: "cut".to_owned() };
        sender.fail(lost.clone());
        assert_eq!(receiver.next().await, Err(lost));
    }

    #[tokio::test]
    async fn what_is_sent_and_not_read_is_bounded_also_where_items_have_no_bytes() {
        for bytes in [0, 1, 40] {
            let (mut sender, mut receiver) = item_stream(costing(4));
            let mut fitted = 0;
            while sender.try_send(item(bytes)).is_ok() {
                fitted += 1;
            }
            assert!((3..=5).contains(&fitted), "{fitted} items of {bytes} bytes");
            assert_eq!(sender.try_send(item(bytes)), Err(StreamError::Full));
            {
                let mut waiting = std::pin::pin!(sender.send(item(bytes)));
                let polled = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
                assert!(polled, "it was sent without room");
                let is_full = |receiver: &ItemReceiver| {
                    let state = receiver.0.state();
                    state.sent >= state.granted()
                };
                while is_full(&receiver) {
                    receiver.next().await.unwrap();
                }
                waiting.await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn an_item_that_is_larger_than_the_room_fits_once_nothing_else_is_there() {
        let (mut sender, mut receiver) = item_stream(ByteSize::from_bytes(1));
        sender.send(item(1000)).await.unwrap();
        assert_eq!(sender.try_send(item(0)), Err(StreamError::Full));
        assert_eq!(receiver.next().await, Ok(Some(item(1000))));
        sender.send(item(1000)).await.unwrap();
    }

    #[tokio::test]
    async fn who_sends_is_told_that_nobody_reads_any_more_also_while_it_waits() {
        let (mut sender, receiver) = item_stream(costing(1));
        sender.send(item(1)).await.unwrap();
        let (sent, ()) = {
            let closed = async {
                tokio::task::yield_now().await;
                drop(receiver);
            };
            tokio::join!(sender.send(item(1)), closed)
        };
        assert_eq!(sent, Err(StreamError::Closed));
        assert_eq!(sender.try_send(item(1)), Err(StreamError::Closed));
    }

    #[tokio::test]
    async fn items_that_are_there_are_had_at_once_up_to_what_is_asked_for() {
        let (mut sender, mut receiver) = item_stream(costing(9));
        for _ in 0..5 {
            sender.try_send(item(1)).unwrap();
        }
        assert_eq!(poll_fn(|cx| receiver.poll_items(cx, costing(3))).await.unwrap().len(), 3);
        assert_eq!(poll_fn(|cx| receiver.poll_items(cx, costing(3))).await.unwrap().len(), 2);
    }
}
