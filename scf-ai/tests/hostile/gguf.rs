//! Files in the GGUF format, as language models take them.

use scf_ai::{Llama, Sampling};
use scf_core::{Bytes, ModelName};

use crate::{
    case::{Case, Loaded, Outcome, named},
    file::{F32, File, Tensor, array, network, text, typed},
};

/// Everything that reads a file.
fn load(file: &Bytes) -> Loaded {
    named(Llama::open(file.clone(), 64).and_then(|model| {
        let graph = model.graph(ModelName::new("hostile").expect("a name"), Sampling::greedy())?;
        model.tokenizer()?;
        Ok(graph)
    }))
}

fn refused(what: &'static str, names: &'static str, bytes: Vec<u8>) -> Case {
    Case::new(what, load, Outcome::Named(names), move || bytes.clone())
}

fn case(what: &'static str, names: &'static str, wrong: impl FnOnce(&mut File)) -> Case {
    let mut file = network();
    wrong(&mut file);
    refused(what, names, file.write())
}

/// A file of which some bytes are others, from `at` on.
fn patched(what: &'static str, names: &'static str, at: usize, with: &[u8]) -> Case {
    let mut bytes = network().write();
    bytes[at..at + with.len()].copy_from_slice(with);
    refused(what, names, bytes)
}

/// The file that the cases begin with.
pub(crate) fn unharmed() -> Loaded {
    load(&network().write().into())
}

pub(crate) fn cases() -> Vec<Case> {
    let most = u64::MAX.to_le_bytes();
    let strings = |count: u64| typed(9, &[&8u32.to_le_bytes()[..], &count.to_le_bytes()].concat());
    let whole = network().write();
    let mut cases = vec![
        refused("nothing", "header", Vec::new()),
        refused("half of it", "weight", whole[..whole.len() / 2].into()),
        refused("the end of the fields missing", "metadata", whole[..900].into()),
        patched("another format", "header", 0, b"GGML"),
        patched("version 1", "header", 4, &1u32.to_le_bytes()),
        patched("big-endian", "big-endian", 4, &3u32.to_be_bytes()),
        patched("more tensors than there can be", "header", 8, &most),
        patched("more tensors than fit into the file", "do not fit", 8, &60_000u64.to_le_bytes()),
        patched("more fields than there can be", "header", 16, &most),
        patched("more fields than are there", "metadata number", 16, &4000u64.to_le_bytes()),
        patched("a key longer than the file", "number 0", 24, &most),
        case("a type that there is not", "llama.x", |file| {
            file.fields.insert("llama.x".into(), typed(13, &[0; 8]));
        }),
        case("a text longer than the file", "general.name", |file| {
            file.fields.insert("general.name".into(), typed(8, &most));
        }),
        case("a text that is no text", "general.name", |file| {
            file.fields.insert("general.name".into(), typed(8, &[&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat()));
        }),
        case("a truth value that is none", "tokenizer.x", |file| {
            file.fields.insert("tokenizer.x".into(), typed(7, &[2]));
        }),
        case("an array longer than the file", "tokenizer.ggml.merges", |file| {
            file.fields.insert("tokenizer.ggml.merges".into(), strings(1 << 40));
        }),
        case("an array of which the size overflows", "tokenizer.ggml.merges", |file| {
            file.fields.insert("tokenizer.ggml.merges".into(), strings(u64::MAX / 4));
        }),
        case("arrays within arrays", "tokenizer.x", |file| {
            file.fields.insert("tokenizer.x".into(), array(9, &[strings(0)]));
        }),
        case("an alignment of 0", "general.alignment", |file| file.count("general.alignment", 0)),
        case("an alignment of 48", "general.alignment", |file| file.count("general.alignment", 48)),
        case("another architecture", "general.architecture", |file| file.text("general.architecture", "mamba")),
        case("a number that is text", "llama.block_count", |file| file.text("llama.block_count", "2")),
        case("more layers than there are", "blk.2.attn_norm.weight", |file| file.count("llama.block_count", 3)),
        case("fewer layers than there are", "blk.1.", |file| file.count("llama.block_count", 1)),
        case("a billion layers", "llama.block_count", |file| file.count("llama.block_count", 1 << 30)),
        case("no heads", "llama.attention.head_count", |file| file.count("llama.attention.head_count", 0)),
        case("heads that do not divide", "llama.attention.head_count", |file| {
            file.count("llama.attention.head_count", 3);
        }),
        case("more groups than heads", "llama.attention.head_count", |file| {
            file.count("llama.attention.head_count_kv", 8);
        }),
        case("a base that is no number", "llama.rope.freq_base", |file| {
            file.float("llama.rope.freq_base", f32::NAN);
        }),
        case("positions that are scaled", "llama.rope.scaling.type", |file| {
            file.text("llama.rope.scaling.type", "yarn");
        }),
        case("a tensor of a type that is not read", "token_embd.weight", |file| tensor(file).kind = 12),
        case("a tensor of a type that there is not", "token_embd.weight", |file| tensor(file).kind = u32::MAX),
        case("five dimensions", "token_embd.weight", |file| tensor(file).dimensions = vec![1; 5]),
        case("dimensions of which the product overflows", "token_embd.weight", |file| {
            tensor(file).dimensions = vec![1 << 40; 3];
        }),
        case("a vocabulary larger than the file", "token_embd.weight", |file| {
            tensor(file).dimensions = vec![64, 1 << 20];
        }),
        case("rows that are no blocks", "token_embd.weight", |file| tensor(file).dimensions = vec![33, 259]),
        case("a row too wide", "blk.0.ffn_up.weight", |file| {
            file.tensors.get_mut("blk.0.ffn_up.weight").unwrap().dimensions = vec![96, 64];
        }),
        case("a gain that is no number", "output_norm.weight", |file| {
            file.tensors.get_mut("output_norm.weight").unwrap().bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        case("a tensor missing", "blk.1.attn_k.weight", |file| {
            file.tensors.remove("blk.1.attn_k.weight");
        }),
        case("a tensor of another network", "blk.0.attn_q.bias", |file| {
            let norm = file.tensors["output_norm.weight"].clone();
            file.tensors.insert("blk.0.attn_q.bias".into(), norm);
        }),
        case("a name longer than names are", "weight number", |file| {
            let norm = file.tensors["output_norm.weight"].clone();
            file.tensors.insert("x".repeat(65), norm);
        }),
        case("an end that is no token", "tokenizer.ggml.eos_token_id", |file| {
            file.count("tokenizer.ggml.eos_token_id", 259);
        }),
        case("a vocabulary of another size", "tokenizer.ggml.tokens", |file| {
            file.texts("tokenizer.ggml.tokens", ["a"]);
        }),
        case("a merge of what are no tokens", "tokenizer.ggml.merges", |file| {
            file.texts("tokenizer.ggml.merges", ["hell o"]);
        }),
        case("a merge that is no pair", "tokenizer.ggml.merges", |file| file.texts("tokenizer.ggml.merges", ["he"])),
        case("another division of texts", "tokenizer.ggml.pre", |file| file.text("tokenizer.ggml.pre", "qwen2")),
    ];
    // Where names stand can only be said of the written file: one field and one tensor twice, one tensor beyond it.
    let find = |name: &str| whole.windows(name.len()).position(|part| part == name.as_bytes()).unwrap();
    let offset = find("token_embd.weight") + "token_embd.weight".len() + 4 + 2 * 8 + 4;
    cases.push(patched("a tensor that starts anywhere", "token_embd.weight", offset, &1u64.to_le_bytes()));
    cases.push(patched("a tensor beyond the file", "token_embd.weight", offset, &(1u64 << 60).to_le_bytes()));
    cases.push(patched("a tensor twice", "twice", find("blk.1.ffn_up.weight"), b"blk.0.ffn_up.weight"));
    cases.push(patched("a field twice", "twice", find("tokenizer.ggml.merges"), b"tokenizer.ggml.tokens"));
    // As many of the smallest entries as the limits let through.
    let tensors = [&text("")[..], &[0; 16]].concat().repeat(60_000);
    let header = [&b"GGUF\x03\0\0\0"[..], &60_000u64.to_le_bytes(), &0u64.to_le_bytes()].concat();
    cases.push(refused("sixty thousand empty tensors", "twice", [header, tensors].concat()));
    cases
}

fn tensor(file: &mut File) -> &mut Tensor {
    let tensor = file.tensors.get_mut("token_embd.weight").unwrap();
    assert_ne!(tensor.kind, F32);
    tensor
}
