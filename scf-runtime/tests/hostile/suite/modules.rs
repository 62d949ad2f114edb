//! Code that is no component, or one that asks for what this runtime leaves out.

use futures::FutureExt;
use scf_core::Function;

use super::{
    Attack, Case,
    guest::{Guest, component, hostile},
    refused_for,
    site::Site,
};

const THREAT: &str = "modules";

fn bytes(bytes: impl Into<Vec<u8>>) -> Function {
    Function::component(hostile(), bytes.into(), "f")
}

/// A component with a core module of `fields`.
fn with_module(fields: &str) -> Function {
    component(&format!("(component (core module {fields}))"))
}

/// A component that imports `import`, with what `import` has.
fn importing(import: &str) -> Function {
    component(&format!(
        r#"(component {import}
          (core module $m (memory (export "memory") 1)
            (func (export "run") (param i32 i32) (result i32) (i32.const 0))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
          (core instance $i (instantiate $m))
          (func (export "f") (param "input" (list u8)) (result (list u8))
            (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#
    ))
}

fn code(function: &Function) -> Vec<u8> {
    match &function.code {
        scf_core::Code::Component { bytes, .. } => bytes.to_vec(),
        _ => Vec::new(),
    }
}

/// A generator that gives the same numbers every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Deploys code that must be refused or, where what was changed does not matter, be harmless.
async fn try_code(site: &Site, code: Vec<u8>) -> Result<(), String> {
    match site.fabric.deploy(bytes(code)).await {
        Err(error) => refused_for(&error, &[""]),
        Ok(_) => site.call(b"").await.map(drop).or_else(|error| super::clean(&error.to_string())),
    }
}

async fn every_truncation(site: &Site) -> Result<(), String> {
    let whole = code(&Guest::new("(i32.const 0)").build());
    for length in 0..whole.len() {
        // Where only names at the end are missing it is a component all the same.
        try_code(site, whole[..length].to_vec()).await.map_err(|problem| format!("{length} bytes: {problem}"))?;
    }
    Ok(())
}

async fn flipped_bits(site: &Site) -> Result<(), String> {
    let whole = code(&Guest::new("(i32.const 0)").build());
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..300 {
        let mut flipped = whole.clone();
        let bit = numbers.next() as usize % (flipped.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        try_code(site, flipped).await.map_err(|problem| format!("bit {bit}: {problem}"))?;
    }
    Ok(())
}

async fn random_bytes(site: &Site) -> Result<(), String> {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for round in 0..200_usize {
        let mut code = b"\0asm\x0d\0\x01\0".to_vec();
        code.truncate(if round % 4 == 0 { 0 } else { 8 });
        code.extend((0..round * 7).map(|_| numbers.next() as u8));
        try_code(site, code).await.map_err(|problem| format!("round {round}: {problem}"))?;
    }
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    let deploy = |name, function, words| Case::deploy(THREAT, name, function, words);
    let leb_4_gib = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let section = |id: u8| {
        let mut code = b"\0asm\x0d\0\x01\0".to_vec();
        code.push(id);
        code.extend(leb_4_gib);
        code
    };
    let mut counts = b"\0asm\x0d\0\x01\0\x07\x05".to_vec();
    counts.extend(leb_4_gib);
    vec![
        deploy("no bytes", bytes([]), &["not valid"]),
        deploy("a text", bytes(*b"(component)"), &["not valid"]),
        deploy(
            "a program of this machine",
            bytes(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"),
            &["not valid", "artefact"],
        ),
        deploy(
            "a core module",
            bytes(wat::parse_str("(module (func (export \"f\")))").unwrap()),
            &["not valid", "component"],
        ),
        deploy("a section of 4 GiB that is not there", bytes(section(1)), &["not valid"]),
        deploy("4 billion types that are not there", bytes(counts), &["not valid"]),
        Case::new(THREAT, "every beginning of a component", Attack::Story(|site| every_truncation(site).boxed())),
        Case::new(THREAT, "300 components with a bit flipped", Attack::Story(|site| flipped_bits(site).boxed())),
        Case::new(THREAT, "200 times random bytes", Attack::Story(|site| random_bytes(site).boxed())),
        deploy("nothing to call", component("(component)"), &["is not there"]),
        deploy(
            "an import of an interface of its own",
            importing("(import \"acme:door/lock@1.0.0\" (instance))"),
            &["acme:door/lock@1.0.0"],
        ),
        Case::new(
            THREAT,
            "an import of sockets",
            Attack::Either(importing("(import \"wasi:sockets/tcp@0.2.0\" (instance))")),
        ),
        deploy("an import of a function", importing("(import \"open-the-door\" (func))"), &["open-the-door"]),
        deploy(
            "an import of a WASI that there will be",
            importing("(import \"wasi:cli/stdout@0.9.0\" (instance))"),
            &["wasi:cli/stdout@0.9.0"],
        ),
        deploy("an import of a core module", importing("(import \"code\" (core module))"), &["code"]),
        deploy(
            "an import of WASI with a function that it does not have",
            importing("(import \"wasi:cli/stdout@0.2.0\" (instance (export \"burn\" (func))))"),
            &["burn", "stdout"],
        ),
        deploy(
            "an import of WASI with a function of another type",
            importing(
                "(import \"wasi:clocks/monotonic-clock@0.2.0\" (instance (export \"now\" (func (param \"x\" string)))))",
            ),
            &["now", "monotonic-clock"],
        ),
        deploy("shared memory", with_module("(memory 1 1 shared)"), &["threads", "shared"]),
        deploy(
            "atomic operations",
            with_module("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))"),
            &["threads", "atomic"],
        ),
        deploy("64-bit memory", with_module("(memory i64 1)"), &["memory64", "64-bit"]),
        Case::screened(
            THREAT,
            "several memories in one module",
            Guest::new("(i32.const 0)").fields("(memory 1) (memory 1)").build(),
            &["multi-memory"],
        ),
        deploy("tail calls", with_module("(func $f (return_call $f))"), &["tail"]),
        deploy("garbage collection", with_module("(type (struct (field i32)))"), &["gc"]),
        deploy(
            "typed function references",
            with_module("(type $t (func)) (func (param (ref $t)))"),
            &["function references", "function-references", "gc"],
        ),
        deploy("exceptions", with_module("(tag (param i32))"), &["exception"]),
        deploy(
            "stack switching",
            with_module("(type $f (func)) (type $k (cont $f))"),
            &["stack switching", "stack-switching", "cont"],
        ),
        deploy(
            "relaxed vector operations",
            with_module("(func (param v128) (drop (i32x4.relaxed_trunc_f32x4_s (local.get 0))))"),
            &["relaxed"],
        ),
        deploy(
            "128-bit arithmetic",
            with_module("(func (drop (drop (i64.add128 (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)))))"),
            &["wide"],
        ),
        deploy("pages of one byte", with_module("(memory 1 (pagesize 1))"), &["page size", "custom-page-sizes"]),
        deploy("async functions", component("(component (type (func async)) )"), &["async"]),
        deploy("futures and streams", component("(component (type (stream u8)))"), &["async"]),
        deploy(
            "a component that runs when it is loaded",
            component(
                r#"(component (core module $m (func (export "run"))) (core instance $i (instantiate $m))
               (func $f (canon lift (core func $i "run"))) (start $f))"#,
            ),
            &["start", "values", "not valid"],
        ),
    ]
}
