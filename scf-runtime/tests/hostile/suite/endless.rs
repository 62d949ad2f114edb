//! Guests that never return, one way or another.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures::FutureExt;
use scf_core::{Function, LimitKind};

use super::{Attack, Case, Expect, Site, guest::Guest, limits};

const THREAT: &str = "endless loop";

/// Has one caller of a function spin beside another caller of the same function, which shares its compiled code and
/// the engine's ticks: the test that Extism's timeout does not pass.
async fn spins_beside_itself(site: &Site) -> Result<(), String> {
    // For ever where it is given nothing, otherwise for some ticks.
    let counts = "(local $count i32)
        (loop $again
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (br_if $again (i32.or (i32.eqz (local.get $len)) (i32.lt_u (local.get $count) (i32.const 10000000)))))";
    let function = Guest::new(format!("{counts} {}", super::guest::answer("(i32.const 7)"))).build();
    site.deploy(&function.limits(limits(200, 64))).await?;
    let is_over = AtomicBool::new(false);
    let spins = async {
        let ended = site.call(b"").await;
        is_over.store(true, Relaxed);
        Expect::Limit(LimitKind::Cpu).check(&ended)
    };
    let others = async {
        // Also one that begins after the end.
        let mut is_last = false;
        while !std::mem::replace(&mut is_last, is_over.load(Relaxed)) {
            Expect::Reply(&[7, 0, 0, 0]).check(&site.call(b"counts").await)?;
        }
        Ok(())
    };
    let (spun, others) = futures::join!(spins, others);
    spun.and(others)
}

pub(super) fn cases() -> Vec<Case> {
    let spins = |name, function: Function| {
        Case::call(THREAT, name, function.limits(limits(10, 64)), Expect::Limit(LimitKind::Cpu))
    };
    let again = |body: &str| format!("(loop $again {body} (br $again)) (unreachable)");
    vec![
        spins("a loop with nothing in it", Guest::new(again("")).build()),
        spins(
            "a loop in the start function",
            Guest::new("(i32.const 0)").fields("(func $s (loop (br 0))) (start $s)").build(),
        ),
        spins(
            "two functions that call each other a thousand deep, over and over",
            Guest::new(again("(call $even (i32.const 1000))"))
                .fields(
                    "(func $even (param i32) (if (local.get 0) (then (call $odd (i32.sub (local.get 0) (i32.const 1))))))
                     (func $odd (param i32) (if (local.get 0) (then (call $even (i32.sub (local.get 0) (i32.const 1))))))",
                )
                .build(),
        ),
        spins(
            "a loop of indirect calls",
            Guest::new(again("(call_indirect (i32.const 0))"))
                .fields("(table funcref (elem $nothing)) (func $nothing)")
                .build(),
        ),
        spins(
            "a loop that is a br_table",
            Guest::new("(loop $again (br_table $again $again $again (local.get $len))) (unreachable)").build(),
        ),
        spins(
            "a memory access that is computed for ever",
            Guest::new(again(
                "(i32.store (i32.and (local.get $in) (i32.const 0xfffc)) (i32.load (i32.const 64)))
                 (local.set $in (i32.add (local.get $in) (i32.const 4)))",
            ))
            .build(),
        ),
        spins("a loop that asks the host for the time", Guest::new(again("(drop (call $now))")).host().build()),
        spins(
            "a loop that makes a pollable and drops it",
            Guest::new(again("(call $forget (call $after (i64.const 0)))")).host().build(),
        ),
        spins(
            "a loop that waits for what is ready",
            Guest::new(format!(
                "(local $ready i32) (local.set $ready (call $writable (call $stdout))) {}",
                again("(call $block (local.get $ready))")
            ))
            .host()
            .build(),
        ),
        spins("an allocator that never returns", Guest::new("(i32.const 0)").realloc(again("")).build()),
        spins(
            "an allocator in the function's module that never returns",
            Guest::new("(i32.const 0)").own_realloc(again("")).build(),
        ),
        spins("a post-return function that never returns", Guest::new("(i32.const 0)").post(again("")).build()),
        spins(
            "an allocator that never returns what the host gives",
            Guest::new("(call $random (i64.const 16) (i32.const 64)) (i32.const 0)")
                .own_realloc("(i32.const 8192)")
                .realloc(again(""))
                .host()
                .build(),
        ),
        spins(
            "a loop that fills 8 MiB",
            Guest::new(again("(memory.fill (i32.const 0) (i32.const 7) (i32.const 8388608))")).memory("128").build(),
        ),
        spins(
            "a loop that copies 4 MiB onto itself",
            Guest::new(again("(memory.copy (i32.const 1) (i32.const 0) (i32.const 4194304))")).memory("128").build(),
        ),
        spins(
            "a loop that fills a table",
            Guest::new(again("(table.fill (i32.const 0) (ref.null func) (i32.const 9000))"))
                .fields("(table 9000 funcref)")
                .build(),
        ),
        spins(
            "a loop that copies a table onto itself",
            Guest::new(again("(table.copy (i32.const 1) (i32.const 0) (i32.const 8999))"))
                .fields("(table 9000 funcref)")
                .build(),
        ),
        spins(
            "a loop that passes a string between two components",
            super::abi::strings("(loop $again (call $give (i32.const 0) (i32.const 30000)) (br $again))", "utf16"),
        ),
        Case::new(
            THREAT,
            "a call that spins beside calls of the same function that do not",
            Attack::Story(|site| spins_beside_itself(site).boxed()),
        ),
    ]
}
