//! EfficientNet-Lite0: image classification on 224x224 pixels, as 18 blocks.
//!
//! The network is that of Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
//! Networks", ICML 2019, table 1, without squeeze-and-excitation and with ReLU6, as its authors' `lite` variant
//! for edge devices. Batch norms are folded into the weights of the file.

mod block;
mod composed;

use std::sync::Arc;

use scf_core::{BlockGraph, ByteSize, DType, ModelBlock, ModelError, ModelName, ObjectId, ObjectStore, TensorSpec};

use self::block::{Block, Body};
use crate::{
    device::Device,
    fixed::{self, Fixed},
    kernel::{Isa, MbConv, MbConvShape, Pointwise, Stem},
    weights::{self, WeightFile},
};

/// Height and width of the input in pixels.
const SIDE: usize = 224;
/// Channels after the stem.
const STEM: usize = 32;
/// Channels before the mean over the picture.
const FEATURES: usize = 1280;
/// Classes of ImageNet.
const CLASSES: usize = 1000;
/// Largest model file: the network in `f32` takes 18 MiB.
const MAX_FILE: ByteSize = ByteSize::from_mib(64);
/// Repeats, kernel, stride of the first, expansion, channels in and out of each group of blocks.
const GROUPS: [(usize, usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
];

/// Loads EfficientNet-Lite0 from the bytes of a safetensors file onto `device`.
///
/// The blocks are `stem`, `mbconv0` to `mbconv15` and `head`. The graph takes one picture, `f32`
/// `[1, 224, 224, 3]`, normalised with the mean and deviation of ImageNet, and gives the logits of the 1000
/// classes. On the CPU an inference runs on the thread that calls it; serve many by calling from many threads.
///
/// The file has, as `f16` or `f32`: `stem.w` `[27, 32]` with rows (ky, kx, channel) and `stem.b`; per block
/// `blockN.expand.w` `[cin, wide]` (none where the expansion is 1), `blockN.depthwise.w` `[k*k, wide]`,
/// `blockN.project.w` `[wide, cout]`; `head.conv.w` `[320, 1280]`, `head.fc.w` `[1280, 1000]`; and a `.b` to each.
///
/// # Errors
/// [`ModelError::Weight`] naming the weight that is missing or has another shape, [`ModelError::Device`] when
/// the device is not there.
pub fn efficientnet_lite0(weights: &[u8], device: Device) -> Result<BlockGraph, ModelError> {
    let file = WeightFile::open(weights)?;
    let device = device.open()?;
    let isa = if matches!(device, candle_core::Device::Cpu) { Some(Isa::detect()) } else { None };
    graph(&file, &device, isa)
}

/// Loads EfficientNet-Lite0 from the safetensors file that is kept as `object` in `store` onto `device`, on a thread that
/// may block. What is read is held against the digest, so that no other model runs under its name. See
/// [`efficientnet_lite0`].
///
/// # Errors
/// [`ModelError::Object`] when the file is not there, is not what its digest says, or has over 64 MiB; otherwise as
/// [`efficientnet_lite0`].
///
/// # Panics
/// Outside a tokio runtime.
pub async fn efficientnet_lite0_from(
    store: &dyn ObjectStore,
    object: ObjectId,
    device: Device,
) -> Result<BlockGraph, ModelError> {
    let weights = weights::read(store, object, MAX_FILE).await?;
    let loaded = tokio::task::spawn_blocking(move || efficientnet_lite0(&weights, device)).await;
    loaded.unwrap_or_else(|stopped| Err(fixed::failed("stem")(stopped)))
}

/// Loads the network with the fused kernels of `isa`, or out of candle's operations where there is none.
fn graph(file: &WeightFile<'_>, device: &candle_core::Device, isa: Option<Isa>) -> Result<BlockGraph, ModelError> {
    let mut blocks: Vec<Arc<dyn ModelBlock>> = vec![Arc::new(stem(file, device, isa)?)];
    for (i, shape) in shapes().enumerate() {
        blocks.push(Arc::new(mbconv(file, device, isa, i, shape)?));
    }
    blocks.push(Arc::new(head(file, device, isa)?));
    let model = ModelName::new("efficientnet-lite0").expect("a valid name");
    BlockGraph::chain(model, picture(SIDE, SIDE, 3), blocks)
}

/// The 16 inverted residual blocks.
fn shapes() -> impl Iterator<Item = MbConvShape> {
    let repeated = GROUPS.into_iter().flat_map(|(repeats, kernel, stride, expand, cin, cout)| {
        (0..repeats)
            .map(move |i| if i == 0 { (kernel, stride, expand, cin, cout) } else { (kernel, 1, expand, cout, cout) })
    });
    repeated.scan(SIDE / 2, |side, (kernel, stride, expand, cin, cout)| {
        let shape = MbConvShape { height: *side, width: *side, cin, expand, cout, kernel, stride };
        *side = shape.output().0;
        Some(shape)
    })
}

fn picture(height: usize, width: usize, channels: usize) -> TensorSpec {
    TensorSpec::new(DType::F32, &[1, height, width, channels])
}

/// A matrix and its bias by the name of both without `.w` and `.b`.
fn layer(file: &WeightFile<'_>, name: &str, rows: usize, columns: usize) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
    Ok((file.get(&format!("{name}.w"), &[rows, columns])?, file.get(&format!("{name}.b"), &[columns])?))
}

fn stem(file: &WeightFile<'_>, device: &candle_core::Device, isa: Option<Isa>) -> Result<Block, ModelError> {
    let (w, b) = layer(file, "stem", 27, STEM)?;
    let body = match isa {
        Some(isa) => Body::Stem(Stem::new(isa, (SIDE, SIDE, 3), (3, 2), &w, &b)),
        None => Body::Composed(composed::stem(device, (3, 2), 3, w, b).map_err(fixed::failed("stem"))?),
    };
    let side = SIDE / 2;
    let (takes, gives) = (picture(SIDE, SIDE, 3), picture(side, side, STEM));
    let fixed = Fixed::new("stem".into(), takes, gives, side * side * 27 * STEM, 27 * STEM + STEM);
    Ok(Block::new(fixed, device.clone(), body))
}

fn mbconv(
    file: &WeightFile<'_>,
    device: &candle_core::Device,
    isa: Option<Isa>,
    index: usize,
    shape: MbConvShape,
) -> Result<Block, ModelError> {
    let (wide, taps) = (shape.wide(), shape.kernel * shape.kernel);
    let name = format!("mbconv{index}");
    let expand = match shape.expand {
        1 => None,
        _ => Some(layer(file, &format!("block{index}.expand"), shape.cin, wide)?),
    };
    let depthwise = layer(file, &format!("block{index}.depthwise"), taps, wide)?;
    let project = layer(file, &format!("block{index}.project"), wide, shape.cout)?;

    let (height, width) = shape.output();
    let (before, after) = (shape.height * shape.width, height * width);
    let mut sums = after * wide * (taps + shape.cout);
    let mut weights = (taps + 1) * wide + (wide + 1) * shape.cout;
    if expand.is_some() {
        sums += before * shape.cin * wide;
        weights += (shape.cin + 1) * wide;
    }
    let body = match isa {
        Some(isa) => {
            let expand = expand.as_ref().map(|(w, b)| (&w[..], &b[..]));
            let (depthwise, project) = ((&depthwise.0[..], &depthwise.1[..]), (&project.0[..], &project.1[..]));
            Body::MbConv(MbConv::new(isa, shape, expand, depthwise, project))
        }
        None => {
            let body = composed::mbconv(device, shape, expand, depthwise, project);
            Body::Composed(body.map_err(fixed::failed(&name))?)
        }
    };
    let (takes, gives) = (picture(shape.height, shape.width, shape.cin), picture(height, width, shape.cout));
    Ok(Block::new(Fixed::new(name, takes, gives, sums, weights), device.clone(), body))
}

fn head(file: &WeightFile<'_>, device: &candle_core::Device, isa: Option<Isa>) -> Result<Block, ModelError> {
    let last = shapes().last().expect("there are blocks");
    let (height, width) = last.output();
    let conv = layer(file, "head.conv", last.cout, FEATURES)?;
    let classes = layer(file, "head.fc", FEATURES, CLASSES)?;
    let body = match isa {
        Some(isa) => Body::Head {
            conv: Pointwise::new(isa, last.cout, FEATURES, &conv.0, &conv.1),
            classes: Pointwise::new(isa, FEATURES, CLASSES, &classes.0, &classes.1),
        },
        None => Body::Composed(composed::head(device, conv, classes).map_err(fixed::failed("head"))?),
    };
    let (takes, gives) = (picture(height, width, last.cout), TensorSpec::new(DType::F32, &[1, CLASSES]));
    let sums = height * width * last.cout * FEATURES + FEATURES * CLASSES;
    let weights = (last.cout + 1) * FEATURES + (FEATURES + 1) * CLASSES;
    Ok(Block::new(Fixed::new("head".into(), takes, gives, sums, weights), device.clone(), body))
}

#[cfg(test)]
mod tests;
