//! Guests that break the rules by which values cross their border.

use scf_core::{Function, LimitKind};

use super::{
    Case, Expect,
    guest::{Guest, component, give},
    limits,
};

const THREAT: &str = "canonical ABI";
/// An allocator that never takes anything back.
const BUMP: &str = "(global.get $next) (global.set $next (i32.add (global.get $next) (local.get 3)))";

/// One component that calls `take`, with the core parameters `params`, of another.
struct Pair {
    of: &'static str,
    params: &'static str,
    /// Body of the caller's function; `$give` is the other's `take`.
    run: &'static str,
    realloc: &'static str,
    take: &'static str,
    options: &'static str,
}

impl Pair {
    fn build(&self) -> Function {
        let Self { of, params, run, realloc, take, options } = self;
        component(&format!(
            r#"(component
              (component $callee
                (core module $m
                  (memory (export "memory") 2)
                  (global $next (mut i32) (i32.const 1024))
                  (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
                  (func (export "take") (param {params}) {take}))
                (core instance $i (instantiate $m))
                (func (export "take") (param "x" {of})
                  (canon lift (core func $i "take") (memory (core memory $i "memory"))
                    (realloc (core func $i "realloc")) {options})))
              (instance $callee (instantiate $callee))
              (component $caller
                (import "take" (func $take (param "x" {of})))
                (core module $libc
                  (memory (export "memory") 2)
                  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
                (core instance $libc (instantiate $libc))
                (alias core export $libc "memory" (core memory $memory))
                (alias core export $libc "realloc" (core func $realloc))
                (core func $give (canon lower (func $take) (memory $memory) (realloc $realloc)))
                (core module $m
                  (import "libc" "memory" (memory 2))
                  (import "" "give" (func $give (param {params})))
                  (func (export "run") (param i32 i32) (result i32) {run} (i32.const 0)))
                (core instance $i
                  (instantiate $m (with "libc" (instance $libc)) (with "" (instance (export "give" (func $give))))))
                (func (export "f") (param "input" (list u8)) (result (result (list u8) (error string)))
                  (canon lift (core func $i "run") (memory $memory) (realloc $realloc))))
              (instance $caller (instantiate $caller (with "take" (func $callee "take"))))
              (export "f" (func $caller "f")))"#
        ))
    }
}

/// A component of two that passes strings from one to the other by `run`, where they arrive as `encoding`.
pub(super) fn strings(run: &'static str, encoding: &'static str) -> Function {
    let options = match encoding {
        "utf16" => "string-encoding=utf16",
        "latin1" => "string-encoding=latin1+utf16",
        _ => "string-encoding=utf8",
    };
    Pair { of: "string", params: "i32 i32", run, realloc: "(i32.const 1024)", take: "", options }.build()
}

fn pair(of: &'static str, params: &'static str, run: &'static str) -> Pair {
    Pair { of, params, run, realloc: BUMP, take: "", options: "" }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = results();
    cases.extend(allocators());
    cases.extend(handles());
    cases.extend(between_components());
    cases
}

fn trap(name: &'static str, guest: &Guest, texts: &'static [&'static str]) -> Case {
    Case::call(THREAT, name, guest.build().limits(limits(1000, 64)), Expect::Trap(texts))
}

fn results() -> Vec<Case> {
    vec![
        trap("a result beyond the memory", &Guest::new("(i32.const -4)"), &["out of bounds", "out-of-bounds"]),
        trap("a result at the last byte", &Guest::new("(i32.const 65532)"), &["out of bounds", "out-of-bounds"]),
        trap("a result that is not aligned", &Guest::new("(i32.const 2)"), &["not aligned"]),
        trap(
            "a case that the result does not have",
            &Guest::new(give(7, "(i32.const 0)", "(i32.const 0)")),
            &["discriminant"],
        ),
        trap(
            "a list beyond the memory",
            &Guest::new(give(0, "(i32.const 65530)", "(i32.const 7)")),
            &["out of bounds"],
        ),
        trap(
            "a list that goes round the address space",
            &Guest::new(give(0, "(i32.const -16)", "(i32.const 32)")),
            &["out of bounds"],
        ),
        trap("a text beyond the memory", &Guest::new(give(1, "(i32.const -1)", "(i32.const -1)")), &["out of bounds"]),
        trap(
            "a text that is no UTF-8",
            &Guest::new(give(1, "(i32.const 16)", "(i32.const 3)")).fields("(data (i32.const 16) \"\\ff\\fe\\80\")"),
            &["utf-8", "UTF-8"],
        ),
        trap(
            "a text that codes a surrogate",
            &Guest::new(give(1, "(i32.const 16)", "(i32.const 3)")).fields("(data (i32.const 16) \"\\ed\\a0\\80\")"),
            &["utf-8", "UTF-8"],
        ),
        trap(
            "a text that is half a surrogate pair",
            &Guest::new(give(1, "(i32.const 16)", "(i32.const 1)"))
                .fields("(data (i32.const 16) \"\\00\\d8\")")
                .options("string-encoding=utf16"),
            &["surrogate", "utf-16", "utf16"],
        ),
        trap(
            "a text that is not aligned",
            &Guest::new(give(1, "(i32.const 17)", "(i32.const 1)")).options("string-encoding=utf16"),
            &["aligned"],
        ),
        trap(
            "a text whose length in bytes goes round the address space",
            &Guest::new(give(1, "(i32.const 16)", "(i32.const -2)")).options("string-encoding=latin1+utf16"),
            &["out of bounds"],
        ),
        trap(
            "a text of 2 GiB of UTF-16",
            &Guest::new(give(1, "(i32.const 16)", "(i32.const 0x7fffffff)")).options("string-encoding=utf16"),
            &["out of bounds"],
        ),
        trap("a post-return function that traps", &Guest::new("(i32.const 0)").post("(unreachable)"), &["unreachable"]),
        trap(
            "a post-return function that calls the host",
            &Guest::new("(i32.const 0)").post("(drop (call $stdout))").host(),
            &["cannot leave component instance"],
        ),
    ]
}

fn allocators() -> Vec<Case> {
    let give_nothing = || Guest::new("(i32.const 0)");
    vec![
        trap("an allocation beyond the memory", &give_nothing().realloc("(i32.const -1)"), &["realloc"]),
        trap("an allocation that ends beyond the memory", &give_nothing().realloc("(i32.const 65533)"), &["realloc"]),
        trap("an allocator that traps", &give_nothing().realloc("(unreachable)"), &["unreachable"]),
        trap(
            "an allocator that calls the host",
            &give_nothing().own_realloc("(drop (call $now)) (i32.const 0)").host(),
            &["cannot leave component instance"],
        ),
        trap(
            "an allocator that calls the host, which asked it to allocate",
            &Guest::new("(call $random (i64.const 16) (i32.const 64)) (i32.const 0)")
                .own_realloc("(call $random (i64.const 16) (i32.const 64)) (i32.const 128)")
                .host(),
            &["cannot leave component instance"],
        ),
        trap(
            "an allocation for the host beyond the memory",
            &Guest::new("(call $random (i64.const 16) (i32.const 64)) (i32.const 0)")
                .own_realloc("(i32.const 128)")
                .realloc("(i32.const 0x7fffffff)")
                .host(),
            &["realloc"],
        ),
        trap(
            "a place for the host's answer beyond the memory",
            &Guest::new("(call $random (i64.const 16) (i32.const -8)) (i32.const 0)").host(),
            &["out of bounds", "out-of-bounds"],
        ),
        trap(
            "a place for the host's answer that is not aligned",
            &Guest::new("(call $random (i64.const 16) (i32.const 65)) (i32.const 0)").host(),
            &["aligned"],
        ),
        Case::call(
            THREAT,
            "an allocation on top of the result",
            Guest::new(give(0, "(local.get $in)", "(i32.const 4)")).realloc("(i32.const 0)").build(),
            // The memory is the guest's own: what it overwrites is its business.
            Expect::Reply(&[0; 4]),
        ),
        Case::call(
            THREAT,
            "an allocator that grows the memory",
            Guest::new(give(0, "(local.get $in)", "(local.get $len)"))
                .realloc("(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))")
                .build(),
            Expect::Reply(b"input"),
        ),
    ]
}

fn handles() -> Vec<Case> {
    let host = |name, body: &str, texts| trap(name, &Guest::new(format!("{body} (i32.const 0)")).host(), texts);
    vec![
        host("a handle that was never given", "(call $block (i32.const 12345))", &["unknown handle index"]),
        host("the handle 0", "(call $block (i32.const 0))", &["unknown handle index"]),
        host("the greatest handle", "(call $forget (i32.const -1))", &["unknown handle index"]),
        host(
            "a handle that is dropped twice",
            "(local $h i32) (local.set $h (call $after (i64.const 0))) (call $forget (local.get $h)) (call $forget (local.get $h))",
            &["unknown handle index"],
        ),
        host(
            "a handle that was dropped",
            "(local $h i32) (local.set $h (call $after (i64.const 0))) (call $forget (local.get $h)) (call $block (local.get $h))",
            &["unknown handle index"],
        ),
        host("a handle of another type", "(call $block (call $stdout))", &["wrong type", "handle index"]),
        host(
            "a handle of another type that is dropped",
            "(call $forget (call $stdout))",
            &["wrong type", "handle index"],
        ),
        host(
            "a stream that is dropped before what waits for it",
            "(local $out i32) (local $h i32)
             (local.set $out (call $stdout)) (local.set $h (call $writable (local.get $out)))
             (call $close (local.get $out)) (call $block (local.get $h))",
            &["child"],
        ),
    ]
}

fn between_components() -> Vec<Case> {
    let trap =
        |name, pair: Pair, texts| Case::call(THREAT, name, pair.build().limits(limits(1000, 64)), Expect::Trap(texts));
    let between = |run, encoding| strings(run, encoding).limits(limits(1000, 64));
    const BOUNDS: &[&str] = &["out of bounds", "out-of-bounds", "overflow", "unreachable", "too large"];
    vec![
        trap(
            "a list whose size goes round the address space",
            pair("(list u32)", "i32 i32", "(call $give (i32.const 0) (i32.const 0x40000001))"),
            BOUNDS,
        ),
        trap(
            "a list of large records whose size goes round the address space",
            pair("(list (tuple u64 u64 u64 u64))", "i32 i32", "(call $give (i32.const 0) (i32.const 0x08000001))"),
            BOUNDS,
        ),
        trap("a list of -1 elements", pair("(list u8)", "i32 i32", "(call $give (i32.const 0) (i32.const -1))"), BOUNDS),
        trap(
            "a list that is not aligned",
            pair("(list u32)", "i32 i32", "(call $give (i32.const 2) (i32.const 4))"),
            &["unaligned", "aligned", "unreachable"],
        ),
        trap(
            "an allocator of the other that gives what is not aligned",
            Pair {
                realloc: "(i32.const 1026)",
                ..pair("(list u32)", "i32 i32", "(call $give (i32.const 0) (i32.const 4))")
            },
            &["unaligned", "aligned", "unreachable"],
        ),
        trap(
            "an allocator of the other that gives what is beyond its memory",
            Pair { realloc: "(i32.const -8)", ..pair("(list u32)", "i32 i32", "(call $give (i32.const 0) (i32.const 4))") },
            BOUNDS,
        ),
        trap("a character that is a surrogate", pair("char", "i32", "(call $give (i32.const 0xd800))"), &["char"]),
        trap("a character beyond Unicode", pair("char", "i32", "(call $give (i32.const 0x110000))"), &["char"]),
        trap(
            "a case that the variant does not have",
            pair("(result u32 (error u32))", "i32 i32", "(call $give (i32.const 2) (i32.const 0))"),
            &["discriminant", "unreachable"],
        ),
        trap(
            "a call of another component that traps",
            Pair { take: "(unreachable)", ..pair("u32", "i32", "(call $give (i32.const 0))") },
            &["unreachable"],
        ),
        Case::call(
            THREAT,
            "a text of another component beyond its memory",
            between("(call $give (i32.const 131000) (i32.const 1000))", "utf16"),
            Expect::Trap(BOUNDS),
        ),
        Case::call(
            THREAT,
            "a text of another component that is no UTF-8",
            between("(i32.store (i32.const 0) (i32.const -1)) (call $give (i32.const 0) (i32.const 4))", "utf16"),
            Expect::Trap(&["utf", "UTF", "invalid"]),
        ),
        Case::call(
            THREAT,
            "a text of 2 GiB for another component",
            between("(call $give (i32.const 0) (i32.const 0x7fffffff))", "latin1"),
            Expect::Trap(&["string", "out of bounds", "out-of-bounds", "too large", "overflow"]),
        ),
        Case::call(
            THREAT,
            "a thousand texts that are one, 128 KiB each, for another component",
            Pair {
                realloc: "(local $at i32)
                    (local.set $at (memory.grow (i32.shr_u (i32.add (local.get 3) (i32.const 65535)) (i32.const 16))))
                    (if (i32.eq (local.get $at) (i32.const -1)) (then (unreachable)))
                    (i32.mul (local.get $at) (i32.const 65536))",
                ..pair(
                    "(list string)",
                    "i32 i32",
                    "(local $at i32)
                     (loop $again
                       (i32.store (i32.add (i32.const 65536) (local.get $at)) (i32.const 0))
                       (i32.store (i32.add (i32.const 65540) (local.get $at)) (i32.const 131072))
                       (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 8000))))
                     (call $give (i32.const 65536) (i32.const 1000))",
                )
            }
            .build()
            .limits(limits(5000, 16)),
            Expect::Limit(LimitKind::Memory),
        ),
    ]
}
