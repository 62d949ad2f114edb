//! Calls that are given up, at every stage.

use std::time::Duration;

use futures::{FutureExt, poll};
use scf_core::{Function, LimitKind, Limits};

use super::{
    Attack, Case, Expect,
    guest::Guest,
    limits,
    site::{INSTANCES, Site, native},
};

const THREAT: &str = "cancelled calls";

/// Polls calls of `function` up to `polls` times and drops them, more often than the pool has slots.
async fn given_up(site: &Site, function: Function, polls: u32) -> Result<(), String> {
    site.deploy(&function).await?;
    for _ in 0..3 * INSTANCES {
        let mut call = Box::pin(site.call(b"input"));
        for _ in 0..polls {
            if let std::task::Poll::Ready(ended) = poll!(call.as_mut()) {
                return Err(format!("it ended: {ended:?}"));
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Never returns.
pub(crate) fn spins() -> Function {
    Guest::new("(loop $again (br $again)) (unreachable)").build()
}

pub(super) fn cases() -> Vec<Case> {
    let story = |name, story| Case::new(THREAT, name, Attack::Story(story));
    vec![
        story("a call that was never begun", |site| given_up(site, spins(), 0).boxed()),
        story("a guest that spins, after its first turn", |site| given_up(site, spins(), 1).boxed()),
        story("a guest that spins, after three turns", |site| given_up(site, spins(), 3).boxed()),
        story("a guest that waits for the host", |site| {
            async move {
                let sleeps = Guest::new("(call $block (call $after (i64.const 3600000000000))) (i32.const 0)");
                given_up(site, sleeps.host().build(), 2).await
            }
            .boxed()
        }),
        story("a start function that waits for the host", |site| {
            async move {
                let sleeps = "(func $s (call $block (call $after (i64.const 3600000000000)))) (start $s)";
                given_up(site, Guest::new("(i32.const 0)").fields(sleeps).host().build(), 2).await
            }
            .boxed()
        }),
        story("an allocator that spins", |site| {
            async move {
                let spins = Guest::new("(i32.const 0)").realloc("(loop $again (br $again)) (unreachable)").build();
                given_up(site, spins, 2).await
            }
            .boxed()
        }),
        story("a post-return function that spins", |site| {
            async move {
                let spins = Guest::new("(i32.const 0)").post("(loop $again (br $again)) (unreachable)").build();
                given_up(site, spins, 2).await
            }
            .boxed()
        }),
        story("a native function that is never done", |site| given_up(site, native("never"), 2).boxed()),
        story("calls that wait for others, given up in the queue", |site| {
            async move {
                let few = Limits { concurrency: 2, queue: 8, ..Limits::default() };
                let sleeps = Guest::new("(call $block (call $after (i64.const 3600000000000))) (i32.const 0)");
                site.deploy(&sleeps.host().build().limits(few)).await?;
                for _ in 0..50 {
                    let calls = futures::future::join_all((0..10).map(|_| site.call(b"")));
                    if tokio::time::timeout(Duration::from_millis(1), calls).await.is_ok() {
                        return Err("they ended".into());
                    }
                }
                // What was given up holds no place: one more waits until its own time is over.
                let short = Limits { wall: Duration::from_millis(20), ..few };
                site.deploy(&spins().limits(short)).await?;
                Expect::Limit(LimitKind::Wall).check(&site.call(b"").await)
            }
            .boxed()
        }),
        story("a guest that spins while it holds a key", |site| {
            async move {
                site.deploy(&spins().stateful().limits(limits(20, 64))).await?;
                for _ in 0..3 {
                    Expect::Limit(LimitKind::Cpu).check(&site.call_with_key("door").await)?;
                }
                let mut call = Box::pin(site.call_with_key("door"));
                if poll!(call.as_mut()).is_ready() {
                    return Err("it ended".into());
                }
                drop(call);
                let answers = Guest::new(super::guest::answer("(i32.const 1)")).build().stateful();
                site.deploy(&answers).await?;
                Expect::Reply(&[1, 0, 0, 0]).check(&site.call_with_key("door").await)
            }
            .boxed()
        }),
    ]
}
