//! Guests that want more than they may have: memory, tables, instances, handles.

use futures::FutureExt;
use scf_core::LimitKind;

use super::{
    Attack, Case, Expect,
    guest::{Guest, answer, component},
    limits,
};

const THREAT: &str = "memory, tables, instances";

/// A component of `extra` core modules and instances beside those that a function needs.
fn crowd(extra: &str) -> scf_core::Function {
    component(&format!(
        r#"(component
          (core module $m (memory (export "memory") 1)
            (func (export "run") (param i32 i32) (result i32) (i32.const 0))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
          (core instance $i (instantiate $m))
          {extra}
          (func (export "f") (param "input" (list u8)) (result (list u8))
            (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#
    ))
}

pub(super) fn cases() -> Vec<Case> {
    let refused = Expect::Limit(LimitKind::Memory);
    let grows = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))";
    let instances = |count: usize, module: &str| {
        let instances: String = (0..count).map(|i| format!("(core instance $x{i} (instantiate $x))")).collect();
        crowd(&format!("(core module $x {module}) {instances}"))
    };
    vec![
        Case::call(
            THREAT,
            "memory grown page by page until it is refused, then a trap",
            Guest::new(format!("{grows} (unreachable)")).build().limits(limits(2000, 8)),
            refused,
        ),
        Case::call(
            THREAT,
            "memory grown page by page until it is refused, then a refusal",
            Guest::new(format!("{grows} {}", super::guest::give(1, "(i32.const 0)", "(i32.const 0)")))
                .build()
                .limits(limits(2000, 8)),
            refused,
        ),
        Case::call(
            THREAT,
            "4 GiB asked for at once, and the answer reported",
            Guest::new(answer("(memory.grow (i32.const 65535))")).build(),
            Expect::Reply(&[0xff; 4]),
        ),
        Case::call(
            THREAT,
            "an allocator that grows the memory for every allocation",
            Guest::new("(loop $again (drop (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1))) (br $again)) (unreachable)")
                .realloc(
                    "(local $at i32) (local.set $at (memory.grow (i32.const 16)))
                     (if (i32.eq (local.get $at) (i32.const -1)) (then (unreachable)))
                     (i32.mul (local.get $at) (i32.const 65536))",
                )
                .build()
                .limits(limits(2000, 8)),
            refused,
        ),
        Case::deploy(
            THREAT,
            "a memory that begins over the limit",
            Guest::new("(i32.const 0)").memory("48").build().limits(limits(10, 2)),
            &["begins with", "memory"],
        ),
        Case::deploy(
            THREAT,
            "a memory that begins with 4 GiB",
            Guest::new("(i32.const 0)").memory("65536").build(),
            &["memory"],
        ),
        Case::call(
            THREAT,
            "two memories, each within the limit",
            instances(2, "(memory 30)").limits(limits(10, 2)),
            refused,
        ),
        Case::deploy(THREAT, "twenty memories in as many instances", instances(20, "(memory 1)"), &["memor", "instances"]),
        Case::deploy(THREAT, "a thousand instances", instances(1000, ""), &["instances", "modules"]),
        Case::deploy(THREAT, "twenty tables in as many instances", instances(15, "(table 1 funcref) (table 1 funcref)"), &["table"]),
        Case::deploy(THREAT, "a table that begins with ten million elements", instances(1, "(table 10000000 funcref)"), &["table"]),
        Case::call(
            THREAT,
            "a table grown to a hundred million elements, and the answer reported",
            Guest::new(answer("(table.grow (ref.null func) (i32.const 100000000))")).fields("(table 1 funcref)").build(),
            Expect::Reply(&[0xff; 4]),
        ),
        Case::call(
            THREAT,
            "a table grown element by element until it is refused, then a trap",
            Guest::new("(loop $again (br_if $again (i32.ne (table.grow (ref.null func) (i32.const 1)) (i32.const -1)))) (unreachable)")
                .fields("(table 1 funcref)")
                .build(),
            Expect::LimitOrTrap(LimitKind::Table, "unreachable"),
        ),
        Case::call(
            THREAT,
            "three tables that are too large together",
            crowd("(core module $x (table (export \"t\") 8000 funcref)) (core instance $a (instantiate $x)) (core instance $b (instantiate $x)) (core instance $c (instantiate $x))"),
            Expect::LimitOrTrap(LimitKind::Table, "table"),
        ),
        Case::call(
            THREAT,
            "a pollable made in a loop and never dropped",
            Guest::new("(loop $again (drop (call $after (i64.const 1000000000))) (br $again)) (unreachable)")
                .host()
                .build()
                .limits(limits(2000, 64)),
            Expect::LimitOrTrap(LimitKind::Handles, ""),
        ),
        Case::call(
            THREAT,
            "stdout opened in a loop and never closed",
            Guest::new("(loop $again (drop (call $stdout)) (br $again)) (unreachable)")
                .host()
                .build()
                .limits(limits(2000, 64)),
            Expect::LimitOrTrap(LimitKind::Handles, ""),
        ),
        Case::call(
            THREAT,
            "resources of its own made in a loop",
            component(
                r#"(component
                  (type $r (resource (rep i32)))
                  (core func $new (canon resource.new $r))
                  (core module $m
                    (import "" "new" (func $new (param i32) (result i32)))
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
                    (func (export "run") (param i32 i32) (result i32)
                      (loop $again (drop (call $new (i32.const 7))) (br $again)) (unreachable)))
                  (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
                  (func (export "f") (param "input" (list u8)) (result (list u8))
                    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#,
            )
            .limits(limits(5000, 64)),
            Expect::LimitOrTrap(LimitKind::Handles, ""),
        ),
        Case::new(
            THREAT,
            "more instances at the same time than the pool has",
            Attack::Story(|site| super::flood::beyond_the_pool(site).boxed()),
        ),
    ]
}
