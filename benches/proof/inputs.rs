//! Crops of real photos, as pixels and as JPEG.

use std::path::Path;

use jpeg_encoder::{ColorType, Encoder};
use scf::{
    ai::{behind_jpeg, jpeg_input},
    core::{Activation, BlockGraph, BoxError, ByteSize, Bytes, ModelName},
};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use crate::regime::Random;

const PHOTOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/photos");
const CROPS_PER_PHOTO: usize = 6;
const SIDE: usize = 224;
/// The quality at which the crops are compressed.
const QUALITY: u8 = 75;
/// Mean and standard deviation of ImageNet's red, green and blue, of 1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Red, green and blue by pixel.
struct Picture {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

impl Picture {
    fn decode(jpeg: &[u8]) -> Result<Self, BoxError> {
        let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
        let samples = decoder.decode()?;
        let (width, height) = decoder.dimensions().ok_or("a picture without a size")?;
        Ok(Self { width, height, samples })
    }

    /// The square of `side` pixels at (`left`, `top`), each pixel of the result the nearest one.
    fn crop(&self, left: usize, top: usize, side: usize) -> Vec<u8> {
        let place = |i: usize, offset: usize| offset + (2 * i + 1) * side / (2 * SIDE);
        let row = |y: usize| (0..SIDE).map(move |x| (place(y, top) * self.width + place(x, left)) * 3);
        (0..SIDE).flat_map(row).flat_map(|at| self.samples[at..at + 3].iter().copied()).collect()
    }
}

/// The samples as the network takes them.
fn normalised(samples: &[u8]) -> Bytes {
    let value = |(i, &v): (usize, &u8)| (f32::from(v) / 255.0 - MEAN[i % 3]) / DEVIATION[i % 3];
    samples.iter().enumerate().flat_map(|sample| value(sample).to_le_bytes()).collect::<Vec<u8>>().into()
}

/// Squares of half the shorter side up to all of it, anywhere in each photo.
pub(crate) fn crops() -> Result<Vec<Vec<u8>>, BoxError> {
    let mut random = Random(6);
    let mut crops = Vec::new();
    for name in ["camera.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg"] {
        let photo = Picture::decode(&std::fs::read(Path::new(PHOTOS).join(name))?)?;
        let shorter = photo.width.min(photo.height);
        for _ in 0..CROPS_PER_PHOTO {
            let side = shorter / 2 + random.below(shorter / 2 + 1);
            let (left, top) = (random.below(photo.width - side + 1), random.below(photo.height - side + 1));
            crops.push(photo.crop(left, top, side));
        }
    }
    Ok(crops)
}

/// The crops as `graph` takes them.
pub(crate) fn pixels(graph: &BlockGraph, crops: &[Vec<u8>]) -> Result<Vec<Activation>, BoxError> {
    crops.iter().map(|crop| Ok(Activation::new(graph.input.clone(), normalised(crop))?)).collect()
}

/// The crops as JPEG, each filled up with zeros to the size of the largest, and the network behind a block that
/// decodes them.
pub(crate) fn compressed(graph: &BlockGraph, crops: &[Vec<u8>]) -> Result<(BlockGraph, Vec<Activation>), BoxError> {
    let side = u16::try_from(SIDE)?;
    let encode = |crop: &Vec<u8>| {
        let mut jpeg = Vec::new();
        Encoder::new(&mut jpeg, QUALITY).encode(crop, side, side, ColorType::Rgb).map(|()| jpeg)
    };
    let jpegs = crops.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    let largest = ByteSize::from_bytes(jpegs.iter().map(Vec::len).max().unwrap_or(0) as u64);
    let graph = behind_jpeg(graph, ModelName::new("efficientnet-lite0-jpeg")?, largest)?;
    let input = |jpeg: &Vec<u8>| jpeg_input(&graph, jpeg).ok_or_else(|| "larger than the largest".into());
    let inputs = jpegs.iter().map(input).collect::<Result<_, BoxError>>()?;
    Ok((graph, inputs))
}
