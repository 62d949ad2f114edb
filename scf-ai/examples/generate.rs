//! Streams a language model's answer to the terminal, its memory stored between turns:
//! `cargo run --release -p scf-ai --example generate -- "What is the capital of France?" "And of Italy?"`
//!
//! Each argument is a turn of one chat. Between two turns nothing is kept but what a function's state would have, as
//! if each were a call that comes to another node. `examples/assets/fetch-models` gets the model.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{self, Write as _},
    sync::Mutex,
    time::Instant,
};

use async_trait::async_trait;
use scf_ai::{Generation, Llama, Role, Sampling};
use scf_core::{Bytes, Commit, Durability, ModelName, Phase, Share, StateError, StateSession, Version};

#[path = "../../examples/assets/fetched.rs"]
mod fetched;

/// Positions of the longest chat.
const CONTEXT: usize = 2048;

/// The state of one chat, in memory.
#[derive(Debug, Default)]
struct Chat(Mutex<BTreeMap<String, Bytes>>);

#[async_trait]
impl StateSession for Chat {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        Ok(self.0.lock().ok().and_then(|values| values.get(key).cloned()))
    }

    fn put(&self, key: &str, value: Bytes) {
        self.0.lock().map(|mut values| values.insert(key.to_owned(), value)).ok();
    }

    fn delete(&self, key: &str) {
        self.0.lock().map(|mut values| values.remove(key)).ok();
    }

    fn phase(&self) -> Phase {
        Phase::Remote
    }

    async fn commit(self: Box<Self>, _: Bytes) -> Result<Commit, StateError> {
        Ok(Commit::Applied { version: Version::default(), durability: Durability::Memory })
    }
}

fn model() -> Result<Bytes, Box<dyn Error>> {
    Ok(fetched::read("smollm2-135m-instruct.q4_1.gguf")?.into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut turns: Vec<String> = env::args().skip(1).collect();
    if turns.is_empty() {
        turns = ["What is the capital of France?", "Tell me one thing about it."].map(String::from).into();
    }
    let begun = Instant::now();
    let model = Llama::open(model()?, CONTEXT)?;
    let tokenizer = model.tokenizer()?;
    let graph = model.graph(ModelName::new("smollm2-135m")?, Sampling::nucleus(0.6, Share::from_percent(92.0), 42))?;
    println!(
        "[{} blocks, {} per position, opened in {:.0?}]",
        graph.blocks().len(),
        model.kept_per_position(),
        begun.elapsed()
    );

    let chat = Chat::default();
    for turn in &turns {
        println!("\n> {turn}");
        let loaded = Generation::load(&graph, &chat, "chat").await?;
        let mut generation = loaded.unwrap_or_else(|| Generation::new(&graph));
        generation.prompt(&tokenizer.chat(&[(Role::User, turn)])?);
        let (asked, mut first, mut count) = (Instant::now(), None, 0);
        let mut text = tokenizer.decoder();
        while let Some(token) = generation.next_token()? {
            first.get_or_insert_with(|| asked.elapsed());
            count += 1;
            print!("{}", text.push(token));
            io::stdout().flush()?;
        }
        let first = first.unwrap_or_default();
        let rate = f64::from(count - 1) / (asked.elapsed() - first).as_secs_f64();
        generation.save(&chat, "chat")?;
        println!(
            "\n[{count} tokens, the first after {first:.0?}, then {rate:.1} a second; {} seen]",
            generation.seen()
        );
    }
    Ok(())
}
