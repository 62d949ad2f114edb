//! The header of a safetensors file: which tensors it has and where, held against the file before anything is made of
//! them.
//!
//! Not read by the format's own crate, which buffers a header into several times its size, takes the last of two tensors
//! of one name, and adds to offsets without a check.

use std::{fmt, ops::Range};

use safetensors::Dtype;
use scf_core::ModelError;
use serde::{
    Deserialize,
    de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use smallvec::SmallVec;

use crate::weights::refused;

/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;
/// Most bytes that an error quotes of the file.
const MAX_SHOWN: usize = 160;

/// Where one tensor is.
#[derive(Debug)]
pub(crate) struct Tensor<'a> {
    name: &'a str,
    pub(crate) dtype: Dtype,
    pub(crate) shape: SmallVec<[usize; 4]>,
    /// Among the bytes after the header.
    pub(crate) range: Range<usize>,
}

/// Tensors by name.
#[derive(Debug)]
pub(crate) struct Header<'a>(Vec<Tensor<'a>>);

impl<'a> Header<'a> {
    /// Reads the JSON of `text`, of a file with `data` bytes after it. The tensors are as large as their shapes say, have
    /// names of their own, and lie one after the other, each byte in one of them.
    pub(crate) fn read(text: &'a [u8], data: usize) -> Result<Self, ModelError> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let read = json.deserialize_map(Tensors).and_then(|tensors| json.end().map(|()| tensors));
        let mut tensors = read.map_err(|error| refused("header", shown(&error.to_string())))?;

        tensors.sort_unstable_by_key(|tensor| (tensor.range.start, tensor.range.end));
        let mut end = 0;
        for tensor in &tensors {
            tensor.check(end, data).map_err(|problem| refused(shown(tensor.name), problem))?;
            end = tensor.range.end;
        }
        if end != data {
            return Err(refused("header", format!("{} bytes of the file are of no tensor", data - end)));
        }
        tensors.sort_unstable_by_key(|tensor| tensor.name);
        if let Some(twice) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(refused(shown(twice[0].name), "is there twice"));
        }
        Ok(Self(tensors))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Tensor<'a>> {
        self.0.binary_search_by_key(&name, |tensor| tensor.name).ok().map(|at| &self.0[at])
    }

    /// Name and shape of every tensor, ordered by name.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&'a str, &[usize])> {
        self.0.iter().map(|tensor| (tensor.name, &tensor.shape[..]))
    }
}

impl Tensor<'_> {
    /// Holds the place against the shape, what is before it and the size of the file's data.
    fn check(&self, before: usize, data: usize) -> Result<(), String> {
        let Range { start, end } = self.range;
        let elements = self.shape.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
        let bits = elements.and_then(|elements| elements.checked_mul(self.dtype.bitsize()));
        let bits = bits.ok_or_else(|| format!("has a shape of more elements than can be: {:?}", self.shape))?;
        if end < start || bits % 8 != 0 || end - start != bits / 8 {
            let (dtype, shape) = (self.dtype, &self.shape);
            return Err(format!(
                "has data_offsets [{start}, {end}], which are not the bytes of {shape:?} of {dtype:?}"
            ));
        }
        if end > data {
            return Err(format!("ends at byte {end} of {data}"));
        }
        if start != before {
            return Err(format!("begins at byte {start} where the one before ends at {before}"));
        }
        Ok(())
    }
}

/// What an error says of `text`.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SHOWN)]
}

/// The map of a header.
struct Tensors;

impl<'a> Visitor<'a> for Tensors {
    type Value = Vec<Tensor<'a>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors by name")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<&str>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let entry = map.next_value::<Entry>();
            let Entry { dtype, shape, data_offsets: (start, end) } =
                entry.map_err(|error| Error::custom(format_args!("tensor {}: {error}", shown(name))))?;
            tensors.push(Tensor { name, dtype, shape: shape.0, range: start..end });
        }
        Ok(tensors)
    }
}

/// What a header says of one tensor.
#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

struct Shape(SmallVec<[usize; 4]>);

impl<'a> Deserialize<'a> for Shape {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Sizes)
    }
}

struct Sizes;

impl<'a> Visitor<'a> for Sizes {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a shape of at most {MAX_RANK} sizes")
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut sizes: S) -> Result<Shape, S::Error> {
        let mut shape = SmallVec::new();
        while let Some(size) = sizes.next_element()? {
            if shape.len() == MAX_RANK {
                return Err(Error::invalid_length(MAX_RANK + 1, &self));
            }
            shape.push(size);
        }
        Ok(Shape(shape))
    }
}
