//! The trained numbers of a network.

use std::collections::BTreeMap;

use bytes::Bytes;
use candle_core::{Device, Result, Tensor, Var};
use safetensors::{
    Dtype,
    tensor::{TensorView, serialize},
};
use scf_core::ModelError;

use crate::{
    tensor::little_endian,
    weights::{WeightFile, refused},
};

/// The numbers of a network by name, each with its shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    pub(super) tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Parameters {
    /// Reads a safetensors file that has exactly the tensors of `shapes`, as `f16` or `f32`.
    ///
    /// # Errors
    /// [`ModelError::Weight`] naming the tensor that is missing, too many, or has another shape, or an element that is
    /// no finite number.
    pub fn read(file: &[u8], shapes: &[(String, Vec<usize>)]) -> std::result::Result<Self, ModelError> {
        let file = WeightFile::open(file)?;
        if let Some((other, _)) = file.shapes().find(|(name, _)| shapes.iter().all(|(known, _)| known != name)) {
            return Err(refused(other, "is none of the network's"));
        }
        let read = |(name, shape): &(String, Vec<usize>)| Ok((name.clone(), (shape.clone(), file.get(name, shape)?)));
        Ok(Self { tensors: shapes.iter().map(read).collect::<std::result::Result<_, ModelError>>()? })
    }

    /// The numbers as a safetensors file of `f32`. Equal parameters give equal files.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "as many numbers as the shape has, under names of their own")]
    pub fn to_bytes(&self) -> Bytes {
        let tensors = self.tensors.iter().map(|(name, (shape, values))| (name, shape, little_endian(values)));
        let tensors: Vec<_> = tensors.collect();
        let view = |(name, shape, bytes)| {
            let (name, shape, bytes): (&String, &Vec<usize>, &Bytes) = (name, shape, bytes);
            (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as many numbers as the shape has"))
        };
        let views = tensors.iter().map(|(name, shape, bytes)| view((*name, *shape, bytes)));
        serialize(views, None).expect("tensors have names of their own").into()
    }

    /// Random numbers for a network of `shapes`, which `seed` determines: weights uniform within the bound of He et al.,
    /// "Delving Deep into Rectifiers", ICCV 2015, section 2.2, and zero where there is one dimension, which are biases.
    #[must_use]
    pub fn random(shapes: &[(String, Vec<usize>)], seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut drawn = |(name, shape): &(String, Vec<usize>)| {
            let count: usize = shape.iter().product();
            // Rows of a matrix are its inputs; a convolution is [out, in, height, width].
            let inputs = match shape[..] {
                [] | [_] => 0,
                [inputs, _] => inputs,
                [_, ref inputs @ ..] => inputs.iter().product(),
            };
            let bound = if inputs == 0 { 0.0 } else { (6.0 / inputs as f64).sqrt() };
            let values = (0..count).map(|_| ((2.0 * random.unit() - 1.0) * bound) as f32).collect();
            (name.clone(), (shape.clone(), values))
        };
        Self { tensors: shapes.iter().map(&mut drawn).collect() }
    }

    /// All zero, of the same shapes.
    pub(super) fn zeros(&self) -> Self {
        let zero = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
            (name.clone(), (shape.clone(), vec![0.0; values.len()]))
        };
        Self { tensors: self.tensors.iter().map(zero).collect() }
    }

    /// Names and shapes, ordered by name.
    #[must_use]
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect()
    }

    /// The numbers of `name`; `None` where there is no such tensor.
    #[must_use]
    pub fn values(&self, name: &str) -> Option<&[f32]> {
        self.tensors.get(name).map(|(_, values)| &values[..])
    }
}

/// The numbers of a network as tensors that gradients are taken of.
#[derive(Debug)]
pub struct Variables {
    pub(super) vars: BTreeMap<String, Var>,
}

impl Variables {
    pub(super) fn of_parameters(parameters: &Parameters) -> Result<Self> {
        let var = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
            let tensor = Tensor::from_slice(values, &shape[..], &Device::Cpu)?;
            Ok((name.clone(), Var::from_tensor(&tensor)?))
        };
        Ok(Self { vars: parameters.tensors.iter().map(var).collect::<Result<_>>()? })
    }

    pub(super) fn parameters(&self) -> Result<Parameters> {
        let read = |(name, var): (&String, &Var)| {
            Ok((name.clone(), (var.dims().to_vec(), var.flatten_all()?.to_vec1::<f32>()?)))
        };
        Ok(Parameters { tensors: self.vars.iter().map(read).collect::<Result<_>>()? })
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// When the network has none of that name.
    pub fn of(&self, name: &str) -> Result<&Tensor> {
        let missing = || candle_core::Error::Msg(format!("the network has no tensor {name}"));
        self.vars.get(name).map(Var::as_tensor).ok_or_else(missing)
    }
}

/// Random numbers that a seed determines: SplitMix64 (Steele et al., OOPSLA 2014, figure 16).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The numbers below `count` in an order that `seed` determines: Fisher and Yates' shuffle (Knuth, TAOCP 2, 3.4.2 P).
pub(crate) fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, (random.unit() * (last + 1) as f64) as usize);
    }
    order
}
