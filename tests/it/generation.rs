use std::{io::Write as _, sync::Arc};

use scf::{
    ai::{Generation, Llama, Sampling},
    core::{
        BlockGraph, Clock, Function, Invocation, InvocationId, ModelName, Name, Node, Payload, Phase, PhasePolicy,
        Scope, Share, StateBackend, StateStore, Tier, Version,
    },
    runtime::{NativeError, NativeFactory, SystemClock},
    state::{AlwaysLocal, AlwaysRemote, MemoryState, PhasedState},
};

use crate::support::{function, node};

#[path = "../../examples/assets/fetched.rs"]
mod fetched;
#[path = "../../scf-ai/tests/llama/file.rs"]
mod file;

/// Tokens of a turn.
const TURN: usize = 6;

/// A network of two layers with seeded weights, which never ends an answer.
fn small(sampling: Sampling) -> BlockGraph {
    let mut file = file::network();
    file.fields.remove("tokenizer.ggml.eos_token_id");
    let model = Llama::open(file.write().into(), file::CONTEXT as usize).unwrap();
    model.graph(ModelName::new("small").unwrap(), sampling).unwrap()
}

/// What `examples/assets/fetch-models` keeps; says so where it is not there.
fn published() -> Option<BlockGraph> {
    let found = fetched::read("smollm2-135m-instruct.q4_1.gguf");
    if let Err(error) = &found {
        // Past the capture of the test's output.
        let mut terminal = std::io::stderr();
        writeln!(terminal, "SKIPPED: {error}").unwrap();
    }
    let model = Llama::open(found.ok()?.into(), 256).unwrap();
    Some(model.graph(ModelName::new("smollm2-135m").unwrap(), Sampling::greedy()).unwrap())
}

fn to_words(tokens: &[u32]) -> Payload {
    let words: Vec<String> = tokens.iter().map(u32::to_string).collect();
    Payload::new(words.join(" "))
}

fn from_words(payload: &Payload) -> Vec<u32> {
    let words = String::from_utf8_lossy(&payload.bytes);
    words.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// The function: goes on with the sequence of the call's key by the tokens of the input, and gives those of a turn.
fn continues(graph: &BlockGraph) -> NativeFactory {
    let graph = graph.clone();
    let function = NativeFactory::new().with("continue", move |call, input| {
        let graph = graph.clone();
        Box::pin(async move {
            let refused = |error: &dyn std::error::Error| NativeError::refused(error.to_string());
            let state = call.state()?;
            let loaded = Generation::load(&graph, state, "chat").await.map_err(|error| refused(&error))?;
            let mut generation = loaded.unwrap_or_else(|| Generation::new(&graph));
            generation.prompt(&from_words(&input));
            let mut given = Vec::new();
            while given.len() < TURN
                && let Some(token) = generation.next_token().map_err(|error| refused(&error))?
            {
                given.push(token);
            }
            generation.save(state, "chat").map_err(|error| refused(&error))?;
            Ok(to_words(&given))
        })
    });
    function.unwrap()
}

fn scope() -> Scope {
    Scope { function: function("continue"), key: "session".into() }
}

/// Where a node keeps a session between turns.
#[derive(Clone, Copy, PartialEq)]
enum Keeps {
    /// The remote phase.
    AtHome,
    /// The local phase.
    Here,
}

/// A session's home, and how many turns it has had.
struct Session {
    graph: BlockGraph,
    home: Arc<MemoryState>,
    turns: u128,
}

impl Session {
    fn new(graph: &BlockGraph) -> Self {
        Self { graph: graph.clone(), home: Arc::new(MemoryState::new()), turns: 0 }
    }

    /// Turns on a node of its own, which it leaves with its state published at home.
    async fn on(&mut self, name: &str, keeps: Keeps, inputs: &[&[u32]]) -> Vec<u32> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let policy: Arc<dyn PhasePolicy> = match keeps {
            Keeps::AtHome => Arc::new(AlwaysRemote),
            Keeps::Here => Arc::new(AlwaysLocal),
        };
        let (home, local): (Arc<dyn StateBackend>, _) = (self.home.clone(), Arc::new(MemoryState::new()));
        let store = Arc::new(PhasedState::new(node(name), home, local, policy, clock.clone()));
        let fabric = scf::fabric().unwrap().node(Node::new(node(name), Tier::Edge)).clock(clock);
        let fabric = fabric.isolates(Arc::new(continues(&self.graph))).state(node(name), store.clone());
        let fabric = fabric.build().unwrap();
        let deployed = Function::native(function("continue"), Name::new("continue").unwrap()).stateful();
        fabric.deploy(deployed).await.unwrap();
        let mut given = Vec::new();
        for (turn, input) in inputs.iter().enumerate() {
            let before = self.version("head").await;
            let id = InvocationId::new(self.turns);
            let call = Invocation::new(id, function("continue"), to_words(input)).key(scope().key);
            given.extend(from_words(&fabric.invoke(call).await.unwrap().payload));
            self.turns += 1;
            let phase = store.phase(&scope());
            // A node that keeps sessions takes one when its second turn begins.
            if keeps == Keeps::Here && turn > 0 {
                assert!(matches!(phase, Phase::Local(_)), "{phase:?} on {name}");
                assert_eq!(self.version("head").await, before, "a local turn goes home when the session leaves");
            } else {
                assert_eq!(phase, Phase::Remote, "on {name}");
                assert!(self.version("head").await > before, "a remote turn is committed at home");
            }
        }
        fabric.shutdown().await.unwrap();
        assert_eq!(store.phase(&scope()), Phase::Remote, "{name} has let go");
        given
    }

    /// When something of the sequence was last written at home.
    async fn version(&self, part: &str) -> Option<Version> {
        let entry = self.home.get(&scope(), &format!("chat/{part}")).await.unwrap();
        entry.map(|entry| entry.version)
    }
}

/// The tokens of one sequence that never leaves this thread, prompted as the turns are.
fn unmoved(graph: &BlockGraph, inputs: &[&[u32]]) -> Vec<u32> {
    let mut generation = Generation::new(graph);
    let turn = |input: &&[u32]| {
        generation.prompt(input);
        (0..TURN).map_while(|_| generation.next_token().unwrap()).collect::<Vec<_>>()
    };
    inputs.iter().flat_map(turn).collect()
}

/// Remote on one node, local on the next, and that once more.
async fn moves_between_nodes_and_phases(graph: &BlockGraph, vocabulary: u32) {
    let prompt: Vec<u32> = (0..34).map(|i| i * 31 % vocabulary).collect();
    let inputs: [&[u32]; 8] = [&prompt, &[], &[7, 8], &[], &[9], &[], &[10], &[]];
    let mut session = Session::new(graph);
    let mut given = session.on("gateway", Keeps::AtHome, &inputs[..1]).await;
    let whole = session.version("0").await;
    given.extend(session.on("camera", Keeps::Here, &inputs[1..4]).await);
    given.extend(session.on("cloud", Keeps::AtHome, &inputs[4..5]).await);
    let before = session.version("0").await;
    given.extend(session.on("phone", Keeps::Here, &inputs[5..]).await);
    assert_eq!(given, unmoved(graph, &inputs));
    assert!(given.len() > 3 * TURN, "{} tokens show little", given.len());
    assert!(whole.is_some() && session.version("0").await == before, "the first page is whole and not written again");
}

#[tokio::test]
async fn what_a_language_model_keeps_follows_its_session_through_phases_and_nodes() {
    for sampling in [Sampling::greedy(), Sampling::nucleus(1.2, Share::ALL, 71)] {
        moves_between_nodes_and_phases(&small(sampling), 256).await;
    }
}

#[tokio::test]
async fn the_published_model_goes_on_token_for_token_after_it_moved() {
    let Some(graph) = published() else { return };
    moves_between_nodes_and_phases(&graph, 49_000).await;
}

#[tokio::test]
async fn a_remote_turn_writes_the_page_that_grew_and_no_other() {
    let graph = small(Sampling::greedy());
    let mut session = Session::new(&graph);
    let prompt: Vec<u32> = (0..70).collect();
    session.on("gateway", Keeps::AtHome, &[&prompt]).await;
    let first = [session.version("0").await, session.version("1").await];
    session.on("gateway", Keeps::AtHome, &[&[], &[]]).await;
    assert_eq!([session.version("0").await, session.version("1").await], first, "pages of 32 positions are whole");
    assert_eq!(session.version("2").await, session.version("head").await);
}
