//! Guests that call functions, themselves above all.

use std::time::Duration;

use scf_core::{Function, Grants, Limits};

use super::{
    Attack, Case,
    guest::{component, hostile},
};

const THREAT: &str = "calls of functions";

/// A guest that may call itself by `(call $again)`, and has the body `run`.
///
/// Where guests cannot call functions the import is refused.
fn calling(run: &str) -> Function {
    let limits = Limits { wall: Duration::from_millis(300), cpu: Duration::from_millis(100), ..Limits::default() };
    component(&format!(
        r#"(component
          (import "scf:function/functions@0.1.0" (instance $functions
            (type $error (variant (case "denied") (case "not-found") (case "refused" string) (case "overloaded" u64)
              (case "timed-out") (case "limit") (case "failed" string)))
            (export "invoke-error" (type $invoke-error (eq $error)))
            (export "invoke" (func (param "function" string) (param "key" (option string)) (param "payload" (list u8))
              (result (result (list u8) (error $invoke-error)))))))
          (core module $libc
            (memory (export "memory") 2)
            (data (i32.const 16) "hostile")
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
          (core instance $libc (instantiate $libc))
          (alias core export $libc "memory" (core memory $memory))
          (alias core export $libc "realloc" (core func $realloc))
          (core func $invoke (canon lower (func $functions "invoke") (memory $memory) (realloc $realloc)))
          (core module $m
            (import "libc" "memory" (memory 1))
            (import "host" "invoke" (func $invoke (param i32 i32 i32 i32 i32 i32 i32 i32)))
            (func $again
              (call $invoke (i32.const 16) (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 64)))
            (func (export "run") (param i32 i32) (result i32) {run}))
          (core instance $m (instantiate $m
            (with "libc" (instance $libc)) (with "host" (instance (export "invoke" (func $invoke))))))
          (func (export "f") (param "input" (list u8)) (result (list u8))
            (canon lift (core func $m "run") (memory $memory) (realloc $realloc))))"#
    ))
    .grants(Grants { functions: vec![hostile()], ..Grants::default() })
    .limits(limits)
}

pub(super) fn cases() -> Vec<Case> {
    let harmless = |name, run| Case::new(THREAT, name, Attack::Either(calling(run)));
    vec![
        harmless("a guest that calls itself", "(call $again) (i32.const 0)"),
        harmless("a guest that calls itself twice, as do these", "(call $again) (call $again) (i32.const 0)"),
        harmless("a guest that calls itself for ever", "(loop $loop (call $again) (br $loop)) (unreachable)"),
        harmless("a guest that calls itself and then spins", "(call $again) (loop $loop (br $loop)) (unreachable)"),
        harmless(
            "a guest that runs long before it calls itself, as do these",
            "(local $count i32)
             (loop $loop
               (local.set $count (i32.add (local.get $count) (i32.const 1)))
               (br_if $loop (i32.lt_u (local.get $count) (i32.const 4000000))))
             (call $again) (i32.const 0)",
        ),
        Case::new(
            THREAT,
            "a guest that calls a function it was not granted",
            Attack::Either(calling("(call $again) (i32.const 0)").grants(Grants::default())),
        ),
    ]
}
