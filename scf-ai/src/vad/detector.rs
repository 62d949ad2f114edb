//! A stream of sound, and what of it is kept between calls.

use std::ops::Range;

use scf_core::{Activation, BlockGraph, BlockMemory, Bytes, ModelError, StateSession};

use super::segment::{SpeechLimits, Standing};
use crate::{
    llama::GenerationError,
    tensor::{little_endian, with_floats},
};

const MAGIC: &[u8; 4] = b"SCFV";
const VERSION: u8 = 1;
/// Most that is stored of one block; Silero VAD's largest keeps 1 KiB.
const MAX_KEPT: usize = 1 << 16;

/// One stream of sound in which speech is looked for, chunk by chunk.
///
/// It has what the blocks keep and where speech began, and can be stored with the state of a call, so that the next call
/// goes on where this one was, on whichever node the state is then. The graph takes a chunk and gives one probability
/// ([`SileroVad::load`](super::SileroVad::load)).
#[derive(Clone, Debug)]
pub struct SpeechDetector {
    graph: BlockGraph,
    limits: SpeechLimits,
    memory: Vec<BlockMemory>,
    standing: Standing,
}

/// What was heard in a chunk.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Heard {
    /// The probability that the chunk has speech, 0 to 1.
    pub speech: f32,
    /// The speech that has ended with it, in samples since the stream began.
    pub ended: Option<Range<u64>>,
}

fn refused(problem: impl Into<String>) -> ModelError {
    ModelError::Memory { block: "detector".into(), problem: problem.into() }
}

impl SpeechDetector {
    /// A stream of which nothing was heard.
    #[must_use]
    pub fn new(graph: &BlockGraph, limits: SpeechLimits) -> Self {
        let memory = vec![BlockMemory::default(); graph.blocks().len()];
        Self { graph: graph.clone(), limits, memory, standing: Standing::default() }
    }

    /// Hears the next chunk, as many samples as the graph takes, -1 to 1.
    ///
    /// # Errors
    /// [`ModelError::Shape`] for another number of samples, else the first block's error; the stream is then as it
    /// was before.
    pub fn hear(&mut self, samples: &[f32]) -> Result<Heard, ModelError> {
        let input = Activation::new(
            scf_core::TensorSpec::new(self.graph.input.dtype, &[1, samples.len()]),
            little_endian(samples),
        );
        let input = input.map_err(|error| refused(error.to_string()))?;
        let mut memory = self.memory.clone();
        let out = self.graph.follow(0..memory.len(), input, &mut memory)?.into_activation();
        let speech = with_floats(&out, |out| out.first().copied());
        let speech = speech.ok().flatten().ok_or_else(|| refused("the graph gives no probability"))?;
        self.memory = memory;
        Ok(Heard { speech, ended: self.standing.hear(speech, &self.limits) })
    }

    /// Ends the stream; gives the speech that has not ended, if there is some.
    #[must_use]
    pub fn finish(mut self) -> Option<Range<u64>> {
        self.standing.finish(&self.limits)
    }

    /// Writes the stream under `key`, when the call commits: some 1,400 bytes for Silero VAD, however long it is.
    pub fn save(&self, state: &dyn StateSession, key: &str) {
        let mut out = [&MAGIC[..], &[VERSION]].concat();
        let standing = [Some(self.standing.heard), self.standing.begun, self.standing.quiet];
        // What there is not is one less than nothing.
        out.extend(standing.iter().flat_map(|at| at.unwrap_or(u64::MAX).to_le_bytes()));
        let name = self.graph.model.as_str().as_bytes();
        let mut part = |seen: usize, bytes: &[u8]| {
            out.extend((seen as u64).to_le_bytes());
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        };
        part(self.memory.len(), name);
        self.memory.iter().for_each(|memory| part(memory.seen, &memory.bytes));
        state.put(key, out.into());
    }

    /// Takes a stream up that was saved under `key`; `None` where none was.
    ///
    /// # Errors
    /// [`GenerationError`], also when what is stored is of another model or damaged.
    pub async fn load(
        graph: &BlockGraph,
        limits: SpeechLimits,
        state: &dyn StateSession,
        key: &str,
    ) -> Result<Option<Self>, GenerationError> {
        let Some(stored) = state.get(key).await? else { return Ok(None) };
        Ok(Some(Self::new(graph, limits).restored(&stored)?))
    }

    fn restored(mut self, stored: &Bytes) -> Result<Self, ModelError> {
        let damaged = || refused("what is stored is damaged");
        let mut left = stored.strip_prefix(MAGIC).and_then(|left| left.strip_prefix(&[VERSION])).ok_or_else(damaged)?;
        let mut number = || {
            let (number, rest) = left.split_first_chunk().ok_or_else(damaged)?;
            left = rest;
            Ok::<u64, ModelError>(u64::from_le_bytes(*number))
        };
        let some = |at: u64| (at != u64::MAX).then_some(at);
        let (heard, begun, quiet) = (number()?, some(number()?), some(number()?));
        self.standing = Standing { heard, begun, quiet };
        if begun.is_some_and(|begun| begun > heard)
            || quiet.is_some_and(|quiet| begun.is_none_or(|begun| quiet < begun))
        {
            return Err(damaged());
        }
        let part = |left: &mut &[u8]| {
            let (seen, rest) = left.split_first_chunk().ok_or_else(damaged)?;
            let (length, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (bytes, rest) = rest.split_at_checked(length).filter(|_| length <= MAX_KEPT).ok_or_else(damaged)?;
            *left = rest;
            let seen = usize::try_from(u64::from_le_bytes(*seen)).map_err(|_| damaged())?;
            Ok::<_, ModelError>(BlockMemory { seen, bytes: bytes.to_vec() })
        };
        let model = part(&mut left)?;
        if model.bytes != self.graph.model.as_str().as_bytes() || model.seen != self.memory.len() {
            return Err(refused(format!("what is stored is not of {}", self.graph.model)));
        }
        for memory in &mut self.memory {
            *memory = part(&mut left)?;
        }
        if left.is_empty() { Ok(self) } else { Err(damaged()) }
    }
}
