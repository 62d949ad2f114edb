//! Activations on the wire.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use scf_core::{
    Activation, ActivationError, DType, ModelError, ModelName, Payload, Quantisation, TensorSpec, WireForm,
};
use thiserror::Error;

use crate::tensor;

/// Why an activation cannot travel in a form, or a message is none.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The message is no activation, or the device does not give the elements out.
    #[error("the activation cannot be read")]
    Activation(#[from] ActivationError),
    /// An element is infinite, no number, or larger than a half float; no map takes it to fewer bits.
    #[error("the activation has an element that is no finite number of the form")]
    NotFinite,
    /// There is no such form of these elements.
    #[error("elements of {dtype:?} do not travel as {}", form.as_str())]
    Unsupported {
        /// What the elements are.
        dtype: DType,
        /// The form.
        form: WireForm,
    },
    /// The message of a run ends before its field does.
    #[error("run: {field} is cut off")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// A field of a run's message has a value that it cannot have for the network.
    #[error("run: {field} is {value}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The run is of another network, or of another version of it.
    #[error("run: it is not of {model} as it is here")]
    OtherModel {
        /// The network that it was taken for.
        model: ModelName,
    },
    /// The message changed on its way.
    #[error("run: the message is not what its hash says")]
    Hash,
    /// The body does not decompress to what the network's tensors take.
    #[error("run: the compressed body is damaged")]
    Compressed,
    /// The network does not go on from there.
    #[error("the run cannot be resumed")]
    Resume(#[from] ModelError),
}

/// Encodes `activation` as a message of its own, exactly or in eight bits. Called on a thread that may compute. A hop of
/// a split run sends all that is alive at once, in any form.
///
/// [`WireForm::Int8`] takes 32-bit floats to signed bytes with one affine map for the whole tensor, in which
/// zero is exact: each element comes back within half a step, a 255th of the range from the smallest to the
/// largest element, zero included.
///
/// # Errors
/// [`CodecError`].
pub fn to_wire(activation: &Activation, form: WireForm) -> Result<Payload, CodecError> {
    match form {
        WireForm::Exact => Ok(activation.encode()?),
        WireForm::Int8 if activation.spec.dtype == DType::F32 => {
            let (bytes, quantisation) = tensor::with_floats(activation, quantise)??;
            let spec = TensorSpec { shape: activation.spec.shape.clone(), dtype: DType::I8 };
            let mut small = Activation::new(spec, bytes)?.quantised(quantisation);
            small.resume = activation.resume;
            Ok(small.encode()?)
        }
        _ => Err(CodecError::Unsupported { dtype: activation.spec.dtype, form }),
    }
}

/// Reads what [`to_wire`] wrote. Quantised bytes come back as 32-bit floats; anything else is as it was sent
/// and shares the payload's memory.
///
/// # Errors
/// [`CodecError`].
pub fn from_wire(payload: &Payload) -> Result<Activation, CodecError> {
    restored(Activation::decode(payload)?)
}

/// Quantised bytes as the floats that they stand for; any other activation as it is.
pub(crate) fn restored(activation: Activation) -> Result<Activation, CodecError> {
    let (Some(quantisation), DType::I8) = (activation.quantisation, activation.spec.dtype) else {
        return Ok(activation);
    };
    let spec = TensorSpec { shape: activation.spec.shape.clone(), dtype: DType::F32 };
    let mut floats = Activation::new(spec, dequantise(&activation.bytes()?, quantisation))?;
    floats.resume = activation.resume;
    Ok(floats)
}

/// CPU time of bringing an activation of `spec` into `form` and back into a block's memory, for planners.
///
/// Per element, as measured on one core of a server of 2023 (AMD Zen 4).
#[must_use]
pub fn codec_cost(spec: &TensorSpec, form: WireForm) -> Duration {
    let picoseconds = match form {
        WireForm::Exact => EXACT_PS,
        WireForm::F16 => F16_PS,
        WireForm::Int4 => INT4_PS,
        _ => INT8_PS,
    };
    Duration::from_nanos(spec.elements().unwrap_or(usize::MAX).saturating_mul(picoseconds) as u64 / 1000)
}

const EXACT_PS: usize = 400;
const F16_PS: usize = 600;
const INT8_PS: usize = 800;
const INT4_PS: usize = 1600;

/// Added to a float between -2^22 and 2^22 it leaves the nearest integer in the lowest bits of the mantissa:
/// rounding that vectorises on every instruction set.
const ROUND: f32 = 12_582_912.0;

pub(crate) fn quantise(elements: &[f32]) -> Result<(Bytes, Quantisation), CodecError> {
    let (low, high) = range(elements)?;
    // Half a range each, so that the difference of two finite numbers is finite.
    let scale = ((high / 255.0) - (low / 255.0)).max(f32::MIN_POSITIVE);
    let zero = (-128.0 - low / scale).round().clamp(-128.0, 127.0);
    let (inverse, offset) = (1.0 / scale, zero);
    let mut out = BytesMut::zeroed(elements.len());
    for (out, v) in out.iter_mut().zip(elements) {
        let q = (v * inverse + offset).clamp(-128.0, 127.0) + ROUND;
        *out = q.to_bits() as u8;
    }
    Ok((out.freeze(), Quantisation { scale, zero_point: zero as i32 }))
}

/// The smallest and the largest of the elements and zero.
pub(crate) fn range(elements: &[f32]) -> Result<(f32, f32), CodecError> {
    const LANES: usize = 32;
    let (mut low, mut high, mut finite) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    let (chunks, rest) = elements.as_chunks::<LANES>();
    let mut take = |j: usize, v: f32| {
        low[j] = if v < low[j] { v } else { low[j] };
        high[j] = if v > high[j] { v } else { high[j] };
        // Zero for a finite number, no number for any other; minimum and maximum alone would pass over NaN.
        finite[j] += v * 0.0;
    };
    for chunk in chunks {
        for (j, &v) in chunk.iter().enumerate() {
            take(j, v);
        }
    }
    rest.iter().for_each(|&v| take(0, v));
    if finite.iter().any(|v| v.is_nan()) {
        return Err(CodecError::NotFinite);
    }
    Ok((low.iter().copied().fold(0.0, f32::min), high.iter().copied().fold(0.0, f32::max)))
}

pub(crate) fn dequantise(bytes: &[u8], quantisation: Quantisation) -> Bytes {
    let zero = quantisation.zero_point as f32;
    let mut out = BytesMut::zeroed(bytes.len() * 4);
    for (out, &q) in out.as_chunks_mut().0.iter_mut().zip(bytes) {
        *out = ((f32::from(q as i8) - zero) * quantisation.scale).to_le_bytes();
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::{little_endian, with_floats};

    fn activation(elements: &[f32]) -> Activation {
        Activation::new(TensorSpec::new(DType::F32, &[1, elements.len()]), little_endian(elements)).unwrap()
    }

    fn there_and_back(elements: &[f32], form: WireForm) -> Vec<f32> {
        let sent = to_wire(&activation(elements), form).unwrap();
        with_floats(&from_wire(&sent).unwrap(), <[f32]>::to_vec).unwrap()
    }

    proptest! {
        #[test]
        fn every_element_comes_back_within_half_a_step(
            elements in proptest::collection::vec(-1e6f32..1e6, 1..200), shrink in 0u32..40,
        ) {
            let elements: Vec<f32> = elements.into_iter().map(|v| v / (1u64 << shrink) as f32).collect();
            let low = elements.iter().copied().fold(0.0, f32::min);
            let high = elements.iter().copied().fold(0.0, f32::max);
            // Half a step of the element and half a step of the rounded zero.
            let bound = (high - low) / 255.0 * 1.001;
            for (a, b) in elements.iter().zip(there_and_back(&elements, WireForm::Int8)) {
                prop_assert!((a - b).abs() <= bound, "{a} came back as {b}, bound {bound}");
            }
        }

        #[test]
        fn the_exact_form_changes_no_bit(bits in proptest::collection::vec(any::<u32>(), 1..100)) {
            let elements: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            let back: Vec<u32> = there_and_back(&elements, WireForm::Exact).iter().map(|v| v.to_bits()).collect();
            prop_assert_eq!(back, bits);
        }
    }

    #[test]
    fn zero_stays_zero_and_equal_elements_stay_equal() {
        assert_eq!(there_and_back(&[0.0; 5], WireForm::Int8), [0.0; 5]);
        let back = there_and_back(&[6.0, 0.0, 6.0, 3.0], WireForm::Int8);
        assert_eq!((back[1], back[0] == back[2]), (0.0, true));
    }

    #[test]
    fn takes_a_quarter_of_the_bytes() {
        let x = activation(&[1.0; 4096]);
        let sizes = [WireForm::Exact, WireForm::Int8].map(|form| to_wire(&x, form).unwrap().bytes.len());
        assert_eq!(sizes, [16 + 4 * 4096, 24 + 4096]);
    }

    #[test]
    fn says_where_a_run_resumes_in_both_forms() {
        for form in [WireForm::Exact, WireForm::Int8] {
            let sent = to_wire(&activation(&[1.0, 2.0]).resume(3), form).unwrap();
            assert_eq!(from_wire(&sent).unwrap().resume, Some(3));
        }
    }

    #[test]
    fn what_is_not_finite_or_no_float_is_a_typed_error() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 40] {
                let mut elements = [1.0; 70];
                elements[at] = bad;
                assert!(matches!(to_wire(&activation(&elements), WireForm::Int8), Err(CodecError::NotFinite)));
            }
        }
        let bytes = Activation::new(TensorSpec::new(DType::U8, &[1]), Bytes::from_static(&[1])).unwrap();
        let error = to_wire(&bytes, WireForm::Int8).unwrap_err();
        assert_eq!(error.to_string(), "elements of U8 do not travel as int8");
    }
}
