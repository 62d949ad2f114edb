//! Candle tensors as activations.

use std::{any::Any, borrow::Cow, sync::Arc};

use bytes::{Bytes, BytesMut};
use candle_core::{Device, Storage, Tensor};
use scf_core::{Activation, ActivationError, BoxError, DType, DeviceTensor, Elements, TensorSpec};

/// A candle tensor of 32-bit floats, opaque to everybody else.
#[derive(Clone, Debug)]
pub(crate) struct CandleTensor(Tensor);

impl CandleTensor {
    /// Calls `f` with the elements, copied only when they are not contiguous in this memory.
    fn with<T>(&self, f: impl FnOnce(&[f32]) -> T) -> candle_core::Result<T> {
        let (storage, layout) = self.0.storage_and_layout();
        if let (Storage::Cpu(cpu), Some((from, to))) = (&*storage, layout.contiguous_offsets()) {
            return Ok(f(&cpu.as_slice::<f32>()?[from..to]));
        }
        drop(storage);
        Ok(f(&self.0.flatten_all()?.to_vec1::<f32>()?))
    }
}

impl DeviceTensor for CandleTensor {
    fn download(&self) -> Result<Bytes, BoxError> {
        Ok(self.with(little_endian)?)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The activation of a tensor.
pub(crate) fn activation(spec: TensorSpec, tensor: Tensor) -> Activation {
    Activation::on_device(spec, Arc::new(CandleTensor(tensor)))
}

/// The tensor of an activation of 32-bit floats on `device`; uploads it only when it is elsewhere.
pub(crate) fn tensor(activation: &Activation, device: &Device) -> Result<Tensor, BoxError> {
    if let Elements::Device(elements) = &activation.elements
        && let Some(CandleTensor(tensor)) = elements.as_any().downcast_ref()
    {
        return Ok(tensor.to_device(device)?);
    }
    let elements = floats(&activation.bytes()?);
    Ok(Tensor::from_vec(elements, &activation.spec.shape[..], device)?)
}

/// Calls `f` with the elements of an activation of 32-bit floats, without a copy where they are in this memory.
///
/// The activation's element type has to be [`DType::F32`].
pub(crate) fn with_floats<T>(activation: &Activation, f: impl FnOnce(&[f32]) -> T) -> Result<T, ActivationError> {
    debug_assert_eq!(activation.spec.dtype, DType::F32);
    if let Elements::Device(elements) = &activation.elements
        && let Some(tensor) = elements.as_any().downcast_ref::<CandleTensor>()
    {
        return tensor.with(f).map_err(|error| ActivationError::Device { source: error.into() });
    }
    Ok(f(&Cow::from(floats(&activation.bytes()?))))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// The bytes of `elements`.
pub(crate) fn little_endian(elements: &[f32]) -> Bytes {
    let mut out = BytesMut::zeroed(elements.len() * 4);
    for (out, v) in out.as_chunks_mut().0.iter_mut().zip(elements) {
        *out = v.to_le_bytes();
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_goes_out_as_bytes_and_comes_back() {
        let elements = [1.0f32, -2.5, 3.0, 4.0];
        let spec = TensorSpec::new(DType::F32, &[2, 2]);
        let there = activation(spec.clone(), Tensor::new(&elements, &Device::Cpu).unwrap().reshape((2, 2)).unwrap());
        let bytes = there.bytes().unwrap();
        assert_eq!(bytes, elements.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
        let back = tensor(&Activation::new(spec, bytes).unwrap(), &Device::Cpu).unwrap();
        assert_eq!(back.to_vec2::<f32>().unwrap(), [[1.0, -2.5], [3.0, 4.0]]);
    }

    #[test]
    fn a_transposed_tensor_goes_out_in_its_own_order() {
        let tensor = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap().t().unwrap();
        let spec = TensorSpec::new(DType::F32, &[2, 2]);
        let elements = with_floats(&activation(spec, tensor), <[f32]>::to_vec).unwrap();
        assert_eq!(elements, [1.0, 3.0, 2.0, 4.0]);
    }
}
