//! Guests that make the host allocate.

use futures::FutureExt;
use scf_core::{ByteSize, InvokeError, LimitKind, Limits};

use super::{
    Attack, Case, Expect,
    guest::{Guest, answer, give, hostile},
    limits,
};

const THREAT: &str = "memory of the host";

/// The guest prints 4 KiB of `y`, 2,000 times.
fn chatter() -> Guest {
    Guest::new(format!(
        "(local $out i32) (local $left i32)
         (memory.fill (i32.const 8192) (i32.const 121) (i32.const 4096))
         (local.set $out (call $stdout)) (local.set $left (i32.const 2000))
         (loop $again
           (call $print (local.get $out) (i32.const 8192) (i32.const 4096) (i32.const 64))
           (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
         {}",
        answer("(i32.load8_u (i32.const 64))")
    ))
    .host()
}

pub(super) fn cases() -> Vec<Case> {
    let host = |name, guest: Guest, expect| Case::call(THREAT, name, guest.build().limits(limits(2000, 64)), expect);
    let trap_or = |text| Expect::LimitOrTrap(LimitKind::HostMemory, text);
    let refuse = |length: &str| Guest::new(give(1, "(i32.const 16)", length)).memory("1000");
    vec![
        Case::call(
            THREAT,
            "a reply of 60 MiB, far over the limit of payloads",
            Guest::new(give(0, "(i32.const 0)", "(i32.const 62914560)")).memory("1000").build(),
            Expect::Either(LimitKind::Output, LimitKind::HostMemory),
        ),
        host(
            "a reply of 4 GiB",
            Guest::new(give(0, "(i32.const 0)", "(i32.const -1)")),
            Expect::Trap(&["out of bounds", "pointer"]),
        ),
        Case::call(
            THREAT,
            "a reply over the limit of payloads",
            Guest::new(give(0, "(i32.const 0)", "(i32.const 20971520)"))
                .memory("1000")
                .build()
                .limits(Limits { payload: ByteSize::from_mib(16), ..limits(2000, 64) }),
            Expect::Limit(LimitKind::Output),
        ),
        host("a refusal of 10 MiB", refuse("(i32.const 10485760)"), Expect::LimitOrRefused(LimitKind::HostMemory, "…")),
        host("a refusal of 60 MiB", refuse("(i32.const 62914560)"), Expect::LimitOrRefused(LimitKind::HostMemory, "…")),
        host(
            "4 GiB of random numbers",
            Guest::new("(call $random (i64.const 4294967296) (i32.const 64)) (i32.const 0)").host(),
            trap_or(""),
        ),
        host(
            "16 EiB of insecure random numbers",
            Guest::new("(call $insecure (i64.const -1) (i32.const 64)) (i32.const 0)").host(),
            trap_or(""),
        ),
        host(
            "a million handles to wait for at once",
            Guest::new(
                "(local $handle i32) (local $at i32)
                 (local.set $handle (call $writable (call $stdout)))
                 (loop $again
                   (i32.store (i32.add (i32.const 65536) (local.get $at)) (local.get $handle))
                   (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const 40000000))))
                 (call $poll (i32.const 65536) (i32.const 10000000) (i32.const 64))
                 (i32.const 0)",
            )
            .memory("1000")
            .host(),
            trap_or(""),
        ),
        host(
            "a list of nothing to wait for",
            Guest::new("(call $poll (i32.const 0) (i32.const 0) (i32.const 64)) (i32.const 0)").host(),
            Expect::Trap(&[""]),
        ),
        host(
            "50 MiB written to stdout at once",
            Guest::new("(call $print (call $stdout) (i32.const 0) (i32.const 52428800) (i32.const 64)) (i32.const 0)")
                .memory("1000")
                .host(),
            trap_or(""),
        ),
        host(
            "16 EiB of zeros written to stdout",
            Guest::new("(call $zeroes (call $stdout) (i64.const -1) (i32.const 64)) (i32.const 0)").host(),
            trap_or(""),
        ),
        host(
            "more read from stdin than there can be",
            Guest::new(format!(
                "(call $read (call $stdin) (i64.const -1) (i32.const 64)) {}",
                answer("(i32.load8_u (i32.const 64))")
            ))
            .host(),
            // The stream is closed.
            Expect::Reply(&[1, 0, 0, 0]),
        ),
        Case::new(
            THREAT,
            "8 MiB printed line after line",
            Attack::Story(|site| {
                async move {
                    site.deploy(&chatter().build().limits(limits(5000, 64))).await?;
                    let before = site.log.bytes();
                    Expect::Reply(&[0; 4]).check(&site.call(b"").await)?;
                    let logged = site.log.bytes() - before;
                    if logged < 100 << 10 { Ok(()) } else { Err(format!("{logged} bytes were logged")) }
                }
                .boxed()
            }),
        ),
        Case::new(
            THREAT,
            "input over the limit of payloads",
            Attack::Story(|site| {
                async move {
                    let small = Limits { payload: ByteSize::from_kib(1), ..Limits::default() };
                    site.deploy(&Guest::new("(unreachable)").build().limits(small)).await?;
                    match site.call(&[0; 1025]).await {
                        Err(InvokeError::Limit { limit: LimitKind::Input, .. }) => Ok(()),
                        other => Err(format!("expected the input limit, found {other:?}")),
                    }
                }
                .boxed()
            }),
        ),
        Case::new(
            THREAT,
            "a name of a megabyte",
            Attack::Story(|site| {
                async move {
                    let mut function = Guest::new("(i32.const 0)").build();
                    let scf_core::Code::Component { bytes, .. } = function.code else {
                        return Err("it is a component".into());
                    };
                    function = scf_core::Function::component(hostile(), bytes, "x".repeat(1 << 20));
                    match site.fabric.deploy(function).await {
                        Err(error) => super::refused_for(&error, &["is not there"]),
                        Ok(_) => Err("it was deployed".into()),
                    }
                }
                .boxed()
            }),
        ),
    ]
}
