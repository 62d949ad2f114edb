//! SmolLM2-135M-Instruct as it was published, in Q4_1. What llama.cpp (build 11549, one thread) answers to the same
//! file is written here.

use std::{io::Write as _, sync::OnceLock};

use scf_ai::{Generation, Llama, Role, Sampling, TextTokenizer};
use scf_core::{Activation, BlockGraph, BlockMemory, Bytes, DType, ModelName, Share, StateSession as _, TensorSpec};

use crate::{
    allocated::peak,
    composed::Composed,
    fetched,
    file::{CONTEXT, network},
    store::{Committed, Session},
};

const MODEL: &str = "smollm2-135m-instruct.q4_1.gguf";
const PROMPT: &str = "The capital of France is";
/// The tokens that follow where the likeliest is taken. llama.cpp, which rounds activations to eight bits, takes the
/// same five and then another: there the sixth has a log-probability of -3.67, and the one that it takes -3.31.
const CONTINUED: [u32; 12] = [7042, 30, 198, 198, 504, 2988, 314, 42, 216, 34, 32, 33];
/// The likeliest tokens behind the prompt and their log-probabilities.
const LIKELIEST: [(usize, f32); 4] = [(7042, -0.2589), (260, -2.7646), (4528, -4.2949), (1315, -4.5934)];

fn open() -> Option<&'static Llama> {
    static OPENED: OnceLock<Option<Llama>> = OnceLock::new();
    let model = OPENED.get_or_init(|| Some(Llama::open(kept(MODEL)?, 2048).unwrap()));
    model.as_ref()
}

/// A file that `examples/assets/fetch-models` keeps; says so where it is not there.
fn kept(name: &str) -> Option<Bytes> {
    let found = fetched::read(name).map(Bytes::from);
    if let Err(error) = &found {
        // Past the capture of the test's output.
        let mut terminal = std::io::stderr();
        writeln!(terminal, "SKIPPED: {error}").unwrap();
    }
    found.ok()
}

fn graph(model: &Llama, sampling: Sampling) -> BlockGraph {
    model.graph(ModelName::new("smollm2").unwrap(), sampling).unwrap()
}

/// The logits behind every token: what the head gives for each row of the last layer.
fn logits(graph: &BlockGraph, tokens: &[u32]) -> Vec<Vec<f32>> {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| (*token as f32).to_le_bytes()).collect();
    let ids = Activation::new(TensorSpec::new(DType::F32, &[1, tokens.len()]), bytes.into()).unwrap();
    let head = graph.blocks().len() - 2;
    let mut memory = vec![BlockMemory::default(); head];
    let rows = graph.follow(0..head, ids, &mut memory).unwrap().into_activation();
    let width = rows.spec.shape[2];
    let bytes = rows.bytes().unwrap();
    let row = |row: usize| {
        let one = TensorSpec::new(DType::F32, &[1, 1, width]);
        let x = Activation::new(one, bytes.slice(row * width * 4..(row + 1) * width * 4)).unwrap();
        let logits = graph.run(head..head + 1, x).unwrap().bytes().unwrap();
        logits.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    (0..tokens.len()).map(row).collect()
}

/// The logarithm of the share of each token.
fn log_probabilities(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    logits.iter().map(|logit| logit - largest - sum.ln() as f32).collect()
}

fn written(tokenizer: &TextTokenizer, generation: &mut Generation, most: usize) -> String {
    let mut decoder = tokenizer.decoder();
    (0..most).map_while(|_| generation.next_token().unwrap()).map(|token| decoder.push(token)).collect()
}

#[test]
fn logits_are_those_of_candles_operations_over_32_bit_weights() {
    let small = Llama::open(network().write().into(), CONTEXT as usize).unwrap();
    let tokens: Vec<u32> = (0..40).map(|i| i * 37 % 256).collect();
    let mut files = vec![(&small, Bytes::from(network().write()), tokens)];
    if let (Some(model), Some(file)) = (open(), kept(MODEL)) {
        let tokens = model.tokenizer().unwrap().encode("Edge computing moves work to where data is made.").unwrap();
        files.push((model, file, tokens));
    }
    for (model, file, tokens) in files {
        let ours = logits(&graph(model, Sampling::greedy()), &tokens);
        let theirs = Composed::open(file.to_vec()).unwrap().logits(&tokens).unwrap();
        let (mut off, mut largest) = (0.0f32, 0.0f32);
        for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
            off = off.max((ours - theirs).abs());
            largest = largest.max(theirs.abs());
        }
        println!("logits of up to {largest} are off by at most {off}");
        // Keys and values are kept as 16-bit floats, with 11 bits each.
        assert!(off < 0.002 * largest, "logits of up to {largest} are off by {off}");
    }
}

#[test]
fn opening_a_file_copies_no_weights() {
    let Some(file) = kept(MODEL) else { return };
    let size = file.len();
    let (model, peak) = peak(|| Llama::open(file, 2048).unwrap());
    println!(r#"{{"bar":"ai.gguf.open_peak","value":{:.5},"unit":"ratio","n":1}}"#, peak as f64 / size as f64);
    assert!(peak < size / 50, "{peak} bytes for a file of {size}");
    assert_eq!(model.kept_per_position().bytes(), 30 * 2 * 192 * 2);
}

#[test]
fn the_published_model_goes_on_as_llama_cpp_does() {
    let Some(model) = open() else { return };
    let (graph, tokenizer) = (graph(model, Sampling::greedy()), model.tokenizer().unwrap());
    let prompt = tokenizer.encode(PROMPT).unwrap();
    let next = log_probabilities(logits(&graph, &prompt).last().unwrap());
    for (token, expected) in LIKELIEST {
        assert!(
            (next[token] - expected).abs() < 0.15,
            "token {token} has {} where llama.cpp has {expected}",
            next[token]
        );
    }
    let mut generation = Generation::new(&graph);
    generation.prompt(&prompt);
    let continued: Vec<u32> = (0..12).map_while(|_| generation.next_token().unwrap()).collect();
    assert_eq!(continued, CONTINUED);
    let exact = Composed::open(kept(MODEL).unwrap().to_vec()).unwrap();
    let exact = exact.logits(&[&prompt[..], &CONTINUED].concat()).unwrap();
    let likeliest = |logits: &Vec<f32>| logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0 as u32;
    let exact: Vec<u32> = exact[prompt.len() - 1..].iter().map(likeliest).collect();
    assert_eq!(exact[..12], CONTINUED, "what 32-bit weights in candle's operations give");

    let mut chat = Generation::new(&graph);
    chat.prompt(&tokenizer.chat(&[(Role::User, "What is the capital of France?")]).unwrap());
    assert_eq!(written(&tokenizer, &mut chat, 24), "The capital of France is Paris.");
    assert_eq!(chat.next_token().unwrap(), None, "the answer has ended");
    chat.prompt(&tokenizer.chat(&[(Role::User, "And of Italy?")]).unwrap());
    let second = written(&tokenizer, &mut chat, 24);
    assert!(second.contains("Rome"), "{second}");
}

#[test]
fn english_text_is_likely() {
    let Some(model) = open() else { return };
    let text = "The sun is the star at the centre of the Solar System. It is a massive, hot ball of plasma, heated by \
        nuclear fusion at its core. The Earth goes around the sun once a year, and the moon goes around the Earth \
        about once a month. When the moon comes between the sun and the Earth, it can hide the sun for some minutes, \
        and people on the Earth see an eclipse.";
    let tokens = model.tokenizer().unwrap().encode(text).unwrap();
    let logits = logits(&graph(model, Sampling::greedy()), &tokens);
    let loss: f32 = logits.iter().zip(&tokens[1..]).map(|(l, next)| -log_probabilities(l)[*next as usize]).sum();
    let perplexity = (loss / (tokens.len() - 1) as f32).exp();
    println!(r#"{{"bar":"ai.smollm2.perplexity","value":{perplexity:.3},"unit":"ratio","n":{}}}"#, tokens.len() - 1);
    assert!(perplexity < 30.0, "a perplexity of {perplexity}");
}

#[test]
fn texts_have_the_tokens_of_llama_cpp_and_come_back() {
    let Some(model) = open() else { return };
    let tokenizer = model.tokenizer().unwrap();
    for (text, expected) in [
        (PROMPT, &[504, 3575, 282, 4649, 314][..]),
        (" leading", &[2899]),
        // What is spelt like a mark of control is text.
        ("<|im_end|>", &[44, 108, 306, 79, 486, 108, 46]),
        (
            "Hello, world!  It's 2024\n\n\tfoo's naïve 日本 😀",
            &[
                19556, 28, 905, 17, 216, 657, 506, 216, 34, 32, 34, 36, 1116, 197, 15236, 506, 15486, 46494, 17097,
                241, 115, 40993, 40303, 218,
            ],
        ),
    ] {
        let tokens = tokenizer.encode(text).unwrap();
        assert_eq!(tokens, expected, "{text}");
        let mut decoder = tokenizer.decoder();
        assert_eq!(tokens.into_iter().map(|token| decoder.push(token)).collect::<String>(), text);
    }
    let asked = tokenizer.chat(&[(Role::User, "Name three colours.")]).unwrap();
    assert_eq!(asked, [1, 4093, 198, 5820, 1296, 14797, 30, 2, 198, 1, 520, 9531, 198]);
}

#[tokio::test]
async fn the_published_model_goes_on_from_what_was_stored_token_for_token() {
    let Some(model) = open() else { return };
    let tokenizer = model.tokenizer().unwrap();
    for sampling in [Sampling::greedy(), Sampling::nucleus(0.8, Share::from_percent(95.0), 3)] {
        let prompt = tokenizer.chat(&[(Role::User, "Tell me a story about a lighthouse.")]).unwrap();
        let mut whole = Generation::new(&graph(model, sampling));
        whole.prompt(&prompt);
        let expected: Vec<u32> = (0..16).map_while(|_| whole.next_token().unwrap()).collect();
        let committed = Committed::default();
        let mut generation = Generation::new(&graph(model, sampling));
        generation.prompt(&prompt);
        let mut given: Vec<u32> = (0..8).map_while(|_| generation.next_token().unwrap()).collect();
        let call = Session::of(&committed);
        generation.save(&*call, "chat").unwrap();
        call.commit(Bytes::new()).await.unwrap();
        let call = Session::of(&committed);
        let mut generation = Generation::load(&graph(model, sampling), &*call, "chat").await.unwrap().unwrap();
        given.extend((0..8).map_while(|_| generation.next_token().unwrap()));
        assert_eq!((given.len(), given), (16, expected), "{sampling:?}");
    }
}
