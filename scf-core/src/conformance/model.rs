//! Model blocks.

use std::{sync::Arc, thread};

use crate::{Activation, BlockMemory, Elements, Flow, ModelBlock, ModelError, TensorSpec, WireForm};

/// What every [`ModelBlock`] promises.
///
/// `make` makes an instance, `input` an activation that it takes, the same each time, with its elements in
/// memory. Runs the block about a dozen times.
///
/// # Panics
/// When a promise is broken, with a sentence that says which.
pub fn model_block(make: impl Fn() -> Arc<dyn ModelBlock>, input: impl Fn() -> Activation) {
    let block = make();
    let name = block.name();
    assert!(!name.is_empty() && name.len() <= 64, "a block's name has 1 to 64 bytes; {name:?} has {}", name.len());

    let given = input();
    assert!(matches!(given.elements, Elements::Bytes(_)), "the suite's input must have its elements in memory");
    let promised = match block.output(&given.spec) {
        Ok(promised) => promised,
        Err(error) => panic!("block {name} does not take the suite's input: {error}"),
    };

    let first = run(&*block, given.clone());
    assert_eq!(first.spec, promised, "block {name} gave another shape or element type than output() promised");
    let expected = bytes(name, &first);
    let size = promised.size().map(crate::ByteSize::bytes);
    assert_eq!(size, Some(expected.len() as u64), "block {name} gave another number of bytes than its shape has");

    assert_eq!(bytes(name, &run(&*block, given)), expected, "block {name} gave another result for the same input");
    let other = make();
    assert_eq!(bytes(name, &run(&*other, input())), expected, "another instance of block {name} gave another result");

    goes_on_with_its_output_or_exits(&*block, &input, &expected);
    begins_a_sequence_with_what_it_gives_without_one(&*block, &input);
    refuses_other_shapes(&*block, &input());
    offers_the_exact_form_first(&*block);
    runs_on_several_threads(&block, &input, &expected);
    accepts_what_was_decoded(&*block, &input(), &expected);
}

fn run(block: &dyn ModelBlock, input: Activation) -> Activation {
    match block.forward(input) {
        Ok(output) => output,
        Err(error) => panic!("block {} failed on an input that output() accepts: {error}", block.name()),
    }
}

fn bytes(name: &str, activation: &Activation) -> Vec<u8> {
    match activation.bytes() {
        Ok(bytes) => bytes.to_vec(),
        Err(error) => panic!("block {name} gave a tensor that cannot be downloaded: {error}"),
    }
}

fn goes_on_with_its_output_or_exits(block: &dyn ModelBlock, input: &impl Fn() -> Activation, expected: &[u8]) {
    let name = block.name();
    let step = || match block.step(input()) {
        Ok(flow) => flow,
        Err(error) => panic!("step() of block {name} failed on an input that forward() takes: {error}"),
    };
    match (step(), step()) {
        (Flow::Continue(output), Flow::Continue(_)) => {
            assert_eq!(
                bytes(name, &output),
                expected,
                "step() of block {name} goes on with what forward() does not give"
            );
        }
        (Flow::Exit { scores, confidence }, Flow::Exit { scores: again, .. }) => {
            assert!(
                (0.0..=1.0).contains(&confidence),
                "block {name} exits with a confidence of {confidence}, not 0 to 1"
            );
            assert_eq!(bytes(name, &scores), bytes(name, &again), "block {name} exits with other scores each time");
        }
        (Flow::Stream(part), Flow::Stream(_)) => {
            assert_eq!(bytes(name, &part), expected, "step() of block {name} streams what forward() does not give");
        }
        _ => panic!("block {name} exits only sometimes for the same input"),
    }
}

/// What it keeps has to survive being stored, and nothing of one sequence may be seen in another.
fn begins_a_sequence_with_what_it_gives_without_one(block: &dyn ModelBlock, input: &impl Fn() -> Activation) {
    let name = block.name();
    let follow = |memory: &mut BlockMemory| match block.follow(input(), memory) {
        Ok(flow) => Some(bytes(name, &flow.into_activation())),
        // There need not be room for the same input once more.
        Err(ModelError::Memory { .. }) if memory.seen > 0 => None,
        Err(error) => panic!("follow() of block {name} failed on an input that forward() takes: {error}"),
    };
    let Ok(step) = block.step(input()) else { panic!("step() of block {name} failed the second time") };
    let mut memory = BlockMemory::default();
    let first = follow(&mut memory);
    assert_eq!(first, Some(bytes(name, &step.into_activation())), "block {name} begins a sequence with another result");
    let mut stored = BlockMemory { seen: memory.seen, bytes: memory.bytes.clone() };
    assert_eq!(
        follow(&mut memory),
        follow(&mut stored),
        "block {name} goes on otherwise with a memory that was stored"
    );
    assert_eq!(memory, stored, "block {name} keeps something else of the same sequence");
}

fn refuses_other_shapes(block: &dyn ModelBlock, input: &Activation) {
    let name = block.name();
    let mut longer = input.spec.shape.clone();
    longer.insert(0, 2);
    let mut wider = input.spec.shape.clone();
    if let Some(last) = wider.last_mut() {
        *last += 1;
    }
    for shape in [longer, wider] {
        let spec = TensorSpec { shape, dtype: input.spec.dtype };
        let Some(size) = spec.size() else { continue };
        if block.output(&spec).is_ok() {
            continue;
        }
        let zeros = vec![0u8; size.bytes() as usize];
        let other = match Activation::new(spec, zeros.into()) {
            Ok(other) => other,
            Err(error) => panic!("the suite could not make an activation: {error}"),
        };
        match block.forward(other) {
            Err(ModelError::Shape { .. }) => {}
            Err(error) => panic!("block {name} refused a shape that it does not take with another error: {error}"),
            Ok(_) => panic!("block {name} ran on a shape that output() refuses"),
        }
    }
}

fn offers_the_exact_form_first(block: &dyn ModelBlock) {
    let (name, forms) = (block.name(), block.wire_forms());
    assert_eq!(forms.first(), Some(&WireForm::Exact), "the first wire form of block {name} must be the exact one");
    for (i, form) in forms.iter().enumerate() {
        assert!(!forms[..i].contains(form), "block {name} lists the form {} twice", form.as_str());
    }
}

fn runs_on_several_threads(block: &Arc<dyn ModelBlock>, input: &impl Fn() -> Activation, expected: &[u8]) {
    thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|_| {
                let input = input();
                scope.spawn(move || bytes(block.name(), &run(&**block, input)))
            })
            .collect();
        for run in runs {
            match run.join() {
                Ok(result) => assert_eq!(result, expected, "block {} mixed up concurrent runs", block.name()),
                Err(_) => panic!("block {} panicked when run from several threads", block.name()),
            }
        }
    });
}

/// What arrives from another node has its elements in a message's memory, at any alignment.
fn accepts_what_was_decoded(block: &dyn ModelBlock, input: &Activation, expected: &[u8]) {
    let name = block.name();
    let decoded = input.encode().and_then(|message| {
        let mut shifted = vec![0u8];
        shifted.extend_from_slice(&message.bytes);
        let bytes = bytes::Bytes::from(shifted).slice(1..);
        Activation::decode(&crate::Payload { bytes, media: message.media })
    });
    let decoded = match decoded {
        Ok(decoded) => decoded,
        Err(error) => panic!("the input of block {name} does not survive its own encoding: {error}"),
    };
    assert_eq!(bytes(name, &run(block, decoded)), expected, "block {name} gave another result for a decoded input");
}
