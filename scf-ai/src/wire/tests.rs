use std::sync::Arc;

use proptest::prelude::*;
use scf_core::{BlockCost, DagNode, ModelBlock, ModelError, ModelName, TensorSpec};

use super::*;
use crate::{
    kernel::reference::Random,
    tensor::{little_endian, with_floats},
};

/// Gives the mean of its inputs.
#[derive(Debug)]
struct Mean(String);

impl ModelBlock for Mean {
    fn name(&self) -> &str {
        &self.0
    }
    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        Ok(input.clone())
    }
    fn output_of(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, ModelError> {
        Ok(inputs[0].clone())
    }
    fn cost(&self, _: &TensorSpec) -> BlockCost {
        BlockCost::default()
    }
    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact, WireForm::Int8]
    }
    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        Ok(input)
    }
    fn join(&self, mut inputs: Vec<Activation>) -> Result<Activation, ModelError> {
        Ok(inputs.remove(0))
    }
}

const WIDTH: usize = 64;

/// A stem, two branches and what joins them with the stem.
fn graph(name: &str) -> BlockGraph {
    let node = |(i, inputs): (usize, &&[usize])| DagNode {
        block: Arc::new(Mean(format!("mean{i}"))) as Arc<dyn ModelBlock>,
        inputs: inputs.to_vec(),
    };
    let inputs: [&[usize]; 4] = [&[0], &[1], &[1], &[1, 2, 3]];
    let nodes = inputs.iter().enumerate().map(node).collect();
    BlockGraph::dag(ModelName::new(name).unwrap(), TensorSpec::new(DType::F32, &[2, WIDTH / 2]), nodes).unwrap()
}

fn values(number: usize) -> Vec<f32> {
    (0..WIDTH).map(|i| ((i * 7 + number) % 13) as f32 - 6.0).collect()
}

/// A run whose `done` blocks have run, with a tensor of its own behind each.
fn frontier(graph: &BlockGraph, done: &[usize]) -> Frontier {
    let done: BlockSet = done.iter().copied().collect();
    let tensor = |&tensor: &usize| {
        let elements = little_endian(&values(tensor));
        (tensor, Activation::new(graph.edges()[tensor].clone(), elements).unwrap())
    };
    let tensors = graph.alive(&done).iter().map(tensor).collect();
    graph.resume(done, tensors).unwrap()
}

fn offered() -> Vec<SmallVec<[WireForm; 4]>> {
    vec![FORMS.iter().copied().collect(); 5]
}

fn message(graph: &BlockGraph, frontier: &Frontier, form: WireForm, compress: bool) -> Payload {
    write(
        graph,
        Fingerprint::of(graph),
        frontier,
        Sending { form, offered: &offered(), compress, spent: SplitSpent::NOTHING },
    )
    .unwrap()
}

fn read(graph: &BlockGraph, message: &Payload) -> Result<Frontier, CodecError> {
    Run::read(message, graph, Fingerprint::of(graph))?.restore(graph)
}

fn floats(activation: &Activation) -> Vec<f32> {
    with_floats(activation, <[f32]>::to_vec).unwrap()
}

#[test]
fn what_a_run_has_spent_comes_with_it_and_costs_nothing_where_it_is_nothing() {
    let graph = graph("dag");
    let run = frontier(&graph, &[0, 1]);
    let amounts = (Energy::from_microjoules(u64::MAX), Energy::from_microjoules(7), Money::from_nanos(1 << 40));
    let spent = SplitSpent { energy: amounts.0, battery: amounts.1, money: amounts.2 };
    for (spent, compress) in [(spent, false), (spent, true), (SplitSpent::NOTHING, false)] {
        let sending = Sending { form: WireForm::Exact, offered: &offered(), compress, spent };
        let message = write(&graph, Fingerprint::of(&graph), &run, sending).unwrap();
        let read = Run::read(&message, &graph, Fingerprint::of(&graph)).unwrap();
        assert_eq!(read.spent, spent);
        assert_eq!(read.restore(&graph).unwrap().done(), run.done());
        let (tensors, amounts) = (run.tensors().len(), if spent == SplitSpent::NOTHING { 0 } else { 24 });
        let plain = 22 + amounts + 2 + 1 + 1 + tensors * (3 + 4 * WIDTH);
        assert!(compress || message.bytes.len() == plain, "{} bytes", message.bytes.len());
        let damaged = Payload { bytes: message.bytes.slice(..30), ..message };
        assert!(matches!(Run::read(&damaged, &graph, Fingerprint::of(&graph)), Err(CodecError::Truncated { .. })));
    }
}

#[test]
fn a_run_comes_back_with_what_is_done_and_every_tensor_once() {
    let graph = graph("dag");
    for done in [&[][..], &[0], &[0, 1], &[0, 2], &[0, 1, 2]] {
        let sent = frontier(&graph, done);
        for form in FORMS {
            for compress in [false, true] {
                let read = read(&graph, &message(&graph, &sent, form, compress)).unwrap();
                assert_eq!(read.done(), sent.done());
                let numbers = |run: &Frontier| run.tensors().iter().map(|(tensor, _)| *tensor).collect::<Vec<_>>();
                assert_eq!(numbers(&read), numbers(&sent));
                for ((_, a), (_, b)) in read.tensors().iter().zip(sent.tensors()) {
                    let near = floats(a).iter().zip(floats(b)).all(|(a, b)| (a - b).abs() <= 12.0 / 15.0 * 0.51);
                    assert!(near, "{} {compress}", form.as_str());
                    assert!(form != WireForm::Exact || a.bytes().unwrap() == b.bytes().unwrap());
                }
            }
        }
    }
}

#[test]
fn a_tensor_travels_exactly_where_it_does_not_offer_the_form_or_is_not_finite() {
    let graph = graph("dag");
    let mut offered = offered();
    offered[2] = [WireForm::Exact][..].into();
    let mut sent = frontier(&graph, &[0, 1]);
    let sending = Sending { form: WireForm::Int4, offered: &offered, compress: false, spent: SplitSpent::NOTHING };
    let message = write(&graph, Fingerprint::of(&graph), &sent, sending).unwrap();
    let back = read(&graph, &message).unwrap();
    assert_ne!(floats(&back.tensors()[0].1), values(1));
    assert_eq!(floats(&back.tensors()[1].1), values(2));

    let mut elements = values(1);
    elements[3] = f32::INFINITY;
    let infinite = Activation::new(graph.edges()[1].clone(), little_endian(&elements)).unwrap();
    sent = graph.resume([0].into_iter().collect(), vec![(1, infinite)]).unwrap();
    for form in FORMS {
        let back = read(&graph, &self::message(&graph, &sent, form, false)).unwrap();
        assert_eq!(floats(&back.tensors()[0].1), elements);
    }
}

#[test]
fn what_repeats_itself_is_sent_smaller_and_what_does_not_as_it_is() {
    let graph = graph("dag");
    let sizes =
        [false, true].map(|compress| message(&graph, &frontier(&graph, &[0]), WireForm::Exact, compress).bytes.len());
    assert!(sizes[1] < sizes[0] / 2, "{sizes:?}");
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from_bits(state | 1)
    };
    let elements: Vec<f32> = (0..WIDTH).map(|_| noise()).collect();
    let noisy = Activation::new(graph.edges()[1].clone(), little_endian(&elements)).unwrap();
    let noisy = graph.resume([0].into_iter().collect(), vec![(1, noisy)]).unwrap();
    let plain = message(&graph, &noisy, WireForm::Exact, true);
    assert_eq!(plain.bytes.len(), sizes[0]);
}

#[test]
fn a_message_of_another_network_is_refused_by_its_name() {
    let (one, other) = (graph("one"), graph("other"));
    let sent = message(&one, &frontier(&one, &[0]), WireForm::Exact, false);
    let error = read(&other, &sent).unwrap_err();
    assert_eq!(error.to_string(), "run: it is not of other as it is here");
}

#[test]
fn every_cut_of_a_message_is_a_typed_error() {
    let graph = graph("dag");
    for compress in [false, true] {
        let whole = message(&graph, &frontier(&graph, &[0, 2]), WireForm::Int8, compress);
        for length in 0..whole.bytes.len() {
            let cut = Payload { bytes: whole.bytes.slice(..length), media: MediaType::ACTIVATION };
            assert!(read(&graph, &cut).is_err(), "{length} of {} bytes were accepted", whole.bytes.len());
        }
    }
}

#[test]
fn every_changed_bit_of_a_message_is_a_typed_error() {
    let graph = graph("dag");
    let whole = message(&graph, &frontier(&graph, &[0, 1]), WireForm::Int8, true);
    for bit in 0..8 * whole.bytes.len() {
        let mut bytes = whole.bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let changed = Payload { bytes: bytes.into(), media: MediaType::ACTIVATION };
        assert!(read(&graph, &changed).is_err(), "bit {bit} was not noticed");
    }
}

/// A message with a right hash, whatever else is wrong with it.
fn forged(mut bytes: Vec<u8>) -> Payload {
    let hash = hash(&bytes);
    bytes[UNHASHED - 8..UNHASHED].copy_from_slice(&hash);
    Payload { bytes: bytes.into(), media: MediaType::ACTIVATION }
}

#[test]
fn a_body_that_decompresses_to_more_or_less_than_the_tensors_take_is_refused() {
    let graph = graph("dag");
    let size = 4 * WIDTH;
    let head = |flags: u8| {
        let plain = message(&graph, &frontier(&graph, &[0]), WireForm::Exact, false);
        let mut head = plain.bytes[..plain.bytes.len() - size].to_vec();
        head[FLAGS] = flags;
        head
    };
    for length in [0, size - 1, size + 1, 100 * size, 1 << 20] {
        let mut bomb = head(COMPRESSED);
        bomb.extend(lz4_flex::block::compress(&vec![0; length]));
        assert!(read(&graph, &forged(bomb)).is_err(), "{length} bytes");
    }
    let mut right = head(COMPRESSED);
    right.extend(lz4_flex::block::compress(&vec![0; size]));
    assert_eq!(floats(&read(&graph, &forged(right)).unwrap().tensors()[0].1), [0.0; WIDTH]);
    // So short a body cannot stand for the tensor: refused before anything is allocated.
    let mut short = head(COMPRESSED);
    short.push(0);
    let error = Run::read(&forged(short), &graph, Fingerprint::of(&graph)).unwrap_err();
    assert!(matches!(error, CodecError::Invalid { field: "body", value: 1 }), "{error}");
}

#[test]
fn a_set_of_blocks_that_cannot_have_run_is_refused_before_the_body_is_read() {
    let graph = graph("dag");
    let sent = message(&graph, &frontier(&graph, &[0]), WireForm::Exact, false);
    // Behind magic, version, flags, hash, fingerprint and number of blocks.
    for done in [0b0010, 0b1000, 0b1111, 0b0001_0000] {
        let mut bytes = sent.bytes.to_vec();
        bytes[24] = done;
        let error = Run::read(&forged(bytes), &graph, Fingerprint::of(&graph)).unwrap_err();
        assert!(matches!(error, CodecError::Invalid { field: "blocks done", .. }), "{done:b}: {error}");
    }
}

#[test]
fn no_seeded_damage_to_a_message_makes_it_panic_whatever_its_hash() {
    let graph = graph("net");
    let (mut random, mut taken) = (Random::new(89), 0);
    let forms = [WireForm::Exact, WireForm::Int8, WireForm::F16];
    for i in 0..2000 {
        let sound = message(&graph, &frontier(&graph, &[0, 2]), forms[i % 3], i % 2 == 0).bytes;
        let mut bytes = sound.to_vec();
        for _ in 0..=random.next() % 3 {
            // The head as often as the body.
            let most = [60, bytes.len()][random.next() as usize % 2].min(bytes.len());
            let at = random.next() as usize % most;
            match random.next() % 4 {
                0 => bytes.truncate(at.max(UNHASHED)),
                1 => bytes.splice(at..at, [random.next() as u8; 3]).for_each(drop),
                2 => bytes[at] = [0, 1, 0x7f, 0xff][random.next() as usize % 4],
                _ => bytes[at] ^= 1 << (random.next() % 8),
            }
        }
        taken += usize::from(read(&graph, &forged(bytes)).is_ok());
    }
    assert!((1..2000).contains(&taken), "{taken} of 2000 were read");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_whatever_their_hash(
        changes in proptest::collection::vec((0usize..400, any::<u8>()), 0..8), compress in any::<bool>(),
    ) {
        let graph = graph("dag");
        let mut bytes = message(&graph, &frontier(&graph, &[0, 2]), WireForm::Int8Rows, compress).bytes.to_vec();
        for (at, byte) in changes {
            if let Some(changed) = bytes.get_mut(at) {
                *changed = byte;
            }
        }
        let _ = read(&graph, &forged(bytes));
    }
}
