//! Labelled pictures of digits.

use bytes::Bytes;
use safetensors::{
    Dtype,
    tensor::{TensorView, serialize},
};
use scf_core::ModelError;
use thiserror::Error;

use super::{CLASSES, SIDE};
use crate::{
    lifecycle::{Examples, shuffled},
    weights::WeightFile,
};

/// Pixels of a picture.
const PIXELS: usize = SIDE * SIDE;
/// The value of a pixel that is all ink.
const INK: u8 = 16;

/// Pictures of 8x8 pixels from 0 to 16 with the digits that they show, as in scikit-learn's digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DigitImages {
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

/// What is wrong with pictures of digits.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DigitsError {
    /// The file is no file of tensors, or lacks one of `images` and `labels`.
    #[error("the file of digits")]
    File(#[from] ModelError),
    /// The tensors are not pictures and a label for each.
    #[error("{tensor} has shape {shape:?}; images have [n, 8, 8] and labels [n]")]
    Shape {
        /// `images` or `labels`.
        tensor: &'static str,
        /// What it has.
        shape: Vec<usize>,
    },
    /// A number is out of its range.
    #[error("{tensor} has {value} at {at}, which is over {most}")]
    Value {
        /// `images` or `labels`.
        tensor: &'static str,
        /// Of which element, counted over the whole tensor.
        at: usize,
        /// The number.
        value: u8,
        /// The highest that there may be.
        most: u8,
    },
}

impl DigitImages {
    /// Reads a safetensors file with `images`, `u8` `[n, 8, 8]`, and `labels`, `u8` `[n]`.
    ///
    /// # Errors
    /// [`DigitsError`] naming the tensor.
    pub fn read(file: &[u8]) -> Result<Self, DigitsError> {
        let file = WeightFile::open(file)?;
        let ((shape, pixels), (counts, labels)) = (file.octets("images")?, file.octets("labels")?);
        if !matches!(shape, [_, SIDE, SIDE]) {
            return Err(DigitsError::Shape { tensor: "images", shape: shape.to_vec() });
        }
        if counts != &shape[..1] {
            return Err(DigitsError::Shape { tensor: "labels", shape: counts.to_vec() });
        }
        let within = |tensor, values: &[u8], most| match values.iter().position(|value| *value > most) {
            Some(at) => Err(DigitsError::Value { tensor, at, value: values[at], most }),
            None => Ok(()),
        };
        within("images", pixels, INK)?;
        within("labels", labels, CLASSES as u8 - 1)?;
        Ok(Self { pixels: pixels.to_vec(), labels: labels.to_vec() })
    }

    /// The file that [`DigitImages::read`] reads.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the tensors are made here, of as many bytes as they have")]
    pub fn to_bytes(&self) -> Bytes {
        let view = |shape, values| TensorView::new(Dtype::U8, shape, values).expect("as many bytes as pixels");
        let tensors = [
            ("images", view(vec![self.len(), SIDE, SIDE], &self.pixels)),
            ("labels", view(vec![self.len()], &self.labels)),
        ];
        serialize(tensors, None).expect("two tensors with names of their own").into()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Picture `at`, row by row, and its digit; `None` behind the last.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<(&[u8; 64], u8)> {
        Some((self.pixels.as_chunks::<PIXELS>().0.get(at)?, *self.labels.get(at)?))
    }

    /// Adds a picture; pixels over 16 are cut off there, and a label over 9 is 9.
    pub fn push(&mut self, pixels: &[u8; 64], label: u8) {
        self.pixels.extend(pixels.iter().map(|pixel| (*pixel).min(INK)));
        self.labels.push(label.min(CLASSES as u8 - 1));
    }

    /// Adds the pictures of `other` behind these.
    pub fn append(&mut self, other: &Self) {
        self.pixels.extend(&other.pixels);
        self.labels.extend(&other.labels);
    }

    /// Divides the pictures into parts by `weights`, in an order that `seed` determines; no picture is in two of them.
    /// Parts round down, and what is left is in the last.
    #[must_use]
    pub fn split(&self, seed: u64, weights: &[u32]) -> Vec<Self> {
        let (order, total) = (shuffled(self.len(), seed), weights.iter().map(|w| u64::from(*w)).sum::<u64>().max(1));
        let (mut parts, mut from) = (Vec::with_capacity(weights.len()), 0);
        for (number, weight) in weights.iter().enumerate() {
            let share = (self.len() as u64 * u64::from(*weight) / total) as usize;
            let to = if number + 1 == weights.len() { order.len() } else { from + share };
            let mut part = Self::default();
            for (pixels, label) in order[from..to].iter().filter_map(|at| self.get(*at)) {
                part.push(pixels, label);
            }
            parts.push(part);
            from = to;
        }
        parts
    }

    /// The pictures as what the digits CNN takes: pixels from 0 to 1.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "there are as many pixels as pictures have")]
    pub fn examples(&self) -> Examples {
        let inputs = self.pixels.iter().map(|pixel| f32::from(*pixel) / f32::from(INK)).collect();
        let labels = self.labels.iter().map(|label| u32::from(*label)).collect();
        Examples::new(vec![1, SIDE, SIDE], inputs, labels).expect("as many pixels as pictures have")
    }
}
