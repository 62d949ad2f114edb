//! The elements of a tensor in each form.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use half::{f16, slice::HalfFloatSliceExt};
use scf_core::{Activation, DType, Quantisation, TensorSpec, WireForm};

use crate::{
    codec::{CodecError, dequantise, quantise, range},
    tensor,
};

/// Bytes of an affine map: two floats, or a float and an integer.
const MAP: usize = 8;

/// Bytes of a tensor of `spec` in `form`; `None` for what does not travel so.
pub(super) fn stored(spec: &TensorSpec, form: WireForm) -> Option<usize> {
    if form != WireForm::Exact && spec.dtype != DType::F32 {
        return None;
    }
    let size = usize::try_from(form.size(spec)?.bytes()).ok()?;
    Some(if form == WireForm::Int8 { size + MAP } else { size })
}

/// Appends the elements of `activation` in `form`.
pub(super) fn write(activation: &Activation, form: WireForm, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let spec = &activation.spec;
    if form == WireForm::Exact {
        out.extend_from_slice(&activation.bytes()?);
        return Ok(());
    }
    if spec.dtype != DType::F32 {
        return Err(CodecError::Unsupported { dtype: spec.dtype, form });
    }
    let last = spec.shape.last().copied().unwrap_or(1).max(1);
    tensor::with_floats(activation, |elements| match form {
        WireForm::Int8 => {
            let (bytes, map) = quantise(elements)?;
            out.extend_from_slice(&map.scale.to_le_bytes());
            out.extend_from_slice(&map.zero_point.to_le_bytes());
            out.extend_from_slice(&bytes);
            Ok(())
        }
        WireForm::F16 => halves(elements, out),
        WireForm::Int8Rows => rows(elements, last, out),
        WireForm::Int4 => nibbles(elements, last, out),
        _ => Err(CodecError::Unsupported { dtype: spec.dtype, form }),
    })?
}

/// The activation that `bytes`, as many as [`stored`] says, are in `form`.
pub(super) fn read(bytes: Bytes, spec: &TensorSpec, form: WireForm) -> Result<Activation, CodecError> {
    let last = spec.shape.last().copied().unwrap_or(1).max(1);
    let elements = match form {
        WireForm::Exact => bytes,
        WireForm::Int8 => {
            let scale = float(&bytes, 0..4)?;
            let zero_point = i32::from_le_bytes(word(&bytes, 4..8)?);
            dequantise(&bytes[MAP..], Quantisation { scale, zero_point })
        }
        WireForm::F16 => floats(bytes.as_chunks().0.iter().map(|&half| f16::from_le_bytes(half).to_f32()), spec),
        WireForm::Int8Rows => {
            let (maps, bytes) = maps(&bytes, spec.elements().unwrap_or(0) / last)?;
            let row = |(map, row): (&Affine, &[u8])| row.iter().map(|&q| map.value(q)).collect::<Vec<_>>();
            floats(maps.iter().zip(bytes.chunks_exact(last)).flat_map(row), spec)
        }
        WireForm::Int4 => {
            let (maps, bytes) = maps(&bytes, last)?;
            let quarter = bytes.iter().flat_map(|&pair| [pair & 15, pair >> 4]);
            floats(maps.iter().cycle().zip(quarter).map(|(map, q)| map.value(q)), spec)
        }
        _ => return Err(CodecError::Unsupported { dtype: spec.dtype, form }),
    };
    Ok(Activation::new(spec.clone(), elements)?)
}

/// How small integers from zero on stand for numbers.
#[derive(Clone, Copy, Debug)]
struct Affine {
    low: f32,
    step: f32,
}

impl Affine {
    /// From `low` to `high` in so many steps.
    fn over(low: f32, high: f32, steps: u8) -> Self {
        let steps = f32::from(steps);
        // Half a range each, so that the difference of two finite numbers is finite.
        Self { low, step: high / steps - low / steps }
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.low.to_le_bytes());
        out.extend_from_slice(&self.step.to_le_bytes());
    }

    /// What a value is multiplied with and then added to become its integer; a half included, as casts cut off.
    fn inverse(self) -> (f32, f32) {
        let factor = if self.step > 0.0 { self.step.recip() } else { 0.0 };
        (factor, 0.5 - self.low * factor)
    }

    fn value(self, q: u8) -> f32 {
        self.low + f32::from(q) * self.step
    }
}

fn halves(elements: &[f32], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let (low, high) = range(elements)?;
    if low.min(-high) < -f16::MAX.to_f32() {
        return Err(CodecError::NotFinite);
    }
    let mut halves = vec![f16::ZERO; elements.len()];
    halves.convert_from_f32_slice(elements);
    out.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
    Ok(())
}

fn rows(elements: &[f32], last: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let mut maps = Vec::with_capacity(elements.len() / last);
    for row in elements.chunks_exact(last) {
        let (low, high) = range(row)?;
        maps.push(Affine::over(low, high, u8::MAX));
    }
    maps.iter().for_each(|map| map.put(out));
    for (row, map) in elements.chunks_exact(last).zip(&maps) {
        let (factor, offset) = map.inverse();
        out.extend(row.iter().map(|v| (v * factor + offset) as u8));
    }
    Ok(())
}

fn nibbles(elements: &[f32], last: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    range(elements)?;
    let (mut low, mut high) = (vec![f32::INFINITY; last], vec![f32::NEG_INFINITY; last]);
    for row in elements.chunks_exact(last) {
        low.iter_mut().zip(row).for_each(|(low, &v)| *low = low.min(v));
        high.iter_mut().zip(row).for_each(|(high, &v)| *high = high.max(v));
    }
    let maps: Vec<Affine> = low.iter().zip(&high).map(|(&low, &high)| Affine::over(low, high, 15)).collect();
    maps.iter().for_each(|map| map.put(out));
    let inverse: Vec<(f32, f32)> = maps.iter().map(|map| map.inverse()).collect();
    let mut quarters = vec![0u8; elements.len().next_multiple_of(2)];
    for (row, quarters) in elements.chunks_exact(last).zip(quarters.chunks_exact_mut(last)) {
        for ((q, v), (factor, offset)) in quarters.iter_mut().zip(row).zip(&inverse) {
            *q = ((v * factor + offset) as u8).min(15);
        }
    }
    out.extend(quarters.as_chunks().0.iter().map(|[even, odd]| even | (odd << 4)));
    Ok(())
}

/// The maps at the start of `bytes`, and what is behind them.
fn maps(bytes: &[u8], count: usize) -> Result<(Vec<Affine>, &[u8]), CodecError> {
    let invalid = || CodecError::Invalid { field: "scale", value: count as u64 };
    let (head, rest) = bytes.split_at_checked(count.saturating_mul(MAP)).ok_or_else(invalid)?;
    let map = |bytes: &[u8; MAP]| Ok(Affine { low: float(bytes, 0..4)?, step: float(bytes, 4..8)? });
    Ok((head.as_chunks().0.iter().map(map).collect::<Result<_, CodecError>>()?, rest))
}

fn word(bytes: &[u8], place: Range<usize>) -> Result<[u8; 4], CodecError> {
    let word = bytes.get(place).and_then(|word| word.try_into().ok());
    word.ok_or(CodecError::Invalid { field: "scale", value: bytes.len() as u64 })
}

/// A finite number.
fn float(bytes: &[u8], place: Range<usize>) -> Result<f32, CodecError> {
    let value = f32::from_le_bytes(word(bytes, place)?);
    let invalid = CodecError::Invalid { field: "scale", value: value.to_bits().into() };
    if value.is_finite() { Ok(value) } else { Err(invalid) }
}

/// As many of `values` as `spec` has elements.
fn floats(values: impl Iterator<Item = f32>, spec: &TensorSpec) -> Bytes {
    let mut out = BytesMut::zeroed(spec.elements().unwrap_or(0) * 4);
    out.as_chunks_mut().0.iter_mut().zip(values).for_each(|(out, value)| *out = value.to_le_bytes());
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::{little_endian, with_floats};

    fn there_and_back(elements: &[f32], shape: &[usize], form: WireForm) -> Vec<f32> {
        let spec = TensorSpec::new(DType::F32, shape);
        let activation = Activation::new(spec.clone(), little_endian(elements)).unwrap();
        let mut out = Vec::new();
        write(&activation, form, &mut out).unwrap();
        assert_eq!(Some(out.len()), stored(&spec, form), "{}", form.as_str());
        with_floats(&read(out.into(), &spec, form).unwrap(), <[f32]>::to_vec).unwrap()
    }

    /// Three by five elements, of which a whole row or column may be large or small.
    fn elements() -> impl Strategy<Value = Vec<f32>> {
        (proptest::collection::vec(-1f32..1.0, 15), proptest::collection::vec(-10i32..10, 15))
            .prop_map(|(values, powers)| values.iter().zip(powers).map(|(v, p)| v * 2f32.powi(p)).collect())
    }

    fn spread(of: impl Iterator<Item = f32> + Clone, zero: f32) -> f32 {
        of.clone().fold(zero, f32::max) - of.fold(zero, f32::min)
    }

    proptest! {
        #[test]
        fn every_element_comes_back_within_half_a_step_of_its_row_or_channel(elements in elements()) {
            let (rows, nibbles) = (WireForm::Int8Rows, WireForm::Int4);
            let (by_row, by_channel) =
                (there_and_back(&elements, &[3, 5], rows), there_and_back(&elements, &[3, 5], nibbles));
            for (i, &v) in elements.iter().enumerate() {
                let row = spread(elements[i / 5 * 5..][..5].iter().copied(), 0.0) / 255.0;
                prop_assert!((v - by_row[i]).abs() <= row * 0.501 + f32::MIN_POSITIVE, "{v} by row: {}", by_row[i]);
                let column = (0..3).map(|row| elements[row * 5 + i % 5]);
                let column = spread(column.clone(), elements[i % 5]) / 15.0;
                prop_assert!((v - by_channel[i]).abs() <= column * 0.501 + v.abs() * 1e-6, "{v}: {}", by_channel[i]);
            }
        }

        #[test]
        fn half_floats_keep_eleven_bits(elements in elements()) {
            for (a, b) in elements.iter().zip(there_and_back(&elements, &[15], WireForm::F16)) {
                prop_assert!((a - b).abs() <= a.abs() / 2048.0 + 3e-8, "{a} came back as {b}");
            }
        }
    }

    #[test]
    fn what_a_form_cannot_say_is_an_error() {
        let activation = |values: &[f32]| {
            Activation::new(TensorSpec::new(DType::F32, &[values.len()]), little_endian(values)).unwrap()
        };
        for form in [WireForm::F16, WireForm::Int8, WireForm::Int8Rows, WireForm::Int4] {
            let error = write(&activation(&[1.0, f32::NAN]), form, &mut Vec::new());
            assert!(matches!(error, Err(CodecError::NotFinite)), "{}", form.as_str());
        }
        assert!(write(&activation(&[7e4]), WireForm::F16, &mut Vec::new()).is_err());
        assert_eq!(stored(&TensorSpec::new(DType::U8, &[3]), WireForm::Int4), None);
    }

    #[test]
    fn a_map_that_is_no_number_is_refused() {
        let spec = TensorSpec::new(DType::F32, &[1, 4]);
        for form in [WireForm::Int8, WireForm::Int8Rows, WireForm::Int4] {
            let bytes = vec![0xff; stored(&spec, form).unwrap()];
            assert!(matches!(read(bytes.into(), &spec, form), Err(CodecError::Invalid { field: "scale", .. })));
        }
    }
}
