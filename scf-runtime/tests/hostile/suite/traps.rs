//! Guests that crash.

use super::{Case, Expect, guest::Guest, site::native};

const THREAT: &str = "traps";

pub(super) fn cases() -> Vec<Case> {
    let trap = |name, fields: &str, body: &str, texts| {
        let body = format!("{body} (i32.const 0)");
        Case::call(THREAT, name, Guest::new(body).fields(fields).build(), Expect::Trap(texts))
    };
    vec![
        trap("unreachable", "", "(unreachable)", &["unreachable"]),
        trap(
            "division by zero",
            "",
            "(drop (i32.div_s (i32.const 1) (i32.sub (local.get $len) (i32.const 5))))",
            &["divide by zero"],
        ),
        trap("remainder of zero", "", "(drop (i64.rem_u (i64.const 1) (i64.const 0)))", &["divide by zero"]),
        trap(
            "the quotient that does not fit",
            "",
            "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))",
            &["overflow"],
        ),
        trap("a float that is no integer", "", "(drop (i32.trunc_f64_s (f64.const nan)))", &["integer"]),
        trap("a float that is too large", "", "(drop (i64.trunc_f32_u (f32.const 1e30)))", &["overflow"]),
        trap("a load beyond the memory", "", "(drop (i32.load (i32.const 65533)))", &["out of bounds"]),
        trap(
            "a load at the end of the address space",
            "",
            "(drop (i64.load offset=0xffffffff (i32.const -1)))",
            &["out of bounds"],
        ),
        trap("a store beyond the memory", "", "(i32.store (i32.const -4) (i32.const 1))", &["out of bounds"]),
        trap(
            "a fill beyond the memory",
            "",
            "(memory.fill (i32.const 65535) (i32.const 1) (i32.const 2))",
            &["out of bounds"],
        ),
        trap(
            "a copy from beyond the memory",
            "",
            "(memory.copy (i32.const 0) (i32.const 1) (i32.const -1))",
            &["out of bounds"],
        ),
        trap(
            "data that was dropped",
            "(data $d \"abc\")",
            "(data.drop $d) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3))",
            &["out of bounds"],
        ),
        trap("data that begins beyond the memory", "(data (i32.const 65535) \"abc\")", "", &["out of bounds"]),
        trap("a vector beyond the memory", "", "(drop (v128.load (i32.const 65528)))", &["out of bounds"]),
        trap("a call of nothing", "(table 1 funcref)", "(call_indirect (i32.const 0))", &["uninitialized"]),
        trap(
            "a call beyond the table",
            "(table 1 funcref)",
            "(call_indirect (i32.const 1))",
            &["undefined element", "out of bounds"],
        ),
        trap(
            "a call of another type",
            "(table funcref (elem $f)) (func $f (param i64))",
            "(call_indirect (i32.const 0))",
            &["type mismatch"],
        ),
        trap(
            "an element beyond the table",
            "(table 1 funcref)",
            "(table.set (i32.const 9) (ref.null func))",
            &["out of bounds"],
        ),
        trap(
            "elements that begin beyond the table",
            "(table 1 funcref) (func $f) (elem (i32.const 1) $f)",
            "",
            &["out of bounds"],
        ),
        trap(
            "elements that were dropped",
            "(table 1 funcref) (func $f) (elem $e func $f)",
            "(elem.drop $e) (table.init $e (i32.const 0) (i32.const 0) (i32.const 1))",
            &["out of bounds"],
        ),
        Case::call(
            THREAT,
            "a native function that panics",
            native("panics"),
            Expect::Trap(&["no\\n2026-01-01 INFO all is well"]),
        ),
    ]
}
