//! Code that takes the compiler long.

use scf_core::Function;

use super::{
    Attack, Case,
    guest::{Guest, component, hostile},
    limits,
};

pub(super) const THREAT: &str = "compile bomb";

fn fields(fields: String) -> Function {
    Guest::new("(i32.const 0)").fields(fields).build().limits(limits(1000, 64))
}

pub(super) fn cases() -> Vec<Case> {
    let either = |name, function| Case::new(THREAT, name, Attack::Either(function));
    let screened = |name, function, words| Case::screened(THREAT, name, function, words);
    let nested = |depth: usize, open: &str, close: &str| format!("{}{}", open.repeat(depth), close.repeat(depth));
    vec![
        screened("25,000 functions", fields("(func)".repeat(25_000)), &["functions"]),
        either("a function of 400,000 operations", {
            let body = "local.get 0 i64.add local.get 0 i64.mul ".repeat(100_000);
            fields(format!("(func (param i64) (result i64) local.get 0 {body})"))
        }),
        screened(
            "a branch with 200,000 targets",
            fields(format!("(func (param i32) (block (br_table {} (local.get 0))))", "0 ".repeat(200_000))),
            &["branches", "br_table"],
        ),
        either("blocks 20,000 deep", fields(format!("(func {})", nested(20_000, "block ", "end ")))),
        either("conditions 5,000 deep", fields(format!("(func {})", nested(5_000, "i32.const 1 if ", "end ")))),
        screened("50,000 local variables", fields(format!("(func (local {}))", "i64 ".repeat(50_000))), &["locals"]),
        either("a call of 50 arguments, 3,000 times", {
            let call = format!("{} call $g ", "local.get 0 ".repeat(50));
            fields(format!("(func $g (param {})) (func (local i64) {})", "i64 ".repeat(50), call.repeat(3_000)))
        }),
        screened(
            "25,000 types",
            fields(
                (0..25_000)
                    .map(|i| {
                        let bits: String = (0..16).map(|b| if i >> b & 1 == 1 { "i64 " } else { "i32 " }).collect();
                        format!("(type (func (param {bits})))")
                    })
                    .collect(),
            ),
            &["types"],
        ),
        screened("12,000 globals", fields("(global i32 (i32.const 0))".repeat(24_000)), &["globals"]),
        screened("24,000 pieces of data", fields("(data (i32.const 0) \"a\")".repeat(24_000)), &["segments"]),
        either("a function that loads 3,000 values and keeps them all", {
            let sum = "i64.add ".repeat(3_000 - 1);
            let loads: String = (0..3_000).map(|i| format!("i32.const {} i64.load ", i % 60_000)).collect();
            fields(format!("(func (result i64) {loads} {sum})"))
        }),
        Case::deploy(
            THREAT,
            "components 2,000 deep",
            Function::component(hostile(), nested_components(2_000), "f"),
            &["not valid", "depth", "is not there"],
        ),
        screened(
            "modules of a component, 1,000 of them",
            component(&format!("(component {})", "(core module (func))".repeat(1_000))),
            &["modules"],
        ),
        either("a type that doubles 60 times", {
            // Each tuple has the one before twice: the last one would have 2^60 fields.
            let types: String = (1..60).map(|i| format!("(type $t{i} (tuple $t{0} $t{0}))", i - 1)).collect();
            component(&format!("(component (type $t0 (tuple u8 u8)) {types} (import \"x\" (func (param \"x\" $t59))))"))
        }),
        either("a type that is 5,000 lists deep", {
            let types: String = (1..5_000).map(|i| format!("(type $t{i} (list $t{}))", i - 1)).collect();
            component(&format!("(component (type $t0 (list u8)) {types} (import \"x\" (func (param \"x\" $t4999))))"))
        }),
        either("an instance with 50,000 functions", {
            let functions: String = (0..50_000).map(|i| format!("(export \"f{i}\" (func))")).collect();
            component(&format!("(component (import \"wasi:cli/stdout@0.2.0\" (instance {functions})))"))
        }),
        Case::deploy(
            THREAT,
            "8 MiB and a byte of code",
            Function::component(hostile(), vec![0; (8 << 20) + 1], "f"),
            &["over the limit", "large"],
        ),
    ]
}

/// Components in each other; written out as a binary, since the text's parser has a limit of its own.
fn nested_components(depth: usize) -> Vec<u8> {
    const HEAD: &[u8] = b"\0asm\x0d\0\x01\0";
    let mut component = HEAD.to_vec();
    for _ in 0..depth {
        let mut outer = HEAD.to_vec();
        outer.push(4);
        let mut length = component.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(component);
        component = outer;
    }
    component
}
