//! Runs of networks on the wire: what is done, and every tensor that is still taken.
//!
//! A message is, little-endian: magic `SCFR`; version; flags (bit 0: the body is compressed, bit 1: the run has spent
//! something); the hash of what follows, 8 bytes of BLAKE3; the [fingerprint](Fingerprint) of the network; where the run has
//! spent something, its energy, energy out of batteries and money as `u64`, in [`SplitSpent`]'s smallest units; its blocks as `u16` and one bit per block that is
//! done; the number of tensors; of each its number as `u16` and its form; the body, tensor after tensor. Shapes do not
//! travel: both sides have the network, so that every size is known before anything is read or allocated.

mod agreement;
mod form;

use std::time::Duration;

use bytes::Bytes;
use scf_core::{
    Activation, BlockGraph, BlockSet, ByteSize, DType, Energy, Frontier, MediaType, Money, Payload, SplitSpent,
    WireForm,
};
use smallvec::SmallVec;

pub use self::agreement::Agreement;
use crate::codec::CodecError;

const MAGIC: [u8; 4] = *b"SCFR";
const VERSION: u8 = 1;
/// Where the flags are.
const FLAGS: usize = 5;
const COMPRESSED: u8 = 1;
const SPENT: u8 = 2;
/// Bytes before what is hashed.
const UNHASHED: usize = 14;
/// A body is sent compressed when that saves at least this part of it.
const WORTH: usize = 16;
/// Most that one byte of a compressed body can stand for.
const MAX_EXPANSION: usize = 255;
/// Bytes of a message beside its tensors, as planners count them: the head of a network of up to 100 blocks with two.
pub(crate) const HEAD: u64 = 48;

/// What tells one network from another: its name, its blocks' names, wiring and shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 8]);

impl Fingerprint {
    pub(crate) fn of(graph: &BlockGraph) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        let numbers = |of: &[usize]| of.iter().flat_map(|&n| (n as u64).to_le_bytes()).collect::<Vec<u8>>();
        part(graph.model.as_str().as_bytes());
        for (i, block) in graph.blocks().iter().enumerate() {
            part(block.name().as_bytes());
            part(&numbers(graph.inputs(i)));
        }
        for spec in graph.edges() {
            part(&[kind(spec.dtype)]);
            part(&numbers(&spec.shape));
        }
        Self(first(&hasher))
    }
}

/// How runs travel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending<'a> {
    pub(crate) form: WireForm,
    /// Of each tensor the forms in which it may travel; in none of these it is sent exactly.
    pub(crate) offered: &'a [SmallVec<[WireForm; 4]>],
    pub(crate) compress: bool,
    /// What the run will have spent once the message is there.
    pub(crate) spent: SplitSpent,
}

/// The message of a run of the network of that fingerprint that has come to `frontier`. What a form cannot say, an
/// infinity, travels exactly.
pub(crate) fn write(
    graph: &BlockGraph,
    fingerprint: Fingerprint,
    frontier: &Frontier,
    sending: Sending<'_>,
) -> Result<Payload, CodecError> {
    let blocks = graph.blocks().len();
    let too_many = |field, value: usize| CodecError::Invalid { field, value: value as u64 };
    let count = u16::try_from(blocks).map_err(|_| too_many("blocks", blocks))?;
    let tensors = frontier.tensors();
    let number = u8::try_from(tensors.len()).map_err(|_| too_many("tensors", tensors.len()))?;
    let chosen = |tensor: usize| match sending.offered[tensor].contains(&sending.form) {
        true => sending.form,
        false => WireForm::Exact,
    };
    let stored = |(tensor, x): &(usize, Activation)| form::stored(&x.spec, chosen(*tensor)).unwrap_or(0);
    let sizes: usize = tensors.iter().map(stored).sum();
    let mut out = Vec::with_capacity(HEAD as usize + blocks / 8 + 3 * tensors.len() + sizes);
    out.extend_from_slice(&MAGIC);
    let flags = if sending.spent == SplitSpent::NOTHING { 0 } else { SPENT };
    out.extend_from_slice(&[VERSION, flags]);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&fingerprint.0);
    if flags & SPENT != 0 {
        let SplitSpent { energy, battery, money } = sending.spent;
        let parts = [energy.microjoules(), battery.microjoules(), money.nanos()];
        out.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
    }
    out.extend_from_slice(&count.to_le_bytes());
    out.extend(frontier.done().to_bytes(blocks));
    out.push(number);
    let listed = out.len();
    for (tensor, _) in tensors {
        // Below the number of blocks, which fits.
        out.extend_from_slice(&(*tensor as u16).to_le_bytes());
        out.push(code(chosen(*tensor)));
    }
    let body = out.len();
    for (place, (tensor, activation)) in tensors.iter().enumerate() {
        let before = out.len();
        match form::write(activation, chosen(*tensor), &mut out) {
            Err(CodecError::NotFinite) => {
                out.truncate(before);
                out[listed + 3 * place + 2] = code(WireForm::Exact);
                form::write(activation, WireForm::Exact, &mut out)?;
            }
            written => written?,
        }
    }
    if sending.compress {
        let compressed = lz4_flex::block::compress(&out[body..]);
        let plain = out.len() - body;
        if compressed.len() + plain / WORTH < plain {
            out.truncate(body);
            out.extend_from_slice(&compressed);
            out[FLAGS] |= COMPRESSED;
        }
    }
    let hash = hash(&out);
    out[UNHASHED - 8..UNHASHED].copy_from_slice(&hash);
    Ok(Payload { bytes: out.into(), media: MediaType::ACTIVATION })
}

/// A message whose head fits the network, its body still as it came.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) done: BlockSet,
    pub(crate) spent: SplitSpent,
    tensors: Vec<(usize, WireForm)>,
    compressed: bool,
    message: Bytes,
    body: usize,
    /// Of the body when it is not compressed.
    size: usize,
}

/// Whether a message is one of a run, and not of an activation.
pub(crate) fn is_run(payload: &Payload) -> bool {
    payload.bytes.starts_with(&MAGIC)
}

impl Run {
    /// Reads the head of a message; allocates a few bytes per tensor of the network.
    pub(crate) fn read(payload: &Payload, graph: &BlockGraph, fingerprint: Fingerprint) -> Result<Self, CodecError> {
        let mut at = 0usize;
        let mut take = |n: usize, field: &'static str| {
            let part = payload.bytes.get(at..at + n).ok_or(CodecError::Truncated { field })?;
            at += n;
            Ok::<_, CodecError>(part)
        };
        let short = |part: &[u8]| part.iter().rev().fold(0usize, |word, &b| (word << 8) | usize::from(b));
        let invalid = |field, value: usize| CodecError::Invalid { field, value: value as u64 };
        let magic = take(4, "magic")?;
        if magic != MAGIC {
            return Err(invalid("magic", short(magic)));
        }
        let version = take(1, "version")?[0];
        if version != VERSION {
            return Err(invalid("version", version.into()));
        }
        let flags = take(1, "flags")?[0];
        if flags & !(COMPRESSED | SPENT) != 0 {
            return Err(invalid("flags", flags.into()));
        }
        take(8, "hash")?;
        if take(8, "network")? != fingerprint.0 {
            return Err(CodecError::OtherModel { model: graph.model.clone() });
        }
        let mut spent = SplitSpent::NOTHING;
        if flags & SPENT != 0 {
            let mut part =
                || take(8, "spent").map(|part| part.iter().rev().fold(0, |word, &b| (word << 8) | u64::from(b)));
            spent.energy = Energy::from_microjoules(part()?);
            spent.battery = Energy::from_microjoules(part()?);
            spent.money = Money::from_nanos(part()?);
        }
        let blocks = short(take(2, "blocks")?);
        if blocks != graph.blocks().len() {
            return Err(invalid("blocks", blocks));
        }
        let done = take(blocks.div_ceil(8), "blocks done")?;
        let done = BlockSet::from_bytes(done, blocks).ok_or_else(|| invalid("blocks done", blocks))?;
        if done.len() == blocks || !graph.is_cut(&done) {
            return Err(invalid("blocks done", done.len()));
        }
        let alive = graph.alive(&done);
        let count = usize::from(take(1, "tensors")?[0]);
        if count != alive.len() {
            return Err(invalid("tensors", count));
        }
        let (mut tensors, mut size) = (Vec::with_capacity(count), 0usize);
        for &expected in &alive {
            let tensor = short(take(2, "tensor")?);
            let form = take(1, "form")?[0];
            if tensor != expected {
                return Err(invalid("tensor", tensor));
            }
            let known = named(form).ok_or_else(|| invalid("form", form.into()))?;
            let stored = form::stored(&graph.edges()[tensor], known).ok_or_else(|| invalid("form", form.into()))?;
            size = size.checked_add(stored).ok_or_else(|| invalid("tensor", tensor))?;
            tensors.push((tensor, known));
        }
        let (compressed, length) = (flags & COMPRESSED != 0, payload.bytes.len() - at);
        let possible = if compressed { length.saturating_mul(MAX_EXPANSION) >= size } else { length == size };
        if !possible {
            return Err(invalid("body", length));
        }
        Ok(Self { done, spent, tensors, compressed, message: payload.bytes.clone(), body: at, size })
    }

    /// The run itself, for a thread that may compute. Allocates what the network's own tensors take.
    pub(crate) fn restore(self, graph: &BlockGraph) -> Result<Frontier, CodecError> {
        if self.message.get(UNHASHED - 8..UNHASHED) != Some(&hash(&self.message)[..]) {
            return Err(CodecError::Hash);
        }
        let mut body = self.message.slice(self.body..);
        if self.compressed {
            let mut plain = vec![0; self.size];
            let written = lz4_flex::block::decompress_into(&body, &mut plain);
            if written.ok() != Some(self.size) {
                return Err(CodecError::Compressed);
            }
            body = plain.into();
        }
        let mut tensors = Vec::with_capacity(self.tensors.len());
        for (tensor, form) in self.tensors {
            let spec = &graph.edges()[tensor];
            let stored = form::stored(spec, form).unwrap_or(usize::MAX);
            if stored > body.len() {
                return Err(CodecError::Truncated { field: "body" });
            }
            tensors.push((tensor, form::read(body.split_to(stored), spec, form)?));
        }
        Ok(graph.resume(self.done, tensors)?)
    }
}

/// An activation as it is after travelling in `form`.
///
/// # Errors
/// [`CodecError`].
pub fn through_wire(activation: &Activation, form: WireForm) -> Result<Activation, CodecError> {
    let mut bytes = Vec::new();
    form::write(activation, form, &mut bytes)?;
    form::read(bytes.into(), &activation.spec, form)
}

/// The message of a run of `graph` that has come to `frontier`, as the split runtime sends it when every tensor travels in
/// `form`: for tools and tests of what nodes say to each other.
///
/// # Errors
/// [`CodecError`].
pub fn run_to_wire(graph: &BlockGraph, frontier: &Frontier, form: WireForm) -> Result<Payload, CodecError> {
    let offered = vec![SmallVec::from_elem(form, 1); graph.edges().len()];
    let sending = Sending { form, offered: &offered, compress: false, spent: SplitSpent::NOTHING };
    write(graph, Fingerprint::of(graph), frontier, sending)
}

/// The run that a message has: for tools and tests of what nodes say to each other.
///
/// # Errors
/// [`CodecError`] naming the field; nothing is allocated then that the network's own tensors would not take.
pub fn run_from_wire(message: &Payload, graph: &BlockGraph) -> Result<Frontier, CodecError> {
    Run::read(message, graph, Fingerprint::of(graph))?.restore(graph)
}

fn hash(message: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&message[..UNHASHED - 8]);
    hasher.update(&message[UNHASHED..]);
    first(&hasher)
}

fn first(hasher: &blake3::Hasher) -> [u8; 8] {
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// CPU time of compressing so many bytes and bringing them back, for planners; of activations, on one core of a server of
/// 2023.
pub(crate) fn compression_cost(size: ByteSize) -> Duration {
    Duration::from_nanos(size.bytes().saturating_mul(3) / 2)
}

const FORMS: [WireForm; 5] = [WireForm::Exact, WireForm::Int8, WireForm::F16, WireForm::Int8Rows, WireForm::Int4];

pub(crate) fn code(form: WireForm) -> u8 {
    FORMS.iter().position(|known| *known == form).unwrap_or(0) as u8
}

pub(crate) fn named(code: u8) -> Option<WireForm> {
    FORMS.get(usize::from(code)).copied()
}

const fn kind(dtype: DType) -> u8 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::I8 => 2,
        DType::U8 => 3,
        _ => u8::MAX,
    }
}

#[cfg(test)]
mod tests;
