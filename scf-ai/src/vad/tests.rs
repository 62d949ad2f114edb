use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    sync::Mutex,
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{
    Activation, BlockMemory, Bytes, Commit, DType, Durability, Flow, Phase, StateError, StateSession, Version,
    WireForm, conformance,
};

use super::*;
use crate::{
    kernel::reference::Random,
    llama::GenerationError,
    tensor::{little_endian, with_floats},
};

/// What onnxruntime 1.31.1 gives for every eighth chunk of [`sound`], with the network of `silero_vad_16k_op15.onnx` of
/// the wheel `silero-vad` 6.2.3 and the weights of its `silero_vad_16k.safetensors`, which are of another training; fed
/// as the wheel's own `OnnxWrapper` does.
const SPEECH: [f32; 25] = [
    0.034102, 0.006689, 0.004370, 0.004219, 0.961653, 0.957171, 0.993316, 0.980714, 0.960605, 0.993313, 0.995706,
    0.025895, 0.005695, 0.004833, 0.578548, 0.976075, 0.969578, 0.971443, 0.980767, 0.937415, 0.986025, 0.023728,
    0.013154, 0.017712, 0.012697,
];

/// 6.4 s at 16 kHz: soft noise, and from 1.0 to 2.6 s and from 3.6 to 5.2 s pulses through three resonators, four vowels
/// a second (Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67(3), 1980).
fn sound() -> Vec<f32> {
    const VOWELS: [[f64; 3]; 4] =
        [[730.0, 1090.0, 2440.0], [270.0, 2290.0, 3010.0], [570.0, 840.0, 2410.0], [530.0, 1840.0, 2480.0]];
    use std::f64::consts::PI;
    let rate = f64::from(SileroVad::RATE);
    let (mut random, mut phase, mut resonators) = (Random::new(7), 0.0, [[0.0f64; 2]; 3]);
    let mut noise = move || (random.next() >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0;
    let sample = |i: usize| {
        let t = i as f64 / rate;
        let soft = 0.001 * noise();
        let (mut x, mut loud, mut vowel) = (0.0, 0.0, 0);
        if (1.0..2.6).contains(&t) || (3.6..5.2).contains(&t) {
            let part = (t * 4.0).fract();
            vowel = (t * 4.0) as usize % 4;
            loud = if part < 0.85 { (PI * part).sin().powf(0.5) } else { 0.0 };
            phase += (120.0 + 25.0 * (2.0 * PI * 0.7 * t).sin() + 6.0 * (2.0 * PI * 5.0 * t).sin()) / rate;
            if phase >= 1.0 {
                phase -= 1.0;
                x = 1.0;
            }
            x += 0.02 * noise();
        }
        let mut y = x * loud;
        for ((kept, frequency), width) in resonators.iter_mut().zip(VOWELS[vowel]).zip([80.0, 100.0, 140.0]) {
            let r = (-PI * width / rate).exp();
            let (a, b) = (2.0 * r * (2.0 * PI * frequency / rate).cos(), -r * r);
            y = (1.0 - a - b) * y + a * kept[0] + b * kept[1];
            *kept = [y, kept[0]];
        }
        (1.2 * y + soft) as f32
    };
    (0..(6.4 * rate) as usize).map(sample).collect()
}

/// A file of the network's shapes with seeded weights, so that the blocks are held against each other without the
/// published ones.
fn file() -> Vec<u8> {
    let shapes: [(&str, &[usize]); 15] = [
        ("stft_conv.weight", &[258, 1, 256]),
        ("conv1.weight", &[128, 129, 3]),
        ("conv1.bias", &[128]),
        ("conv2.weight", &[64, 128, 3]),
        ("conv2.bias", &[64]),
        ("conv3.weight", &[64, 64, 3]),
        ("conv3.bias", &[64]),
        ("conv4.weight", &[128, 64, 3]),
        ("conv4.bias", &[128]),
        ("lstm_cell.weight_ih", &[512, 128]),
        ("lstm_cell.weight_hh", &[512, 128]),
        ("lstm_cell.bias_ih", &[512]),
        ("lstm_cell.bias_hh", &[512]),
        ("final_conv.weight", &[1, 128, 1]),
        ("final_conv.bias", &[1]),
    ];
    let (mut entries, mut data, mut random) = (Vec::new(), Vec::new(), Random::new(43));
    for (name, shape) in shapes {
        let from = data.len();
        let count: usize = shape.iter().product();
        let spread = if shape.len() == 1 { 0.1 } else { (3.0 / (count / shape[0]) as f32).sqrt() };
        data.extend(random.floats(count).iter().flat_map(|v| (spread * v).to_le_bytes()));
        let to = data.len();
        entries.push(format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}"#));
    }
    let header = format!("{{{}}}", entries.join(","));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// What `examples/assets/fetch-models` keeps; says so where it is not there.
fn published() -> Option<Vec<u8>> {
    // Past the capture of the test's output.
    let skipped = |error: &io::Error| writeln!(io::stderr().lock(), "SKIPPED: {error}").unwrap();
    crate::fetched::read("silero-vad-16k.safetensors").inspect_err(skipped).ok()
}

fn chunk(samples: &[f32]) -> Activation {
    Activation::new(TensorSpec::new(DType::F32, &[1, samples.len()]), little_endian(samples)).unwrap()
}

fn floats(flow: Flow) -> Vec<f32> {
    with_floats(&flow.into_activation(), <[f32]>::to_vec).unwrap()
}

/// A session that commits at once.
#[derive(Debug, Default)]
struct State(Mutex<BTreeMap<String, Bytes>>);

#[async_trait]
impl StateSession for State {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn put(&self, key: &str, value: Bytes) {
        self.0.lock().unwrap().insert(key.into(), value);
    }

    fn delete(&self, key: &str) {
        self.0.lock().unwrap().remove(key);
    }

    fn phase(&self) -> Phase {
        Phase::Remote
    }

    async fn commit(self: Box<Self>, _: Bytes) -> Result<Commit, StateError> {
        Ok(Commit::Applied { version: Version::default(), durability: Durability::Memory })
    }
}

#[test]
fn every_block_passes_the_suite() {
    let graph = SileroVad::load(&file()).unwrap();
    let mut x = chunk(&sound()[20_000..][..CHUNK]);
    for block in graph.blocks() {
        conformance::model::model_block(|| block.clone(), || x.clone());
        let y = block.forward(x).unwrap();
        x = Activation::new(y.spec.clone(), y.bytes().unwrap()).unwrap();
    }
}

#[test]
fn every_instruction_set_and_every_split_point_give_the_same_also_in_the_middle_of_a_stream() {
    let (bytes, sound) = (file(), sound());
    let file = WeightFile::open(&bytes).unwrap();
    let graphs: Vec<BlockGraph> =
        Isa::available().into_iter().map(|isa| SileroVad::with(&file, isa).unwrap()).collect();
    let blocks = graphs[0].blocks().len();
    let mut memory = vec![BlockMemory::default(); blocks];
    for samples in sound[16_000..].chunks_exact(CHUNK).take(9) {
        graphs[0].follow(0..blocks, chunk(samples), &mut memory).unwrap();
    }
    let next = chunk(&sound[32_000..][..CHUNK]);
    let mut whole = memory.clone();
    let expected = floats(graphs[0].follow(0..blocks, next.clone(), &mut whole).unwrap());
    for graph in &graphs {
        for cut in 0..=blocks {
            let mut memory = memory.clone();
            let (near, far) = memory.split_at_mut(cut);
            let here = graph.follow(0..cut, next.clone(), near).unwrap().into_activation();
            let sent = crate::from_wire(&crate::to_wire(&here, WireForm::Exact).unwrap()).unwrap();
            let given = floats(graph.follow(cut..blocks, sent, far).unwrap());
            assert!((given[0] - expected[0]).abs() < 1e-5, "a cut before block {cut}: {given:?}, not {expected:?}");
        }
    }
}

#[test]
fn the_published_weights_hear_what_they_do_in_onnxruntime() {
    let Some(weights) = published() else { return };
    let graph = SileroVad::load(&weights).unwrap();
    // The second vowel is doubted for longer than the 100 ms that are set.
    let limits = SpeechLimits { silence: Duration::from_millis(150), ..SpeechLimits::default() };
    let mut detector = SpeechDetector::new(&graph, limits);
    let (mut speech, mut ended) = (Vec::new(), Vec::new());
    for samples in sound().chunks_exact(CHUNK) {
        let heard = detector.hear(samples).unwrap();
        speech.push(heard.speech);
        ended.extend(heard.ended);
    }
    let compared = speech.iter().step_by(8).zip(SPEECH).map(|(ours, theirs)| (ours - theirs).abs());
    let off = compared.fold(0.0, f32::max);
    println!(r#"{{"bar":"ai.vad.off_onnxruntime","value":{off:e},"unit":"probability","n":{}}}"#, SPEECH.len());
    assert!(off < 1e-4, "off by {off}");
    ended.extend(detector.finish());
    // In tenths of a second: the network hears speech end some 0.1 s after it did.
    let tenths: Vec<_> = ended.iter().map(|found| (found.start / 1600, found.end / 1600)).collect();
    assert_eq!(tenths, [(10, 27), (35, 53)], "{ended:?}");
}

#[tokio::test]
async fn a_stream_that_is_stored_goes_on_bit_for_bit_wherever_it_is_taken_up() {
    let (bytes, sound) = (file(), sound());
    let graph = SileroVad::load(&bytes).unwrap();
    let limits = SpeechLimits { begins: 0.45, ends: 0.45, ..SpeechLimits::default() };
    let mut whole = SpeechDetector::new(&graph, limits);
    let state = State::default();
    assert!(SpeechDetector::load(&graph, limits, &state, "microphone").await.unwrap().is_none());
    SpeechDetector::new(&graph, limits).save(&state, "microphone");
    for samples in sound.chunks_exact(CHUNK).take(90) {
        let elsewhere = SileroVad::load(&bytes).unwrap();
        let moved = SpeechDetector::load(&elsewhere, limits, &state, "microphone").await.unwrap();
        let mut moved = moved.unwrap();
        assert_eq!(moved.hear(samples).unwrap(), whole.hear(samples).unwrap());
        moved.save(&state, "microphone");
        assert!(state.get("microphone").await.unwrap().unwrap().len() < 1500);
    }
}

#[tokio::test]
async fn what_is_stored_of_another_model_or_damaged_is_refused_and_never_a_panic() {
    let (graph, sound) = (SileroVad::load(&file()).unwrap(), sound());
    let (state, limits) = (State::default(), SpeechLimits::default());
    let mut detector = SpeechDetector::new(&graph, limits);
    detector.hear(&sound[16_000..][..CHUNK]).unwrap();
    detector.save(&state, "microphone");
    let stored = state.get("microphone").await.unwrap().unwrap();
    let load = async |bytes: Bytes, graph: &BlockGraph| {
        state.put("microphone", bytes);
        SpeechDetector::load(graph, limits, &state, "microphone").await.map(Option::unwrap)
    };
    for length in 0..stored.len() {
        let refused = load(stored.slice(..length), &graph).await.unwrap_err();
        assert!(matches!(refused, GenerationError::Stored(ModelError::Memory { .. })), "{length} bytes");
    }
    assert!(load([&stored[..], &[0]].concat().into(), &graph).await.is_err());
    let mut other = graph.clone();
    other.model = ModelName::new("other").unwrap();
    let refused = load(stored.clone(), &other).await.unwrap_err();
    assert!(std::error::Error::source(&refused).unwrap().to_string().contains("not of other"));
    let mut random = Random::new(47);
    for _ in 0..2000 {
        let mut bytes = stored.to_vec();
        for _ in 0..=random.next() % 3 {
            // The head as often as the numbers that are kept.
            let most = [120, bytes.len()][random.next() as usize % 2];
            bytes[random.next() as usize % most] ^= 1 << (random.next() % 8);
        }
        if let Ok(mut detector) = load(bytes.into(), &graph).await {
            let _ = detector.hear(&sound[..CHUNK]);
        }
    }
}

#[test]
fn a_chunk_of_another_length_or_of_no_numbers_is_a_typed_error_and_the_stream_goes_on() {
    let (graph, sound) = (SileroVad::load(&file()).unwrap(), sound());
    let mut detector = SpeechDetector::new(&graph, SpeechLimits::default());
    detector.hear(&sound[..CHUNK]).unwrap();
    let mut untouched = detector.clone();
    for length in [0, 1, CHUNK - 1, CHUNK + 1] {
        let refused = detector.hear(&sound[..length]).unwrap_err();
        assert!(matches!(refused, ModelError::Shape { .. }), "{length}: {refused}");
    }
    let refused = detector.hear(&[f32::NAN; CHUNK]).unwrap_err();
    assert!(matches!(&refused, ModelError::Block { block, .. } if block == "head"), "{refused}");
    let next = &sound[CHUNK..2 * CHUNK];
    assert_eq!(detector.hear(next).unwrap(), untouched.hear(next).unwrap());
}

#[test]
fn a_weight_that_is_missing_is_named() {
    let refused = SileroVad::load(&[2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}']).unwrap_err();
    assert_eq!(refused.to_string(), "weight stft_conv.weight: is missing");
}
