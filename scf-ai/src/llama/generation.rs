//! A sequence that a model goes on with, and what of it is kept between calls.

use scf_core::{
    Activation, BlockGraph, BlockMemory, Bytes, DType, Flow, ModelError, StateError, StateSession, TensorSpec,
};
use thiserror::Error;

use crate::tensor::{little_endian, with_floats};

/// Most positions in a page of what is stored.
const PAGE: usize = 32;
/// Largest page in bytes, where a position is not larger: half of what every backend takes as one value.
const MAX_PAGE: usize = 1 << 19;
const MAGIC: &[u8; 4] = b"SCFG";
const VERSION: u8 = 1;

/// A sequence that a language model goes on with, token by token.
///
/// It has what the blocks keep of the sequence (keys and values: the model's context bounds them) and can be stored
/// with the state of a call, so that the next call goes on where this one was, on whichever node the state is then.
/// The graph ends with a block that gives tokens ([`Llama::graph`](super::Llama::graph)), and its blocks keep as many
/// bytes of each position, or none.
#[derive(Debug)]
pub struct Generation {
    graph: BlockGraph,
    memory: Vec<BlockMemory>,
    /// Tokens of the sequence that the blocks have not seen yet.
    pending: Vec<u32>,
    standing: Standing,
    /// Positions of which the state has whole pages already.
    stored: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    /// The model has ended its answer.
    Ended,
    /// A block failed after those before it had seen the part.
    Broken,
}

/// Why a stored sequence was not taken up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// The state was not read.
    #[error("the stored sequence was not read")]
    State(#[from] StateError),
    /// What is stored is no sequence of this model.
    #[error("the stored sequence is none of this model")]
    Stored(#[from] ModelError),
}

fn refused(problem: impl Into<String>) -> ModelError {
    ModelError::Memory { block: "generation".into(), problem: problem.into() }
}

impl Generation {
    /// An empty sequence.
    #[must_use]
    pub fn new(graph: &BlockGraph) -> Self {
        let memory = vec![BlockMemory::default(); graph.blocks().len()];
        Self { graph: graph.clone(), memory, pending: Vec::new(), standing: Standing::Open, stored: 0 }
    }

    /// Adds `tokens` to the sequence, which the model sees with the next token that is asked for.
    pub fn prompt(&mut self, tokens: &[u32]) {
        self.pending.extend_from_slice(tokens);
        if self.standing == Standing::Ended {
            self.standing = Standing::Open;
        }
    }

    /// Positions that the model has seen.
    #[must_use]
    pub fn seen(&self) -> usize {
        // The first block looks words up and keeps nothing, the last counts its tokens.
        self.memory.iter().filter(|memory| !memory.bytes.is_empty()).map(|memory| memory.seen).max().unwrap_or(0)
    }

    /// The model's next token; `None` once it has ended its answer, until it is prompted again, and where nothing was
    /// prompted yet. Computes on this thread, most of it for the first token behind a prompt.
    ///
    /// # Errors
    /// The first block's error; [`ModelError::Memory`] when the sequence is longer than the model's context. After one
    /// that came from within the network the sequence is broken, and only what was stored of it can go on.
    pub fn next_token(&mut self) -> Result<Option<u32>, ModelError> {
        match self.standing {
            Standing::Open if !self.pending.is_empty() => {}
            Standing::Open | Standing::Ended => return Ok(None),
            Standing::Broken => return Err(refused("the sequence broke off; take it up from where it was stored")),
        }
        let ids: Vec<f32> = self.pending.iter().map(|token| *token as f32).collect();
        let spec = TensorSpec::new(DType::F32, &[1, ids.len()]);
        let input = Activation::new(spec, little_endian(&ids)).map_err(|error| refused(error.to_string()))?;
        let before = self.seen();
        let flow = self.graph.follow(0..self.memory.len(), input, &mut self.memory).inspect_err(|_| {
            if self.memory.iter().any(|memory| memory.seen > before && !memory.bytes.is_empty()) {
                self.standing = Standing::Broken;
            }
        })?;
        if !matches!(flow, Flow::Stream(_)) {
            self.standing = Standing::Ended;
        }
        let token = with_floats(&flow.into_activation(), |token| token.first().map_or(0, |token| *token as u32));
        let token = token.map_err(|error| refused(error.to_string()))?;
        self.pending.clear();
        self.pending.push(token);
        Ok((self.standing == Standing::Open).then_some(token))
    }

    /// Writes the sequence under keys that begin with `key`, when the call commits: a head, and pages of up to 32
    /// positions of which only those are written that were not whole when the sequence was loaded or last
    /// [`committed`](Generation::committed).
    ///
    /// # Errors
    /// [`ModelError::Memory`] when the sequence is broken.
    pub fn save(&self, state: &dyn StateSession, key: &str) -> Result<(), ModelError> {
        let rows = self.rows()?;
        let seen = self.seen();
        let mut head = [&MAGIC[..], &[VERSION, u8::from(self.standing == Standing::Ended)]].concat();
        let name = self.graph.model.as_str().as_bytes();
        let mut put = |word: usize| head.extend((word as u64).to_le_bytes());
        [name.len(), seen, self.pending.len(), rows.len()].into_iter().for_each(&mut put);
        for (memory, row) in self.memory.iter().zip(&rows) {
            put(memory.seen);
            put(*row);
        }
        self.pending.iter().for_each(|token| put(*token as usize));
        head.extend(name);
        state.put(&format!("{key}/head"), head.into());
        let page_size = page_size(&rows);
        for first in (self.stored / page_size * page_size..seen).step_by(page_size) {
            let last = seen.min(first + page_size);
            let mut page = Vec::with_capacity((last - first) * rows.iter().sum::<usize>());
            for (memory, row) in self.memory.iter().zip(&rows) {
                page.extend_from_slice(&memory.bytes[first * row..(last * row).min(memory.bytes.len())]);
            }
            state.put(&page_key(key, first / page_size), page.into());
        }
        Ok(())
    }

    /// Notes that what was saved is committed, so that the next [`save`](Generation::save) writes only what came
    /// since: for isolates that keep the sequence between calls.
    pub fn committed(&mut self) {
        self.stored = self.seen();
    }

    /// Takes a sequence up that was saved under `key`; `None` where none was.
    ///
    /// # Errors
    /// [`GenerationError`], also when what is stored is of another model or damaged.
    pub async fn load(
        graph: &BlockGraph,
        state: &dyn StateSession,
        key: &str,
    ) -> Result<Option<Self>, GenerationError> {
        let Some(head) = state.get(&format!("{key}/head")).await? else { return Ok(None) };
        let mut generation = Self::new(graph);
        let (seen, rows) = generation.restore(&head)?;
        let page_size = page_size(&rows);
        for page in 0..seen.div_ceil(page_size) {
            let bytes = state.get(&page_key(key, page)).await?;
            let bytes = bytes.ok_or_else(|| refused(format!("page {page} is not there")))?;
            let positions = page_size.min(seen - page * page_size);
            let mut left = &bytes[..];
            for (memory, row) in generation.memory.iter_mut().zip(&rows) {
                let part = positions.checked_mul(*row).and_then(|length| left.split_at_checked(length));
                let (part, beyond) = part.ok_or_else(|| refused(format!("page {page} is cut off")))?;
                memory.bytes.extend_from_slice(part);
                left = beyond;
            }
            if !left.is_empty() {
                return Err(refused(format!("page {page} is too long")).into());
            }
        }
        generation.stored = seen;
        Ok(Some(generation))
    }

    /// Bytes that each block keeps of a position.
    fn rows(&self) -> Result<Vec<usize>, ModelError> {
        let seen = self.seen();
        let row = |memory: &BlockMemory| match memory.bytes.len() {
            0 => Some(0),
            bytes => (memory.seen == seen && bytes.is_multiple_of(seen)).then(|| bytes / seen),
        };
        let rows: Option<Vec<usize>> = self.memory.iter().map(row).collect();
        let broken = || refused("the blocks have not seen the same positions: the sequence broke off");
        rows.filter(|_| self.standing != Standing::Broken).ok_or_else(broken)
    }

    /// Reads a head; gives the positions, and the bytes that each block keeps of one.
    fn restore(&mut self, head: &Bytes) -> Result<(usize, Vec<usize>), ModelError> {
        let damaged = || refused("the head is damaged");
        let Some((&[m0, m1, m2, m3, VERSION, ended @ 0..=1], words)) = head.split_first_chunk::<6>() else {
            return Err(damaged());
        };
        if [m0, m1, m2, m3] != *MAGIC {
            return Err(damaged());
        }
        let (words, _) = words.as_chunks::<8>();
        let mut numbers = words.iter().map(|word| usize::try_from(u64::from_le_bytes(*word)).unwrap_or(usize::MAX));
        let mut next = || numbers.next().ok_or_else(damaged);
        let [name, seen, pending, blocks] = [next()?, next()?, next()?, next()?];
        let expected = 6 + 8 * (4 + 2 * self.memory.len());
        let length = pending.checked_mul(8).and_then(|n| n.checked_add(name)).and_then(|n| n.checked_add(expected));
        if blocks != self.memory.len() || length != Some(head.len()) {
            return Err(refused(format!("what is stored is of {blocks} blocks, or damaged")));
        }
        let model = self.graph.model.as_str();
        if head[head.len() - name..] != *model.as_bytes() {
            return Err(refused(format!("what is stored is not of {model}")));
        }
        let mut rows = Vec::with_capacity(blocks);
        for memory in &mut self.memory {
            memory.seen = next()?;
            let row = next()?;
            if row > 0 && memory.seen != seen {
                return Err(refused(format!("a block has seen {} of {seen} positions", memory.seen)));
            }
            rows.push(row);
        }
        for _ in 0..pending {
            self.pending.push(next()?.try_into().map_err(|_| damaged())?);
        }
        if ended == 1 {
            self.standing = Standing::Ended;
        }
        Ok((seen, rows))
    }
}

/// Positions in a page, of which each block keeps as many bytes as `rows` says.
fn page_size(rows: &[usize]) -> usize {
    let row = rows.iter().fold(1, |sum: usize, row| sum.saturating_add(*row));
    (MAX_PAGE / row).clamp(1, PAGE)
}

fn page_key(key: &str, page: usize) -> String {
    format!("{key}/{page}")
}
