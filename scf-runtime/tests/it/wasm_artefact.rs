//! Signed artefacts.

use scf_core::{Function, IsolateFactory, PrepareError};
use scf_runtime::{ArtefactSigner, Cpu, Profile, WasmBuilder, WasmError, WasmFactory};

use crate::{
    support::{name, run},
    wasm::{component, guest},
};

const SECRET: [u8; 32] = [7; 32];

fn signer() -> ArtefactSigner {
    ArtefactSigner::new(&SECRET)
}

fn builder() -> WasmBuilder {
    WasmFactory::builder().instances(4).trust(signer().verifying_key())
}

fn bytes(of: &Function) -> bytes::Bytes {
    let scf_core::Code::Component { bytes, .. } = &of.code else { panic!("it is a component") };
    bytes.clone()
}

fn signed(signer: &ArtefactSigner, of: &Function) -> Function {
    Function::component(of.name.clone(), signer.sign(&bytes(of)).unwrap(), of.name.as_str())
}

async fn problem(factory: &WasmFactory, function: &Function) -> String {
    match factory.prepare(function).await.unwrap_err() {
        PrepareError::Artefact { function: named, problem } => {
            assert_eq!(named, function.name);
            problem
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_trusted_key_signed_runs_without_being_compiled() {
    let factory = builder().build().unwrap();
    for cpu in [Cpu::Baseline, Cpu::Host] {
        let echo = signed(&signer().cpu(cpu), &guest("echo", "echo"));
        assert_eq!(run(&factory, &echo, "x").await.unwrap().payload.bytes, "x", "{cpu:?}");
    }
    let greet = signed(&signer(), &guest("greet", "greet"));
    assert_eq!(run(&factory, &greet, "Zoë").await.unwrap().payload.bytes, "hello, Zoë");
    let counters = factory.counters();
    assert_eq!((counters.compiled, counters.verified, counters.deserialised), (0, 3, 3));
}

#[tokio::test]
async fn an_artefact_of_another_key_or_of_none_that_is_trusted_is_refused() {
    let echo = signed(&ArtefactSigner::new(&[8; 32]), &guest("echo", "echo"));
    let factory = builder().build().unwrap();
    let refused = problem(&factory, &echo).await;
    assert!(refused.starts_with("it was signed with key ") && refused.ends_with(", which is not trusted here"));
    let nobody = WasmFactory::builder().instances(4).build().unwrap();
    assert_eq!(problem(&nobody, &echo).await, "no key is trusted here; give one to WasmBuilder::trust");
    assert_eq!(factory.counters().deserialised + nobody.counters().deserialised, 0);
}

#[tokio::test]
async fn an_artefact_of_another_profile_is_refused() {
    let echo = signed(&signer().profile(Profile::Tiny), &guest("echo", "echo"));
    let factory = builder().build().unwrap();
    assert_eq!(problem(&factory, &echo).await, "it was compiled for the profile Tiny, this is Gateway");
    assert_eq!(factory.counters().deserialised, 0);
    let tiny = builder().profile(Profile::Tiny).memory(scf_core::ByteSize::from_mib(16)).build().unwrap();
    let limits = scf_core::Limits { memory: scf_core::ByteSize::from_mib(16), ..scf_core::Limits::default() };
    assert_eq!(run(&tiny, &echo.limits(limits), "x").await.unwrap().payload.bytes, "x");
}

/// Every bit of magic, head, signature and machine code; a flipped magic makes it no artefact but no component
/// either.
#[tokio::test]
async fn an_artefact_with_any_bit_flipped_is_refused_before_it_is_loaded() {
    let small = component("count", include_str!("wat/count.wat"));
    let artefact = signer().sign(&bytes(&small)).unwrap();
    let factory = builder().build().unwrap();
    for bit in 0..artefact.len() * 8 {
        let mut flipped = artefact.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = factory.prepare(&Function::component(name("count"), flipped, "count")).await.unwrap_err();
        let expected = match bit / 8 {
            0..4 => matches!(error, PrepareError::InvalidCode { .. }),
            _ => matches!(error, PrepareError::Artefact { .. }),
        };
        assert!(expected, "bit {bit}: {error:?}");
    }
    assert_eq!(factory.counters().deserialised, 0);
    assert_eq!(factory.counters().compiled, 0);
    let whole = Function::component(name("count"), artefact, "count");
    assert_eq!(run(&factory, &whole, "").await.unwrap().payload.bytes, "1");
    assert_eq!(factory.counters().deserialised, 1);
}

#[tokio::test]
async fn functions_with_the_same_code_share_it_while_one_of_them_is_there() {
    let factory = builder().build().unwrap();
    let (plain, artefact) = (guest("echo", "echo"), signed(&signer(), &guest("echo", "echo")));
    let mut prepared = Vec::new();
    for number in 0..20 {
        for of in [&plain, &artefact] {
            let mut function = of.clone();
            function.name = name(&format!("echo-{number}"));
            prepared.push(factory.prepare(&function).await.unwrap());
        }
    }
    assert_eq!((factory.counters().compiled, factory.counters().verified), (1, 1));
    drop(prepared);
    drop(factory.prepare(&artefact).await.unwrap());
    assert_eq!((factory.counters().compiled, factory.counters().verified), (1, 2));
}

#[test]
fn a_key_that_is_none_is_refused_at_the_start() {
    let mut identity = [0; 32];
    identity[0] = 1;
    // Not the coordinate of a point; the point that signs everything.
    for key in [[2; 32], identity] {
        let error = WasmFactory::builder().instances(1).trust(key).build().unwrap_err();
        assert!(matches!(error, WasmError::TrustedKey { key: named } if named == key), "{error:?}");
    }
}

#[test]
fn what_is_not_a_component_is_not_signed() {
    assert!(signer().sign(b"\0asm garbage").is_err());
    assert!(signer().sign(&wat::parse_str("(module)").unwrap()).is_err());
    assert!(!format!("{:?}", signer()).contains("7, 7"), "the secret is not printed");
}
