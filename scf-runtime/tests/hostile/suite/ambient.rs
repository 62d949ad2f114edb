//! Guests that look for what was not granted.

use scf_core::{Function, LimitKind};

use super::{
    Case, Expect,
    guest::{Guest, answer, give},
    limits,
};

const THREAT: &str = "what was not granted";

/// Answers with the number of elements of the list that `call` writes to 64.
fn counts(call: &str) -> Function {
    Guest::new(format!("(call ${call} (i32.const 64)) {}", answer("(i32.load (i32.const 68))"))).host().build()
}

pub(super) fn cases() -> Vec<Case> {
    let none = Expect::Reply(&[0; 4]);
    let exits = |name, status: u32| {
        let function = Guest::new(format!("(call $exit (i32.const {status})) (i32.const 0)")).host().build();
        Case::call(THREAT, name, function, Expect::Trap(&["exit"]))
    };
    vec![
        Case::call(THREAT, "folders", counts("folders"), none),
        Case::call(THREAT, "environment variables", counts("environment"), none),
        Case::call(THREAT, "arguments", counts("arguments"), none),
        Case::call(
            THREAT,
            "standard input",
            Guest::new(format!(
                "(call $read (call $stdin) (i64.const 100) (i32.const 64)) {}",
                // The case of the result and that of the error: closed.
                answer("(i32.or (i32.load8_u (i32.const 64)) (i32.shl (i32.load8_u (i32.const 68)) (i32.const 8)))")
            ))
            .host()
            .build(),
            Expect::Reply(&[1, 1, 0, 0]),
        ),
        Case::call(
            THREAT,
            "a splice from standard input to standard output",
            Guest::new(format!(
                "(call $splice (call $stdout) (call $stdin) (i64.const -1) (i32.const 64)) {}",
                answer("(i32.load8_u (i32.const 64))")
            ))
            .host()
            .build()
            .limits(limits(1000, 64)),
            Expect::Reply(&[1, 0, 0, 0]),
        ),
        exits("an exit of the process with success", 0),
        exits("an exit of the process with failure", 1),
        clock(),
        Case::call(
            THREAT,
            "random numbers, as many as it may",
            Guest::new(format!(
                "(call $random (i64.const 65536) (i32.const 64)) {}",
                give(0, "(i32.load (i32.const 64))", "(i32.load (i32.const 68))")
            ))
            .memory("4")
            .host()
            .build(),
            Expect::Length(65536),
        ),
        Case::call(
            THREAT,
            "more random numbers than it may",
            Guest::new("(call $random (i64.const 65537) (i32.const 64)) (i32.const 0)").memory("4").host().build(),
            Expect::LimitOrTrap(LimitKind::HostMemory, ""),
        ),
    ]
}

/// Reads the clock, computes, reads it again, and answers whether the two differ.
///
/// A clock that stands still during a call gives nothing to time a neighbour's cache lines by.
fn clock() -> Case {
    let times = Guest::new(format!(
        "(local $first i64) (local $left i32)
         (local.set $first (call $now)) (local.set $left (i32.const 100000))
         (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
         {}",
        answer("(i64.ne (call $now) (local.get $first))")
    ));
    let passes: &[u8] = if super::CLOCK_STANDS { &[0; 4] } else { &[1, 0, 0, 0] };
    let name = "time that passes between two looks at the clock";
    Case::call(THREAT, name, times.host().build(), Expect::Reply(passes))
}
