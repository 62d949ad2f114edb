//! Weights of a model file, checked before anything is made of them.

use half::f16;
use safetensors::{Dtype, SafeTensors};
use scf_core::ModelError;

/// Largest header of a model file in bytes: far above what a network of thousands of tensors needs.
const MAX_HEADER: u64 = 1 << 20;

/// An opened model file in the safetensors format.
#[derive(Debug)]
pub(crate) struct WeightFile<'a> {
    tensors: SafeTensors<'a>,
}

fn refused(weight: &str, problem: impl Into<String>) -> ModelError {
    ModelError::Weight { weight: weight.into(), problem: problem.into() }
}

impl<'a> WeightFile<'a> {
    /// Reads the header and checks that it fits the file. Allocates for no tensor.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let Some(length) = bytes.first_chunk().map(|&length| u64::from_le_bytes(length)) else {
            return Err(refused("header", "the file is cut off"));
        };
        if length > MAX_HEADER {
            return Err(refused("header", format!("{length} bytes are over the limit of {MAX_HEADER}")));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| refused("header", error.to_string()))?;
        Ok(Self { tensors })
    }

    /// The weight `name` as 32-bit floats, if it has exactly `shape`. Takes files of `f16` and `f32`.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let view = self.tensors.tensor(name).map_err(|_| refused(name, "is missing"))?;
        if view.shape() != shape {
            return Err(refused(name, format!("has shape {:?} instead of {shape:?}", view.shape())));
        }
        let values: Vec<f32> = match view.dtype() {
            Dtype::F16 => view.data().as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::F32 => view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            other => return Err(refused(name, format!("has elements of {other:?} instead of F16 or F32"))),
        };
        if values.iter().any(|v| !v.is_finite()) {
            return Err(refused(name, "has an element that is no finite number"));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend(header.as_bytes());
        out.extend(data);
        out
    }

    fn problem(bytes: &[u8], name: &str, shape: &[usize]) -> String {
        WeightFile::open(bytes).and_then(|file| file.get(name, shape)).unwrap_err().to_string()
    }

    #[test]
    fn reads_halves_and_floats() {
        let header = r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        let bytes = file(header, &[0x00, 0x3c, 0x00, 0xc0, 0, 0, 0x20, 0x41]);
        let file = WeightFile::open(&bytes).unwrap();
        assert_eq!(file.get("a", &[2]).unwrap(), [1.0, -2.0]);
        assert_eq!(file.get("b", &[1]).unwrap(), [10.0]);
    }

    #[test]
    fn says_what_is_wrong_with_which_weight() {
        let good = r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#;
        assert_eq!(problem(&file(good, &[0; 4]), "b", &[2]), "weight b: is missing");
        assert_eq!(problem(&file(good, &[0; 4]), "a", &[1, 2]), "weight a: has shape [2] instead of [1, 2]");
        assert_eq!(
            problem(&file(good, &[0, 0x7c, 0, 0]), "a", &[2]),
            "weight a: has an element that is no finite number"
        );
        let bytes = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
        assert_eq!(problem(&file(bytes, &[0; 4]), "a", &[4]), "weight a: has elements of U8 instead of F16 or F32");
    }

    #[test]
    fn refuses_a_header_that_claims_more_than_the_file_before_allocating_it() {
        for length in [5u64, 1 << 20, (1 << 20) + 1, u64::MAX] {
            assert!(problem(&length.to_le_bytes(), "a", &[1]).starts_with("weight header: "));
        }
        let beyond = r#"{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#;
        assert!(problem(&file(beyond, &[0; 8]), "a", &[1 << 40]).starts_with("weight header: "));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), header in "\\PC{0,80}") {
            let _ = WeightFile::open(&bytes).map(|f| f.get("a", &[1]));
            let bytes = file(&header, &bytes);
            let _ = WeightFile::open(&bytes).map(|f| f.get("a", &[1]));
        }
    }
}
