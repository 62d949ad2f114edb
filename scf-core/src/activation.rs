//! Tensors between model blocks.

use std::{any::Any, fmt::Debug, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use thiserror::Error;

use crate::{BoxError, ByteSize, MediaType, Payload};

/// Most dimensions that an activation has.
pub const MAX_RANK: usize = 6;

/// Sizes of the dimensions, outermost first.
pub type Shape = SmallVec<[usize; 4]>;

/// Type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
}

impl DType {
    /// Size of one element in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::I8 => 2,
            Self::U8 => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::I8,
            3 => Self::U8,
            _ => return None,
        })
    }
}

/// Shape and element type of an activation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that a specification is")]
pub struct TensorSpec {
    /// Sizes of the dimensions, outermost first.
    pub shape: Shape,
    /// Type of the elements.
    pub dtype: DType,
}

impl TensorSpec {
    /// A specification.
    #[must_use]
    pub fn new(dtype: DType, shape: &[usize]) -> Self {
        Self { shape: shape.into(), dtype }
    }

    /// Number of elements; `None` when it does not fit into a `usize`.
    #[must_use]
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// Size of the elements; `None` when it does not fit into a `usize`.
    #[must_use]
    pub fn size(&self) -> Option<ByteSize> {
        self.elements()?.checked_mul(self.dtype.size()).map(|n| ByteSize::from_bytes(n as u64))
    }
}

/// How integers stand for real numbers: `value = (q - zero_point) * scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that an affine map is")]
pub struct Quantisation {
    /// Step between neighbouring integers.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero_point: i32,
}

/// A tensor in the memory of a device, of which only its maker knows the inside.
pub trait DeviceTensor: Any + Debug + Send + Sync {
    /// Copies the elements out, row-major and little-endian. Called when the tensor crosses to another node
    /// or to a block of another maker.
    ///
    /// # Errors
    /// Whatever the device reports.
    fn download(&self) -> Result<Bytes, BoxError>;

    /// Itself, for its maker to recognise.
    fn as_any(&self) -> &dyn Any;
}

/// Where the elements of an activation are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Elements {
    /// In memory: row-major, little-endian.
    Bytes(Bytes),
    /// On a device.
    Device(Arc<dyn DeviceTensor>),
}

/// A tensor that goes from one model block to the next. Cloning counts references.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Activation {
    /// Shape and element type.
    pub spec: TensorSpec,
    /// What its integers mean, when they stand for real numbers.
    pub quantisation: Option<Quantisation>,
    /// The elements.
    pub elements: Elements,
    /// The block that takes it next, when it is in the middle of a run that was begun on another node;
    /// `None` for the input of a run. Set and read by the split runtime alone.
    pub resume: Option<u32>,
}

/// Bytes that are no activation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// The message ends before its field does.
    #[error("activation: {field} is cut off")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("activation: {field} is {value}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// There are more or fewer elements than the shape says.
    #[error("activation: {actual} bytes of elements where the shape {shape:?} has {expected}")]
    Length {
        /// The shape.
        shape: Shape,
        /// Bytes that it has.
        expected: u64,
        /// Bytes that are there.
        actual: u64,
    },
    /// The payload says that it is something else.
    #[error("activation: the payload is {media}")]
    Media {
        /// What it says.
        media: MediaType,
    },
    /// The device did not give the elements out.
    #[error("activation: the device did not give its elements out")]
    Device {
        /// Why.
        #[source]
        source: BoxError,
    },
}

const MAGIC: [u8; 4] = *b"SCFA";
const VERSION: u8 = 1;
const QUANTISED: u8 = 1;
const RESUMES: u8 = 2;

impl Activation {
    /// A tensor in memory.
    ///
    /// # Errors
    /// [`ActivationError::Length`] when `bytes` is not what `spec` says.
    pub fn new(spec: TensorSpec, bytes: Bytes) -> Result<Self, ActivationError> {
        let expected = spec.size().ok_or(ActivationError::Invalid { field: "shape", value: u64::MAX })?.bytes();
        if bytes.len() as u64 != expected {
            return Err(ActivationError::Length { shape: spec.shape, expected, actual: bytes.len() as u64 });
        }
        Ok(Self { spec, quantisation: None, elements: Elements::Bytes(bytes), resume: None })
    }

    /// A tensor on a device.
    #[must_use]
    pub fn on_device(spec: TensorSpec, tensor: Arc<dyn DeviceTensor>) -> Self {
        Self { spec, quantisation: None, elements: Elements::Device(tensor), resume: None }
    }

    /// What its integers mean; default that they are numbers themselves.
    #[must_use]
    pub const fn quantised(mut self, quantisation: Quantisation) -> Self {
        self.quantisation = Some(quantisation);
        self
    }

    /// The block that takes it next; default none, the input of a run.
    #[must_use]
    pub const fn resume(mut self, block: u32) -> Self {
        self.resume = Some(block);
        self
    }

    /// The elements in memory, copied out of the device if they are on one.
    ///
    /// # Errors
    /// [`ActivationError::Device`].
    pub fn bytes(&self) -> Result<Bytes, ActivationError> {
        match &self.elements {
            Elements::Bytes(bytes) => Ok(bytes.clone()),
            Elements::Device(tensor) => tensor.download().map_err(|source| ActivationError::Device { source }),
        }
    }

    /// The activation message, version 1, little-endian: magic `SCFA`; version; element type (0 f32, 1 f16,
    /// 2 i8, 3 u8); rank; flags (bit 0: quantised, bit 1: resumes); a `u32` per dimension; if quantised, scale
    /// as `f32` and zero point as `i32`; if it resumes, the block as `u32`; the elements, row-major.
    ///
    /// # Errors
    /// [`ActivationError::Invalid`] for more than [`MAX_RANK`] dimensions or one beyond `u32`,
    /// [`ActivationError::Device`].
    pub fn encode(&self) -> Result<Payload, ActivationError> {
        let rank = self.spec.shape.len();
        if rank == 0 || rank > MAX_RANK {
            return Err(ActivationError::Invalid { field: "rank", value: rank as u64 });
        }
        let elements = self.bytes()?;
        let mut out = BytesMut::with_capacity(8 + 4 * rank + 12 + elements.len());
        out.put_slice(&MAGIC);
        out.put_slice(&[
            VERSION,
            self.spec.dtype.code(),
            rank as u8,
            (u8::from(self.quantisation.is_some()) * QUANTISED) | (u8::from(self.resume.is_some()) * RESUMES),
        ]);
        for &d in &self.spec.shape {
            let d = u32::try_from(d).map_err(|_| ActivationError::Invalid { field: "dimension", value: d as u64 })?;
            out.put_u32_le(d);
        }
        if let Some(q) = self.quantisation {
            out.put_f32_le(q.scale);
            out.put_i32_le(q.zero_point);
        }
        if let Some(block) = self.resume {
            out.put_u32_le(block);
        }
        out.put_slice(&elements);
        Ok(Payload { bytes: out.freeze(), media: MediaType::ACTIVATION })
    }

    /// Reads what [`Activation::encode`] wrote. The elements share the payload's memory.
    ///
    /// # Errors
    /// An [`ActivationError`] that names the field.
    pub fn decode(payload: &Payload) -> Result<Self, ActivationError> {
        if payload.media != MediaType::ACTIVATION {
            return Err(ActivationError::Media { media: payload.media.clone() });
        }
        let mut at = 0usize;
        let mut take = |n: usize, field: &'static str| {
            let part = payload.bytes.get(at..at + n).ok_or(ActivationError::Truncated { field })?;
            at += n;
            Ok::<_, ActivationError>(part)
        };
        let word = |part: &[u8]| part.iter().rev().fold(0u32, |word, &b| (word << 8) | u32::from(b));
        let magic = take(4, "magic")?;
        if magic != MAGIC {
            return Err(ActivationError::Invalid { field: "magic", value: word(magic).into() });
        }
        let head = take(4, "header")?;
        let &[version, dtype, rank, flags] = head else { return Err(ActivationError::Truncated { field: "header" }) };
        if version != VERSION {
            return Err(ActivationError::Invalid { field: "version", value: version.into() });
        }
        let dtype =
            DType::from_code(dtype).ok_or(ActivationError::Invalid { field: "element type", value: dtype.into() })?;
        if rank == 0 || usize::from(rank) > MAX_RANK {
            return Err(ActivationError::Invalid { field: "rank", value: rank.into() });
        }
        if flags & !(QUANTISED | RESUMES) != 0 {
            return Err(ActivationError::Invalid { field: "flags", value: flags.into() });
        }
        let mut shape = Shape::new();
        for _ in 0..rank {
            shape.push(word(take(4, "dimension")?) as usize);
        }
        let quantisation = if flags & QUANTISED == 0 {
            None
        } else {
            let scale = f32::from_bits(word(take(4, "scale")?));
            if !scale.is_finite() {
                return Err(ActivationError::Invalid { field: "scale", value: scale.to_bits().into() });
            }
            Some(Quantisation { scale, zero_point: word(take(4, "zero point")?) as i32 })
        };
        let resume = if flags & RESUMES == 0 { None } else { Some(word(take(4, "resume")?)) };
        let activation = Self::new(TensorSpec { shape, dtype }, payload.bytes.slice(at..))?;
        Ok(Self { quantisation, resume, ..activation })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> Payload {
        let spec = TensorSpec::new(DType::I8, &[1, 2, 3]);
        let activation = Activation::new(spec, Bytes::from_static(&[1, 2, 3, 4, 5, 6])).unwrap();
        activation.quantised(Quantisation { scale: 0.5, zero_point: -3 }).resume(7).encode().unwrap()
    }

    #[test]
    fn reads_back_what_it_wrote_without_copying_the_elements() {
        let message = message();
        let read = Activation::decode(&message).unwrap();
        assert_eq!(read.spec, TensorSpec::new(DType::I8, &[1, 2, 3]));
        assert_eq!(read.quantisation, Some(Quantisation { scale: 0.5, zero_point: -3 }));
        assert_eq!(read.resume, Some(7));
        let elements = read.bytes().unwrap();
        assert_eq!(&elements[..], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(elements.as_ptr(), message.bytes[message.bytes.len() - 6..].as_ptr());
    }

    #[test]
    fn every_cut_of_a_message_is_a_typed_error() {
        let whole = message();
        for len in 0..whole.bytes.len() {
            let cut = Payload { bytes: whole.bytes.slice(..len), media: MediaType::ACTIVATION };
            assert!(Activation::decode(&cut).is_err(), "{len} bytes were accepted");
        }
    }

    #[test]
    fn a_shape_beyond_memory_is_refused_before_it_is_allocated() {
        let mut bytes = b"SCFA\x01\x00\x06\x00".to_vec();
        bytes.extend([0xff; 24]);
        let payload = Payload { bytes: bytes.into(), media: MediaType::ACTIVATION };
        assert!(matches!(Activation::decode(&payload), Err(ActivationError::Invalid { field: "shape", .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Activation::decode(&Payload { bytes: bytes.into(), media: MediaType::ACTIVATION });
        }
    }
}
