//! The tensor message that the image functions pass to each other (activation message, version 1).
//!
//! All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | magic, `SCFA` |
//! | 4 | version, 1 |
//! | 5 | element type: 0 = f32, 1 = f16, 2 = i8, 3 = u8 |
//! | 6 | rank, 1 to 6 |
//! | 7 | flags: bit 0 = quantised, the others 0 |
//! | 4 x rank | dimensions, u32 each |
//! | 8, only if quantised | scale f32 and zero point i32: value = (element - zero point) x scale |
//! | the rest | elements, row-major, exactly as many as the dimensions say |
//!
//! ```
//! let message = tensor::encode_f32(&[1, 2], &[0.5, -1.0]);
//! let tensor = tensor::Tensor::parse(&message)?;
//! assert_eq!(tensor.dims(), [1, 2]);
//! assert_eq!(tensor.f32_values()?.collect::<Vec<_>>(), [0.5, -1.0]);
//! # Ok::<(), tensor::TensorError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::fmt;

/// First bytes of every message.
pub const MAGIC: [u8; 4] = *b"SCFA";
/// The version that this crate reads and writes.
pub const VERSION: u8 = 1;
/// Most dimensions of one tensor.
pub const MAX_RANK: usize = 6;
/// Most elements of one tensor.
pub const MAX_ELEMENTS: u64 = 1 << 28;

const HEADER: usize = 8;
const QUANTISED: u8 = 1;

/// The type of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 16-bit float (IEEE 754 binary16).
    F16,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "i8",
            Self::U8 => "u8",
        })
    }
}

/// How integer elements stand for real values: (element - `zero_point`) x `scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// Real value of one step; finite and above zero.
    pub scale: f32,
    /// The element that stands for 0.0.
    pub zero_point: i32,
}

/// A parsed message, borrowing its elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<'a> {
    dtype: Dtype,
    rank: usize,
    dims: [u32; MAX_RANK],
    quantisation: Option<Quantisation>,
    data: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// Reads a message; allocates nothing.
    ///
    /// # Errors
    /// The first field, in the order of the message, that is missing or out of range.
    pub fn parse(message: &'a [u8]) -> Result<Self, TensorError> {
        let mut rest = message;
        let [m0, m1, m2, m3, version, dtype, rank, flags] = take::<HEADER>(&mut rest, "header")?;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(TensorError::Magic);
        }
        if version != VERSION {
            return Err(TensorError::Version { found: version });
        }
        let dtype = match dtype {
            0 => Dtype::F32,
            1 => Dtype::F16,
            2 => Dtype::I8,
            3 => Dtype::U8,
            found => return Err(TensorError::UnknownDtype { found }),
        };
        if rank == 0 || usize::from(rank) > MAX_RANK {
            return Err(TensorError::Rank { found: rank });
        }
        if flags & !QUANTISED != 0 {
            return Err(TensorError::Flags { found: flags });
        }
        let rank = usize::from(rank);
        let mut dims = [0; MAX_RANK];
        let mut elements = 1_u64;
        for dim in &mut dims[..rank] {
            *dim = u32::from_le_bytes(take(&mut rest, "dims")?);
            elements = elements
                .checked_mul(u64::from(*dim))
                .filter(|&elements| elements <= MAX_ELEMENTS)
                .ok_or(TensorError::TooLarge)?;
        }
        let quantisation = if flags & QUANTISED == 0 {
            None
        } else {
            let scale = f32::from_le_bytes(take(&mut rest, "scale")?);
            let zero_point = i32::from_le_bytes(take(&mut rest, "zero point")?);
            if !(scale.is_finite() && scale > 0.0) {
                return Err(TensorError::Scale { found: scale });
            }
            Some(Quantisation { scale, zero_point })
        };
        let expected = elements * dtype.size() as u64;
        if rest.len() as u64 != expected {
            return Err(TensorError::DataLength { expected, found: rest.len() as u64 });
        }
        Ok(Self { dtype, rank, dims, quantisation, data: rest })
    }

    /// Type of the elements.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Dimensions, outermost first.
    #[must_use]
    pub fn dims(&self) -> &[u32] {
        &self.dims[..self.rank]
    }

    /// How the elements stand for real values; `None` when they are the values.
    #[must_use]
    pub const fn quantisation(&self) -> Option<Quantisation> {
        self.quantisation
    }

    /// The elements as they are in the message.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// The values of a tensor of plain 32-bit floats.
    ///
    /// # Errors
    /// [`TensorError::Dtype`] for another element type, [`TensorError::Quantised`] for quantised elements.
    pub fn f32_values(&self) -> Result<impl ExactSizeIterator<Item = f32> + 'a, TensorError> {
        if self.dtype != Dtype::F32 {
            return Err(TensorError::Dtype { expected: Dtype::F32, found: self.dtype });
        }
        if self.quantisation.is_some() {
            return Err(TensorError::Quantised);
        }
        let (values, _) = self.data.as_chunks();
        Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)))
    }
}

/// Writes a message of plain 32-bit floats.
///
/// # Panics
/// When there are no or more than [`MAX_RANK`] dimensions, or `values` holds another number of elements than they say.
#[must_use]
pub fn encode_f32(dims: &[u32], values: &[f32]) -> Vec<u8> {
    assert!((1..=MAX_RANK).contains(&dims.len()), "rank is 1 to 6");
    let elements: u64 = dims.iter().map(|&dim| u64::from(dim)).product();
    assert_eq!(values.len() as u64, elements, "values fill the dimensions");
    let mut message = Vec::with_capacity(HEADER + 4 * dims.len() + 4 * values.len());
    message.extend(MAGIC);
    message.extend([VERSION, 0, dims.len() as u8, 0]);
    message.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
    message.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    message
}

/// Why a message cannot be read; each display names the field.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TensorError {
    /// The message ends inside a field.
    Truncated {
        /// Name of the field.
        field: &'static str,
    },
    /// The message does not start with [`MAGIC`].
    Magic,
    /// The message is of another version.
    Version {
        /// The version it says.
        found: u8,
    },
    /// The element type has no meaning in this version.
    UnknownDtype {
        /// The code it says.
        found: u8,
    },
    /// The number of dimensions is not 1 to [`MAX_RANK`].
    Rank {
        /// The rank it says.
        found: u8,
    },
    /// A flag is set that has no meaning in this version.
    Flags {
        /// The flags it says.
        found: u8,
    },
    /// The dimensions multiply to more than [`MAX_ELEMENTS`].
    TooLarge,
    /// The scale of a quantised tensor is not a finite number above zero.
    Scale {
        /// The scale it says.
        found: f32,
    },
    /// There are more or fewer bytes of elements than the dimensions say.
    DataLength {
        /// Bytes that the dimensions say.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The reader wants another element type.
    Dtype {
        /// The type it wants.
        expected: Dtype,
        /// The type of the message.
        found: Dtype,
    },
    /// The reader wants plain values, the message holds quantised ones.
    Quantised,
}

impl fmt::Display for TensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { field } => write!(f, "{field}: message ends inside it"),
            Self::Magic => f.write_str("magic: not a tensor message"),
            Self::Version { found } => write!(f, "version: {found}, expected {VERSION}"),
            Self::UnknownDtype { found } => write!(f, "dtype: unknown code {found}"),
            Self::Rank { found } => write!(f, "rank: {found}, expected 1 to {MAX_RANK}"),
            Self::Flags { found } => write!(f, "flags: unknown bits in {found:#04x}"),
            Self::TooLarge => write!(f, "dims: over the limit of {MAX_ELEMENTS} elements"),
            Self::Scale { found } => write!(f, "scale: {found}, expected finite and above zero"),
            Self::DataLength { expected, found } => {
                write!(f, "data: {found} bytes, expected {expected}")
            }
            Self::Dtype { expected, found } => write!(f, "dtype: {found}, expected {expected}"),
            Self::Quantised => f.write_str("flags: quantised, expected plain values"),
        }
    }
}

impl core::error::Error for TensorError {}

fn take<const N: usize>(rest: &mut &[u8], field: &'static str) -> Result<[u8; N], TensorError> {
    let (head, tail) = rest.split_first_chunk().ok_or(TensorError::Truncated { field })?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec, vec::Vec};

    use super::*;

    fn header(dtype: u8, rank: u8, flags: u8, dims: &[u32]) -> Vec<u8> {
        let mut message = b"SCFA\x01".to_vec();
        message.extend([dtype, rank, flags]);
        message.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        message
    }

    fn refused(message: &[u8]) -> TensorError {
        Tensor::parse(message).expect_err("must be refused")
    }

    #[test]
    fn floats_survive_the_way_there_and_back() {
        let values = [1.5, -0.0, f32::MAX, f32::MIN_POSITIVE, 0.1, 7.0];
        let message = encode_f32(&[1, 2, 3], &values);
        assert_eq!(message.len(), 8 + 12 + 24);
        let tensor = Tensor::parse(&message).unwrap();
        assert_eq!(tensor.dims(), [1, 2, 3]);
        assert!(tensor.f32_values().unwrap().eq(values));
    }

    #[test]
    fn reads_quantised_bytes() {
        let mut message = header(3, 1, 1, &[3]);
        message.extend(0.25_f32.to_le_bytes());
        message.extend((-5_i32).to_le_bytes());
        message.extend([1, 2, 3]);
        let tensor = Tensor::parse(&message).unwrap();
        assert_eq!(tensor.dtype(), Dtype::U8);
        let (scale, zero_point) = (0.25, -5);
        assert_eq!(tensor.quantisation(), Some(Quantisation { scale, zero_point }));
        assert_eq!(tensor.data(), [1, 2, 3]);
    }

    #[test]
    fn every_prefix_is_refused() {
        let mut message = header(1, 2, 1, &[2, 2]);
        message.extend(1.0_f32.to_le_bytes());
        message.extend([0; 4 + 8]);
        assert_eq!(Tensor::parse(&message).unwrap().dims(), [2, 2]);
        for end in 0..message.len() {
            refused(&message[..end]);
        }
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        let cases: [(Vec<u8>, &str); 9] = [
            (b"SCFB\x01\x00\x01\x00".to_vec(), "magic: not a tensor message"),
            (b"SCFA\x02\x00\x01\x00".to_vec(), "version: 2, expected 1"),
            (header(4, 1, 0, &[]), "dtype: unknown code 4"),
            (header(0, 0, 0, &[]), "rank: 0, expected 1 to 6"),
            (header(0, 7, 0, &[1; 7]), "rank: 7, expected 1 to 6"),
            (header(0, 1, 2, &[1]), "flags: unknown bits in 0x02"),
            (header(0, 2, 0, &[1]), "dims: message ends inside it"),
            (header(3, 1, 1, &[0, 0, 0]), "scale: 0, expected finite and above zero"),
            (header(2, 1, 0, &[3, 0]), "data: 4 bytes, expected 3"),
        ];
        for (message, display) in cases {
            assert_eq!(refused(&message).to_string(), display);
        }
    }

    #[test]
    fn refuses_dimensions_that_overflow() {
        assert_eq!(refused(&header(0, 6, 0, &[u32::MAX; 6])), TensorError::TooLarge);
        assert_eq!(refused(&header(0, 2, 0, &[1 << 14, (1 << 14) + 1])), TensorError::TooLarge);
    }

    #[test]
    fn an_empty_tensor_is_a_tensor() {
        assert_eq!(Tensor::parse(&header(0, 2, 0, &[0, 9])).unwrap().dims(), [0, 9]);
    }

    #[test]
    fn refuses_to_read_bytes_as_floats() {
        let mut message = header(2, 1, 0, &[4]);
        message.extend(vec![0; 4]);
        let error = Tensor::parse(&message).unwrap().f32_values().err();
        assert_eq!(error.unwrap().to_string(), "dtype: i8, expected f32");
    }
}
