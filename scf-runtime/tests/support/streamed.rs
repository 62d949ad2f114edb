//! Functions that answer in streams, and what they noticed.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst},
};

use scf_core::{
    Bytes, Function, FunctionName, Invocation, ItemReceiver, ItemSender, Name, Needs, NodeId, Payload, StreamError,
};
use scf_runtime::{Fabric, NativeCall, NativeError, NativeFactory, NativeFuture};
use tokio::sync::Notify;

/// What the functions noticed, in all processes of a test.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Calls that began and that ended, however they did.
    pub(crate) begun: AtomicUsize,
    pub(crate) ended: AtomicUsize,
    /// Items that were sent, or are about to be, and not read: how many at most.
    pub(crate) waiting: AtomicI64,
    pub(crate) most_waiting: AtomicI64,
    changed: Notify,
}

struct Ends(Arc<Seen>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl Seen {
    fn begins(self: &Arc<Self>) -> Ends {
        self.begun.fetch_add(1, SeqCst);
        self.changed.notify_waiters();
        Ends(Arc::clone(self))
    }

    /// Waits until so many calls have begun.
    pub(crate) async fn begun(&self, calls: usize) {
        self.until(|seen| seen.begun.load(SeqCst) >= calls).await;
    }

    /// Waits until so many calls have ended.
    pub(crate) async fn ended(&self, calls: usize) {
        self.until(|seen| seen.ended.load(SeqCst) >= calls).await;
    }

    async fn until(&self, is: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if is(self) {
                return;
            }
            changed.await;
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn refused(error: StreamError) -> NativeError {
    NativeError::refused(error.to_string())
}

fn ends(call: &NativeCall<'_>) -> (ItemReceiver, ItemSender) {
    let streams = call.streams().unwrap();
    (streams.input().unwrap(), streams.output().unwrap())
}

/// - `echo` sends what it is sent, and gives how many items that were.
/// - `stops` sends as many items as its payload says, and fails.
/// - `waits` sends as many, and never returns.
/// - `floods` sends as many of 1000 bytes, as fast as it may, and says how far ahead of its reader it was.
pub(crate) fn streamed(seen: &Arc<Seen>) -> NativeFactory {
    let of = |seen: &Arc<Seen>| Arc::clone(seen);
    let (echo, stops, waits, floods) = (of(seen), of(seen), of(seen), of(seen));
    NativeFactory::new()
        .with("echo", move |call, _| -> NativeFuture<'_> {
            let ended = echo.begins();
            Box::pin(async move {
                let (_ended, (mut input, mut output), mut items) = (ended, ends(call), 0);
                while let Some(item) = input.next().await.map_err(refused)? {
                    output.send(item).await.map_err(refused)?;
                    items += 1;
                }
                Ok(Payload::new(items.to_string()))
            })
        })
        .unwrap()
        .with("stops", move |call, input| -> NativeFuture<'_> {
            let ended = stops.begins();
            Box::pin(async move {
                let (_ended, (_input, mut output)) = (ended, ends(call));
                send(&mut output, &input).await?;
                Err(NativeError::refused("that was all"))
            })
        })
        .unwrap()
        .with("waits", move |call, input| -> NativeFuture<'_> {
            let ended = waits.begins();
            Box::pin(async move {
                let (_ended, (_input, mut output)) = (ended, ends(call));
                send(&mut output, &input).await?;
                std::future::pending().await
            })
        })
        .unwrap()
        .with("floods", move |call, input| -> NativeFuture<'_> {
            let seen = Arc::clone(&floods);
            Box::pin(async move {
                let (_ended, (_input, mut output)) = (seen.begins(), ends(call));
                for _ in 0..number(&input) {
                    output.send(vec![7; 1000].into()).await.map_err(refused)?;
                    let waiting = seen.waiting.fetch_add(1, SeqCst) + 1;
                    seen.most_waiting.fetch_max(waiting, SeqCst);
                }
                Ok(input)
            })
        })
        .unwrap()
}

fn number(payload: &Payload) -> usize {
    std::str::from_utf8(&payload.bytes).unwrap().parse().unwrap()
}

async fn send(output: &mut ItemSender, input: &Payload) -> Result<(), NativeError> {
    for at in 0..number(input) {
        output.send(at.to_string().into()).await.map_err(refused)?;
    }
    Ok(())
}

/// The native function `entry`, on one of `nodes`.
pub(crate) fn function(entry: &str, nodes: &[&str]) -> Function {
    let mut function = Function::native(FunctionName::new(entry).unwrap(), Name::new(entry).unwrap());
    let nodes = nodes.iter().map(|id| NodeId::new(id).unwrap()).collect();
    function.needs = Needs { nodes, ..Needs::default() };
    function
}

/// A call of `entry`, with `payload`.
pub(crate) fn call(fabric: &Fabric, entry: &str, payload: impl Into<Bytes>) -> Invocation {
    Invocation::new(fabric.new_id(), FunctionName::new(entry).unwrap(), payload.into())
}
