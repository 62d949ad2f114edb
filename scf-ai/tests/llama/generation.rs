use scf_ai::{Generation, GenerationError, Llama, Sampling, from_wire, to_wire};
use scf_core::{
    Activation, BlockGraph, BlockMemory, Bytes, DType, Flow, ModelError, ModelName, Share, StateSession as _,
    TensorSpec, WireForm, conformance,
};

use crate::{
    allocated::peak,
    file::{CONTEXT, Random, network},
    store::{Committed, Session},
};

/// Draws on, since seeded weights soon go round in circles where the likeliest token is taken.
const DRAWN: Sampling = Sampling::nucleus(1.2, Share::ALL, 71);

/// Of a model that never ends an answer.
fn graph(sampling: Sampling) -> BlockGraph {
    let mut file = network();
    file.fields.remove("tokenizer.ggml.eos_token_id");
    let model = Llama::open(file.write().into(), CONTEXT as usize).unwrap();
    model.graph(ModelName::new("small").unwrap(), sampling).unwrap()
}

fn ids(tokens: &[u32]) -> Activation {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| (*token as f32).to_le_bytes()).collect();
    Activation::new(TensorSpec::new(DType::F32, &[1, tokens.len()]), bytes.into()).unwrap()
}

fn text(length: usize) -> Vec<u32> {
    let mut random = Random(61);
    (0..length).map(|_| (random.next() % 256) as u32).collect()
}

fn tokens(generation: &mut Generation, count: usize) -> Vec<u32> {
    (0..count).map_while(|_| generation.next_token().unwrap()).collect()
}

#[test]
fn every_block_passes_the_suite() {
    let graph = graph(DRAWN);
    for length in [1, 40] {
        let mut x = ids(&text(length));
        for block in graph.blocks() {
            conformance::model::model_block(|| block.clone(), || x.clone());
            let y = block.forward(x).unwrap();
            x = Activation::new(y.spec.clone(), y.bytes().unwrap()).unwrap();
        }
    }
}

#[test]
fn every_split_point_gives_the_whole_runs_token_also_in_the_middle_of_a_sequence() {
    let graph = graph(DRAWN);
    let blocks = graph.blocks().len();
    let mut memory = vec![BlockMemory::default(); blocks];
    graph.follow(0..blocks, ids(&text(9)), &mut memory).unwrap();
    let mut whole = memory.clone();
    let expected = graph.follow(0..blocks, ids(&[7]), &mut whole).unwrap().into_activation().bytes().unwrap();
    for cut in 0..=blocks {
        let mut memory = memory.clone();
        let (near, far) = memory.split_at_mut(cut);
        let here = graph.follow(0..cut, ids(&[7]), near).unwrap().into_activation();
        let sent = to_wire(&here, WireForm::Exact).unwrap();
        let flow = if cut == blocks {
            Flow::Stream(from_wire(&sent).unwrap())
        } else {
            graph.follow(cut..blocks, from_wire(&sent).unwrap(), far).unwrap()
        };
        assert!(matches!(flow, Flow::Stream(_)), "an answer that has not ended");
        assert_eq!(flow.into_activation().bytes().unwrap(), expected, "a cut before block {cut}");
        assert_eq!(memory, whole, "a cut before block {cut}");
    }
}

#[test]
fn a_text_leaves_the_same_memory_however_it_is_divided() {
    let graph = graph(Sampling::greedy());
    let layers = 0..graph.blocks().len() - 1;
    let text = text(37);
    let mut whole = vec![BlockMemory::default(); layers.len()];
    let expected = graph.follow(layers.clone(), ids(&text), &mut whole).unwrap().into_activation().bytes().unwrap();
    for part in [1, 2, 8, 13, 36] {
        let mut memory = vec![BlockMemory::default(); layers.len()];
        let logits = text.chunks(part).map(|part| graph.follow(layers.clone(), ids(part), &mut memory).unwrap());
        let logits = logits.last().unwrap().into_activation().bytes().unwrap();
        assert_eq!(logits, expected, "in parts of {part} tokens");
        assert_eq!(memory, whole, "in parts of {part} tokens");
    }
}

#[tokio::test]
async fn sixteen_tokens_are_eight_and_after_storing_eight_more_token_for_token() {
    for sampling in [Sampling::greedy(), DRAWN, Sampling::nucleus(0.9, Share::from_percent(80.0), 5)] {
        let mut whole = Generation::new(&graph(sampling));
        whole.prompt(&text(30));
        let expected = tokens(&mut whole, 16);
        assert_eq!(expected.len(), 16);

        let committed = Committed::default();
        let mut generation = Generation::new(&graph(sampling));
        generation.prompt(&text(30));
        let mut given = tokens(&mut generation, 8);
        let call = Session::of(&committed);
        generation.save(&*call, "chat").unwrap();
        assert_eq!(call.changed(), ["chat/0", "chat/1", "chat/head"]);
        call.commit(Bytes::new()).await.unwrap();
        drop(generation);

        // Another call, perhaps on another node: the file is opened anew.
        let call = Session::of(&committed);
        let mut generation = Generation::load(&graph(sampling), &*call, "chat").await.unwrap().unwrap();
        given.extend(tokens(&mut generation, 8));
        assert_eq!(given, expected, "{sampling:?}");
        generation.save(&*call, "chat").unwrap();
        assert_eq!(call.changed(), ["chat/1", "chat/head"], "a page that was whole is written once");
        call.commit(Bytes::new()).await.unwrap();

        let again = Generation::load(&graph(sampling), &*Session::of(&committed), "chat").await.unwrap().unwrap();
        assert_eq!(again.seen(), whole.seen());
        let stored: usize = committed.lock().unwrap().values().map(Bytes::len).sum();
        let bound = CONTEXT as usize * 2 * 128 + 1024;
        assert!(stored <= bound, "{stored} bytes where the context bounds them to {bound}");
    }
}

#[tokio::test]
async fn what_is_stored_of_another_model_or_damaged_is_refused() {
    let graph = graph(DRAWN);
    let call = Session::of(&Committed::default());
    assert!(Generation::load(&graph, &*call, "chat").await.unwrap().is_none());
    let mut generation = Generation::new(&graph);
    generation.prompt(&text(40));
    generation.next_token().unwrap();
    generation.save(&*call, "chat").unwrap();
    let head = call.get("chat/head").await.unwrap().unwrap();
    let page = call.get("chat/1").await.unwrap().unwrap();

    let refused = async |graph: &BlockGraph| match Generation::load(graph, &*call, "chat").await {
        Err(GenerationError::Stored(error @ ModelError::Memory { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let mut other = graph.clone();
    for name in ["other", "larger"] {
        other.model = ModelName::new(name).unwrap();
        assert!(refused(&other).await.contains(&format!("not of {name}")));
    }
    for length in 0..head.len() {
        call.put("chat/head", head.slice(..length));
        assert!(refused(&graph).await.contains("damaged"), "{length} bytes of the head");
    }
    for word in 0..4 {
        let mut wrong = head.to_vec();
        wrong[6 + 8 * word..][..8].fill(0xff);
        call.put("chat/head", wrong.into());
        refused(&graph).await;
    }
    call.put("chat/head", head);
    for (length, problem) in [(0, "cut off"), (page.len() - 1, "cut off"), (page.len() + 1, "too long")] {
        let mut wrong = page.to_vec();
        wrong.resize(length, 0);
        call.put("chat/1", wrong.into());
        assert!(refused(&graph).await.contains(problem));
    }
    call.delete("chat/1");
    assert!(refused(&graph).await.contains("page 1 is not there"));
}

#[test]
fn no_damage_to_what_is_stored_makes_it_panic_or_allocate_beyond_it() {
    let graph = graph(DRAWN);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sound = Committed::default();
    let mut generation = Generation::new(&graph);
    generation.prompt(&text(40));
    generation.next_token().unwrap();
    let call = Session::of(&sound);
    generation.save(&*call, "chat").unwrap();
    runtime.block_on(call.commit(Bytes::new())).unwrap();
    let sound = sound.lock().unwrap().clone();
    let size: usize = sound.values().map(Bytes::len).sum();
    let mut random = Random(83);
    let (mut refused, mut broke) = (0, 0);
    for _ in 0..2000 {
        let mut stored = sound.clone();
        let key = ["chat/head", "chat/head", "chat/head", "chat/1"][random.next() as usize % 4];
        let mut bytes = stored[key].to_vec();
        match random.next() % 8 {
            0 => bytes.truncate(random.next() as usize % bytes.len()),
            1 => bytes.extend([0; 8]),
            2 => {
                let word = 6 + 8 * (random.next() as usize % (bytes.len() / 8 - 1));
                bytes[word..][..8].copy_from_slice(&(u64::MAX >> (random.next() % 64)).to_le_bytes());
            }
            _ => {
                let at = random.next() as usize % bytes.len();
                bytes[at] ^= 1 << (random.next() % 8);
            }
        }
        stored.insert(key.into(), bytes.into());
        let call = Session::of(&Committed::new(stored.into()));
        let (loaded, peak) = peak(|| runtime.block_on(Generation::load(&graph, &*call, "chat")));
        assert!(peak <= 3 * size + 4096, "{peak} bytes for {size} that are stored");
        match loaded {
            Err(GenerationError::Stored(ModelError::Memory { .. })) => refused += 1,
            Err(other) => panic!("{other:?}"),
            Ok(generation) => broke += usize::from(generation.unwrap().next_token().is_err()),
        }
    }
    assert!(refused > 500 && broke > 0, "{refused} were refused, {broke} went no further");
}

#[test]
fn a_sequence_beyond_the_context_is_refused_and_one_within_it_goes_on() {
    let mut generation = Generation::new(&graph(DRAWN));
    assert_eq!(generation.next_token().unwrap(), None, "nothing was prompted");
    generation.prompt(&text(CONTEXT as usize - 2));
    assert_eq!(tokens(&mut generation, 3).len(), 3);
    let full = generation.next_token().unwrap_err();
    assert!(matches!(&full, ModelError::Memory { block, .. } if block == "layer0"), "{full}");
    assert_eq!(generation.seen(), CONTEXT as usize);

    let mut generation = Generation::new(&graph(DRAWN));
    generation.prompt(&text(CONTEXT as usize + 1));
    assert!(matches!(generation.next_token(), Err(ModelError::Shape { .. })));
}

#[test]
fn a_memory_that_is_none_of_the_block_and_a_token_that_there_is_not_are_typed_errors() {
    let graph = graph(DRAWN);
    let x = graph.run(0..1, ids(&[1, 2])).unwrap();
    for (seen, bytes) in [(1, 127), (1, 0), (0, 1), (usize::MAX, 128), (2, 128)] {
        let mut memory = BlockMemory { seen, bytes: vec![0; bytes] };
        let before = memory.clone();
        let error = graph.blocks()[1].follow(x.clone(), &mut memory).unwrap_err();
        assert!(matches!(&error, ModelError::Memory { block, .. } if block == "layer0"), "{seen} {bytes}: {error}");
        assert_eq!(memory, before);
    }
    assert!(matches!(graph.follow(0..2, x, &mut []), Err(ModelError::Memory { .. })));
    let unknown = graph.run(0..1, ids(&[300])).unwrap_err();
    assert!(matches!(unknown, ModelError::Block { block, .. } if block == "embedding"));
}

#[test]
fn weights_that_are_no_numbers_are_an_error_of_the_sampler_and_no_token() {
    let mut file = network();
    // The first scale of a Q8_0 tensor.
    file.tensors.get_mut("token_embd.weight").unwrap().bytes[..2].copy_from_slice(&0x7e00u16.to_le_bytes());
    let model = Llama::open(file.write().into(), 64).unwrap();
    let graph = model.graph(ModelName::new("damaged").unwrap(), Sampling::greedy()).unwrap();
    let mut generation = Generation::new(&graph);
    generation.prompt(&[5]);
    let error = generation.next_token().unwrap_err();
    assert!(matches!(&error, ModelError::Block { block, .. } if block == "sampler"), "{error}");
    assert!(generation.next_token().unwrap_err().to_string().contains("broke off"));
    assert!(generation.save(&*Session::of(&Committed::default()), "chat").is_err());
}
