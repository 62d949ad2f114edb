//! Weights of a model file, checked before anything is made of them.

use half::f16;
use safetensors::Dtype;
use scf_core::{ByteSize, Bytes, ModelError, ObjectId, ObjectStore, read_object};

use crate::header::Header;

/// Largest header of a model file in bytes: far above what a network of thousands of tensors needs.
const MAX_HEADER: usize = 1 << 20;
/// A header has at most one of so many bytes of a file, so that what is made of the header is small beside the file.
const HEADER_SHARE: usize = 8;
/// A header of so many bytes is taken whatever the file has.
const MIN_HEADER: usize = 16 << 10;

/// An opened model file in the safetensors format.
#[derive(Debug)]
pub(crate) struct WeightFile<'a> {
    header: Header<'a>,
    data: &'a [u8],
}

/// Reads the model file that is kept as `object` in `store`, at most `limit`, held against its digest while it is read.
///
/// # Errors
/// [`ModelError::Object`].
pub(crate) async fn read(store: &dyn ObjectStore, object: ObjectId, limit: ByteSize) -> Result<Bytes, ModelError> {
    read_object(store, object, limit).await.map_err(|source| ModelError::Object { object, source })
}

pub(crate) fn refused(weight: &str, problem: impl Into<String>) -> ModelError {
    ModelError::Weight { weight: weight.into(), problem: problem.into() }
}

impl<'a> WeightFile<'a> {
    /// Reads the header and checks that it fits the file. Allocates for no tensor.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let Some((length, rest)) = bytes.split_first_chunk() else {
            return Err(refused("header", "the file is cut off"));
        };
        let length = u64::from_le_bytes(*length);
        let limit = (bytes.len() / HEADER_SHARE).clamp(MIN_HEADER, MAX_HEADER);
        if length > limit as u64 {
            return Err(refused("header", format!("{length} bytes are over the limit of {limit} for this file")));
        }
        let Some((header, data)) = rest.split_at_checked(length as usize) else {
            return Err(refused("header", "the file is cut off"));
        };
        Ok(Self { header: Header::read(header, data.len())?, data })
    }

    /// The weight `name` as 32-bit floats, if it has exactly `shape`. Takes files of `f16` and `f32`.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let tensor = self.header.get(name).ok_or_else(|| refused(name, "is missing"))?;
        if tensor.shape[..] != *shape {
            return Err(refused(name, format!("has shape {:?} instead of {shape:?}", tensor.shape)));
        }
        let data = &self.data[tensor.range.clone()];
        let values: Vec<f32> = match tensor.dtype {
            Dtype::F16 => data.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::F32 => data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            other => return Err(refused(name, format!("has elements of {other:?} instead of F16 or F32"))),
        };
        if values.iter().any(|v| !v.is_finite()) {
            return Err(refused(name, "has an element that is no finite number"));
        }
        Ok(values)
    }

    /// The elements of `name` as they are and their shape, if they are unsigned bytes.
    pub(crate) fn octets(&self, name: &str) -> Result<(&[usize], &'a [u8]), ModelError> {
        let tensor = self.header.get(name).ok_or_else(|| refused(name, "is missing"))?;
        match tensor.dtype {
            Dtype::U8 => Ok((&tensor.shape, &self.data[tensor.range.clone()])),
            other => Err(refused(name, format!("has elements of {other:?} instead of U8"))),
        }
    }

    /// Name and shape of every tensor, ordered by name.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&'a str, &[usize])> {
        self.header.shapes()
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, path::Path, time::Duration};

    use async_trait::async_trait;
    use proptest::prelude::*;
    use scf_core::{
        Collected, ObjectError, ObjectManifest, ObjectReader, ObjectStat, ObjectUsage, ObjectWriter, Timestamp,
    };

    use super::*;
    use crate::{Device, efficientnet_lite0, efficientnet_lite0_from};

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
        assert_eq!(problem(&file(beyond, &[0; 8]), "a", &[1 << 40]), "weight a: ends at byte 4398046511104 of 8");
    }

    /// Gives the same content for every name.
    #[derive(Debug)]
    struct Only(Bytes);

    #[derive(Debug)]
    struct Once(Option<Bytes>);

    #[async_trait]
    impl ObjectReader for Once {
        async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
            Ok(self.0.take())
        }
    }

    #[async_trait]
    impl ObjectStore for Only {
        async fn put(&self) -> Result<Box<dyn ObjectWriter>, ObjectError> {
            Err(ObjectError::Denied { what: "write" })
        }

        async fn get(&self, _: ObjectId, _: Range<u64>) -> Result<Box<dyn ObjectReader>, ObjectError> {
            Ok(Box::new(Once(Some(self.0.clone()))))
        }

        async fn stat(&self, object: ObjectId) -> Result<Option<ObjectStat>, ObjectError> {
            let size = ByteSize::from_bytes(self.0.len() as u64);
            Ok(Some(ObjectStat { manifest: ObjectManifest { object, size, chunks: Vec::new() }, references: 0 }))
        }

        async fn refer(&self, _: &str, _: ObjectId) -> Result<Option<ObjectId>, ObjectError> {
            Err(ObjectError::Denied { what: "write" })
        }

        async fn resolve(&self, _: &str) -> Result<Option<ObjectId>, ObjectError> {
            Ok(None)
        }

        async fn references(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<(String, ObjectId)>, ObjectError> {
            Ok(Vec::new())
        }

        async fn unrefer(&self, _: &str) -> Result<Option<ObjectId>, ObjectError> {
            Err(ObjectError::Denied { what: "write" })
        }

        async fn collect(&self, _: Timestamp, _: Duration) -> Result<Collected, ObjectError> {
            Ok(Collected::default())
        }

        fn usage(&self) -> ObjectUsage {
            ObjectUsage::default()
        }
    }

    #[tokio::test]
    async fn a_model_file_is_read_by_its_digest_and_nothing_else_is_taken_for_it() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/assets/efficientnet-lite0.safetensors");
        let file = Bytes::from(std::fs::read(path).unwrap());
        let (object, store) = (ObjectId::of(&file), Only(file.clone()));
        let graph = efficientnet_lite0_from(&store, object, Device::Cpu).await.unwrap();
        assert_eq!(graph.blocks().len(), efficientnet_lite0(&file, Device::Cpu).unwrap().blocks().len());

        let other = ObjectId::of(b"another model");
        let refused = efficientnet_lite0_from(&store, other, Device::Cpu).await.unwrap_err();
        let wrong = ObjectError::Corrupt { object: other, chunk: None };
        assert!(
            matches!(&refused, ModelError::Object { object, source } if *object == other && source.to_string() == wrong.to_string()),
            "{refused:?}"
        );
        let least = ByteSize::from_bytes(file.len() as u64 - 1);
        let refused = read(&store, object, least).await.unwrap_err();
        assert!(
            matches!(refused, ModelError::Object { source: ObjectError::TooLarge { limit, .. }, .. } if limit == least)
        );
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
