//! EfficientNet-Lite: image classification, as 18 to 23 blocks.

mod add;
mod block;
mod composed;
mod variant;

use std::sync::Arc;

use scf_core::{
    BlockGraph, ByteSize, DType, DagNode, ModelBlock, ModelError, ModelName, ObjectId, ObjectStore, TensorSpec,
};

pub use self::variant::EfficientNetLite;
use self::{
    add::Add,
    block::{Block, Body},
    variant::STEM,
};
use crate::{
    device::Device,
    fixed::{self, Fixed},
    kernel::{Isa, MbConv, MbConvShape, Pointwise, Stem, same},
    weights::{self, WeightFile},
};

/// Channels before the mean over the picture.
const FEATURES: usize = 1280;
/// Classes of ImageNet.
const CLASSES: usize = 1000;
/// Largest model file: the largest network in `f32` takes 24 MiB.
const MAX_FILE: ByteSize = ByteSize::from_mib(64);

impl EfficientNetLite {
    /// Loads the network from the bytes of a safetensors file onto `device`.
    ///
    /// The blocks are `stem`, `mbconv0` and so on, and `head`. The graph takes one picture, `f32` `[1, side, side, 3]`,
    /// normalised with the mean and deviation of ImageNet, and gives the logits of the 1000 classes. On the CPU an
    /// inference runs on the thread that calls it; serve many by calling from many threads.
    ///
    /// The file has, as `f16` or `f32`: `stem.w` `[27, 32]` with rows (ky, kx, channel) and `stem.b`; per block
    /// `blockN.expand.w` `[cin, wide]` (none where the expansion is 1), `blockN.depthwise.w` `[k*k, wide]`,
    /// `blockN.project.w` `[wide, cout]`; `head.conv.w` `[cin, 1280]`, `head.fc.w` `[1280, 1000]`; and a `.b` to each.
    /// Batch norms are folded into the weights.
    ///
    /// # Errors
    /// [`ModelError::Weight`] naming the weight that is missing or has another shape, [`ModelError::Device`] when
    /// the device is not there.
    pub fn load(self, weights: &[u8], device: Device) -> Result<BlockGraph, ModelError> {
        let file = WeightFile::open(weights)?;
        let device = device.open()?;
        let isa = if matches!(device, candle_core::Device::Cpu) { Some(Isa::detect()) } else { None };
        graph(self, &file, &device, isa)
    }

    /// Loads the same network in finer blocks: of each residual block the addition is a block of its own, `mbconv2.add`
    /// behind `mbconv2`, so that it can also be cut between the two. It is no chain then: at such a cut two tensors
    /// travel. The results are the same.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_fine(self, weights: &[u8], device: Device) -> Result<BlockGraph, ModelError> {
        let file = WeightFile::open(weights)?;
        let device = device.open()?;
        let isa = if matches!(device, candle_core::Device::Cpu) { Some(Isa::detect()) } else { None };
        fine_graph(self, &file, &device, isa)
    }

    /// Loads the network from the safetensors file that is kept as `object` in `store` onto `device`, on a thread that
    /// may block. What is read is held against the digest, so that no other model runs under its name. See
    /// [`load`](Self::load).
    ///
    /// # Errors
    /// [`ModelError::Object`] when the file is not there, is not what its digest says, or has over 64 MiB; otherwise as
    /// [`load`](Self::load).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn load_from(
        self,
        store: &dyn ObjectStore,
        object: ObjectId,
        device: Device,
    ) -> Result<BlockGraph, ModelError> {
        let weights = weights::read(store, object, MAX_FILE).await?;
        let loaded = tokio::task::spawn_blocking(move || self.load(&weights, device)).await;
        loaded.unwrap_or_else(|stopped| Err(fixed::failed("stem")(stopped)))
    }
}

/// Loads EfficientNet-Lite0: [`EfficientNetLite::load`] of [`EfficientNetLite::Lite0`].
///
/// # Errors
/// As [`EfficientNetLite::load`].
pub fn efficientnet_lite0(weights: &[u8], device: Device) -> Result<BlockGraph, ModelError> {
    EfficientNetLite::Lite0.load(weights, device)
}

/// Loads EfficientNet-Lite0 out of an object store: [`EfficientNetLite::load_from`] of [`EfficientNetLite::Lite0`].
///
/// # Errors
/// As [`EfficientNetLite::load_from`].
///
/// # Panics
/// Outside a tokio runtime.
pub async fn efficientnet_lite0_from(
    store: &dyn ObjectStore,
    object: ObjectId,
    device: Device,
) -> Result<BlockGraph, ModelError> {
    EfficientNetLite::Lite0.load_from(store, object, device).await
}

/// Loads the network with the fused kernels of `isa`, or out of candle's operations where there is none.
fn graph(
    variant: EfficientNetLite,
    file: &WeightFile<'_>,
    device: &candle_core::Device,
    isa: Option<Isa>,
) -> Result<BlockGraph, ModelError> {
    let side = variant.side();
    let mut blocks: Vec<Arc<dyn ModelBlock>> = vec![Arc::new(stem(file, device, isa, side)?)];
    for (i, shape) in variant.shapes().enumerate() {
        blocks.push(Arc::new(mbconv(file, device, isa, i, shape, Skip::Inside)?));
    }
    let last = variant.shapes().last().expect("there are blocks");
    blocks.push(Arc::new(head(file, device, isa, last)?));
    let model = ModelName::new(variant.name()).expect("a valid name");
    BlockGraph::chain(model, picture(side, side, 3), blocks)
}

/// The network with additions as blocks of their own.
fn fine_graph(
    variant: EfficientNetLite,
    file: &WeightFile<'_>,
    device: &candle_core::Device,
    isa: Option<Isa>,
) -> Result<BlockGraph, ModelError> {
    let side = variant.side();
    let mut nodes = vec![DagNode { block: Arc::new(stem(file, device, isa, side)?), inputs: vec![0] }];
    for (i, shape) in variant.shapes().enumerate() {
        let before = nodes.len();
        let block = mbconv(file, device, isa, i, shape, Skip::Apart)?;
        nodes.push(DagNode { block: Arc::new(block), inputs: vec![before] });
        if shape.residual() {
            let (height, width) = shape.output();
            let add = Add::new(format!("mbconv{i}.add"), &picture(height, width, shape.cout), device.clone());
            nodes.push(DagNode { block: Arc::new(add), inputs: vec![before, before + 1] });
        }
    }
    let last = variant.shapes().last().expect("there are blocks");
    let inputs = vec![nodes.len()];
    nodes.push(DagNode { block: Arc::new(head(file, device, isa, last)?), inputs });
    let model = ModelName::new(&format!("{}-fine", variant.name())).expect("a valid name");
    BlockGraph::dag(model, picture(side, side, 3), nodes)
}

/// Where the input of a residual block is added to its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    Inside,
    Apart,
}

fn picture(height: usize, width: usize, channels: usize) -> TensorSpec {
    TensorSpec::new(DType::F32, &[1, height, width, channels])
}

/// A matrix and its bias by the name of both without `.w` and `.b`.
fn layer(file: &WeightFile<'_>, name: &str, rows: usize, columns: usize) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
    Ok((file.get(&format!("{name}.w"), &[rows, columns])?, file.get(&format!("{name}.b"), &[columns])?))
}

fn stem(
    file: &WeightFile<'_>,
    device: &candle_core::Device,
    isa: Option<Isa>,
    side: usize,
) -> Result<Block, ModelError> {
    let (w, b) = layer(file, "stem", 27, STEM)?;
    let body = match isa {
        Some(isa) => Body::Stem(Stem::new(isa, (side, side, 3), (3, 2), &w, &b)),
        None => Body::Composed(composed::stem(device, (3, 2), 3, w, b).map_err(fixed::failed("stem"))?),
    };
    let (_, half) = same(side, 3, 2);
    let (takes, gives) = (picture(side, side, 3), picture(half, half, STEM));
    let fixed = Fixed::new("stem".into(), takes, gives, half * half * 27 * STEM, 27 * STEM + STEM);
    Ok(Block::new(fixed, device.clone(), body))
}

fn mbconv(
    file: &WeightFile<'_>,
    device: &candle_core::Device,
    isa: Option<Isa>,
    index: usize,
    shape: MbConvShape,
    skip: Skip,
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
            let whole = MbConv::new(isa, shape, expand, depthwise, project);
            Body::MbConv(if skip == Skip::Inside { whole } else { whole.without_addition() })
        }
        None => {
            let body = composed::mbconv(device, shape, skip, expand, depthwise, project);
            Body::Composed(body.map_err(fixed::failed(&name))?)
        }
    };
    let (takes, gives) = (picture(shape.height, shape.width, shape.cin), picture(height, width, shape.cout));
    Ok(Block::new(Fixed::new(name, takes, gives, sums, weights), device.clone(), body))
}

fn head(
    file: &WeightFile<'_>,
    device: &candle_core::Device,
    isa: Option<Isa>,
    last: MbConvShape,
) -> Result<Block, ModelError> {
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
