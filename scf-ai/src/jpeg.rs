//! Photos as cameras give them, as the input of a network.

use std::sync::Arc;

use scf_core::{
    Activation, BlockCost, BlockGraph, BoxError, ByteSize, Bytes, DType, ModelBlock, ModelError, ModelName, TensorSpec,
    WireForm,
};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// Longest side of a photo in pixels: of so many, the samples take 48 MiB.
const MAX_SIDE: usize = 4096;
/// Mean and standard deviation of ImageNet's red, green and blue, of 1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
const NAME: &str = "jpeg";

/// `graph`, a network that takes one picture `[1, side, side, 3]` normalised with the mean and deviation of ImageNet,
/// behind a block `jpeg` that decodes a photo and resizes its centre square bilinearly.
///
/// It takes `u8` `[largest]`, the file and zeros behind it ([`jpeg_input`]), and is named `model`. A photo travels as the
/// file that it is: of 224 pixels a side 9 kB, where the picture that the network takes has 600 kB. Sides of photos are
/// at most 4096 pixels.
///
/// # Errors
/// [`ModelError::Shape`] when the network takes something else.
pub fn behind_jpeg(graph: &BlockGraph, model: ModelName, largest: ByteSize) -> Result<BlockGraph, ModelError> {
    let side = match graph.input.shape[..] {
        [1, height, width, 3] if height == width && graph.input.dtype == DType::F32 && graph.is_chain() => width,
        _ => {
            let takes = "one picture of f32, [1, side, side, 3], as a chain does".to_owned();
            return Err(ModelError::Shape { block: NAME.to_owned(), takes, given: graph.input.clone() });
        }
    };
    let takes = TensorSpec::new(DType::U8, &[usize::try_from(largest.bytes()).unwrap_or(usize::MAX)]);
    let decode = Decode { takes: takes.clone(), gives: graph.input.clone(), side };
    let blocks = std::iter::once(Arc::new(decode) as Arc<dyn ModelBlock>).chain(graph.blocks().iter().cloned());
    BlockGraph::chain(model, takes, blocks.collect())
}

/// The input of a network [behind JPEG](behind_jpeg) out of a file; `None` for one larger than it takes.
#[must_use]
pub fn jpeg_input(graph: &BlockGraph, file: &[u8]) -> Option<Activation> {
    let mut bytes = file.to_vec();
    let size = usize::try_from(graph.input.size()?.bytes()).ok()?;
    if bytes.len() > size {
        return None;
    }
    bytes.resize(size, 0);
    Activation::new(graph.input.clone(), bytes.into()).ok()
}

/// Decodes a photo.
#[derive(Debug)]
struct Decode {
    takes: TensorSpec,
    gives: TensorSpec,
    side: usize,
}

impl Decode {
    fn picture(&self, file: &[u8]) -> Result<Bytes, BoxError> {
        let options = DecoderOptions::default()
            .jpeg_set_out_colorspace(ColorSpace::RGB)
            .set_max_width(MAX_SIDE)
            .set_max_height(MAX_SIDE);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
        let samples = decoder.decode()?;
        let (width, height) = decoder.dimensions().ok_or("a photo without a size")?;
        if width == 0 || height == 0 || Some(samples.len()) != width.checked_mul(height).map(|pixels| 3 * pixels) {
            return Err("a photo without all of its pixels".into());
        }
        let square = width.min(height);
        let (left, top) = ((width - square) / 2, (height - square) / 2);
        let place = |i: usize, offset: usize| {
            let at = ((i as f32 + 0.5) * square as f32 / self.side as f32 - 0.5).clamp(0.0, (square - 1) as f32);
            (offset + at as usize, at.fract())
        };
        let columns: Vec<(usize, f32)> = (0..self.side).map(|x| place(x, left)).collect();
        let mut out = Vec::with_capacity(self.side * self.side * 12);
        for (y, down) in (0..self.side).map(|y| place(y, top)) {
            let (above, below) = (y * width, (y + 1).min(height - 1) * width);
            for &(x, right) in &columns {
                let beside = (x + 1).min(width - 1);
                for channel in 0..3 {
                    let sample = |row: usize, x: usize| f32::from(samples[(row + x) * 3 + channel]);
                    let between = |row| sample(row, x) * (1.0 - right) + sample(row, beside) * right;
                    let value = between(above) * (1.0 - down) + between(below) * down;
                    out.extend_from_slice(&((value / 255.0 - MEAN[channel]) / DEVIATION[channel]).to_le_bytes());
                }
            }
        }
        Ok(out.into())
    }
}

impl ModelBlock for Decode {
    fn name(&self) -> &str {
        NAME
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        if *input == self.takes {
            return Ok(self.gives.clone());
        }
        Err(ModelError::Shape { block: NAME.to_owned(), takes: format!("{:?}", self.takes), given: input.clone() })
    }

    fn cost(&self, _: &TensorSpec) -> BlockCost {
        // Some hundred operations for each pixel.
        BlockCost { flops: (self.side * self.side * 100) as u64, ..BlockCost::default() }
    }

    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact, WireForm::Int8]
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        let gives = self.output(&input.spec)?;
        let failed = |source| ModelError::Block { block: NAME.to_owned(), source };
        let file = input.bytes().map_err(|error| failed(error.into()))?;
        let picture = self.picture(&file).map_err(failed)?;
        Activation::new(gives, picture).map_err(|error| failed(error.into()))
    }
}
