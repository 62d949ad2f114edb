//! Model files in the GGUF format, checked before anything is made of them.
//!
//! The format is that of ggml's `docs/gguf.md`, versions 2 and 3, little-endian. Opening a file keeps where its fields
//! are and copies none of them; weights stay in the file's memory, which may be a mapped file
//! ([`Bytes::from_owner`]).

mod cursor;
mod value;

use std::ops::RangeInclusive;

use scf_core::{Bytes, ModelError};

pub(crate) use self::value::Texts;
use self::{
    cursor::{Cursor, Offset},
    value::Value,
};
use crate::kernel::Format;

/// Most fields of metadata: far above the some dozens that files have.
const MAX_FIELDS: u64 = 1 << 12;
/// Most tensors.
const MAX_TENSORS: u64 = 1 << 16;
/// Longest name of a field in bytes, as the format has it.
const MAX_KEY: usize = (1 << 16) - 1;
/// Longest name of a tensor in bytes, as the format has it.
const MAX_NAME: usize = 64;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;
/// Where tensors start when the file does not say.
const ALIGNMENT: u64 = 32;

/// An opened model file.
#[derive(Debug)]
pub(crate) struct GgufFile {
    bytes: Bytes,
    /// Where the values are, by key.
    fields: Vec<Place>,
    /// Where the descriptions are, by name.
    tensors: Vec<Place>,
    /// Where the first tensor may start.
    data: usize,
}

/// A named entry of the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where its name ends and its value or description begins.
    at: Offset,
    /// Bytes of the name.
    name: u32,
}

/// A tensor of the file, its elements not copied.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) format: Format,
    pub(crate) bytes: Bytes,
}

/// A problem of a field.
pub(crate) fn field(key: &str, problem: impl Into<String>) -> ModelError {
    ModelError::Metadata { key: key.into(), problem: problem.into() }
}

/// A problem of a tensor.
pub(crate) fn weight(name: &str, problem: impl Into<String>) -> ModelError {
    ModelError::Weight { weight: name.into(), problem: problem.into() }
}

impl Place {
    fn name(self, bytes: &[u8]) -> &[u8] {
        &bytes[(self.at - self.name) as usize..self.at as usize]
    }
}

/// Sorts entries by name and gives the first name that is there twice.
fn sorted(places: &mut [Place], bytes: &[u8]) -> Option<String> {
    places.sort_unstable_by(|a, b| a.name(bytes).cmp(b.name(bytes)));
    let twice = places.windows(2).find(|pair| pair[0].name(bytes) == pair[1].name(bytes))?;
    Some(String::from_utf8_lossy(twice[0].name(bytes)).into_owned())
}

impl GgufFile {
    /// Reads what the file says of itself and checks that all of it lies within the file. Allocates 8 bytes for each
    /// field and tensor that is there.
    pub(crate) fn open(bytes: Bytes) -> Result<Self, ModelError> {
        let described = bytes.clone();
        let mut at = Cursor::new(&described, 0);
        let head = Self::head(&mut at).map_err(|problem| field("header", problem))?;
        let fields = Self::fields(&mut at, head.fields)?;
        let mut file = Self { bytes, fields, tensors: Vec::new(), data: 0 };
        if let Some(key) = sorted(&mut file.fields, &described) {
            return Err(field(&key, "is there twice"));
        }
        let alignment = match file.value("general.alignment")? {
            None => ALIGNMENT,
            Some(value) => value.unsigned().unwrap_or(0),
        };
        if !alignment.is_power_of_two() || alignment > 1 << 16 {
            return Err(field("general.alignment", "is no power of two of at most 65536"));
        }
        file.tensors = Self::tensors(&mut at, head.tensors)?;
        if let Some(name) = sorted(&mut file.tensors, &described) {
            return Err(weight(&name, "is there twice"));
        }
        file.data = at.position().next_multiple_of(alignment as usize);
        for place in &file.tensors {
            file.described(*place, alignment)?;
        }
        Ok(file)
    }

    fn head(at: &mut Cursor<'_>) -> Result<Head, String> {
        if at.take(4)? != b"GGUF" {
            return Err("is not that of a GGUF file".into());
        }
        match at.u32()? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 1..=3) => return Err("is big-endian".into()),
            version => return Err(format!("is of version {version} instead of 2 or 3")),
        }
        let (tensors, fields) = (at.u64()?, at.u64()?);
        if fields > MAX_FIELDS || tensors > MAX_TENSORS {
            return Err(format!(
                "says {fields} fields and {tensors} tensors, over the limits of {MAX_FIELDS} and {MAX_TENSORS}"
            ));
        }
        // Before room for them is made. The shortest field is an empty key, a type and a byte; the shortest tensor an empty name, no dimensions, a
        // type and an offset.
        if fields * 13 + tensors * 24 > at.left() as u64 {
            return Err(format!("says {fields} fields and {tensors} tensors, which do not fit into the file"));
        }
        Ok(Head { fields: fields as usize, tensors: tensors as usize })
    }

    fn fields(at: &mut Cursor<'_>, count: usize) -> Result<Vec<Place>, ModelError> {
        let mut fields = Vec::with_capacity(count);
        for i in 0..count {
            let nameless = |problem| field(&format!("number {i}"), problem);
            let key = at.text(MAX_KEY).map_err(nameless)?;
            let start = at.offset().map_err(|problem| field(key, problem))?;
            Value::read(at).map_err(|problem| field(key, problem))?;
            fields.push(Place { at: start, name: key.len() as u32 });
        }
        Ok(fields)
    }

    fn tensors(at: &mut Cursor<'_>, count: usize) -> Result<Vec<Place>, ModelError> {
        let mut tensors = Vec::with_capacity(count);
        for i in 0..count {
            let nameless = |problem| weight(&format!("number {i}"), problem);
            let name = at.text(MAX_NAME).map_err(nameless)?;
            let start = at.offset().map_err(|problem| weight(name, problem))?;
            Described::read(at).map_err(|problem| weight(name, problem))?;
            tensors.push(Place { at: start, name: name.len() as u32 });
        }
        Ok(tensors)
    }

    /// The value of a field; `None` where there is none of that key.
    fn value(&self, key: &str) -> Result<Option<Value<'_>>, ModelError> {
        let found = self.fields.binary_search_by(|place| place.name(&self.bytes).cmp(key.as_bytes()));
        let Ok(found) = found else { return Ok(None) };
        let mut at = Cursor::new(&self.bytes, self.fields[found].at as usize);
        Value::read(&mut at).map(Some).map_err(|problem| field(key, problem))
    }

    /// The value of a field as `read` takes it, which `kind` names; `None` where there is none of that key.
    fn read<'a, T>(
        &'a self,
        key: &str,
        kind: &str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.value(key)? else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| field(key, format!("is no {kind}")))
    }

    /// A number within `range`; `None` where there is none of that key.
    pub(crate) fn count(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.read(key, "whole number of at least 0", Value::unsigned)? else { return Ok(None) };
        if !range.contains(&value) {
            return Err(field(key, format!("is {value}, not {} to {}", range.start(), range.end())));
        }
        Ok(Some(value as usize))
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.read(key, "finite number", Value::float)
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.read(key, "truth value", Value::bool)
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.read(key, "text", Value::text)
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<Texts<'_>>, ModelError> {
        self.read(key, "array of texts", Value::texts)
    }

    /// An array of numbers of 32 bits.
    pub(crate) fn words(&self, key: &str) -> Result<Option<&[[u8; 4]]>, ModelError> {
        self.read(key, "array of 32-bit numbers", Value::words)
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|place| str::from_utf8(place.name(&self.bytes)).unwrap_or_default())
    }

    /// The dimensions of a tensor, outermost first; `None` where it is not there.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<u64>> {
        let described = self.find(name).ok()?;
        Some(described.shape().rev().copied().collect())
    }

    fn find(&self, name: &str) -> Result<Described, ModelError> {
        let found = self.tensors.binary_search_by(|place| place.name(&self.bytes).cmp(name.as_bytes()));
        let found = found.map_err(|_| weight(name, "is missing"))?;
        let mut at = Cursor::new(&self.bytes, self.tensors[found].at as usize);
        Described::read(&mut at).map_err(|problem| weight(name, problem))
    }

    /// The tensor `name`, if it has exactly `shape`, outermost dimension first.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Packed, ModelError> {
        let described = self.find(name)?;
        let given: Vec<u64> = described.shape().rev().copied().collect();
        if !given.iter().copied().eq(shape.iter().map(|&d| d as u64)) {
            return Err(weight(name, format!("has shape {given:?} instead of {shape:?}")));
        }
        let Some(format) = Format::of_ggml(described.kind) else {
            let kinds = Format::NAMES;
            return Err(weight(name, format!("is of ggml type {}; those that are read are {kinds}", described.kind)));
        };
        let columns = given.last().copied().unwrap_or(0);
        if columns == 0 || columns % Format::BLOCK as u64 != 0 {
            return Err(weight(name, format!("has rows of {columns} instead of a multiple of {}", Format::BLOCK)));
        }
        let blocks = described.elements().map_err(|problem| weight(name, problem))? / Format::BLOCK as u64;
        let outside = || weight(name, "lies outside the file");
        let size = usize::try_from(blocks).ok().and_then(|n| n.checked_mul(format.size())).ok_or_else(outside)?;
        let start = usize::try_from(described.offset).ok().and_then(|at| at.checked_add(self.data));
        let start = start.ok_or_else(outside)?;
        let end = start.checked_add(size).filter(|end| *end <= self.bytes.len()).ok_or_else(outside)?;
        Ok(Packed { format, bytes: self.bytes.slice(start..end) })
    }

    /// The tensor `name` of one dimension, copied out as floats.
    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, ModelError> {
        let packed = self.tensor(name, &[length])?;
        if packed.format != Format::F32 {
            return Err(weight(name, "has elements of another type than F32"));
        }
        let values: Vec<f32> = packed.bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(weight(name, "has an element that is no finite number"));
        }
        Ok(values)
    }

    /// Checks a description whether or not its type is one that is read.
    fn described(&self, place: Place, alignment: u64) -> Result<(), ModelError> {
        let name = || String::from_utf8_lossy(place.name(&self.bytes)).into_owned();
        let described = Described::read(&mut Cursor::new(&self.bytes, place.at as usize));
        let described = described.map_err(|problem| weight(&name(), problem))?;
        described.elements().map_err(|problem| weight(&name(), problem))?;
        if described.offset % alignment != 0 {
            return Err(weight(&name(), format!("starts at {}, no multiple of {alignment}", described.offset)));
        }
        if described.offset > (self.bytes.len() as u64).saturating_sub(self.data as u64) {
            return Err(weight(&name(), "lies outside the file"));
        }
        Ok(())
    }
}

/// The beginning of a file.
struct Head {
    fields: usize,
    tensors: usize,
}

/// What the file says of a tensor.
#[derive(Debug)]
struct Described {
    /// Innermost first, as the file has it.
    dimensions: [u64; MAX_DIMENSIONS as usize],
    rank: usize,
    kind: u32,
    offset: u64,
}

impl Described {
    fn read(at: &mut Cursor<'_>) -> Result<Self, String> {
        let rank = at.u32()?;
        if rank > MAX_DIMENSIONS {
            return Err(format!("has {rank} dimensions, more than {MAX_DIMENSIONS}"));
        }
        let mut dimensions = [1; MAX_DIMENSIONS as usize];
        for d in &mut dimensions[..rank as usize] {
            *d = at.u64()?;
        }
        Ok(Self { dimensions, rank: rank as usize, kind: at.u32()?, offset: at.u64()? })
    }

    fn shape(&self) -> std::slice::Iter<'_, u64> {
        self.dimensions[..self.rank].iter()
    }

    fn elements(&self) -> Result<u64, String> {
        let product = self.shape().try_fold(1u64, |n, &d| n.checked_mul(d));
        product.ok_or_else(|| format!("has more elements than can be counted: {:?}", &self.dimensions[..self.rank]))
    }
}
