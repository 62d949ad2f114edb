//! Guests whose words are meant for a terminal, a log or whoever reads it.

use futures::FutureExt;
use scf_core::Function;

use super::{
    Attack, Case, Expect,
    guest::{Guest, answer, component, give, hostile},
    refused_for,
    site::native,
};

const THREAT: &str = "log and terminal injection";
/// Clears the screen, colours what follows, ends the line, forges the next, turns the direction of writing.
const WORDS: &str = "\\1b[2J\\1b[31mred\\0d\\0a2026-01-01 INFO all is well\\c2\\9b1m\\07\\e2\\80\\ae";
/// Bytes of it.
const LENGTH: u32 = 49;

pub(super) fn cases() -> Vec<Case> {
    let words = format!("(data (i32.const 16) \"{WORDS}\")");
    let prints = |call: &str| {
        Guest::new(format!(
            "(call ${call} (call $stdout) (i32.const 16) (i32.const {LENGTH}) (i32.const 128)) {}",
            answer("(i32.load8_u (i32.const 128))")
        ))
        .fields(words.clone())
        .host()
        .build()
    };
    vec![
        Case::call(
            THREAT,
            "control sequences in a refusal",
            Guest::new(give(1, "(i32.const 16)", &format!("(i32.const {LENGTH})"))).fields(words.clone()).build(),
            Expect::Refused("\\u{1b}[2J\\u{1b}[31mred\\r\\n2026-01-01 INFO all is well\\u{9b}1m\\u{7}\\u{202e}"),
        ),
        Case::call(THREAT, "control sequences on stdout", prints("print"), Expect::Reply(&[0; 4])),
        Case::new(
            THREAT,
            "half a control sequence, and the other half",
            Attack::Story(|site| {
                async move {
                    let halves = Guest::new(format!(
                        "(local $out i32) (local.set $out (call $stdout))
                         (call $print (local.get $out) (i32.const 16) (i32.const 1) (i32.const 128))
                         (call $print (local.get $out) (i32.const 17) (i32.const 1) (i32.const 128))
                         (call $print (local.get $out) (i32.const 18) (i32.const 3) (i32.const 128)) {}",
                        answer("(i32.load8_u (i32.const 128))")
                    ));
                    // The two bytes of U+009B come apart.
                    let halves = halves.fields("(data (i32.const 16) \"\\c2\\9b1m\\0a\")").host().build();
                    site.deploy(&halves).await?;
                    let before = site.log.bytes();
                    Expect::Reply(&[0; 4]).check(&site.call(b"").await)?;
                    if site.log.bytes() > before { Ok(()) } else { Err("nothing was logged".into()) }
                }
                .boxed()
            }),
        ),
        Case::call(
            THREAT,
            "control sequences in the names of functions",
            Guest::new("(call $f) (i32.const 0)")
                .fields(format!("(func $f (@name \"{WORDS}\") (unreachable))"))
                .build(),
            Expect::Trap(&["unreachable"]),
        ),
        Case::deploy(
            THREAT,
            "control sequences in the names of imports",
            component(&format!("(component (core module (import \"{WORDS}\" \"{WORDS}\" (func)) (func (drop (i32.const)))))").replace("(drop (i32.const))", "")),
            &["is not there"],
        ),
        Case::deploy(
            THREAT,
            "control sequences where the compiler quotes them",
            component(&format!(
                "(component (core module $m (import \"{WORDS}\" \"{WORDS}\" (func))) (core instance (instantiate $m (with \"{WORDS}\" (instance)))))"
            ).replace("(instance)", "(instance (export \"x\" (func $x)))").replace("(component ", "(component (core module $x (func (export \"x\"))) (core instance $x (instantiate $x)) (alias core export $x \"x\" (core func $x)) ")),
            &["not valid"],
        ),
        Case::new(
            THREAT,
            "control sequences as the name of the export",
            Attack::Story(|site| {
                async move {
                    let scf_core::Code::Component { bytes, .. } = Guest::new("(i32.const 0)").build().code else {
                        return Err("it is a component".into());
                    };
                    let asked = "\u{1b}[31mf\r\n2026-01-01 INFO\u{202e}";
                    match site.fabric.deploy(Function::component(hostile(), bytes, asked)).await {
                        Err(error) => refused_for(&error, &["is not there"]),
                        Ok(_) => Err("it was deployed".into()),
                    }
                }
                .boxed()
            }),
        ),
        Case::call(THREAT, "control sequences in a panic", native("panics"), Expect::Trap(&["\\u{1b}[31mno\\n2026"])),
    ]
}
