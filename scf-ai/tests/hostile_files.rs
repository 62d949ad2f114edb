//! Model files that mean harm: each is refused with an error that names its field, or does none, and takes at most twice
//! its size in memory. Prints what `benches/figures` collects.

#[path = "llama/allocated.rs"]
mod allocated;
#[path = "hostile/case.rs"]
mod case;
#[path = "llama/file.rs"]
mod file;
#[path = "hostile/gguf.rs"]
mod gguf;
#[path = "hostile/mutated.rs"]
mod mutated;
#[path = "hostile/safetensors.rs"]
mod safetensors;
#[path = "hostile/tokenizer.rs"]
mod tokenizer;

/// The cases of every format that is loaded.
fn table() -> Vec<case::Case> {
    [safetensors::cases(), gguf::cases()].into_iter().flatten().collect()
}

#[test]
fn a_file_to_which_nothing_was_done_is_loaded() {
    for loaded in [safetensors::unharmed(), gguf::unharmed()] {
        loaded.unwrap();
    }
}

#[test]
fn no_model_file_does_harm() {
    let cases = table();
    let escaped: Vec<_> =
        cases.iter().filter_map(|case| case.run().err().map(|harm| format!("{}: {harm}", case.name))).collect();
    let contained = (cases.len() - escaped.len()) as f64 / cases.len() as f64;
    println!(r#"{{"bar":"ai.hostile_files.contained","value":{contained},"unit":"share","n":{}}}"#, cases.len());
    assert!(escaped.is_empty(), "not contained:\n{}", escaped.join("\n"));
}
