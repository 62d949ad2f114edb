//! Guests that use the stack up.

use futures::FutureExt;
use scf_core::{InvokeError, LimitKind, Limits};

use super::{Attack, Case, Expect, guest::Guest, limits, site::native};

const THREAT: &str = "stack";
const EXHAUSTED: Expect = Expect::LimitOrTrap(LimitKind::Stack, "call stack exhausted");

pub(super) fn cases() -> Vec<Case> {
    let deep = |name, guest: Guest| Case::call(THREAT, name, guest.build().limits(limits(1000, 64)), EXHAUSTED);
    let many = "i64 ".repeat(1000);
    let wide: String = (0..200).map(|i| format!("(local.set {i} (i64.load (i32.const {})))", i * 8)).collect();
    let kept: String = (0..200).map(|i| format!("(i64.store (i32.const {}) (local.get {i}))", i * 8)).collect();
    vec![
        deep(
            "a function that calls itself",
            Guest::new("(call $again) (i32.const 0)").fields("(func $again (call $again))"),
        ),
        deep(
            "three functions that call each other",
            Guest::new("(call $a) (i32.const 0)")
                .fields("(func $a (call $b)) (func $b (call $c) (call $a)) (func $c (call $a) (call $b))"),
        ),
        deep(
            "a function that calls itself through a table",
            Guest::new("(call_indirect (i32.const 0)) (i32.const 0)")
                .fields("(table funcref (elem $again)) (func $again (call_indirect (i32.const 0)))"),
        ),
        deep(
            "large frames, a few of which are a stack",
            Guest::new("(call $again) (i32.const 0)")
                .fields(format!("(func $again (local {many}) {wide} (call $again) {kept})")),
        ),
        deep(
            "a start function that calls itself",
            Guest::new("(i32.const 0)").fields("(func $again (call $again)) (start $again)"),
        ),
        deep("an allocator that calls itself", {
            let body = "(call $grow (local.get $size))";
            Guest::new("(i32.const 0)")
                .own_realloc(body)
                .fields("(func $grow (param i32) (result i32) (call $grow (i32.add (local.get 0) (i32.const 1))))")
        }),
        deep(
            "calls of the host from every depth of the stack",
            Guest::new("(call $again) (i32.const 0)")
                .fields("(func $again (drop (call $now)) (call $forget (call $after (i64.const 0))) (call $again))")
                .host(),
        ),
        deep(
            "numbers asked of the host from every depth of the stack",
            Guest::new("(call $again) (i32.const 0)")
                .fields("(func $again (call $random (i64.const 8) (i32.const 64)) (call $again))")
                .realloc("(i32.const 8192)")
                .host(),
        ),
        Case::new(
            THREAT,
            "a native function that calls itself through the host",
            Attack::Story(|site| {
                async move {
                    let again = native("again").limits(Limits { concurrency: 100_000, ..Limits::default() });
                    site.deploy(&again).await?;
                    match site.call(b"").await {
                        Err(InvokeError::Limit { limit: LimitKind::Stack, .. }) => Ok(()),
                        other => Err(format!("expected the stack limit, found {other:?}")),
                    }
                }
                .boxed()
            }),
        ),
    ]
}
