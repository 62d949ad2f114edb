//! How deep calls that functions make of functions nest.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// Calls that may be inside each other in one process. A level takes 18 KiB of the stack, six times that in a debug
/// build; a thread has 2 MiB, what a guest calls of the host has 256 KiB. It also holds an instance of the pool, which is
/// why those are counted too that another thread goes on with.
const DEEPEST: u32 = 10;

thread_local! {
    /// Calls that what this thread polls is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A level of nesting, for as long as it lives.
struct Level;

impl Level {
    fn enter() -> Option<Self> {
        let depth = DEPTH.get();
        (depth < DEEPEST).then(|| {
            DEPTH.set(depth + 1);
            Self
        })
    }
}

/// Inside how many calls the calling thread is.
#[cfg(feature = "wasm-runtime-only")]
pub(crate) fn depth() -> u32 {
    DEPTH.get()
}

/// Does what belongs inside `depth` calls that another thread polls.
#[cfg(feature = "wasm-runtime-only")]
pub(crate) fn inside<T>(depth: u32, act: impl FnOnce() -> T) -> T {
    struct Outside(u32);
    impl Drop for Outside {
        fn drop(&mut self) {
            DEPTH.set(self.0);
        }
    }
    let _outside = Outside(DEPTH.replace(depth));
    act()
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// `call`'s output, or `None` where it is polled inside too many others: they would use the stack up.
///
/// Who has another thread go on with something tells it how deep that is (`depth`, `inside`). Calls of other nodes begin anew
/// there: their room is counted.
pub(crate) async fn within_stack<F: Future>(call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    poll_fn(|cx| match Level::enter() {
        Some(_level) => call.as_mut().poll(cx).map(Some),
        None => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, future::BoxFuture};

    use super::*;

    /// Calls itself `levels` deep and gives how deep it came.
    fn nest(levels: u32) -> BoxFuture<'static, u32> {
        async move {
            match levels {
                0 => 0,
                _ => within_stack(nest(levels - 1)).await.map_or(0, |deep| deep + 1),
            }
        }
        .boxed()
    }

    #[test]
    fn ends_calls_that_nest_too_deep_and_only_those() {
        assert_eq!(nest(DEEPEST).now_or_never(), Some(DEEPEST));
        assert_eq!(nest(1_000_000).now_or_never(), Some(DEEPEST));
        assert_eq!(nest(DEEPEST).now_or_never(), Some(DEEPEST));
    }

    #[test]
    fn calls_beside_each_other_do_not_add_up() {
        let all = futures::future::join_all((0..100).map(|_| nest(DEEPEST)));
        assert_eq!(all.now_or_never(), Some(vec![DEEPEST; 100]));
    }

    #[test]
    fn a_call_that_panics_leaves_its_level() {
        for _ in 0..2 * DEEPEST {
            let panics = within_stack(async { panic!("on purpose") });
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panics.now_or_never())).is_err());
        }
        assert_eq!(nest(DEEPEST).now_or_never(), Some(DEEPEST));
    }
}
