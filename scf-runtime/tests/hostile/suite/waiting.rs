//! Guests that wait for what never comes.

use std::time::Duration;

use futures::FutureExt;
use scf_core::{InvokeError, LimitKind, Limits};

use super::{Attack, Case, Expect, guest::Guest, site::native};

const THREAT: &str = "waiting";

/// Ends soon, and by wall time alone.
fn soon() -> Limits {
    Limits { wall: Duration::from_millis(30), ..Limits::default() }
}

pub(super) fn cases() -> Vec<Case> {
    let waits = |name, guest: Guest| {
        Case::call(THREAT, name, guest.host().build().limits(soon()), Expect::Limit(LimitKind::Wall))
    };
    vec![
        waits("a sleep of an hour", Guest::new("(call $block (call $after (i64.const 3600000000000))) (i32.const 0)")),
        waits("a sleep until the end of time", Guest::new("(call $block (call $at (i64.const -1))) (i32.const 0)")),
        waits("a sleep of six hundred years", Guest::new("(call $block (call $after (i64.const -1))) (i32.const 0)")),
        waits(
            "a list of pollables of which none becomes ready",
            Guest::new(
                "(i32.store (i32.const 128) (call $after (i64.const 3600000000000)))
                 (i32.store (i32.const 132) (call $after (i64.const 7200000000000)))
                 (call $poll (i32.const 128) (i32.const 2) (i32.const 64)) (i32.const 0)",
            ),
        ),
        waits(
            "a start function that sleeps",
            Guest::new("(i32.const 0)")
                .fields("(func $s (call $block (call $after (i64.const 3600000000000)))) (start $s)"),
        ),
        waits(
            "a loop of sleeps of a millisecond",
            Guest::new("(loop $again (call $block (call $after (i64.const 1000000))) (br $again)) (unreachable)"),
        ),
        Case::call(
            THREAT,
            "a native function that is never done",
            native("never").limits(soon()),
            Expect::Limit(LimitKind::Wall),
        ),
        Case::new(
            THREAT,
            "forty guests that sleep, more than the pool has instances for",
            Attack::Story(|site| {
                async move {
                    let sleeps = Guest::new("(call $block (call $after (i64.const 3600000000000))) (i32.const 0)");
                    let limits = Limits { concurrency: 16, wall: Duration::from_millis(200), ..Limits::default() };
                    site.deploy(&sleeps.host().build().limits(limits)).await?;
                    let ends = futures::future::join_all((0..40).map(|_| site.call(b""))).await;
                    let late = |end: &_| matches!(end, Err(InvokeError::Limit { limit: LimitKind::Wall, .. }));
                    match ends.iter().find(|end| !late(end)) {
                        None => Ok(()),
                        Some(other) => Err(format!("expected the wall limit, found {other:?}")),
                    }
                }
                .boxed()
            }),
        ),
    ]
}
